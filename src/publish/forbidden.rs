//! What the broker does not permit for now: one message of such is tried, once in a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::health::outage::ServerPart;
use crate::message::Message;

/// So long after a refusal the next message is tried, at the earliest.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many it is remembered that they are refused.
const MAX_PATHS: usize = 10_000;

/// A queue, and the exchange by which messages for it go there: permissions are on exchanges.
type PublishPath = (String, String);

/// The paths that the broker has closed.
#[derive(Default)]
pub(super) struct ForbiddenPaths(HashMap<PublishPath, ForbiddenPath>);

/// A refusal.
pub(super) struct ForbiddenPath {
    pub(super) reason: String,
    /// Of the message that was refused: on a topic exchange others may be permitted.
    pub(super) routing_key: String,
    at: Instant,
}

impl ForbiddenPath {
    /// Whether it is time to try again.
    pub(super) fn is_due(&self) -> bool {
        self.at.elapsed() >= RETRY_INTERVAL
    }
}

impl ForbiddenPaths {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, message: &Message) -> Option<&ForbiddenPath> {
        self.0.get(&path(message))
    }

    pub(super) fn close(&mut self, message: &Message, reason: &str) {
        if self.0.len() >= MAX_PATHS {
            self.0.clear();
        }
        let refused = ForbiddenPath {
            reason: reason.to_owned(),
            routing_key: message.routing_key.clone(),
            at: Instant::now(),
        };
        self.0.insert(path(message), refused);
    }

    pub(super) fn open(&mut self, message: &Message) {
        self.0.remove(&path(message));
    }
}

fn path(message: &Message) -> PublishPath {
    (message.queue.clone(), message.exchange.clone())
}

/// The path of a message, among the parts of its broker.
pub(super) fn part(message: &Message) -> ServerPart {
    let (queue, exchange) = path(message);
    ServerPart::Path { queue, exchange }
}
