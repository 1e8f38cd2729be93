//! Complete messages, and recording them in the caller's transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::message::Message;
use crate::store::NewRow;
use crate::store::transaction::{Connection, RecordError};

/// The most rows that one statement inserts.
const ROWS_PER_INSERT: usize = 500;

/// A complete message.
pub(super) struct ReadyMessage {
    pub(super) message: Message,
    pub(super) delay: Option<Duration>,
}

impl ReadyMessage {
    /// When the message is due: at `now`, unless it has a delay.
    pub(super) fn due(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + self.delay.unwrap_or_default()
    }
}

/// Records messages in the caller's transaction. Returns their keys.
pub(super) fn record(
    connection: &mut impl Connection,
    messages: &[ReadyMessage],
) -> Result<Vec<String>, RecordError> {
    let is_delayed = messages.iter().any(|ready| ready.delay.is_some());
    let rows: Vec<NewRow> = if is_delayed {
        let now = connection.now()?;
        let delayed = |ready: &ReadyMessage| NewRow::delayed(&ready.message, ready.due(now));
        messages.iter().map(delayed).collect()
    } else {
        let pending = |ready: &ReadyMessage| NewRow::pending(&ready.message);
        messages.iter().map(pending).collect()
    };
    for part in rows.chunks(ROWS_PER_INSERT) {
        connection.record(part)?;
    }
    Ok(rows.into_iter().map(|row| row.key).collect())
}
