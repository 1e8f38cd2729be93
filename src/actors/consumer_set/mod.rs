//! One queue's set of consumers: claims the messages that arrive, hands them to idle consumers, and settles their
//! deliveries when they are over.

mod arrival;
mod broker_copies;
mod claim_window;
mod in_flight;
mod ledger_notice;
mod prefetch;
mod row_wait_prefetch;
mod row_waits;
mod stall_detector;
mod stopping;
mod without_id;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, Sender, unbounded};

use self::arrival::Arrival;
use self::broker_copies::BrokerCopies;
use self::claim_window::ClaimWindow;
use self::in_flight::InFlight;
use self::ledger_notice::SetListener;
use self::prefetch::Prefetch;
use self::row_waits::RowWaits;
use self::stall_detector::StallDetector;
use self::without_id::WithoutId;
use super::consumer::{ConsumerActor, ConsumerThread};
use super::messages::{ConsumerDeath, ConsumerNotice, SetEvent, SetNotice};
use super::subscription::{self, SubscriptionNotice};
use super::tree::{ConsumedQueue, Tree};
use crate::broker::{BrokerError, BrokerEvent, DeliveryHandle, SubscriptionCommand};
use crate::execution::{Attempt, Executor};
use crate::ledger::{Ledger, LedgerListener};
use crate::maintenance::heartbeat::Lease;
use crate::names;
use crate::retry::Backoff;

pub(super) use self::stopping::StopSet;

/// How often a set that runs until it is idle asks for the queue's depth.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// The wait before the subscription is started again if the system had no thread for it.
const THREAD_RETRY_DELAY: Duration = Duration::from_secs(2);

/// How often the set checks which reasons for putting runs off have ended.
const PUT_OFF_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The consumers of one queue.
pub(super) struct ConsumerSetActor {
    source: ConsumedQueue,
    name: Arc<str>,
    owner: Recipient<SetNotice>,
    ledger: Ledger,
    lease: Lease,
    executor: Arc<Executor>,
    listener: Option<Arc<dyn LedgerListener>>,
    /// Commands to the subscription, which closes when this is dropped.
    commands: Option<Sender<SubscriptionCommand>>,
    /// Claimed messages, for whichever consumer is idle.
    attempts: Sender<Attempt>,
    unstarted_attempts: Receiver<Attempt>,
    consumers: HashMap<usize, (Addr<ConsumerActor>, Instant)>,
    backoff: Backoff,
    /// Messages that have arrived and are not claimed.
    backlog: VecDeque<Arrival>,
    in_flight: InFlight,
    row_waits: RowWaits,
    claim_window: ClaimWindow,
    prefetch: Prefetch,
    stall_detector: StallDetector,
    broker_copies: BrokerCopies,
    without_id: WithoutId,
    stopping: bool,
    /// The broker delivers nothing more.
    cancelled: bool,
    until_idle: bool,
    epoch: u64,
}

impl ConsumerSetActor {
    pub(super) fn new(tree: &Tree, source: ConsumedQueue, owner: Recipient<SetNotice>) -> Self {
        let queue = &source.queue;
        let (attempts, unstarted_attempts) = unbounded();
        Self {
            name: queue.name.as_str().into(),
            claim_window: ClaimWindow::new(queue.concurrency),
            prefetch: Prefetch::new(queue),
            broker_copies: BrokerCopies::of(queue),
            without_id: WithoutId::default(),
            source,
            owner,
            ledger: tree.ledger.clone(),
            lease: tree.lease.clone(),
            executor: Arc::clone(&tree.executor),
            listener: None,
            commands: None,
            attempts,
            unstarted_attempts,
            consumers: HashMap::new(),
            backoff: Backoff::for_restarts(),
            backlog: VecDeque::new(),
            in_flight: InFlight::default(),
            row_waits: RowWaits::default(),
            stall_detector: StallDetector::new(),
            stopping: false,
            cancelled: false,
            until_idle: tree.until_idle,
            epoch: 0,
        }
    }

