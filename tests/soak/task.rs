//! The messages: tasks of all kinds, each with the end that it must have.

use fastrand::Rng;

use crate::support::Raw;
use crate::support::traced_tasks::traced_task;

/// The queues: one as django-carrot declares it, and a quorum queue.
pub const QUEUES: [&str; 2] = ["default", "replicated"];

/// The task of a message, or what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A function that ends at once.
    Quick,
    /// An async function that ends at once.
    Async,
    /// A function that returns an error.
    Errs,
    /// A function that panics.
    Panics,
    /// A command that ends at once.
    Note,
    /// A command that takes some hundred milliseconds.
    Slow,
    /// A command with another exit status than 0.
    Fails,
    /// There is no such task.
    Unknown,
    /// The body can't be read.
    Malformed,
}

/// How many of a hundred messages have this task.
const MIX: [(Task, u32); 9] = [
    (Task::Quick, 40),
    (Task::Async, 10),
    (Task::Errs, 8),
    (Task::Panics, 1),
    (Task::Note, 20),
    (Task::Slow, 8),
    (Task::Fails, 5),
    (Task::Unknown, 4),
    (Task::Malformed, 4),
];

/// Bodies that are no messages.
const MALFORMED: [&[u8]; 7] = [
    b"",
    b"{\"args\": [1",
    b"\xff\xfe{}",
    b"[1, 2]",
    b"{\"args\": 5}",
    b"{\"kwargs\": [1]}",
    b"null",
];

impl Task {
    /// A random task. Malformed ones only if `malformed`.
    pub fn any(random: &mut Rng, malformed: bool) -> Self {
        loop {
            let mut left = random.u32(..100);
            let drawn = MIX.iter().find(|(_, share)| {
                let is_it = left < *share;
                left = left.saturating_sub(*share);
                is_it
            });
            let (task, _) = drawn.unwrap();
            if malformed || *task != Self::Malformed {
                return *task;
            }
        }
    }

    /// The name of the task in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Async => "async",
            Self::Errs => "errs",
            Self::Panics => "panics",
            Self::Note | Self::Malformed => "note",
            Self::Slow => "slow",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }

    /// The task of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = MIX.iter().map(|(task, _)| *task);
        all.into_iter().find(|task| task.name() == name)
    }

    /// The final state of its messages.
    pub const fn end(self) -> &'static str {
        match self {
            Self::Quick | Self::Async | Self::Note | Self::Slow => "COMPLETED",
            _ => "FAILED",
        }
    }

    /// Whether its messages are run.
    pub const fn runs(self) -> bool {
        !matches!(self, Self::Unknown | Self::Malformed)
    }

    pub fn body(self, random: &mut Rng) -> Vec<u8> {
        match self {
            Self::Malformed => random.choice(MALFORMED).unwrap().to_vec(),
            _ => b"{}".to_vec(),
        }
    }
}

/// A message that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub key: String,
    pub task: Task,
    pub queue: &'static str,
}

impl Sent {
    /// A message of a random task. Malformed ones only if `malformed`.
    pub fn any(random: &mut Rng, malformed: bool) -> Self {
        let bytes = random.u128(..).to_be_bytes();
        Self {
            key: uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string(),
            task: Task::any(random, malformed),
            queue: random.choice(QUEUES).unwrap(),
        }
    }

    /// The message as it is published by any sender, persistent.
    pub fn publishable(&self, raw: Raw, random: &mut Rng) -> Raw {
        /// AMQP's `delivery_mode`.
        const PERSISTENT: u8 = 2;
        let priority = *random.choice(&[0, 0, 0, 1, 9, 255]).unwrap();
        Raw {
            properties: raw
                .properties
                .with_delivery_mode(PERSISTENT)
                .with_priority(priority),
            routing_key: self.queue.to_owned(),
            ..raw
        }
    }
}

/// The configuration of the services, without a limit of crashes: a message may be running at four kills by
/// chance.
pub fn configuration() -> String {
    let [default, replicated] = QUEUES;
    [
        format!(
            "max_crashes = 1000\nunknown_tasks = 'fail'\n\
             [[queues]]\nname = '{default}'\nconcurrency = 4\n\
             [[queues]]\nname = '{replicated}'\nconcurrency = 2\nprefetch_factor = 50\n\
             queue_arguments = {{ x-queue-type = 'quorum' }}\n"
        ),
        traced_task("note", "echo done"),
        traced_task(
            "slow",
            // With a 1 in front, since a leading 0 would make the number octal.
            "sleep 0.$((1$(date +%N | cut -c 4-6) % 5 + 1))",
        ),
        traced_task("fails", "echo no >&2; exit 3"),
    ]
    .concat()
}
