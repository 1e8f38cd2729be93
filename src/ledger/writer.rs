//! The ledger's thread: gather, write, tell.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::in_flight::{BySink, RunsInFlight};
use super::pending_batch::{Asked, PendingBatch};
use super::{Answer, Claims, LedgerSetup, Request, Settlement, Sink, bisect, superseded};
use crate::execution::{Attempt, PriorRuns};
use crate::failpoint;
use crate::state::Status;
use crate::store::liveness;
use crate::store::{
    Batch, BatchResult, BrokerCopy, Claim, ClaimRequest, Finished, PutBack, Republish, RunStore,
    StoreError, WorkerId,
};
use crate::task::RunId;

/// So often a batch is tried again, 100 ms and more apart, before the bad row is looked for.
const PATIENCE: u32 = 5;

/// How often the database has refused a batch.
#[derive(Default)]
struct Refusals(u32);

impl Refusals {
    /// Whether the bad row is to be looked for.
    const fn are_enough(&self) -> bool {
        self.0 >= PATIENCE
    }

    /// Counts the error, if it is one for which the batch is tried again on the same session.
    fn count(&mut self, error: &StoreError) -> bool {
        match error {
            // Again before it is taken apart: a record must not suffer for what passes.
            StoreError::Refused(_) | StoreError::Unreadable(_) if self.0 == 0 => self.0 = PATIENCE,
            StoreError::Unclear(reason) if self.0 < PATIENCE => {
                log::debug!("the database refuses a batch: {reason}");
                self.0 += 1;
            }
            _ => return false,
        }
        true
    }
}

pub(super) struct Writer {
    setup: LedgerSetup,
    requests: Receiver<Request>,
    halted: Arc<AtomicBool>,
    /// Whether it is with the database.
    writing: Arc<AtomicBool>,
    in_hand: RunsInFlight,
    /// For the next batch, in order: what did not fit the last one, and second copies of what that
    /// claimed.
    put_off: VecDeque<Request>,
}

impl Writer {
    pub(super) fn new(
        setup: LedgerSetup,
        requests: Receiver<Request>,
        halted: Arc<AtomicBool>,
        writing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            setup,
            requests,
            halted,
            writing,
            in_hand: RunsInFlight::default(),
            put_off: VecDeque::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Some(gathered) = self.gather() {
            failpoint::hit("ledger.before-commit");
            if !(gathered.batch.releases.is_empty() && gathered.batch.republishes.is_empty()) {
                failpoint::hit("ledger.before-release");
            }
            if !gathered.batch.put_offs.is_empty() {
                failpoint::hit("ledger.before-put-off");
            }
            self.writing.store(true, Ordering::Release);
            let written = self.write(&gathered.batch);
            self.writing.store(false, Ordering::Release);
            let Some((result, commit)) = written else {
                return;
            };
            failpoint::hit("ledger.after-commit");
            if !gathered.batch.republishes.is_empty() {
                failpoint::hit("ledger.after-republish");
            }
            if !gathered.batch.put_offs.is_empty() {
                failpoint::hit("ledger.after-put-off");
            }
            self.tell(gathered, result, commit);
        }
    }

    /// Whatever has gathered; waits for a first request. `None` when there will be no more.
    fn gather(&mut self) -> Option<PendingBatch> {
        let mut gathered = PendingBatch::new();
        for request in std::mem::take(&mut self.put_off) {
            self.add(&mut gathered, request);
        }
        if gathered.is_empty() {
            let first = self.requests.recv().ok()?;
            self.add(&mut gathered, first);
        }
        while !gathered.full
            && let Ok(request) = self.requests.try_recv()
        {
            self.add(&mut gathered, request);
        }
        Some(gathered)
    }

    fn add(&mut self, gathered: &mut PendingBatch, request: Request) {
        match request {
            Request::Claim(claims) => self.add_claims(gathered, claims),
            // Who does not wait any more needs no answer.
            Request::Probe { reply } => reply.send(()).unwrap_or_default(),
            other => {
                let request = superseded::fenced(&self.in_hand, other);
                let left = request.and_then(|request| gathered.take(request));
                self.put_off.extend(left);
            }
        }
    }