    fn start_consumer(&mut self, number: usize, context: &mut Context<Self>) {
        let consumer_thread = ConsumerThread {
            set: context.address().recipient(),
            name: names::consumer_name(&self.name, number),
            number,
            attempts: self.unstarted_attempts.clone(),
            executor: Arc::clone(&self.executor),
            ledger: self.ledger.clone(),
            lease: self.lease.clone(),
            queue_status: self.source.queue_status.clone(),
        };
        let consumer = ConsumerActor::new(consumer_thread).start();
        self.consumers.insert(number, (consumer, Instant::now()));
    }

    /// Starts the subscription, and tries again later if the system has no thread left.
    fn subscribe(&mut self, context: &mut Context<Self>) {
        let (commands, receiver) = unbounded();
        self.commands = Some(commands);
        let started =
            subscription::start(self.source.clone(), receiver, context.address().recipient());
        let Err(error) = started else { return };
        log::error!("queue {}: no thread to consume it: {error}", self.name);
        if self.until_idle {
            self.report_idle(Some(error.to_string()));
            return context.notify(SubscriptionNotice::Closed);
        }
        context.run_later(THREAD_RETRY_DELAY, |set, context| match set.stopping {
            true => context.notify(SubscriptionNotice::Closed),
            false => set.subscribe(context),
        });
    }

    /// Claims as much of the backlog as the claim window allows, and all messages that the broker may have lost.
    fn claim_backlog(&mut self) {
        let limit = if self.stopping {
            let unclaimed = self.take_unclaimed();
            self.settle(Vec::new(), unclaimed);
            0
        } else {
            self.prefetch.limit(self.claim_window.wanted())
        };
        let room = limit.saturating_sub(self.in_flight.claimed());
        let count = room.max(self.urgent_count()).min(self.backlog.len());
        if count > 0 {
            let arrivals = self.backlog.drain(..count).collect();
            self.claim(arrivals);
        }
    }

    fn claim(&mut self, arrivals: Vec<Arrival>) {
        if let Some(listener) = self.listener.clone() {
            self.in_flight.asked(arrivals.len());
            let claims = arrivals.into_iter();
            let claims = claims.map(|arrival| arrival.into_claim(&self.name));
            self.ledger.claim(&self.name, claims.collect(), listener);
        }
    }

    /// Hands a claimed message to the consumers.
    fn hand_out(&mut self, attempt: Attempt) {
        self.stall_detector.handed_out();
        if self.stopping {
            self.give_back(vec![attempt]);
        } else if self.attempts.send(attempt).is_err() {
            log::error!("queue {}: no consumer can be reached", self.name);
        }
    }

    fn settle(&mut self, accept: Vec<DeliveryHandle>, give_back: Vec<DeliveryHandle>) {
        for handle in &accept {
            self.without_id.accepted(*handle);
        }
        for handle in &give_back {
            self.without_id.forget(*handle);
        }
        if !(accept.is_empty() && give_back.is_empty()) {
            self.send_command(SubscriptionCommand::Settle { accept, give_back });
        }
    }

    fn send_command(&self, command: SubscriptionCommand) {
        if let Some(commands) = &self.commands
            && commands.send(command).is_err()
        {
            log::debug!("queue {}: the subscription is closed", self.name);
        }
    }

