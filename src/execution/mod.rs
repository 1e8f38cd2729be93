//! One message's run, as named steps: decode, look up, run, classify.
//!
//! Nothing here touches the broker or the database: in goes a claimed message, out comes the end to
//! be recorded.

mod around;
mod classify;
mod panics;
mod runtime;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

pub(crate) use self::runtime::apart;
pub use self::runtime::{Reactor, Runtime};
use crate::broker::Delivery;
use crate::logging::TaskLog;
use crate::message::{Arguments, Payload, wire};
use crate::state::End;
use crate::store::{Begin, Finish};
use crate::task::{
    CommandError, Guard, Handler, Registry, Stopping, TaskContext, TaskError, TaskResult, command,
};

/// A message that is ours to run.
#[derive(Debug)]
pub struct Job {
    /// Its key.
    pub key: String,
    /// As it came.
    pub delivery: Delivery,
    /// The queue that it came by.
    pub queue: Arc<str>,
    /// When it was asked for, before it became ours.
    pub asked: Instant,
    /// Runs that are known to have begun before.
    pub attempts: u32,
    /// It may be what made its last worker vanish: its run is counted before it starts.
    pub suspect: bool,
    /// A run that nobody has counted may have begun before, as a fresh message's is counted at its end.
    pub uncounted: bool,
}

impl Job {
    /// Which run of the message this is, of those that are counted, from 1.
    const fn attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// The same with the one that may have gone uncounted.
    const fn told_attempt(&self) -> u32 {
        self.attempt().saturating_add(self.uncounted as u32)
    }

    /// Whether a run of it, in which a consumer of this process died, is counted nowhere but here.
    #[must_use]
    pub const fn is_counted_here_alone(&self) -> bool {
        self.suspect && !self.uncounted
    }

    /// Its run, to be counted before it starts.
    #[must_use]
    pub fn begin(&self) -> Begin {
        Begin {
            key: self.key.clone(),
            attempts: self.attempt(),
        }
    }
}

/// What runs jobs, shared by the consumers of a service.
pub struct Executor {
    registry: Registry,
    max_attempts: u32,
    guard: Option<Guard>,
    reactor: Reactor,
    stopping: watch::Sender<bool>,
}

impl Executor {
    /// An executor of these tasks. `guard` is there if any of them is a command.
    #[must_use]
    pub fn new(
        registry: Registry,
        max_attempts: u32,
        guard: Option<Guard>,
        reactor: Reactor,
    ) -> Self {
        panics::install();
        Self {
            registry,
            max_attempts,
            guard,
            reactor,
            stopping: watch::Sender::new(false),
        }
    }

    /// Lets tasks know that the service has been told to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the message has been begun too often, by workers that all vanished.
    #[must_use]
    pub const fn is_exhausted(&self, job: &Job) -> bool {
        job.suspect && job.attempts >= self.max_attempts
    }

    /// The end of a message that is not begun again.
    #[must_use]
    pub fn give_up(&self, job: &Job) -> Finish {
        let _entered = self.reactor.enter();
        let reason = format!(
            "its worker vanished, and again in each of {} more runs: it is not begun again \
             (max_attempts = {})",
            job.attempts, self.max_attempts
        );
        self.fail_unrun(job, &self.context(job, job.attempts, ""), reason)
    }

    /// Runs the job on this thread. `consumer` is the name in its log.
    pub fn execute(&self, job: &Job, consumer: &str) -> Finish {
        self.perform(job, consumer).1
    }

    /// The same, and what the task returned, or why the message failed.
    pub(crate) fn perform(&self, job: &Job, consumer: &str) -> (TaskResult, Finish) {
        let _entered = self.reactor.enter();
        let context = self.context(job, job.told_attempt(), consumer);
        let (handler, payload) = match self.prepare(job) {
            Ok(prepared) => prepared,
            // Not a run: it does not count as an attempt.
            Err(reason) => {
                let failed = Err(TaskError::new(reason.as_str()));
                return (failed, self.fail_unrun(job, &context, reason));
            }
        };
        classify::announce(&context);
        let outcome = self.run(handler, &context, payload);
        let finish = classify::finish(&context, job.attempt(), &outcome);
        (outcome, finish)
    }

    fn context(&self, job: &Job, attempt: u32, consumer: &str) -> TaskContext {
        TaskContext {
            uuid: job.key.clone(),
            task: job.delivery.task.clone().unwrap_or_default(),
            queue: job.queue.to_string(),
            attempt,
            log: TaskLog::new(consumer),
            states: Arc::clone(self.registry.states()),
            stopping: Stopping(self.stopping.subscribe()),
        }
    }

    /// The end of a message that could not be run.
    fn fail_unrun(&self, job: &Job, context: &TaskContext, reason: String) -> Finish {
        let arguments = wire::decode(&job.delivery.body).map(Arguments::from);
        let arguments = arguments.unwrap_or_default();
        let error = TaskError::new(reason.as_str());
        around::tell_failure(self.registry.around(), context, &arguments, &error);
        classify::failed_unrun(job, job.attempts, reason)
    }

    /// Decodes the message and looks its task up.
    fn prepare(&self, job: &Job) -> Result<(&Handler, Payload), String> {
        if let Some(fault) = &job.delivery.fault {
            return Err(fault.clone());
        }
        let task = job.delivery.task.as_deref().ok_or(
            "the message does not name its task: its header `type` must be a text in UTF-8",
        )?;
        let handler = self
            .registry
            .get(task)
            .ok_or_else(|| format!("no task {task:?} is registered with this service"))?;
        let payload = wire::decode(&job.delivery.body).map_err(|error| error.to_string())?;
        // A command gets the digits.
        if !matches!(handler, Handler::Command(_)) {
            payload.check().map_err(|error| error.to_string())?;
        }
        Ok((handler, payload))
    }

    /// Runs the task, with what is done around it.
    fn run(&self, handler: &Handler, context: &TaskContext, payload: Payload) -> TaskResult {
        let around = self.registry.around();
        match handler {
            Handler::Sync(task) => around::run(around, context, payload.into(), |arguments| {
                task(context, arguments)
            }),
            Handler::Async(task) => around::run(around, context, payload.into(), |arguments| {
                self.reactor.run(|| task(context.clone(), arguments))
            }),
            Handler::Command(config) => {
                let seen = match around {
                    [] => Arguments::default(),
                    _ => payload.clone().into(),
                };
                around::run(around, context, seen, |_| match &self.guard {
                    Some(guard) => command::run(config, guard, context, &payload)
                        .map_err(CommandError::into_task_error),
                    None => Err(TaskError::new("this service was started without commands")),
                })
            }
        }
    }

    /// Kills the commands that are running.
    pub fn kill_commands(&self) {
        if let Some(guard) = &self.guard {
            guard.kill_all();
        }
    }
}

/// What tasks share may spawn when it ends, as connections do that say goodbye.
impl Drop for Executor {
    fn drop(&mut self) {
        let _entered = self.reactor.enter();
        self.registry = Registry::new();
    }
}

/// The end of a message whose row was rolled back, requeued or purged.
pub const NO_ROW: (End, &str) = (
    End::Cancelled,
    "the message has no row: its publisher's transaction was rolled back, or the row was requeued or \
     purged",
);
