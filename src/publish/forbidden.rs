//! Paths to queues that the broker does not permit for now. One message of such a path is tried now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::health::outage::ServerPart;
use crate::message::Message;

/// The shortest time between a refusal and the next try.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The most forbidden paths that are remembered.
const MAX_PATHS: usize = 10_000;

/// A queue, and the exchange that its messages are published to: RabbitMQ's permissions are on exchanges.
type PublishPath = (String, String);

/// The paths that the broker does not permit.
#[derive(Default)]
pub(super) struct ForbiddenPaths(HashMap<PublishPath, ForbiddenPath>);

/// The last refusal on a path.
pub(super) struct ForbiddenPath {
    pub(super) reason: String,
    /// The routing key that was refused: on a topic exchange others may be permitted.
    pub(super) routing_key: String,
    refused_at: Instant,
}

impl ForbiddenPath {
    /// Whether the path may be tried again.
    pub(super) fn may_be_retried(&self) -> bool {
        self.refused_at.elapsed() >= RETRY_INTERVAL
    }
}

impl ForbiddenPaths {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, message: &Message) -> Option<&ForbiddenPath> {
        self.0.get(&path(message))
    }

    pub(super) fn add(&mut self, message: &Message, reason: &str) {
        if self.0.len() >= MAX_PATHS {
            self.0.clear();
        }
        let forbidden = ForbiddenPath {
            reason: reason.to_owned(),
            routing_key: message.routing_key.clone(),
            refused_at: Instant::now(),
        };
        self.0.insert(path(message), forbidden);
    }

    pub(super) fn remove(&mut self, message: &Message) {
        self.0.remove(&path(message));
    }
}

fn path(message: &Message) -> PublishPath {
    (message.queue.clone(), message.exchange.clone())
}

/// The path of a message as a part of its broker, for the log and the status.
pub(super) fn server_part(message: &Message) -> ServerPart {
    let (queue, exchange) = path(message);
    ServerPart::Path { queue, exchange }
}