    /// Asks for the queue's depth if the set runs until it is idle, and has nothing to do.
    fn check_idle(&mut self) {
        if self.has_nothing_to_do() {
            self.send_command(SubscriptionCommand::Depth);
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        self.until_idle
            && self.in_flight.is_empty()
            && self.backlog.is_empty()
            && self.row_waits.is_empty()
    }

    fn report_idle(&mut self, error: Option<String>) {
        self.until_idle = false;
        self.notify_owner(SetEvent::Idle { error });
    }

    fn notify_owner(&self, event: SetEvent) {
        let queue = self.name.to_string();
        self.owner.do_send(SetNotice { queue, event });
    }

    fn handle_event(&mut self, event: BrokerEvent, context: &mut Context<Self>) {
        match event {
            BrokerEvent::Opened { .. } => {
                self.epoch += 1;
                self.prefetch.reset();
                self.without_id.channel_opened();
                self.row_waits.reset();
                self.check_idle();
            }
            BrokerEvent::Delivered(envelopes) => {
                let bytes = envelopes.iter().map(|envelope| envelope.body.size()).sum();
                self.prefetch.arrived(envelopes.len(), bytes);
                let tags = envelopes.iter().map(|envelope| envelope.handle.tag);
                self.row_waits
                    .note_delivered(tags.max().unwrap_or_default());
                let without_id = &mut self.without_id;
                let arrivals = envelopes.into_iter();
                self.backlog
                    .extend(arrivals.map(|envelope| Arrival::new(envelope, without_id)));
                self.claim_backlog();
                self.schedule_row_lookup(context);
                // Messages may have been under way when a burst ended.
                self.return_excess();
            }
            BrokerEvent::CountsRedeliveries => self.start_counting_returns(),
            BrokerEvent::Depth(0) if self.has_nothing_to_do() => self.report_idle(None),
            BrokerEvent::Depth(_) => {
                context.run_later(IDLE_CHECK, |set, _| set.check_idle());
            }
            BrokerEvent::Cancelled => {
                self.cancelled = true;
                self.close_if_done();
            }
        }
    }
}

impl Actor for ConsumerSetActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.listener = Some(Arc::new(SetListener(context.address())));
        for number in 1..=self.source.queue.concurrency {
            self.start_consumer(number, context);
        }
        self.warn_of_counted_returns();
        self.start_stall_detection(context);
        context.run_interval(PUT_OFF_LOG_INTERVAL, |set, _| {
            set.executor.log_ended_put_offs()
        });
        self.subscribe(context);
    }
}

/// Reports the end of the actor, whatever its cause: actix drops the actor in each case.
impl Drop for ConsumerSetActor {
    fn drop(&mut self) {
        self.notify_owner(SetEvent::Gone);
    }
}

impl Handler<SubscriptionNotice> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, notice: SubscriptionNotice, context: &mut Context<Self>) {
        match notice {
            SubscriptionNotice::Event(event) => self.handle_event(event, context),
            SubscriptionNotice::Lost { epoch, error } => {
                self.epoch = epoch;
                // Claimed messages go on.
                self.connection_lost(epoch, matches!(error, BrokerError::QueueGone(_)));
                if self.until_idle {
                    self.report_idle(Some(error.to_string()));
                }
                if let BrokerError::Unsupported(reason) = error {
                    log::error!("queue {}: {reason}", self.name);
                }
            }
            SubscriptionNotice::Closed => self.subscription_closed(context),
        }
    }
}

impl Handler<ConsumerNotice> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, notice: ConsumerNotice, context: &mut Context<Self>) {
        match notice {
            ConsumerNotice::GiveBack(attempt) => self.give_back(vec![attempt]),
            ConsumerNotice::Down { number, death } => self.consumer_down(number, death, context),
        }
    }
}

impl ConsumerSetActor {
    /// Handles the end of a consumer, which was told to stop or died.
    fn consumer_down(
        &mut self,
        number: usize,
        death: Option<ConsumerDeath>,
        context: &mut Context<Self>,
    ) {
        let lived = self
            .consumers
            .remove(&number)
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let name = names::consumer_name(&self.name, number);
        if let Some(attempt) = death.and_then(|death| death.attempt) {
            log::error!(
                "consumer {name} died while it ran message {}",
                attempt.key()
            );
            // The run in which the consumer died counts: otherwise a message that kills every consumer would
            // never be given up.
            self.hand_out(attempt.after_death());
        }
        if !self.stopping {
            let wait = self.backoff.next_wait_after(lived);
            log::error!("consumer {name} died; a new one starts in {wait:.1?}");
            context.run_later(wait, move |set, context| {
                if !set.stopping {
                    set.start_consumer(number, context);
                }
            });
        }
        self.close_if_done();
    }
}
