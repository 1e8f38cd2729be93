//! One queue's set of consumers: claims what arrives, hands it to whoever is idle, settles what is
//! over.

mod arrival;
mod claim_window;
mod copies;
mod in_flight;
mod prefetch;
mod recorded;
mod rowless;
mod stall;
mod stopping;
mod without_id;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, Sender, unbounded};

use self::arrival::Arrival;
use self::claim_window::ClaimWindow;
use self::copies::Copies;
use self::in_flight::InFlight;
use self::prefetch::Prefetch;
use self::recorded::SetSink;
use self::rowless::Rowless;
use self::stall::Stall;
use self::without_id::WithoutId;
use super::consumer::{ConsumerActor, Worker};
use super::messages::{Death, OfConsumer, OfSet, SetSays};
use super::subscription::{self, Subscribed};
use super::{ConsumedQueue, Tree};
use crate::broker::{BrokerError, BrokerEvent, DeliveryHandle, SubscriptionCommand};
use crate::execution::{Attempt, Executor};
use crate::ledger::{Ledger, Sink};
use crate::maintenance::heartbeat::Lease;
use crate::names;
use crate::retry::Backoff;

pub(super) use self::stopping::StopSet;

/// How long an idle queue is looked at again, by a set that runs until it is idle.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// When a subscription is started again that the system had no thread for.
const THREADS_AGAIN: Duration = Duration::from_secs(2);

/// How often it is looked what no run is put off for any more.
const LOOK_FOR_LACKS: Duration = Duration::from_secs(5);

/// The consumers of one queue.
pub(super) struct ConsumerSetActor {
    source: ConsumedQueue,
    name: Arc<str>,
    owner: Recipient<OfSet>,
    ledger: Ledger,
    lease: Lease,
    executor: Arc<Executor>,
    sink: Option<Arc<dyn Sink>>,
    /// To the subscription; dropped to close it.
    commands: Option<Sender<SubscriptionCommand>>,
    /// To the consumers, whoever is idle.
    attempts: Sender<Attempt>,
    waiting_attempts: Receiver<Attempt>,
    consumers: HashMap<usize, (Addr<ConsumerActor>, Instant)>,
    backoff: Backoff,
    /// Arrived and not claimed.
    backlog: VecDeque<Arrival>,
    in_flight: InFlight,
    rowless: Rowless,
    pace: ClaimWindow,
    burst: Prefetch,
    stall: Stall,
    copies: Copies,
    unnamed: WithoutId,
    stopping: bool,
    /// Nothing more will come.
    cancelled: bool,
    until_idle: bool,
    epoch: u64,
}

impl ConsumerSetActor {
    pub(super) fn new(tree: &Tree, source: ConsumedQueue, owner: Recipient<OfSet>) -> Self {
        let queue = &source.queue;
        let (attempts, waiting_attempts) = unbounded();
        Self {
            name: queue.name.as_str().into(),
            pace: ClaimWindow::new(queue.concurrency),
            burst: Prefetch::new(queue),
            copies: Copies::of(queue),
            unnamed: WithoutId::default(),
            source,
            owner,
            ledger: tree.ledger.clone(),
            lease: tree.lease.clone(),
            executor: Arc::clone(&tree.executor),
            sink: None,
            commands: None,
            attempts,
            waiting_attempts,
            consumers: HashMap::new(),
            backoff: Backoff::for_children(),
            backlog: VecDeque::new(),
            in_flight: InFlight::default(),
            rowless: Rowless::default(),
            stall: Stall::new(),
            stopping: false,
            cancelled: false,
            until_idle: tree.until_idle,
            epoch: 0,
        }
    }

    fn start_consumer(&mut self, number: usize, context: &mut Context<Self>) {
        let worker = Worker {
            set: context.address().recipient(),
            name: names::consumer(&self.name, number),
            number,
            attempts: self.waiting_attempts.clone(),
            executor: Arc::clone(&self.executor),
            ledger: self.ledger.clone(),
            lease: self.lease.clone(),
            queue_status: self.source.queue_status.clone(),
        };
        let consumer = ConsumerActor::new(worker).start();
        self.consumers.insert(number, (consumer, Instant::now()));
    }

    /// Starts the subscription. A system that has no thread left may have one later.
    fn subscribe(&mut self, context: &mut Context<Self>) {
        let (commands, receiver) = unbounded();
        self.commands = Some(commands);
        let started =
            subscription::start(self.source.clone(), receiver, context.address().recipient());
        let Err(error) = started else { return };
        log::error!("queue {}: no thread to consume it: {error}", self.name);
        if self.until_idle {
            self.idle(Some(error.to_string()));
            return context.notify(Subscribed::Closed);
        }
        context.run_later(THREADS_AGAIN, |set, context| match set.stopping {
            true => context.notify(Subscribed::Closed),
            false => set.subscribe(context),
        });
    }

    /// Claims as much of the backlog as the pace allows, and what may be nowhere but here.
    fn pump(&mut self) {
        let limit = if self.stopping {
            let unclaimed = self.unclaimed();
            self.tell(Vec::new(), unclaimed);
            0
        } else {
            self.burst.limit(self.pace.wanted())
        };
        let room = limit.saturating_sub(self.in_flight.claimed());
        let count = room.max(self.urgent()).min(self.backlog.len());
        if count > 0 {
            let arrivals = self.backlog.drain(..count).collect();
            self.claim(arrivals);
        }
    }

