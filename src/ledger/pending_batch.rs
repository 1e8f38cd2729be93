//! The batch that the ledger writes next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::in_flight::HeldDelivery;
use super::listener::LedgerListener;
use super::request::LedgerRequest;
use crate::broker::Envelope;
use crate::store::{BATCH_BYTES, Batch, ClaimRequest, Finish, NewRow, PutOffResult};
use crate::task::RunId;

/// The most rows in a batch, beside [`BATCH_BYTES`]: a longer statement gains nothing and locks longer.
const MOST_ROWS: usize = 1000;

/// A claim that is being written.
pub(super) struct PendingClaim {
    pub(super) envelope: Envelope,
    /// The queue that delivered the message.
    pub(super) queue: Arc<str>,
    /// When the set asked for the message.
    pub(super) requested_at: Instant,
    pub(super) listener: Arc<dyn LedgerListener>,
}

impl PendingClaim {
    /// The message's delivery, and the set that settles it.
    pub(super) fn holder(&self) -> HeldDelivery {
        HeldDelivery {
            listener: Arc::clone(&self.listener),
            handle: self.envelope.handle,
        }
    }
}

/// A batch, and for each of its records who waits for the result.
pub(super) struct PendingBatch {
    pub(super) batch: Batch,
    rows: usize,
    bytes: usize,
    /// A request did not fit: it and all later ones go into the next batch.
    pub(super) full: bool,
    keys: HashSet<String>,
    pub(super) claims: Vec<PendingClaim>,
    pub(super) begins: Vec<Sender<bool>>,
    pub(super) finishes: Vec<(RunId, Duration)>,
    pub(super) put_offs: Vec<(RunId, Duration, Sender<PutOffResult>)>,
    pub(super) releases: Vec<RunId>,
    pub(super) republishes: Vec<RunId>,
    pub(super) abandoned: Vec<(RunId, String)>,
    /// Which keys are looked up, and for whom.
    pub(super) looks: Vec<(Vec<String>, Arc<dyn LedgerListener>)>,
}

impl PendingBatch {
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::default(),
            rows: 0,
            bytes: 0,
            full: false,
            keys: HashSet::new(),
            claims: Vec::new(),
            begins: Vec::new(),
            finishes: Vec::new(),
            put_offs: Vec::new(),
            releases: Vec::new(),
            republishes: Vec::new(),
            abandoned: Vec::new(),
            looks: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0 && self.abandoned.is_empty()
    }

    /// Whether this much more fits. An empty batch takes any request.
    fn has_room(&mut self, rows: usize, bytes: usize) -> bool {
        let fits = self.rows + rows <= MOST_ROWS && self.bytes + bytes <= BATCH_BYTES;
        self.full |= !fits && self.rows > 0;
        !self.full
    }

    pub(super) fn has_room_for(&mut self, claim: &ClaimRequest) -> bool {
        self.has_room(1, adopted_bytes(claim))
    }

    /// Whether the batch claims the message already: the outcome for a second copy depends on the first.
    pub(super) fn has_claim_for(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Adds a claim.
    pub(super) fn add_claim(&mut self, claim: ClaimRequest, pending_claim: PendingClaim) {
        self.rows += 1;
        self.bytes += adopted_bytes(&claim);
        self.keys.insert(claim.key.clone());
        self.batch.claims.push(claim);
        self.claims.push(pending_claim);
    }

    /// Adds a request that is no claim. Returns the request if it does not fit.
    pub(super) fn add_request(&mut self, request: LedgerRequest) -> Option<LedgerRequest> {
        let (rows, bytes) = match &request {
            LedgerRequest::Claim(_)
            | LedgerRequest::Abandon { .. }
            | LedgerRequest::Probe { .. } => (0, 0),
            LedgerRequest::Begin { .. } => (1, 0),
            LedgerRequest::Finish { finish, .. } => (1, finish_bytes(finish)),
            LedgerRequest::PutOff { put_off, .. } => {
                (1, put_off.reason.len() + row_bytes(&put_off.row))
            }
            LedgerRequest::Release { releases } => (releases.len(), 0),
            LedgerRequest::Republish { republishes } => (republishes.len(), 0),
            LedgerRequest::LookUpRows { keys, .. } => (keys.len(), 0),
        };
        if !self.has_room(rows, bytes) {
            return Some(request);
        }
        self.rows += rows;
        self.bytes += bytes;
        match request {
            // The writer handles these itself.
            LedgerRequest::Claim(_) | LedgerRequest::Probe { .. } => return Some(request),
            LedgerRequest::Begin { begin, reply, .. } => {
                self.batch.begins.push(begin);
                self.begins.push(reply);
            }
            LedgerRequest::Finish { run, finish, ran } => {
                self.batch.finishes.push(finish);
                self.finishes.push((run, ran));
            }
            LedgerRequest::PutOff {
                run,
                put_off,
                ran,
                reply,
            } => {
                self.batch.put_offs.push(*put_off);
                self.put_offs.push((run, ran, reply));
            }
            LedgerRequest::Abandon { run, key } => self.abandoned.push((run, key)),
            LedgerRequest::Release { releases } => {
                let (runs, keys): (Vec<_>, Vec<_>) = releases.into_iter().unzip();
                self.releases.extend(runs);
                self.batch.releases.extend(keys);
            }
            LedgerRequest::Republish { republishes } => {
                let (runs, republishes): (Vec<_>, Vec<_>) = republishes.into_iter().unzip();
                self.republishes.extend(runs);
                self.batch.republishes.extend(republishes);
            }
            LedgerRequest::LookUpRows { keys, listener } => {
                self.batch.row_checks.extend(keys.iter().cloned());
                self.looks.push((keys, listener));
            }
        }
        None
    }
}

