//! Whether the actors still handle what they are sent.

use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::consumer_set::ConsumerSetActor;
use super::supervisor::SupervisorActor;

/// Answer; and have every set answer.
#[derive(Message)]
#[rtype(result = "()")]
struct Probe(Sender<ProbeReply>);

/// Answer.
#[derive(Message)]
#[rtype(result = "()")]
struct ProbeSet(Sender<ProbeReply>);

enum ProbeReply {
    /// The supervisor's: so many sets are asked.
    Asked(usize),
    /// A set's.
    Well,
}

/// Whether the supervisor and every set that it has answer within `time`.
#[must_use]
pub fn all_respond(supervisor: &Addr<SupervisorActor>, time: Duration) -> bool {
    let (sender, answers) = unbounded();
    supervisor.do_send(Probe(sender));
    all_answer(&answers, Instant::now() + time)
}

fn all_answer(answers: &Receiver<ProbeReply>, deadline: Instant) -> bool {
    let mut missing = None;
    while missing != Some(0) {
        missing = match answers.recv_deadline(deadline) {
            Ok(ProbeReply::Asked(sets)) => Some(sets),
            Ok(ProbeReply::Well) => missing.map(|missing| missing - 1),
            Err(_) => return false,
        };
    }
    true
}

impl Handler<Probe> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Probe(answers): Probe, _: &mut Context<Self>) {
        let sets = self.sets();
        // Before any of them can.
        tell(&answers, ProbeReply::Asked(sets.len()));
        for set in sets {
            set.do_send(ProbeSet(answers.clone()));
        }
    }
}

impl Handler<ProbeSet> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, ProbeSet(answers): ProbeSet, _: &mut Context<Self>) {
        tell(&answers, ProbeReply::Well);
    }
}

fn tell(answers: &Sender<ProbeReply>, answer: ProbeReply) {
    if answers.send(answer).is_err() {
        log::debug!("an actor has answered late");
    }
}
