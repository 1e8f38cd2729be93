//! What the ledger writes in one transaction, and the results.

use std::time::Duration;

use super::{Finish, NewRow, WorkerId};
use crate::state::{Cause, Status};

/// One message to claim.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The message's key.
    pub key: String,
    /// The row to insert first if no row has the key, for a message that another program sent.
    pub adopt: Option<NewRow>,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller owns the message and runs it.
    Ours {
        /// How many attempts are known to have begun before.
        attempts: u32,
        /// A worker that had claimed it vanished, perhaps because of this message.
        crash_suspect: bool,
    },
    /// The message is in this final state.
    Final(Status),
    /// A live worker owns it.
    Owned(WorkerId),
    /// There is no row.
    NoRow,
}

/// The result of recording the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishResult {
    /// It is recorded.
    Written,
    /// It had been recorded already.
    Already,
    /// Another worker owns the message now, and will record its own attempt.
    Taken,
    /// Somebody deleted the row while the task ran.
    Gone,
}

/// An attempt that is counted before it begins, provided that the worker still owns the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The message's key.
    pub key: String,
    /// The number of attempts that the row then has: a number and no increment, so that writing it twice counts once.
    pub attempts: u32,
}

/// A message that is given back without an attempt, and that the broker may not deliver again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Republish {
    /// The message's key.
    pub key: String,
    /// The copy that the broker still has.
    pub copy: BrokerCopy,
}

/// The broker's copy of a message that is given back without an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerCopy {
    /// It returns to a queue that limits redeliveries and may drop it: the sweep publishes the message again after
    /// [`REDELIVERY_GRACE`](super::REDELIVERY_GRACE), unless it is claimed before.
    MayBeDropped,
    /// There is none to rely on: the sweep publishes the message at once.
    Gone,
}

/// An attempt that could not begin, or was handed back: its message stays PENDING until the sweep publishes it
/// again.
#[derive(Debug, Clone, PartialEq)]
pub struct PutOff {
    /// The message as it was delivered, whatever its row had: this is what is published.
    pub row: NewRow,
    /// How many attempts are known to have begun before; this one does not count.
    pub attempts: u32,
    /// An earlier worker vanished, perhaps because of this message.
    pub crash_suspect: bool,
    /// Why. The times in [`PutOffDue`] count from the first time in a row that it was put off for this cause.
    pub cause: Cause,
    /// The reason, formatted by [`Cause::format_reason`].
    pub reason: String,
    /// When it is published again.
    pub due: PutOffDue,
}

/// When a message that was put off is published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOffDue {
    /// At once, so that another worker may take it.
    Now,
    /// After a backoff that doubles from a second to half a minute. With a limit, a message that has been put off
    /// for longer is not put off again.
    Later(Option<Duration>),
}

/// The result of putting an attempt off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOffResult {
    /// The message waits in its row.
    Waits,
    /// The limit of [`PutOffDue::Later`] is reached; the worker still owns the message.
    TooLong,
    /// The message had ended already.
    Already,
    /// Another worker owns the message now.
    Taken,
    /// Somebody deleted the row.
    Gone,
    /// The database refused the row: nothing is written.
    Refused,
}

/// What the ledger writes in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Ends of attempts.
    pub finishes: Vec<Finish>,
    /// Attempts that are put off.
    pub put_offs: Vec<PutOff>,
    /// Keys of messages that are given back without an attempt: `→ PUBLISHED`.
    pub releases: Vec<String>,
    /// Messages that are given back without an attempt: `→ PENDING`.
    pub republishes: Vec<Republish>,
    /// Attempts that are counted before they begin.
    pub begins: Vec<Begin>,
    /// Messages to claim.
    pub claims: Vec<ClaimRequest>,
    /// Keys to check for a row.
    pub row_checks: Vec<String>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.only_claims() && self.claims.is_empty() && self.row_checks.is_empty()
    }

    const fn only_claims(&self) -> bool {
        self.finishes.is_empty()
            && self.put_offs.is_empty()
            && self.releases.is_empty()
            && self.republishes.is_empty()
            && self.begins.is_empty()
    }

    /// Whether a crash of the database may undo the commit, which then need not wait for the disk. A batch that only
    /// claims existing rows may be lost: the messages are delivered again.
    #[must_use]
    pub fn may_be_lost(&self) -> bool {
        self.only_claims() && self.claims.iter().all(|claim| claim.adopt.is_none())
    }
}

/// The results of a [`Batch`], in its order unless noted.
#[derive(Debug, Clone, Default)]
pub struct BatchResult {
    /// Of [`Batch::finishes`].
    pub finished: Vec<FinishResult>,
    /// Of [`Batch::put_offs`].
    pub put_offs: Vec<PutOffResult>,
    /// Of [`Batch::begins`]: whether the worker still owns the message.
    pub begun: Vec<bool>,
    /// Of [`Batch::claims`].
    pub claims: Vec<Claim>,
    /// Those keys of [`Batch::row_checks`] that have a row, in no order.
    pub with_row: Vec<String>,
}
