//! One message's run, as named steps: decode, look up, run, classify.
//!
//! Nothing here touches the broker or the database: in goes a claimed message, out comes the end to
//! be recorded.

mod around;
mod attempt;
mod classify;
mod lacks;
mod panics;
mod patience;
mod postponed;
mod running;
mod runtime;

use std::sync::Arc;

use tokio::sync::watch;

use self::around::Around;
pub use self::attempt::{Attempt, Earlier};
use self::lacks::Lacks;
pub use self::patience::Patience;
pub use self::postponed::Postponed;
use self::running::Running;
pub(crate) use self::runtime::apart;
pub use self::runtime::{Reactor, Runtime};
use crate::logging::TaskLog;
use crate::message::{Arguments, Payload};
use crate::state::{Cause, End};
use crate::store::Finish;
use crate::suggest;
use crate::task::{Again, Registry, Runner, Stopping, TaskContext, TaskError, TaskResult};

/// What became of a run.
#[derive(Debug)]
pub enum Ended {
    /// It has an end, to be recorded.
    Finished(Finish),
    /// It could not begin, or was handed back.
    PutOff(Postponed),
}

/// What runs messages, shared by the consumers of a service.
pub struct Executor {
    registry: Registry,
    max_crashes: u32,
    patience: Patience,
    lacks: Lacks,
    running: Running,
    reactor: Reactor,
    stopping: watch::Sender<bool>,
}

impl Executor {
    /// An executor of these tasks.
    #[must_use]
    pub fn new(registry: Registry, max_crashes: u32, patience: Patience, reactor: Reactor) -> Self {
        panics::install();
        Self {
            registry,
            max_crashes,
            patience,
            lacks: Lacks::default(),
            running: Running::default(),
            reactor,
            stopping: watch::Sender::new(false),
        }
    }

    /// Lets tasks know that the service has been told to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the message has made as many workers vanish as it may.
    #[must_use]
    pub const fn is_exhausted(&self, attempt: &Attempt) -> bool {
        attempt.earlier.crashes() >= self.max_crashes
    }

    /// The end of a message that is not begun again.
    #[must_use]
    pub fn give_up(&self, attempt: &Attempt) -> Finish {
        let _entered = self.reactor.enter();
        let crashes = attempt.earlier.crashes();
        let times = match crashes {
            1 => "once".to_owned(),
            _ => format!("{crashes} times"),
        };
        let reason = format!(
            "its worker has vanished {times}: it is not run again (max_crashes = {})",
            self.max_crashes
        );
        let context = self.context(attempt, crashes, "");
        self.fail_unrun(attempt, &context, crashes, reason)
    }

    /// The end of a message that has been put off for as long as it may be.
    #[must_use]
    pub fn give_up_waiting(&self, attempt: &Attempt, postponed: &Postponed) -> Finish {
        let _entered = self.reactor.enter();
        let reason = format!("{}{}", postponed.told, postponed.limit_in_words());
        let context = self.context(attempt, attempt.earlier.known(), "");
        self.fail_unrun(attempt, &context, attempt.earlier.known(), reason)
    }

    /// Says what no run is put off for any more.
    pub fn look_for_lacks(&self) {
        self.lacks.look();
    }

    /// Runs the message on this thread. `consumer` is the name in its log.
    pub fn execute(&self, attempt: &Attempt, consumer: &str) -> Ended {
        self.perform(attempt, consumer).1
    }

    /// The same, and what the task returned, or why the message failed.
    pub(crate) fn perform(&self, attempt: &Attempt, consumer: &str) -> (TaskResult, Ended) {
        let _entered = self.reactor.enter();
        let context = self.context(attempt, attempt.number(), consumer);
        let (runner, payload) = match self.prepare(attempt) {
            Ok(prepared) => prepared,
            // Not a run: it does not count as an attempt.
            Err(error) => return self.not_run(attempt, &context, error),
        };
        classify::announce(&context);
        let outcome = self.run(runner, &context, payload);
        if let Err(error) = &outcome
            && let Some(postponed) = self.postponed(attempt, error)
        {
            return (outcome, Ended::PutOff(postponed));
        }
        let outcome = outcome.map_err(TaskError::for_good);
        let finish = classify::finish(&context, attempt.begun(), &outcome);
        (outcome, Ended::Finished(finish))
    }

