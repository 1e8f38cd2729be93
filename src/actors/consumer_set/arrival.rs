//! A message before it is claimed: as it came, and what becomes of it if it has no row.

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

/// What is known of a message's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKnowledge {
    /// Nobody has looked for it.
    Unknown,
    /// It was there at a look.
    Seen,
    /// There is none, and none is to be expected: it gets one.
    NeverWritten,
    /// There is none, and there should be: it gets one that is over.
    GivenUp,
}

impl Arrival {
    /// A message as it came.
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

    /// A message whose claim found no row. It gets one at once if its publisher writes none.
    pub(super) const fn without_row(envelope: Envelope) -> Self {
        let row = if envelope.has_recorder {
            RowKnowledge::Unknown
        } else {
            RowKnowledge::NeverWritten
        };
        Self { envelope, row }
    }

    /// The same message, whose row was there at a look.
    pub(super) fn with_row(self) -> Self {
        let row = RowKnowledge::Seen;
        Self { row, ..self }
    }

    /// The same message, whose row has not come in time.
    pub(super) fn given_up(self) -> Self {
        let row = RowKnowledge::GivenUp;
        Self { row, ..self }
    }

    /// Whether its publisher writes its row, which nobody has seen yet.
    pub(super) fn may_lack_row(&self) -> bool {
        self.row == RowKnowledge::Unknown && self.envelope.has_recorder
    }

    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The connection that it came by.
    pub(super) const fn epoch(&self) -> u64 {
        self.envelope.receipt.epoch
    }

    pub(super) fn key(&self) -> &str {
        &self.envelope.key
    }

    /// What the ledger is asked for.
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

/// The row of a message that has none. What can't be read is kept as it is, and is over: as text in a
/// row it might read as something else, and be published as that after a death.
fn new_row(envelope: &Envelope, queue: &str) -> NewRow {
    let row = |arguments| NewRow::pending(envelope.parts(queue, arguments)).published();
    let failed = |row: NewRow, reason: &str| {
        log::error!("message {} from queue {queue}: {reason}", envelope.key);
        row.ended(End::Failed, reason.to_owned())
    };
    match (envelope.body.arguments(), &envelope.fault) {
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