/// The size of what a task leaves in its message's row.
fn finish_bytes(finish: &Finish) -> usize {
    let texts = [
        &finish.output,
        &finish.exception,
        &finish.traceback,
        &finish.log,
    ];
    texts.into_iter().flatten().map(String::len).sum()
}

/// The size of the row that the claim inserts, if it inserts one.
fn adopted_bytes(claim: &ClaimRequest) -> usize {
    claim.adopt.as_ref().map_or(0, row_bytes)
}

fn row_bytes(row: &NewRow) -> usize {
    let texts = [&row.task_args, &row.content, &row.exception];
    row.task.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::End;
    use std::time::Duration;

    fn finish(bytes: usize) -> LedgerRequest {
        let finish = Finish {
            key: "k".into(),
            end: End::Completed,
            attempts: 1,
            output: Some("x".repeat(bytes)),
            exception: None,
            traceback: None,
            log: None,
        };
        LedgerRequest::Finish {
            run: RunId::next(),
            finish,
            ran: Duration::ZERO,
        }
    }

    #[test]
    fn a_batch_is_full_by_bytes_and_keeps_the_order() {
        let mut pending = PendingBatch::new();
        assert!(pending.add_request(finish(BATCH_BYTES / 2)).is_none());
        assert!(pending.add_request(finish(BATCH_BYTES / 2)).is_none());
        assert!(pending.add_request(finish(1)).is_some());
        // This one would fit, but must not overtake the one that did not.
        assert!(pending.add_request(finish(0)).is_some());
        assert_eq!(pending.batch.finishes.len(), 2);
    }

    #[test]
    fn a_row_that_is_too_large_for_any_batch_has_one_to_itself() {
        let mut pending = PendingBatch::new();
        assert!(pending.add_request(finish(2 * BATCH_BYTES)).is_none());
        assert!(pending.add_request(finish(0)).is_some());
    }

    #[test]
    fn a_batch_is_full_by_rows() {
        let mut pending = PendingBatch::new();
        let taken = (0..2 * MOST_ROWS).filter(|_| pending.add_request(finish(0)).is_none());
        assert_eq!(taken.count(), MOST_ROWS);
    }
}
