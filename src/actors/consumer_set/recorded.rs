//! What the ledger answers a set.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;

use super::ConsumerSetActor;
use crate::failpoint;
use crate::ledger::{Answer, Settlement, Sink};

/// What the ledger answers.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Recorded {
    Joined(usize),
    Answers(Vec<Answer>, Duration),
    Settlement(Settlement, Duration),
    Looks(HashMap<String, bool>),
}

/// The ledger's way to the set.
pub(super) struct SetSink(pub(super) Addr<ConsumerSetActor>);

impl Sink for SetSink {
    fn joined(&self, count: usize) {
        self.0.do_send(Recorded::Joined(count));
    }

    fn claimed(&self, answers: Vec<Answer>, commit: Duration) {
        self.0.do_send(Recorded::Answers(answers, commit));
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
            Recorded::Joined(count) => self.in_flight.joined(count),
            Recorded::Answers(answers, commit) => self.take_answers(answers, commit),
            Recorded::Settlement(settlement, commit) => self.take_settlement(settlement, commit),
            Recorded::Looks(looked) => self.rows_looked_for(&looked),
        }
        self.source
            .queue_status
            .set_in_flight(self.in_flight.in_hand());
        self.adapt();
        self.pump();
        self.watch_for_rows(context);
        self.check_idle();
        self.close_if_done();
    }
}

impl ConsumerSetActor {
    fn take_answers(&mut self, answers: Vec<Answer>, commit: Duration) {
        failpoint::hit("set.claimed");
        self.pace.committed(commit);
        let is_ours = |answer: &&Answer| matches!(answer, Answer::Ours(_));
        let ours = answers.iter().filter(is_ours).count();
        self.in_flight.answered(answers.len(), ours);
        let mut done = Vec::new();
        for answer in answers {
            match answer {
                Answer::Ours(attempt) => self.hand_out(attempt),
                Answer::Final(envelope, status) => {
                    log::info!("message {} is {status} already", envelope.key);
                    done.push(envelope.handle);
                }
                Answer::Owned(envelope, worker) => {
                    log::info!("message {} is with worker {}", envelope.key, worker.0);
                    done.push(envelope.handle);
                }
                Answer::NoRow(envelope) => self.await_row(envelope),
            }
        }
        self.tell(done, Vec::new());
    }

    fn take_settlement(&mut self, settlement: Settlement, commit: Duration) {
        self.in_flight.settled(&settlement);
        if settlement.finished > 0 {
            self.pace.committed(commit);
        }
        self.pace.ran(settlement.finished, settlement.ran);
        self.tell(settlement.accept, settlement.give_back);
    }
}
