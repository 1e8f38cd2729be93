//! Executes one attempt at a message in named steps: decode, look up, run, judge, record.
//!
//! Nothing here touches the broker or the database: a claimed message goes in, and the change to its row comes
//! out.

mod active_runs;
mod attempt;
mod middleware_chain;
mod panics;
mod postponement;
mod put_off_limits;
mod put_off_notices;
mod record;
mod runtime;
mod verdict;

use std::sync::Arc;

use tokio::sync::watch;

use self::active_runs::ActiveRuns;
pub use self::attempt::{Attempt, PriorRuns};
pub use self::postponement::Postponement;
pub use self::put_off_limits::PutOffLimits;
use self::put_off_notices::PutOffNotices;
pub use self::record::RowChange;
pub(crate) use self::runtime::outside_runtime;
pub use self::runtime::{Runtime, RuntimeHandle};
use self::verdict::{AttemptFailure, AttemptVerdict, FailureKind};
use crate::logging::TaskLog;
use crate::message::{Arguments, Payload};
use crate::state::{Cause, End};
use crate::store::Finish;
use crate::suggest;
use crate::task::{Registry, Runner, Stopping, TaskContext, TaskError, TaskResult};

/// Executes messages; shared by the consumers of a service.
pub struct Executor {
    registry: Registry,
    max_crashes: u32,
    put_off_limits: PutOffLimits,
    put_off_notices: PutOffNotices,
    active_runs: ActiveRuns,
    reactor: RuntimeHandle,
    stopping: watch::Sender<bool>,
}

impl Executor {
    /// An executor of these tasks.
    #[must_use]
    pub fn new(
        registry: Registry,
        max_crashes: u32,
        put_off_limits: PutOffLimits,
        reactor: RuntimeHandle,
    ) -> Self {
        panics::install();
        Self {
            registry,
            max_crashes,
            put_off_limits,
            put_off_notices: PutOffNotices::default(),
            active_runs: ActiveRuns::default(),
            reactor,
            stopping: watch::Sender::new(false),
        }
    }

    /// Tells running tasks that the service is to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether so many workers vanished while they ran the message that it is not run again.
    #[must_use]
    pub const fn is_exhausted(&self, attempt: &Attempt) -> bool {
        attempt.prior_runs.crashes() >= self.max_crashes
    }

    /// Ends a message that is not run again because its workers vanished.
    #[must_use]
    pub fn fail_after_crashes(&self, attempt: &Attempt) -> Finish {
        let crashes = attempt.prior_runs.crashes();
        let times = match crashes {
            1 => "once".to_owned(),
            _ => format!("{crashes} times"),
        };
        let reason = format!(
            "its worker has vanished {times}: it is not run again (max_crashes = {})",
            self.max_crashes
        );
        self.fail_unrun(attempt, crashes, FailureKind::Crash, reason)
    }

    /// Ends a message that has been put off for as long as allowed.
    #[must_use]
    pub fn fail_after_put_offs(&self, attempt: &Attempt, postponed: &Postponement) -> Finish {
        let reason = format!("{}{}", postponed.told, postponed.limit_in_words());
        let known = attempt.prior_runs.known();
        self.fail_unrun(attempt, known, FailureKind::Unrunnable, reason)
    }

    fn fail_unrun(
        &self,
        attempt: &Attempt,
        number: u32,
        kind: FailureKind,
        reason: String,
    ) -> Finish {
        let _entered = self.reactor.enter();
        let context = self.context(attempt, number, "");
        let failure = AttemptFailure::new(kind, TaskError::new(reason));
        self.notify_failure(&context, &arguments_of(attempt), &failure);
        record::failed(attempt, &context, failure)
    }

    /// Logs the reasons for which runs are no longer put off.
    pub fn log_ended_put_offs(&self) {
        self.put_off_notices.log_ended();
    }

    /// Runs the message on this thread. `consumer` is the consumer's name in the message's log.
    pub fn execute(&self, attempt: &Attempt, consumer: &str) -> RowChange {
        let _entered = self.reactor.enter();
        let context = self.context(attempt, attempt.number(), consumer);
        let verdict = self.verdict(attempt, &context);
        record::change(attempt, &context, verdict)
    }

    /// Like [`execute`](Self::execute), and also returns the task's result, or why the message failed.
    pub(crate) fn execute_for_result(
        &self,
        attempt: &Attempt,
        consumer: &str,
    ) -> (TaskResult, RowChange) {
        let _entered = self.reactor.enter();
        let context = self.context(attempt, attempt.number(), consumer);
        let verdict = self.verdict(attempt, &context);
        (verdict.result(), record::change(attempt, &context, verdict))
    }

    /// Runs the message if its task can be run, and tells the middlewares if it fails.
    fn verdict(&self, attempt: &Attempt, context: &TaskContext) -> AttemptVerdict {
        let (verdict, seen) = match self.prepare(attempt) {
            Ok((runner, payload)) => {
                record::announce(context);
                let seen = self.arguments_for_middlewares(payload);
                let result = self.run(runner, context, &seen, payload);
                let verdict = self.judge(attempt, FailureKind::Error, result);
                (verdict, Some(seen))
            }
            Err(error) => {
                let verdict = self.judge(attempt, FailureKind::Unrunnable, Err(error));
                (verdict, None)
            }
        };
        if let AttemptVerdict::Failed(failure) = &verdict {
            let seen = seen.unwrap_or_else(|| arguments_of(attempt));
            self.notify_failure(context, &seen, failure);
        }
        verdict
    }