    /// Adds as many as fit.
    fn add_claims(&mut self, gathered: &mut PendingBatch, mut claims: Claims) {
        while let Some((envelope, claim)) = claims.claims.pop_front() {
            if !gathered.has_room_for(&claim) {
                claims.claims.push_front((envelope, claim));
                break;
            }
            let asked = Asked {
                envelope,
                queue: Arc::clone(&claims.queue),
                since: claims.asked,
                sink: Arc::clone(&claims.sink),
            };
            self.add_claim(gathered, claim, asked);
        }
        if !claims.claims.is_empty() {
            self.put_off.push_back(Request::Claim(claims));
        }
    }

    fn add_claim(&mut self, gathered: &mut PendingBatch, claim: ClaimRequest, asked: Asked) {
        if self.in_hand.join(&claim.key, || asked.holder()) {
            asked.sink.joined(1);
        } else if gathered.claims(&claim.key) {
            self.put_off.push_back(Request::Claim(Claims {
                claims: [(asked.envelope, claim)].into(),
                queue: asked.queue,
                asked: asked.since,
                sink: asked.sink,
            }));
        } else {
            gathered.claim(claim, asked);
        }
    }

    /// Writes the batch, for as long as it takes; says how long the commit itself took. `None` when
    /// the service stops hard meanwhile.
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
            let piecewise = refusals.are_enough();
            let written = database.ask_expecting(
                |error| refusals.count(error),
                |session, _| try_write(session, *owner, namespace, batch, piecewise),
            );
            if let Ok(result) = written {
                return Some((result, started.elapsed()));
            }
            std::thread::sleep(database.retry_in());
        }
        None
    }

    fn tell(&mut self, mut gathered: PendingBatch, result: BatchResult, commit: Duration) {
        let mut settlements = BySink::default();
        self.settle_ends(&gathered, &result, &mut settlements);
        self.settle_returns(&gathered, &mut settlements);
        for (sink, settlement) in settlements.into_iter() {
            sink.settle(settlement, commit);
        }
        for ((_, _, reply), put_back) in gathered.put_offs.iter().zip(result.put_back) {
            if reply.send(put_back).is_err() {
                log::debug!("a consumer went away before its run was put off");
            }
        }
        for (reply, begun) in gathered.begins.iter().zip(result.begun) {
            if reply.send(begun).is_err() {
                log::debug!("a consumer went away before its run was counted");
            }
        }
        let looks = std::mem::take(&mut gathered.looks);
        self.tell_claims(gathered, result.claims, commit);
        tell_looks(looks, &result.looked);
    }

    /// RunStore that are over here.
    fn settle_ends(
        &mut self,
        gathered: &PendingBatch,
        result: &BatchResult,
        settlements: &mut BySink<Settlement>,
    ) {
        let batch = &gathered.batch;
        let finishes = batch.finishes.iter().zip(&gathered.finishes);
        for ((finish, (run, ran)), finished) in finishes.zip(&result.finished) {
            report(&finish.key, *finished);
            self.settle(&finish.key, *run, settlements, *ran);
        }
        let put_offs = batch.put_offs.iter().zip(&gathered.put_offs);
        for ((put_off, (run, ran, _)), put_back) in put_offs.zip(&result.put_back) {
            if !matches!(put_back, PutBack::TooLong | PutBack::Refused) {
                self.settle(&put_off.row.key, *run, settlements, *ran);
            }
        }
        for (run, key) in &gathered.dropped {
            self.settle(key, *run, settlements, Duration::ZERO);
        }
    }

    /// RunStore that were given back before they began.
    fn settle_returns(&mut self, gathered: &PendingBatch, settlements: &mut BySink<Settlement>) {
        for (key, run) in gathered.batch.releases.iter().zip(&gathered.releases) {
            for (nth, holder) in self.in_hand.remove(key, *run).into_iter().enumerate() {
                let settlement = settlements.of(&holder.sink);
                settlement.give_back.push(holder.receipt);
                settlement.released += usize::from(nth == 0);
            }
        }
        let republishes = gathered.batch.republishes.iter().zip(&gathered.republishes);
        for (Republish { key, copy }, run) in republishes {
            for (nth, holder) in self.in_hand.remove(key, *run).into_iter().enumerate() {
                let settlement = settlements.of(&holder.sink);
                match copy {
                    BrokerCopy::MayBeDropped => settlement.give_back.push(holder.receipt),
                    BrokerCopy::Gone => settlement.accept.push(holder.receipt),
                }
                settlement.released += usize::from(nth == 0);
            }
        }
    }

    /// All deliveries of the message are done with; the first one's set has run it.
    fn settle(
        &mut self,
        key: &str,
        run: RunId,
        settlements: &mut BySink<Settlement>,
        ran: Duration,
    ) {
        for (nth, holder) in self.in_hand.remove(key, run).into_iter().enumerate() {
            let settlement = settlements.of(&holder.sink);
            settlement.accept.push(holder.receipt);
            if nth == 0 {
                settlement.finished += 1;
                settlement.ran += ran;
            }
        }
    }

    fn tell_claims(&mut self, gathered: PendingBatch, claims: Vec<Claim>, commit: Duration) {
        let mut answers = BySink::<Vec<Answer>>::default();
        let requests = gathered.batch.claims.into_iter().zip(gathered.claims);
        for ((request, asked), claim) in requests.zip(claims) {
            if is_to_be_cancelled(&request) {
                self.setup.cancelled.note(&request.key);
            }
            let sink = Arc::clone(&asked.sink);
            let answer = self.answer(request.key, asked, claim);
            answers.of(&sink).push(answer);
        }
        for (sink, answers) in answers.into_iter() {
            sink.claimed(answers, commit);
        }
    }

    fn answer(&mut self, key: String, asked: Asked, claim: Claim) -> Answer {
        match claim {
            Claim::Ours { attempts, suspect } => Answer::Ours(Attempt {
                run: self.in_hand.take_up(key, asked.holder()),
                envelope: asked.envelope,
                queue: asked.queue,
                asked: asked.since,
                prior_runs: PriorRuns::in_row(attempts, suspect, self.setup.counts_before_start),
            }),
            Claim::Final(status) => Answer::Final(asked.envelope, status),
            Claim::Owned(worker) => Answer::Owned(asked.envelope, worker),
            Claim::NoRow => Answer::NoRow(asked.envelope),
        }
    }
}

