//! Stops a set: it takes no more messages, running tasks finish, and all other messages go back, first in their rows
//! and then at the broker.

use actix::prelude::*;

use super::super::consumer::StopConsumer;
use super::super::messages::SetEvent;
use super::ConsumerSetActor;
use crate::broker::SubscriptionCommand;

/// Tells a set to take nothing more, finish what is running, and give back the rest.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct StopSet;

impl Handler<StopSet> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, _: StopSet, _: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.send_command(SubscriptionCommand::Cancel);
        for (consumer, _) in self.consumers.values() {
            consumer.do_send(StopConsumer);
        }
        let unclaimed = self.take_unclaimed();
        let unstarted = self.give_back_unstarted(|_| true);
        log::info!(
            "queue {}: waiting for {} running tasks; {} messages go back",
            self.name,
            self.in_flight.runs() - unstarted,
            unclaimed.len() + unstarted
        );
        self.settle(Vec::new(), unclaimed);
        self.claim_backlog();
        self.close_if_done();
    }
}

impl ConsumerSetActor {
    /// Closes the subscription once it has nothing left to settle.
    pub(super) fn close_if_done(&mut self) {
        let is_done = self.in_flight.is_empty()
            && self.backlog.is_empty()
            && !self.has_row_waits_without_copy();
        // Messages that are still on their way must get their rows before they go back.
        let has_all = self.cancelled || !self.broker_copies.queue_counts_returns();
        if self.stopping && is_done && has_all && self.consumers.is_empty() {
            self.commands = None;
        }
    }

    /// Handles the end of the subscription.
    pub(super) fn subscription_closed(&mut self, context: &mut Context<Self>) {
        self.notify_owner(SetEvent::Stopped);
        context.stop();
    }
}
