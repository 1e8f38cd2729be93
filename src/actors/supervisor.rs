//! The supervisor, the root of the actor tree.

use std::fmt;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::Sender;

use super::consumer_set::{ConsumerSetActor, StopSet};
use super::messages::{SchedulerNotice, SetEvent, SetNotice};
use super::scheduler::{SchedulerActor, StopScheduler};
use super::tree::Tree;
use crate::config;
use crate::failpoint;
use crate::retry::Backoff;

/// How the tree ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeOutcome {
    /// All running tasks have finished.
    Drained,
    /// Running tasks were left for redelivery.
    Halted,
    /// The service was to run until its queues were empty, and the broker prevented that.
    Failed(String),
    /// A part that can't be restarted has died, the one named here. Running tasks were left for redelivery.
    Died(String),
}

/// A thread beside the tree that can't be restarted has died, the one named here.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ThreadDied(pub &'static str);

/// Tells the tree to stop.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub enum Shutdown {
    /// Drain: running tasks finish, within the grace time if there is one.
    Drain(Option<Duration>),
    /// Stop at once.
    Halt,
}

/// Completes the sentence "told to stop …".
impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(None) => f.write_str("in order: running tasks finish first"),
            Self::Drain(Some(grace)) => {
                let grace = config::format_duration(*grace);
                write!(f, "in order: running tasks finish first, within {grace}")
            }
            Self::Halt => f.write_str("at once: running tasks are left"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    StoppingScheduler,
    StoppingSets,
    Over,
}

/// Owns the scheduler and a set of consumers for each queue.
pub struct SupervisorActor {
    tree: Tree,
    scheduler: Option<Addr<SchedulerActor>>,
    /// When the scheduler was started.
    scheduler_started_at: Instant,
    backoff: Backoff,
    sets: Vec<(String, Addr<ConsumerSetActor>)>,
    /// The queues whose sets are not idle yet, if the tree runs until all are.
    busy_queues: Vec<String>,
    phase: Phase,
    /// Why a set could not run until it was idle.
    failure: Option<String>,
    outcome: Sender<TreeOutcome>,
}

impl SupervisorActor {
    /// The root of `tree`. It sends to `outcome` how the tree ended.
    #[must_use]
    pub fn new(tree: Tree, outcome: Sender<TreeOutcome>) -> Self {
        Self {
            tree,
            scheduler: None,
            scheduler_started_at: Instant::now(),
            backoff: Backoff::for_restarts(),
            sets: Vec::new(),
            busy_queues: Vec::new(),
            phase: Phase::Running,
            failure: None,
            outcome,
        }
    }

    /// The sets that have not stopped.
    pub(super) fn sets(&self) -> Vec<&Addr<ConsumerSetActor>> {
        self.sets.iter().map(|(_, set)| set).collect()
    }

    fn start_scheduler(&mut self, context: &mut Context<Self>) {
        if let Some(setup) = self.tree.scheduler.clone() {
            let scheduler = SchedulerActor::new(context.address().recipient(), setup);
            self.scheduler = Some(scheduler.start());
            self.scheduler_started_at = Instant::now();
        }
    }

    fn stop_scheduler(&mut self) {
        self.phase = Phase::StoppingScheduler;
        match &self.scheduler {
            Some(scheduler) => scheduler.do_send(StopScheduler),
            None => self.stop_sets(),
        }
    }

    /// Tells all sets to stop before it waits for any.
    fn stop_sets(&mut self) {
        self.phase = Phase::StoppingSets;
        for (queue, set) in &self.sets {
            log::info!("the consumers of queue {queue} are told to stop");
            set.do_send(StopSet);
        }
        self.end_if_all_stopped();
    }

    fn end_if_all_stopped(&mut self) {
        if self.phase == Phase::StoppingSets && self.sets.is_empty() {
            log::info!("all consumers have stopped");
            let outcome = self
                .failure
                .take()
                .map_or(TreeOutcome::Drained, TreeOutcome::Failed);
            self.finish(outcome);
        }
    }

