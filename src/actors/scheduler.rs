//! The scheduler's place in the tree. It publishes nothing yet.

use actix::prelude::*;

use super::supervisor::SupervisorActor;

/// Will publish the occurrences of `carrot_scheduledtask`.
pub(super) struct SchedulerActor {
    supervisor: Addr<SupervisorActor>,
}

impl SchedulerActor {
    pub(super) const fn new(supervisor: Addr<SupervisorActor>) -> Self {
        Self { supervisor }
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;
}

/// Publish nothing more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopScheduler;

/// Nothing more will be published.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SchedulerStopped;

impl Handler<StopScheduler> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: StopScheduler, context: &mut Context<Self>) {
        log::info!("the scheduler is stopped");
        self.supervisor.do_send(SchedulerStopped);
        context.stop();
    }
}