    /// What becomes of a message whose run could not begin.
    fn not_run(
        &self,
        attempt: &Attempt,
        context: &TaskContext,
        error: TaskError,
    ) -> (TaskResult, Ended) {
        let ended = match self.postponed(attempt, &error) {
            Some(postponed) => Ended::PutOff(postponed),
            None => {
                let known = attempt.earlier.known();
                let reason = error.exception.clone();
                let finish = self.fail_unrun(attempt, context, known, reason);
                return (Err(error.for_good()), Ended::Finished(finish));
            }
        };
        (Err(error), ended)
    }

    /// Whether a message with this error is FAILED, and not put off.
    fn fails(&self, error: &TaskError) -> bool {
        error
            .again
            .as_ref()
            .map(Again::cause)
            .is_none_or(|cause| cause != Cause::HandedBack && self.patience.with(cause).is_none())
    }

    /// Why and until when a run with this error is put off, if it is.
    fn postponed(&self, attempt: &Attempt, error: &TaskError) -> Option<Postponed> {
        let again = error.again.as_ref()?;
        let is_stopping = *self.stopping.borrow();
        let limit = self.patience.with(again.cause());
        let postponed = Postponed::new(again, error, limit, is_stopping)?;
        match postponed.cause {
            Cause::HandedBack => log::info!("message {}: {}", attempt.key(), postponed.told),
            _ => self.lacks.note(&postponed, attempt.key()),
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

    /// The end of a message that could not be run.
    fn fail_unrun(
        &self,
        attempt: &Attempt,
        context: &TaskContext,
        attempts: u32,
        reason: String,
    ) -> Finish {
        let arguments = attempt.envelope.body.arguments().map(Arguments::from);
        let arguments = arguments.unwrap_or_default();
        let error = TaskError::new(reason.as_str());
        around::tell_failure(self.registry.around(), context, &arguments, &error);
        classify::failed_unrun(attempt, attempts, reason)
    }

    /// Decodes the message and looks its task up.
    fn prepare<'a>(
        &'a self,
        attempt: &'a Attempt,
    ) -> Result<(&'a Arc<dyn Runner>, &'a Payload), TaskError> {
        if let Some(fault) = &attempt.envelope.fault {
            return Err(TaskError::new(fault.as_str()));
        }
        let task = attempt.envelope.task.as_deref().ok_or(
            "the message does not name its task: its header `type` must be a text in UTF-8",
        )?;
        let runner = self.registry.runner(task);
        let runner = runner.ok_or_else(|| self.unknown(task))?;
        let payload = (attempt.envelope.body.arguments())
            .map_err(|unreadable| TaskError::new(unreadable.reason.as_str()))?;
        runner.accepts(payload)?;
        Ok((runner, payload))
    }

    /// Another service may know it, or this one when it is replaced.
    fn unknown(&self, task: &str) -> TaskError {
        let mut reason = format!("no task {task:?} is registered with this service");
        if let Some(near) = suggest::near(task, self.registry.names()).first() {
            reason.push_str(&format!("; did you mean {near:?}?"));
        }
        TaskError::unable(Cause::UnknownTask, reason)
    }

    /// Runs the task, with what is done around it.
    fn run(
        &self,
        runner: &Arc<dyn Runner>,
        context: &TaskContext,
        payload: &Payload,
    ) -> TaskResult {
        let around = Around {
            middlewares: self.registry.around(),
            fails: &|error| self.fails(error),
        };
        let seen = match around.middlewares {
            [] => Arguments::default(),
            _ => payload.into(),
        };
        let _listed = self.running.list(context.run, runner);
        around.run(context, &seen, || runner.run(context, payload))
    }

    /// Ends the runs that are under way, where that can be done: functions go on.
    pub fn cancel_all(&self) {
        self.running.cancel_all();
    }
}

/// What tasks share may spawn when it ends, as connections do that say goodbye.
impl Drop for Executor {
    fn drop(&mut self) {
        let _entered = self.reactor.enter();
        self.registry.shut_down();
        self.registry = Registry::new();
    }
}

/// The end of a message whose row was rolled back, requeued or purged.
pub const NO_ROW: (End, &str) = (
    End::Cancelled,
    "the message has no row: its publisher's transaction was rolled back, or the row was requeued or \
     purged",
);
