//! What the ledger writes at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::in_flight::Holder;
use super::{Request, Sink};
use crate::broker::Envelope;
use crate::store::{BATCH_BYTES, Batch, ClaimRequest, Finish, NewRow, PutOffResult};
use crate::task::RunId;

/// At most so many rows a batch, and [`BATCH_BYTES`]: a longer statement gains nothing and locks longer.
const MOST_ROWS: usize = 1000;

/// A message that is asked for.
pub(super) struct Asked {
    pub(super) envelope: Envelope,
    /// The queue that it came by.
    pub(super) queue: Arc<str>,
    /// Since when.
    pub(super) since: Instant,
    pub(super) sink: Arc<dyn Sink>,
}

impl Asked {
    /// Who settles its delivery.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            sink: Arc::clone(&self.sink),
            receipt: self.envelope.handle,
        }
    }
}

/// A batch, and beside each of its rows whom to tell.
pub(super) struct PendingBatch {
    pub(super) batch: Batch,
    rows: usize,
    bytes: usize,
    /// A request did not fit: it and all after it are the next batch's.
    pub(super) full: bool,
    keys: HashSet<String>,
    pub(super) claims: Vec<Asked>,
    pub(super) begins: Vec<Sender<bool>>,
    pub(super) finishes: Vec<(RunId, Duration)>,
    pub(super) put_offs: Vec<(RunId, Duration, Sender<PutOffResult>)>,
    pub(super) releases: Vec<RunId>,
    pub(super) republishes: Vec<RunId>,
    pub(super) dropped: Vec<(RunId, String)>,
    /// Whom to tell of which looks.
    pub(super) looks: Vec<(Vec<String>, Arc<dyn Sink>)>,
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
            dropped: Vec::new(),
            looks: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0 && self.dropped.is_empty()
    }

    /// Whether so much more fits. What does not fit an empty batch fits none.
    fn has_room(&mut self, rows: usize, bytes: usize) -> bool {
        let fits = self.rows + rows <= MOST_ROWS && self.bytes + bytes <= BATCH_BYTES;
        self.full |= !fits && self.rows > 0;
        !self.full
    }

    pub(super) fn has_room_for(&mut self, claim: &ClaimRequest) -> bool {
        self.has_room(1, adopted_bytes(claim))
    }

    /// Whether the batch claims the message already: what becomes of a second copy depends on the first.
    pub(super) fn claims(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Adds a claim.
    pub(super) fn claim(&mut self, claim: ClaimRequest, asked: Asked) {
        self.rows += 1;
        self.bytes += adopted_bytes(&claim);
        self.keys.insert(claim.key.clone());
        self.batch.claims.push(claim);
        self.claims.push(asked);
    }

    /// Adds what is no claim. Gives it back if it does not fit.
    pub(super) fn take(&mut self, request: Request) -> Option<Request> {
        let (rows, bytes) = match &request {
            Request::Claim(_) | Request::Drop { .. } | Request::Probe { .. } => (0, 0),
            Request::Begin { .. } => (1, 0),
            Request::Finish { finish, .. } => (1, finish_bytes(finish)),
            Request::PutOff { put_off, .. } => (1, put_off.reason.len() + row_bytes(&put_off.row)),
            Request::Release { releases } => (releases.len(), 0),
            Request::Republish { republishes } => (republishes.len(), 0),
            Request::Look { keys, .. } => (keys.len(), 0),
        };
        if !self.has_room(rows, bytes) {
            return Some(request);
        }
        self.rows += rows;
        self.bytes += bytes;
        match request {
            // For the writer itself.
            Request::Claim(_) | Request::Probe { .. } => return Some(request),
            Request::Begin { begin, reply, .. } => {
                self.batch.begins.push(begin);
                self.begins.push(reply);
            }
            Request::Finish { run, finish, ran } => {
                self.batch.finishes.push(finish);
                self.finishes.push((run, ran));
            }
            Request::PutOff {
                run,
                put_off,
                ran,
                reply,
            } => {
                self.batch.put_offs.push(*put_off);
                self.put_offs.push((run, ran, reply));
            }
            Request::Drop { run, key } => self.dropped.push((run, key)),
            Request::Release { releases } => {
                let (runs, keys): (Vec<_>, Vec<_>) = releases.into_iter().unzip();
                self.releases.extend(runs);
                self.batch.releases.extend(keys);
            }
            Request::Republish { republishes } => {
                let (runs, republishes): (Vec<_>, Vec<_>) = republishes.into_iter().unzip();
                self.republishes.extend(runs);
                self.batch.republishes.extend(republishes);
            }
            Request::Look { keys, sink } => {
                self.batch.row_checks.extend(keys.iter().cloned());
                self.looks.push((keys, sink));
            }
        }
        None
    }
}

/// What a task has left behind.
fn finish_bytes(finish: &Finish) -> usize {
    let texts = [
        &finish.output,
        &finish.exception,
        &finish.traceback,
        &finish.log,
    ];
    texts.into_iter().flatten().map(String::len).sum()
}

/// What a sender wrote, where the message gets its row from us.
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

    fn finish(bytes: usize) -> Request {
        let finish = Finish {
            key: "k".into(),
            end: End::Completed,
            attempts: 1,
            output: Some("x".repeat(bytes)),
            exception: None,
            traceback: None,
            log: None,
        };
        Request::Finish {
            run: RunId::next(),
            finish,
            ran: Duration::ZERO,
        }
    }

    #[test]
    fn a_batch_is_full_by_bytes_and_keeps_the_order() {
        let mut gathered = PendingBatch::new();
        assert!(gathered.take(finish(BATCH_BYTES / 2)).is_none());
        assert!(gathered.take(finish(BATCH_BYTES / 2)).is_none());
        assert!(gathered.take(finish(1)).is_some());
        // It would fit, and must not overtake the one that did not.
        assert!(gathered.take(finish(0)).is_some());
        assert_eq!(gathered.batch.finishes.len(), 2);
    }

    #[test]
    fn a_row_that_is_too_large_for_any_batch_has_one_to_itself() {
        let mut gathered = PendingBatch::new();
        assert!(gathered.take(finish(2 * BATCH_BYTES)).is_none());
        assert!(gathered.take(finish(0)).is_some());
    }

    #[test]
    fn a_batch_is_full_by_rows() {
        let mut gathered = PendingBatch::new();
        let taken = (0..2 * MOST_ROWS).filter(|_| gathered.take(finish(0)).is_none());
        assert_eq!(taken.count(), MOST_ROWS);
    }
}
