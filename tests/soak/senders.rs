//! The senders of messages, each in its own way.

use fastrand::Rng;
use serde_json::Value;

use crate::broker::Broker;
use crate::database::Link;
use crate::soak::Soak;
use crate::support::database::published_row;
use crate::support::{Raw, outcome};
use crate::task::{Sent, Task};

/// The exit code of `carrot-actors send` when the broker or the database is away.
const UNAVAILABLE: i32 = 69;

/// As django-carrot does: the rows first, then the messages. Unlike django-carrot's, these are persistent, so
/// that they are not lost with the broker.
pub fn as_django(soak: &Soak, mut random: Rng) {
    let mut rows = Link::new(&soak.world);
    let mut broker = Broker::new(&soak.world);
    while soak.goes_on() {
        let sent = batch(&mut random, false);
        let row = |sent: &Sent| published_row(sent.queue, sent.task.name(), &sent.key);
        rows.insert(&sent.iter().map(row).collect::<Vec<Value>>());
        let raw = |sent: &Sent| {
            let body = sent.task.body(&mut random);
            let raw = Raw::django(sent.task.name(), &sent.key, body);
            sent.publishable(raw, &mut random)
        };
        publish(soak, &mut broker, "as django-carrot", sent, raw);
        soak.pause_within(&mut random, 50..600);
    }
}

/// As another program: without the type, and without a row.
pub fn as_a_stranger(soak: &Soak, mut random: Rng) {
    let mut broker = Broker::new(&soak.world);
    while soak.goes_on() {
        let sent = batch(&mut random, true);
        let raw = |sent: &Sent| {
            let body = sent.task.body(&mut random);
            let raw = Raw::foreign(sent.task.name(), Some(&sent.key), body);
            sent.publishable(raw, &mut random)
        };
        publish(soak, &mut broker, "by a stranger", sent, raw);
        soak.pause_within(&mut random, 50..600);
    }
}

/// A few messages, sometimes many, or a flood that is sent as fast as possible.
fn batch(random: &mut Rng, malformed: bool) -> Vec<Sent> {
    let (count, flood) = match random.u8(..20) {
        0 => (random.usize(200..800), true),
        1 => (random.usize(30..100), false),
        _ => (random.usize(1..8), false),
    };
    let one = |_| match Sent::any(random, malformed) {
        sent if flood => Sent {
            task: Task::Quick,
            ..sent
        },
        sent => sent,
    };
    (0..count).map(one).collect()
}

fn publish(
    soak: &Soak,
    broker: &mut Broker<'_>,
    how: &'static str,
    sent: Vec<Sent>,
    raw: impl FnMut(&Sent) -> Raw,
) {
    let messages: Vec<Raw> = sent.iter().map(raw).collect();
    let unconfirmed = broker.publish(&messages);
    let mut notes = soak.notes();
    notes.unconfirmed += unconfirmed;
    *notes.by.entry(how).or_default() += sent.len();
    notes.sent.extend(sent);
}

/// By the command line.
pub fn by_command(soak: &Soak, mut random: Rng) {
    while soak.goes_on() {
        let meant = Sent::any(&mut random, false);
        let priority = random.u8(..).to_string();
        let (code, out, err) = outcome(&mut soak.world.command(&[
            "send",
            meant.task.name(),
            "--queue",
            meant.queue,
            "--priority",
            &priority,
            "--args",
            r#"["soak", 1]"#,
        ]));
        let key = out.trim().to_owned();
        match code {
            0 if !key.is_empty() => {
                let mut notes = soak.notes();
                *notes.by.entry("by command").or_default() += 1;
                notes.sent.push(Sent { key, ..meant });
            }
            // The message may have been recorded although the commit had no answer.
            UNAVAILABLE if key.is_empty() => soak.notes().in_doubt += 1,
            _ => soak.fault(format!("send ended with {code}: {out}{err}")),
        }
        soak.pause_within(&mut random, 100..600);
    }
}