    fn finish(&mut self, outcome: TreeOutcome) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        if self.outcome.send(outcome).is_err() {
            log::debug!("nobody waits for the tree any more");
        }
        if let Some(system) = System::try_current() {
            system.stop();
        }
    }

    fn drain(&mut self, grace: Option<Duration>, context: &mut Context<Self>) {
        if self.phase != Phase::Running {
            return;
        }
        if let Some(grace) = grace {
            context.run_later(grace, |supervisor, _| {
                log::warn!("the grace time is over: what is still running is left for redelivery");
                supervisor.halt();
            });
        }
        self.tree.service_status.set_stopping();
        self.stop_scheduler();
    }

    fn halt(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        self.tree.service_status.set_stopping();
        self.abandon_all(TreeOutcome::Halted);
    }

    /// Ends the service because a part that can't be restarted has died, and with it the knowledge of messages in
    /// flight. The broker delivers those again that are not recorded as finished, for any worker to run.
    fn fail(&mut self, what: String) {
        if self.phase == Phase::Over {
            return;
        }
        log::error!(
            "{what} died, and the service ends with that: tasks that were running are run again"
        );
        self.tree.service_status.set_failed(&what);
        self.tree.executor.stop();
        self.abandon_all(TreeOutcome::Died(what));
    }

    fn abandon_all(&mut self, outcome: TreeOutcome) {
        // The ledger halts first: outcomes that the cancellation causes must not be written.
        self.tree.ledger.halt();
        self.tree.executor.cancel_all();
        self.finish(outcome);
    }

    /// Starts the scheduler again if it died. The sweep publishes what it has taken and not published.
    fn handle_scheduler_gone(&mut self, context: &mut Context<Self>) {
        match self.phase {
            Phase::Running => {
                self.scheduler = None;
                let wait = self
                    .backoff
                    .next_wait_after(self.scheduler_started_at.elapsed());
                log::error!("the scheduler's actor died; a new one starts in {wait:.1?}");
                context.run_later(wait, |supervisor, context| {
                    if supervisor.phase == Phase::Running {
                        supervisor.start_scheduler(context);
                    }
                });
            }
            Phase::StoppingScheduler => self.stop_sets(),
            Phase::StoppingSets | Phase::Over => {}
        }
    }

    fn handle_set_idle(&mut self, queue: &str, error: Option<String>, context: &mut Context<Self>) {
        self.busy_queues.retain(|busy_queues| busy_queues != queue);
        self.failure = error.or(self.failure.take());
        if self.busy_queues.is_empty() {
            self.drain(None, context);
        }
    }

    fn handle_set_stopped(&mut self, queue: &str) {
        if self.phase == Phase::Running && !self.tree.until_idle {
            return self.fail(format!("the subscription of queue {queue}"));
        }
        log::info!("the consumers of queue {queue} have stopped");
        self.sets.retain(|(name, _)| name != queue);
        self.end_if_all_stopped();
    }

    /// Ends the service if a set dies. A new set would not know what the ledger has in flight for the old one, or
    /// what its consumers run: messages that were claimed and not begun would never run, and copies of them would
    /// join runs that never end.
    fn handle_set_gone(&mut self, queue: &str) {
        if self.sets.iter().any(|(name, _)| name == queue) {
            self.fail(format!("the set of consumers of queue {queue}"));
        }
    }
}

/// Ends the tree if the supervisor ends for any other cause, such as a panic: actix drops the actor, and the caller
/// would otherwise wait for the outcome for ever.
impl Drop for SupervisorActor {
    fn drop(&mut self) {
        self.fail("the supervisor".to_owned());
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if self.tree.scheduler.is_some() {
            self.start_scheduler(context);
            (self.tree.announce)("Successfully started scheduler");
        }
        for source in std::mem::take(&mut self.tree.queues) {
            let name = source.queue.name.clone();
            let consumers = source.queue.concurrency;
            let set = ConsumerSetActor::new(&self.tree, source, context.address().recipient());
            self.sets.push((name.clone(), set.start()));
            (self.tree.announce)(&format!(
                "Successfully started {consumers} consumers for queue {name}"
            ));
            self.busy_queues.push(name);
        }
        (self.tree.announce)(&format!(
            "All queues consumer sets started successfully. Full logs are at {}.",
            self.tree.logs
        ));
        failpoint::hit("supervisor.started");
        self.tree.service_status.set_tree_started();
        if self.tree.until_idle && self.sets.is_empty() {
            self.drain(None, context);
        }
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, shutdown: Shutdown, context: &mut Context<Self>) {
        match shutdown {
            Shutdown::Drain(grace) => self.drain(grace, context),
            Shutdown::Halt => self.halt(),
        }
    }
}

impl Handler<SchedulerNotice> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, notice: SchedulerNotice, context: &mut Context<Self>) {
        match notice {
            SchedulerNotice::Stopped => {
                self.scheduler = None;
                if self.phase == Phase::StoppingScheduler {
                    self.stop_sets();
                }
            }
            SchedulerNotice::Gone => self.handle_scheduler_gone(context),
        }
    }
}

impl Handler<SetNotice> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, notice: SetNotice, context: &mut Context<Self>) {
        let queue = notice.queue;
        match notice.event {
            SetEvent::Idle { error } => self.handle_set_idle(&queue, error, context),
            SetEvent::Stopped => self.handle_set_stopped(&queue),
            SetEvent::Gone => self.handle_set_gone(&queue),
        }
    }
}

impl Handler<ThreadDied> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ThreadDied(what): ThreadDied, _: &mut Context<Self>) {
        self.fail(what.to_owned());
    }
}
