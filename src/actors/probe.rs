//! Checks that the actors still handle messages.

use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::consumer_set::ConsumerSetActor;
use super::supervisor::SupervisorActor;

/// Asks the supervisor to reply, and to have every set reply.
#[derive(Message)]
#[rtype(result = "()")]
struct Probe(Sender<ProbeReply>);

/// Asks a set to reply.
#[derive(Message)]
#[rtype(result = "()")]
struct ProbeSet(Sender<ProbeReply>);

enum ProbeReply {
    /// The supervisor's reply, with the number of sets that it asked.
    Supervisor(usize),
    /// The reply of one set.
    Set,
}

/// Whether the supervisor and all its sets reply within `time`.
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
            Ok(ProbeReply::Supervisor(sets)) => Some(sets),
            Ok(ProbeReply::Set) => missing.map(|missing| missing - 1),
            Err(_) => return false,
        };
    }
    true
}

impl Handler<Probe> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Probe(answers): Probe, _: &mut Context<Self>) {
        let sets = self.sets();
        // The number must arrive before any set's reply.
        reply(&answers, ProbeReply::Supervisor(sets.len()));
        for set in sets {
            set.do_send(ProbeSet(answers.clone()));
        }
    }
}

impl Handler<ProbeSet> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, ProbeSet(answers): ProbeSet, _: &mut Context<Self>) {
        reply(&answers, ProbeReply::Set);
    }
}

fn reply(answers: &Sender<ProbeReply>, answer: ProbeReply) {
    if answers.send(answer).is_err() {
        log::debug!("an actor answered a liveness probe late");
    }
}
