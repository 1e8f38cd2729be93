//! The ledger's thread: gathers a batch, writes it, reports the results.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::in_flight::{PerListener, RunsInFlight};
use super::late_rows::CancelledWithoutRow;
use super::listener::{ClaimOutcome, LedgerListener, Settlement};
use super::pending_batch::{PendingBatch, PendingClaim};
use super::refusals::Refusals;
use super::request::{ClaimGroup, LedgerRequest};
use super::{batch_write, superseded};
use crate::execution::{Attempt, PriorRuns};
use crate::failpoint;
use crate::state::Status;
use crate::store::{
    Batch, BatchResult, BrokerCopy, Claim, ClaimRequest, Database, FinishResult, PutOffResult,
    Republish, WorkerId,
};
use crate::task::RunId;

/// What the ledger needs to know of its service.
pub struct LedgerSetup {
    /// The database.
    pub(crate) database: Database,
    /// The worker that claims messages.
    pub owner: WorkerId,
    /// Whether every run is counted before it starts, even the first run of a fresh message.
    pub counts_before_start: bool,
    /// Identifies the boot and the PID namespace in which this process's pid is valid.
    pub namespace: String,
    /// Remembers the messages that the ledger cancels because they have no row.
    pub cancelled: Arc<CancelledWithoutRow>,
}

pub(super) struct Writer {
    setup: LedgerSetup,
    requests: Receiver<LedgerRequest>,
    halted: Arc<AtomicBool>,
    /// Whether a write is under way.
    writing: Arc<AtomicBool>,
    in_flight_runs: RunsInFlight,
    /// Requests for the next batch, in order: those that did not fit the last one, and claims of second copies
    /// of messages that the last one claimed.
    deferred: VecDeque<LedgerRequest>,
}

impl Writer {
    pub(super) fn new(
        setup: LedgerSetup,
        requests: Receiver<LedgerRequest>,
        halted: Arc<AtomicBool>,
        writing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            setup,
            requests,
            halted,
            writing,
            in_flight_runs: RunsInFlight::default(),
            deferred: VecDeque::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(pending) = self.gather_batch() {
            failpoint::hit("ledger.before-commit");
            if !(pending.batch.releases.is_empty() && pending.batch.republishes.is_empty()) {
                failpoint::hit("ledger.before-release");
            }
            if !pending.batch.put_offs.is_empty() {
                failpoint::hit("ledger.before-put-off");
            }
            self.writing.store(true, Ordering::Release);
            let written = self.write(&pending.batch);
            self.writing.store(false, Ordering::Release);
            let Some((result, commit)) = written else {
                return;
            };
            failpoint::hit("ledger.after-commit");
            if !pending.batch.republishes.is_empty() {
                failpoint::hit("ledger.after-republish");
            }
            if !pending.batch.put_offs.is_empty() {
                failpoint::hit("ledger.after-put-off");
            }
            self.deliver_results(pending, result, commit);
        }
    }

    /// Collects the requests that have arrived, waiting for a first one. `None` when no more will come.
    fn gather_batch(&mut self) -> Option<PendingBatch> {
        let mut pending = PendingBatch::new();
        for request in std::mem::take(&mut self.deferred) {
            self.add(&mut pending, request);
        }
        if pending.is_empty() {
            let first = self.requests.recv().ok()?;
            self.add(&mut pending, first);
        }
        while !pending.full
            && let Ok(request) = self.requests.try_recv()
        {
            self.add(&mut pending, request);
        }
        Some(pending)
    }

    fn add(&mut self, pending: &mut PendingBatch, request: LedgerRequest) {
        match request {
            LedgerRequest::Claim(claims) => self.add_claims(pending, claims),
            // A caller that has stopped waiting needs no answer.
            LedgerRequest::Probe { reply } => reply.send(()).unwrap_or_default(),
            other => {
                let request = superseded::without_superseded(&self.in_flight_runs, other);
                let left = request.and_then(|request| pending.add_request(request));
                self.deferred.extend(left);
            }
        }
    }

