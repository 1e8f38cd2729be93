//! A message that is not claimed yet, and what its claim does if it has no row.

use super::without_id::WithoutId;
use crate::broker::Envelope;
use crate::execution::MISSING_ROW;
use crate::message::Payload;
use crate::names;
use crate::state::End;
use crate::store::{ClaimRequest, NewRow};

/// A message that waits to be claimed.
#[derive(Debug)]
pub(super) struct Arrival {
    envelope: Envelope,
    row: RowKnowledge,
}

/// What the set knows about a message's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKnowledge {
    /// The row was not looked up.
    Unknown,
    /// A lookup found the row.
    Seen,
    /// There is no row, and nobody will write one: the claim inserts it.
    NeverWritten,
    /// There is no row, although its publisher writes one: the claim inserts a row in a final state.
    GivenUp,
}

impl Arrival {
    /// A message that was just delivered.
    pub(super) fn new(mut envelope: Envelope, without_id: &mut WithoutId) -> Self {
        let row = match envelope.fingerprint {
            None => RowKnowledge::Unknown,
            Some(fingerprint) => {
                without_id.recognize(&mut envelope, fingerprint);
                RowKnowledge::NeverWritten
            }
        };
        Self { envelope, row }
    }

    /// A message whose claim found no row. Its next claim inserts one if the publisher writes none.
    pub(super) const fn without_row(envelope: Envelope) -> Self {
        let row = if envelope.publisher_writes_row {
            RowKnowledge::Unknown
        } else {
            RowKnowledge::NeverWritten
        };
        Self { envelope, row }
    }

    /// The message after a lookup has found its row.
    pub(super) fn with_row(self) -> Self {
        let row = RowKnowledge::Seen;
        Self { row, ..self }
    }

    /// The message after its row has not come in time.
    pub(super) fn given_up(self) -> Self {
        let row = RowKnowledge::GivenUp;
        Self { row, ..self }
    }

    /// Whether the publisher writes the message's row, and no lookup has found it yet.
    pub(super) fn may_lack_row(&self) -> bool {
        self.row == RowKnowledge::Unknown && self.envelope.publisher_writes_row
    }

    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The connection that delivered the message.
    pub(super) const fn epoch(&self) -> u64 {
        self.envelope.handle.epoch
    }

    pub(super) fn key(&self) -> &str {
        &self.envelope.key
    }

    /// The claim to request from the ledger.
    pub(super) fn into_claim(self, queue: &str) -> (Envelope, ClaimRequest) {
        let adopt = match self.row {
            RowKnowledge::Unknown | RowKnowledge::Seen => None,
            RowKnowledge::NeverWritten => Some(new_row(&self.envelope, queue)),
            RowKnowledge::GivenUp => {
                log::warn!("message {}: {}", self.envelope.key, MISSING_ROW.1);
                let row = new_row(&self.envelope, queue);
                Some(row.ended(MISSING_ROW.0, MISSING_ROW.1.to_owned()))
            }
        };
        let key = self.envelope.key.clone();
        (self.envelope, ClaimRequest { key, adopt })
    }
}

/// The row to insert for a message that has none. A message that can't be read gets a FAILED row that keeps its
/// content: left PENDING, that text might be read as something else, and be published as that after a death.
fn new_row(envelope: &Envelope, queue: &str) -> NewRow {
    let row = |arguments| NewRow::pending(envelope.parts(queue, arguments)).published();
    let failed = |row: NewRow, reason: &str| {
        log::error!("message {} from queue {queue}: {reason}", envelope.key);
        row.ended(End::Failed, reason.to_owned())
    };
    match (envelope.body.arguments(), &envelope.headers_fault) {
        (Ok(arguments), None) => row(arguments),
        (Ok(arguments), Some(fault)) => failed(row(arguments), fault),
        (Err(unreadable), fault) => {
            let body = String::from_utf8_lossy(&unreadable.bytes).into_owned();
            let reason = fault.as_ref().unwrap_or(&unreadable.reason);
            NewRow {
                content: Some(names::storable(body)),
                task_args: None,
                ..failed(row(&Payload::default()), reason)
            }
        }
    }
}
