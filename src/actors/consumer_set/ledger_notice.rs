//! Handles what the ledger reports to a set.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;

use super::ConsumerSetActor;
use crate::failpoint;
use crate::ledger::{ClaimOutcome, LedgerListener, Settlement};

/// A call of [`LedgerListener`] as an actor's message.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum LedgerNotice {
    Joined(usize),
    Claimed(Vec<ClaimOutcome>, Duration),
    Settlement(Settlement, Duration),
    RowsLookedUp(HashMap<String, bool>),
}

/// Forwards the ledger's reports to the set's actor.
pub(super) struct SetListener(pub(super) Addr<ConsumerSetActor>);

impl LedgerListener for SetListener {
    fn joined(&self, count: usize) {
        self.0.do_send(LedgerNotice::Joined(count));
    }

    fn claimed(&self, outcomes: Vec<ClaimOutcome>, commit: Duration) {
        self.0.do_send(LedgerNotice::Claimed(outcomes, commit));
    }

    fn settle(&self, settlement: Settlement, commit: Duration) {
        self.0.do_send(LedgerNotice::Settlement(settlement, commit));
    }

    fn looked_up(&self, looked: HashMap<String, bool>) {
        self.0.do_send(LedgerNotice::RowsLookedUp(looked));
    }
}

impl Handler<LedgerNotice> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, notice: LedgerNotice, context: &mut Context<Self>) {
        match notice {
            LedgerNotice::Joined(count) => self.in_flight.joined(count),
            LedgerNotice::Claimed(outcomes, commit) => self.handle_claims(outcomes, commit),
            LedgerNotice::Settlement(settlement, commit) => {
                self.handle_settlement(settlement, commit)
            }
            LedgerNotice::RowsLookedUp(looked) => self.handle_row_lookup(&looked),
        }
        self.source
            .queue_status
            .set_in_flight(self.in_flight.runs());
        self.adjust_prefetch();
        self.claim_backlog();
        self.schedule_row_lookup(context);
        self.check_idle();
        self.close_if_done();
    }
}

impl ConsumerSetActor {
    fn handle_claims(&mut self, outcomes: Vec<ClaimOutcome>, commit: Duration) {
        failpoint::hit("set.claimed");
        self.claim_window.committed(commit);
        let is_ours = |outcome: &&ClaimOutcome| matches!(outcome, ClaimOutcome::Ours(_));
        let ours = outcomes.iter().filter(is_ours).count();
        self.in_flight.answered(outcomes.len(), ours);
        let mut done = Vec::new();
        for outcome in outcomes {
            match outcome {
                ClaimOutcome::Ours(attempt) => self.hand_out(attempt),
                ClaimOutcome::Final(envelope, status) => {
                    log::info!("message {} is {status} already", envelope.key);
                    done.push(envelope.handle);
                }
                ClaimOutcome::Owned(envelope, worker) => {
                    log::info!("message {} is with worker {}", envelope.key, worker.0);
                    done.push(envelope.handle);
                }
                ClaimOutcome::NoRow(envelope) => self.await_row(envelope),
            }
        }
        self.settle(done, Vec::new());
    }

    fn handle_settlement(&mut self, settlement: Settlement, commit: Duration) {
        self.in_flight.settled(&settlement);
        if settlement.finished > 0 {
            self.claim_window.committed(commit);
        }
        self.claim_window.ran(settlement.finished, settlement.ran);
        self.settle(settlement.accept, settlement.give_back);
    }
}