    /// The verdict on an attempt with this result. `kind` is the kind of failure, if it failed.
    fn judge(&self, attempt: &Attempt, kind: FailureKind, result: TaskResult) -> AttemptVerdict {
        let error = match result {
            Ok(output) => return AttemptVerdict::Completed(output),
            Err(error) => error,
        };
        match self.postponed(attempt, &error) {
            Some(postponed) => AttemptVerdict::Again { error, postponed },
            None => AttemptVerdict::Failed(AttemptFailure::new(kind, error.into_final())),
        }
    }

    /// Why and until when a run with this error is put off. `None` if the error is final.
    fn postponed(&self, attempt: &Attempt, error: &TaskError) -> Option<Postponement> {
        let again = error.again.as_ref()?;
        let is_stopping = *self.stopping.borrow();
        let limit = self.put_off_limits.limit_for(again.cause());
        let postponed = Postponement::new(again, error, limit, is_stopping)?;
        match postponed.cause {
            Cause::HandedBack => log::info!("message {}: {}", attempt.key(), postponed.told),
            _ => self.put_off_notices.note(&postponed, attempt.key()),
        }
        Some(postponed)
    }

    fn context(&self, attempt: &Attempt, number: u32, consumer: &str) -> TaskContext {
        TaskContext {
            uuid: attempt.key().to_owned(),
            task: attempt.envelope.task.clone().unwrap_or_default(),
            queue: attempt.queue.to_string(),
            attempt: number,
            run: attempt.run,
            log: TaskLog::new(consumer),
            states: Arc::clone(self.registry.states()),
            stopping: Stopping(self.stopping.subscribe()),
        }
    }

    /// Tells the middlewares that the message is FAILED.
    fn notify_failure(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        failure: &AttemptFailure,
    ) {
        middleware_chain::notify_failure(
            self.registry.middleware(),
            context,
            arguments,
            &failure.error,
        );
    }

    /// Decodes the message and looks up its task.
    fn prepare<'a>(
        &'a self,
        attempt: &'a Attempt,
    ) -> Result<(&'a Arc<dyn Runner>, &'a Payload), TaskError> {
        if let Some(fault) = &attempt.envelope.headers_fault {
            return Err(TaskError::new(fault.as_str()));
        }
        let task = attempt.envelope.task.as_deref().ok_or(
            "the message does not name its task: its header `type` must be a text in UTF-8",
        )?;
        let runner = self.registry.runner(task);
        let runner = runner.ok_or_else(|| self.unknown_task(task))?;
        let payload = (attempt.envelope.body.arguments())
            .map_err(|unreadable| TaskError::new(unreadable.reason.as_str()))?;
        runner.check(payload)?;
        Ok((runner, payload))
    }

    /// The error for an unknown task. The run may be put off: another service, or a later version of this one, may
    /// know the task.
    fn unknown_task(&self, task: &str) -> TaskError {
        let mut reason = format!("no task {task:?} is registered with this service");
        if let Some(near) = suggest::near(task, self.registry.names()).first() {
            reason.push_str(&format!("; did you mean {near:?}?"));
        }
        TaskError::not_started(Cause::UnknownTask, reason)
    }

    /// The arguments as middlewares see them. Empty if there is no middleware to see them.
    fn arguments_for_middlewares(&self, payload: &Payload) -> Arguments {
        match self.registry.middleware() {
            [] => Arguments::default(),
            _ => payload.into(),
        }
    }

    /// Runs the task inside its middlewares.
    fn run(
        &self,
        runner: &Arc<dyn Runner>,
        context: &TaskContext,
        seen: &Arguments,
        payload: &Payload,
    ) -> TaskResult {
        let _listed = self.active_runs.list(context.run, runner);
        let task = || {
            // A middleware may have entered a runtime of its own.
            let _entered = self.reactor.enter();
            runner.run(context, payload)
        };
        middleware_chain::run(self.registry.middleware(), context, seen, task)
    }

    /// Cancels the active runs that can be cancelled; functions can't be, and go on.
    pub fn cancel_all(&self) {
        self.active_runs.cancel_all();
    }
}

/// Drops the tasks' shared state inside the runtime, as its drop may spawn futures: a connection, for example, says
/// goodbye.
impl Drop for Executor {
    fn drop(&mut self) {
        let _entered = self.reactor.enter();
        self.registry.shut_down();
        self.registry = Registry::new();
    }
}

/// The arguments of a message that is not run; empty if they can't be read.
fn arguments_of(attempt: &Attempt) -> Arguments {
    let arguments = attempt.envelope.body.arguments().map(Arguments::from);
    arguments.unwrap_or_default()
}

/// How a message without a row ends.
pub const MISSING_ROW: (End, &str) = (
    End::Cancelled,
    "the message has no row: its publisher's transaction was rolled back, or the row was requeued or \
     purged",
);