    fn claim(&mut self, arrivals: Vec<Arrival>) {
        if let Some(sink) = self.sink.clone() {
            self.in_flight.asked(arrivals.len());
            let claims = arrivals.into_iter();
            let claims = claims.map(|arrival| arrival.into_claim(&self.name));
            self.ledger.claim(&self.name, claims.collect(), sink);
        }
    }

    /// Hands a claimed message to the consumers.
    fn hand_out(&mut self, attempt: Attempt) {
        self.stall.handed_out();
        if self.stopping {
            self.give_back(vec![attempt]);
        } else if self.attempts.send(attempt).is_err() {
            log::error!("queue {}: no consumer can be reached", self.name);
        }
    }

    fn tell(&mut self, accept: Vec<DeliveryHandle>, give_back: Vec<DeliveryHandle>) {
        for receipt in &accept {
            self.unnamed.accepted(*receipt);
        }
        for receipt in &give_back {
            self.unnamed.forget(*receipt);
        }
        if !(accept.is_empty() && give_back.is_empty()) {
            self.command(SubscriptionCommand::Settle { accept, give_back });
        }
    }

    fn command(&self, command: SubscriptionCommand) {
        if let Some(commands) = &self.commands
            && commands.send(command).is_err()
        {
            log::debug!("queue {}: the subscription is closed", self.name);
        }
    }

    /// A set that runs until it is idle asks the queue whether it is.
    fn check_idle(&mut self) {
        if self.has_nothing_to_do() {
            self.command(SubscriptionCommand::Depth);
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        self.until_idle
            && self.in_flight.is_empty()
            && self.backlog.is_empty()
            && self.rowless.is_empty()
    }

    fn idle(&mut self, error: Option<String>) {
        self.until_idle = false;
        self.say(SetSays::Idle { error });
    }

    fn say(&self, says: SetSays) {
        let queue = self.name.to_string();
        self.owner.do_send(OfSet { queue, says });
    }

    fn handle_event(&mut self, event: BrokerEvent, context: &mut Context<Self>) {
        match event {
            BrokerEvent::Opened { .. } => {
                self.epoch += 1;
                self.burst.reset();
                self.unnamed.channel_opened();
                self.rowless.reset();
                self.check_idle();
            }
            BrokerEvent::Delivered(envelopes) => {
                let bytes = envelopes.iter().map(|envelope| envelope.body.size()).sum();
                self.burst.arrived(envelopes.len(), bytes);
                let tags = envelopes.iter().map(|envelope| envelope.receipt.tag);
                self.rowless.came(tags.max().unwrap_or_default());
                let unnamed = &mut self.unnamed;
                let arrivals = envelopes.into_iter();
                self.backlog
                    .extend(arrivals.map(|envelope| Arrival::new(envelope, unnamed)));
                self.pump();
                self.watch_for_rows(context);
                // What was under way when a burst ended.
                self.shed();
            }
            BrokerEvent::CountsReturns => self.count_returns(),
            BrokerEvent::Depth(0) if self.has_nothing_to_do() => self.idle(None),
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
        self.sink = Some(Arc::new(SetSink(context.address())));
        for number in 1..=self.source.queue.concurrency {
            self.start_consumer(number, context);
        }
        self.say_what_is_counted();
        self.look_for_stalls(context);
        context.run_interval(LOOK_FOR_LACKS, |set, _| set.executor.look_for_lacks());
        self.subscribe(context);
    }
}

/// Whatever ends an actor drops it.
impl Drop for ConsumerSetActor {
    fn drop(&mut self) {
        self.say(SetSays::Gone);
    }
}

impl Handler<Subscribed> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, subscribed: Subscribed, context: &mut Context<Self>) {
        match subscribed {
            Subscribed::Event(event) => self.handle_event(event, context),
            Subscribed::Lost { epoch, error } => {
                self.epoch = epoch;
                // What is in hand goes on.
                self.lose(epoch, matches!(error, BrokerError::QueueGone(_)));
                if self.until_idle {
                    self.idle(Some(error.to_string()));
                }
                if let BrokerError::Unsupported(reason) = error {
                    log::error!("queue {}: {reason}", self.name);
                }
            }
            Subscribed::Closed => self.closed(context),
        }
    }
}

impl Handler<OfConsumer> for ConsumerSetActor {
    type Result = ();

    fn handle(&mut self, told: OfConsumer, context: &mut Context<Self>) {
        match told {
            OfConsumer::GiveBack(attempt) => self.give_back(vec![attempt]),
            OfConsumer::Down { number, death } => self.consumer_down(number, death, context),
        }
    }
}

impl ConsumerSetActor {
    /// A consumer has ended: as it was told to, or it has died, its thread or its actor.
    fn consumer_down(&mut self, number: usize, death: Option<Death>, context: &mut Context<Self>) {
        let lived = self
            .consumers
            .remove(&number)
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let name = names::consumer(&self.name, number);
        if let Some(attempt) = death.and_then(|death| death.attempt) {
            log::error!(
                "consumer {name} died while it ran message {}",
                attempt.key()
            );
            // The run that it died in counts, or a message that kills each consumer would never
            // be given up.
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