    /// Adds as many of the claims as fit, and defers the rest.
    fn add_claims(&mut self, pending: &mut PendingBatch, mut claims: ClaimGroup) {
        while let Some((envelope, claim)) = claims.claims.pop_front() {
            if !pending.has_room_for(&claim) {
                claims.claims.push_front((envelope, claim));
                break;
            }
            let pending_claim = PendingClaim {
                envelope,
                queue: Arc::clone(&claims.queue),
                requested_at: claims.requested_at,
                listener: Arc::clone(&claims.listener),
            };
            self.add_claim(pending, claim, pending_claim);
        }
        if !claims.claims.is_empty() {
            self.deferred.push_back(LedgerRequest::Claim(claims));
        }
    }

    fn add_claim(
        &mut self,
        pending: &mut PendingBatch,
        claim: ClaimRequest,
        pending_claim: PendingClaim,
    ) {
        if self
            .in_flight_runs
            .join(&claim.key, || pending_claim.holder())
        {
            pending_claim.listener.joined(1);
        } else if pending.has_claim_for(&claim.key) {
            self.deferred.push_back(LedgerRequest::Claim(ClaimGroup {
                claims: [(pending_claim.envelope, claim)].into(),
                queue: pending_claim.queue,
                requested_at: pending_claim.requested_at,
                listener: pending_claim.listener,
            }));
        } else {
            pending.add_claim(claim, pending_claim);
        }
    }

    /// Writes the batch, retrying for as long as it takes; also returns how long the commit itself took. `None`
    /// if the service stops hard meanwhile.
    fn write(&mut self, batch: &Batch) -> Option<(BatchResult, Duration)> {
        if batch.is_empty() {
            return Some((BatchResult::default(), Duration::ZERO));
        }
        let Self { setup, halted, .. } = self;
        let LedgerSetup {
            database,
            owner,
            namespace,
            ..
        } = setup;
        let mut refusals = Refusals::default();
        while !halted.load(Ordering::Acquire) {
            let started = Instant::now();
            let bisecting = refusals.require_bisecting();
            let written = database.ask_expecting(
                |error| refusals.count(error),
                |session, _| batch_write::try_write(session, *owner, namespace, batch, bisecting),
            );
            if let Ok(result) = written {
                return Some((result, started.elapsed()));
            }
            std::thread::sleep(database.retry_in());
        }
        None
    }

    fn deliver_results(
        &mut self,
        mut pending: PendingBatch,
        result: BatchResult,
        commit: Duration,
    ) {
        let mut settlements = PerListener::default();
        self.settle_ends(&pending, &result, &mut settlements);
        self.settle_given_back(&pending, &mut settlements);
        for (listener, settlement) in settlements.into_iter() {
            listener.settle(settlement, commit);
        }
        for ((_, _, reply), put_back) in pending.put_offs.iter().zip(result.put_offs) {
            if reply.send(put_back).is_err() {
                log::debug!("a consumer went away before its run was put off");
            }
        }
        for (reply, begun) in pending.begins.iter().zip(result.begun) {
            if reply.send(begun).is_err() {
                log::debug!("a consumer went away before its run was counted");
            }
        }
        let looks = std::mem::take(&mut pending.looks);
        self.deliver_claims(pending, result.claims, commit);
        deliver_looks(looks, &result.with_row);
    }

    /// Settles the deliveries of runs that are over for this worker.
    fn settle_ends(
        &mut self,
        pending: &PendingBatch,
        result: &BatchResult,
        settlements: &mut PerListener<Settlement>,
    ) {
        let batch = &pending.batch;
        let finishes = batch.finishes.iter().zip(&pending.finishes);
        for ((finish, (run, ran)), finished) in finishes.zip(&result.finished) {
            log_unusual_end(&finish.key, *finished);
            self.settle(&finish.key, *run, settlements, *ran);
        }
        let put_offs = batch.put_offs.iter().zip(&pending.put_offs);
        for ((put_off, (run, ran, _)), put_back) in put_offs.zip(&result.put_offs) {
            if !matches!(put_back, PutOffResult::TooLong | PutOffResult::Refused) {
                self.settle(&put_off.row.key, *run, settlements, *ran);
            }
        }
        for (run, key) in &pending.abandoned {
            self.settle(key, *run, settlements, Duration::ZERO);
        }
    }