/// Whether it was claimed as one whose row has not come: it may have come at that very moment.
fn is_to_be_cancelled(claim: &ClaimRequest) -> bool {
    let row = claim.adopt.as_ref();
    row.is_some_and(|row| row.status == Status::Cancelled)
}

fn tell_looks(looks: Vec<(Vec<String>, Arc<dyn Sink>)>, found: &[String]) {
    if looks.is_empty() {
        return;
    }
    let found: HashSet<&str> = found.iter().map(String::as_str).collect();
    for (keys, sink) in looks {
        let looked = keys.into_iter().map(|key| {
            let has_row = found.contains(key.as_str());
            (key, has_row)
        });
        sink.looked(looked.collect());
    }
}

fn try_write(
    session: &mut dyn RunStore,
    owner: WorkerId,
    namespace: &str,
    batch: &Batch,
    piecewise: bool,
) -> Result<BatchResult, StoreError> {
    let mut result = if piecewise {
        bisect::write(session, owner, batch)?
    } else {
        session.write(owner, batch)?
    };
    claim_from_the_dead(session, owner, namespace, batch, &mut result)?;
    Ok(result)
}

/// A message that a worker of this host had when it vanished is ours at once: it need not wait for
/// the heartbeat to grow old.
fn claim_from_the_dead(
    session: &mut dyn RunStore,
    owner: WorkerId,
    namespace: &str,
    batch: &Batch,
    result: &mut BatchResult,
) -> Result<(), StoreError> {
    let owned: Vec<usize> = (0..result.claims.len())
        .filter(|index| matches!(result.claims[*index], Claim::Owned(_)))
        .collect();
    if owned.is_empty() || liveness::remove_dead_workers(session, namespace)? == 0 {
        return Ok(());
    }
    let again = Batch {
        claims: owned
            .iter()
            .map(|index| batch.claims[*index].clone())
            .collect(),
        ..Batch::default()
    };
    let verdicts = session.write(owner, &again)?.claims;
    for (index, verdict) in owned.into_iter().zip(verdicts) {
        result.claims[index] = verdict;
    }
    Ok(())
}

/// Says what is odd about an end that was not written as usual.
fn report(key: &str, finished: Finished) {
    match finished {
        Finished::Written => {}
        Finished::Already => log::info!("message {key} was finished already"),
        Finished::Taken => log::warn!(
            "message {key} was taken over by another worker while its task ran here; that worker's \
             end counts"
        ),
        Finished::Gone => log::warn!("message {key}: its row was deleted while its task ran"),
    }
}
