//! What the ledger answers a set.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;

use super::ConsumerSetActor;
use crate::failpoint;
use crate::ledger::{Claimed, Settlement, Sink};
use crate::store::Claim;

/// What the ledger answers.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Recorded {
    Claims(Claimed, Duration),
    Settlement(Settlement, Duration),
    Looks(HashMap<String, bool>),
}

/// The ledger's way to the set.
pub(super) struct SetSink(pub(super) Addr<ConsumerSetActor>);

impl Sink for SetSink {
    fn claimed(&self, claimed: Claimed, commit: Duration) {
        self.0.do_send(Recorded::Claims(claimed, commit));
    }

    fn settle(&self, settlement: Settlement, commit: Duration) {
        self.0.do_send(Recorded::Settlement(settlement, commit));
    }

    fn looked(&self, looked: HashMap<String, bool>) {
        self.0.do_send(Recorded::Looks(looked));
    }
}

impl Handler<Recorded> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, recorded: Recorded, context: &mut Context<Self>) {
        match recorded {
            Recorded::Claims(claimed, commit) => self.take_claims(claimed, commit),
            Recorded::Settlement(settlement, commit) => self.take_settlement(settlement, commit),
            Recorded::Looks(looked) => self.rows_looked_for(&looked),
        }
        self.source.vitals.in_hand(self.in_hand);
        self.adapt();
        self.pump();
        self.watch_for_rows(context);
        self.check_idle();
        self.close_if_done();
    }
}

impl ConsumerSetActor {
    fn take_claims(&mut self, claimed: Claimed, commit: Duration) {
        failpoint::hit("set.claimed");
        if !claimed.answers.is_empty() {
            self.pace.committed(commit);
        }
        self.claiming -= claimed.joined + claimed.answers.len();
        self.joined += claimed.joined.cast_signed();
        let mut done = Vec::new();
        for answer in claimed.answers {
            let envelope = &answer.envelope;
            match answer.claim {
                Claim::Ours { attempts, suspect } => self.dispatch(answer, attempts, suspect),
                Claim::Final(status) => {
                    log::info!("message {} is {status} already", envelope.key);
                    done.push(envelope.receipt);
                }
                Claim::Owned(worker) => {
                    log::info!("message {} is with worker {}", envelope.key, worker.0);
                    done.push(envelope.receipt);
                }
                Claim::NoRow => self.await_row(answer.envelope),
            }
        }
        self.tell(done, Vec::new());
    }

    fn take_settlement(&mut self, settlement: Settlement, commit: Duration) {
        let runs = settlement.finished + settlement.released;
        self.in_hand -= runs;
        let settled = settlement.accept.len() + settlement.give_back.len();
        self.joined -= (settled - runs).cast_signed();
        if settlement.finished > 0 {
            self.pace.committed(commit);
        }
        self.pace.ran(settlement.finished, settlement.ran);
        self.tell(settlement.accept, settlement.give_back);
    }
}