    /// Settles the deliveries of messages that were given back before their run began.
    fn settle_given_back(
        &mut self,
        pending: &PendingBatch,
        settlements: &mut PerListener<Settlement>,
    ) {
        for (key, run) in pending.batch.releases.iter().zip(&pending.releases) {
            for (nth, holder) in self
                .in_flight_runs
                .remove(key, *run)
                .into_iter()
                .enumerate()
            {
                let settlement = settlements.entry_for(&holder.listener);
                settlement.give_back.push(holder.handle);
                settlement.released += usize::from(nth == 0);
            }
        }
        let republishes = pending.batch.republishes.iter().zip(&pending.republishes);
        for (Republish { key, copy }, run) in republishes {
            for (nth, holder) in self
                .in_flight_runs
                .remove(key, *run)
                .into_iter()
                .enumerate()
            {
                let settlement = settlements.entry_for(&holder.listener);
                match copy {
                    BrokerCopy::MayBeDropped => settlement.give_back.push(holder.handle),
                    BrokerCopy::Gone => settlement.accept.push(holder.handle),
                }
                settlement.released += usize::from(nth == 0);
            }
        }
    }

    /// Has all deliveries of the message acknowledged, and counts the run for the set of the first one.
    fn settle(
        &mut self,
        key: &str,
        run: RunId,
        settlements: &mut PerListener<Settlement>,
        ran: Duration,
    ) {
        for (nth, holder) in self.in_flight_runs.remove(key, run).into_iter().enumerate() {
            let settlement = settlements.entry_for(&holder.listener);
            settlement.accept.push(holder.handle);
            if nth == 0 {
                settlement.finished += 1;
                settlement.ran += ran;
            }
        }
    }

    fn deliver_claims(&mut self, pending: PendingBatch, claims: Vec<Claim>, commit: Duration) {
        let mut outcomes = PerListener::<Vec<ClaimOutcome>>::default();
        let requests = pending.batch.claims.into_iter().zip(pending.claims);
        for ((request, pending_claim), claim) in requests.zip(claims) {
            if cancels_message(&request) {
                self.setup.cancelled.note(&request.key);
            }
            let listener = Arc::clone(&pending_claim.listener);
            let outcome = self.apply_claim(request.key, pending_claim, claim);
            outcomes.entry_for(&listener).push(outcome);
        }
        for (listener, outcomes) in outcomes.into_iter() {
            listener.claimed(outcomes, commit);
        }
    }

    fn apply_claim(
        &mut self,
        key: String,
        pending_claim: PendingClaim,
        claim: Claim,
    ) -> ClaimOutcome {
        match claim {
            Claim::Ours {
                attempts,
                crash_suspect,
            } => ClaimOutcome::Ours(Attempt {
                run: self.in_flight_runs.start(key, pending_claim.holder()),
                envelope: pending_claim.envelope,
                queue: pending_claim.queue,
                requested_at: pending_claim.requested_at,
                prior_runs: PriorRuns::in_row(
                    attempts,
                    crash_suspect,
                    self.setup.counts_before_start,
                ),
            }),
            Claim::Final(status) => ClaimOutcome::Final(pending_claim.envelope, status),
            Claim::Owned(worker) => ClaimOutcome::Owned(pending_claim.envelope, worker),
            Claim::NoRow => ClaimOutcome::NoRow(pending_claim.envelope),
        }
    }
}

/// Whether the claim cancels a message whose row has not come. The row may have come at that very moment.
fn cancels_message(claim: &ClaimRequest) -> bool {
    let row = claim.adopt.as_ref();
    row.is_some_and(|row| row.status == Status::Cancelled)
}

fn deliver_looks(looks: Vec<(Vec<String>, Arc<dyn LedgerListener>)>, found: &[String]) {
    if looks.is_empty() {
        return;
    }
    let found: HashSet<&str> = found.iter().map(String::as_str).collect();
    for (keys, listener) in looks {
        let looked = keys.into_iter().map(|key| {
            let has_row = found.contains(key.as_str());
            (key, has_row)
        });
        listener.looked_up(looked.collect());
    }
}

/// Logs the end of a run that was not written as usual.
fn log_unusual_end(key: &str, finished: FinishResult) {
    match finished {
        FinishResult::Written => {}
        FinishResult::Already => log::info!("message {key} was finished already"),
        FinishResult::Taken => log::warn!(
            "message {key} was taken over by another worker while its task ran here; that worker's \
             end counts"
        ),
        FinishResult::Gone => log::warn!("message {key}: its row was deleted while its task ran"),
    }
}
