//! The service: builds the seams, starts the tree, waits for a signal, drains.

mod courier;
pub(crate) mod embedded_queue;
pub(crate) mod notifier;
mod threads;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select, unbounded};

use self::courier::Courier;
use self::embedded_queue::EmbeddedQueue;
use self::threads::{Threads, deregister};
use crate::actors::{ConsumedQueue, SupervisorActor, Tree, TreeOutcome};
use crate::broker::{self, Broker, BrokerError};
use crate::client::{ServiceClient, ServiceResources};
use crate::config::{BrokerHost, Config, QueueConfig};
use crate::execution::{Executor, PutOffLimits, Runtime};
use crate::health::outage::{self, Servers};
use crate::health::service_status::ServiceStatus;
use crate::health::worker_thread::THREAD_STOP_TIMEOUT;
use crate::maintenance::heartbeat::{BootInstant, Lease};
use crate::maintenance::sweep;
use crate::process::limits;
use crate::retry::Backoff;
use crate::schedule::{Schedule, ScheduleError};
use crate::store::liveness;
use crate::store::{self, Database, Store, StoreError, WorkerId, WorkerProcess};
use crate::task::{DuplicateTask, Registry, StateError};
use crate::{actors, schedule};

/// What a service is started with.
#[derive(Clone)]
pub struct Service {
    /// What the user configured.
    pub config: Arc<Config>,
    /// The tasks that are functions; commands come from the configuration.
    pub registry: Registry,
    /// ScheduleStore that are added at the start where there is none of their name.
    pub schedules: Vec<Schedule>,
    /// Whether to start the scheduler.
    pub scheduler: bool,
    /// Whether to run what is queued now and then end.
    pub until_idle: bool,
    /// Says a start-up line to the user.
    pub announce: Arc<dyn Fn(&str) + Send + Sync>,
    /// The name of the log file, for the last start-up line.
    pub logs: String,
    /// Where it writes down how it is.
    pub service_status: Arc<ServiceStatus>,
    /// WorkerStore that this process was before, and that may not be signed off: it is seen to be alive.
    pub predecessors: Vec<WorkerId>,
}

/// What a service is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the second time, stop hard.
    Stop,
    /// Stop hard.
    Halt,
}

impl Signal {
    /// How a service ends that hears it before it has begun.
    const fn ends_a_start(self) -> Ended {
        match self {
            Self::Stop => Ended::Drained,
            Self::Halt => Ended::Halted,
        }
    }
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was running has finished.
    Drained,
    /// It was stopped hard: tasks were left for redelivery.
    Halted,
}

/// Why a service did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A task's name is taken twice.
    #[error(transparent)]
    DuplicateTask(#[from] DuplicateTask),
    /// What tasks share is not there.
    #[error(transparent)]
    State(#[from] StateError),
    /// A schedule of the app's can't be one.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The database can't be used.
    #[error("the database can't be used: {0}")]
    Store(#[from] StoreError),
    /// The broker can't be used.
    #[error("the broker can't be used: {0}")]
    Broker(#[from] BrokerError),
    /// It was to run what is queued, and could not.
    #[error("what is queued could not be run: {0}")]
    NotIdle(String),
    /// What can't be begun anew has died.
    #[error("{what} died: what was running is run again")]
    Died {
        /// What.
        what: String,
        /// The worker that it was.
        worker: WorkerId,
    },
    /// The system refused something.
    #[error("the service could not be started: {0}")]
    System(#[from] io::Error),
}

impl Service {
    /// RunStore until `signals` says to stop, or the queues are empty if that is what is wanted.
    ///
    /// # Errors
    /// When it can't start for a reason that waiting does not cure.
    pub fn run(self, signals: &Receiver<Signal>) -> Result<Ended, ServiceError> {
        limits::raise(&self.config);
        let store: Arc<dyn Store> = store::open_for(&self.config)?.into();
        self.service_status.has_scheduler(self.scheduler);
        let servers = Arc::clone(self.service_status.servers());
        let process = liveness::this_process()?;
        let rows = Arc::new(EmbeddedQueue::new(
            Arc::clone(&store),
            process.namespace.clone(),
        ));
        let queues = self.open_queues(store.as_ref(), &rows, &servers)?;
        let (runtime, executor) = self.executor(ServiceResources {
            store: Arc::clone(&store),
            servers: Arc::clone(&servers),
        })?;
        let watch = outage::watch(Arc::clone(&servers))?;
        let (worker, lease) = match self.register(&store, &servers, &process, signals)? {
            ControlFlow::Continue(registered) => registered,
            ControlFlow::Break(ended) => return Ok(ended),
        };
        rows.are_for(worker);
        log::info!("this is worker {}, pid {}", worker.0, process.pid);
        if self.until_idle {
            let database = Database::of(Arc::clone(&store), &servers, "the sweep");
            sweep::until_done(database, Arc::clone(&self.config), Arc::clone(&servers));
        }
        let (deaths, died) = unbounded();
        let threads = Threads::start(
            &store,
            &self.config,
            &servers,
            (worker, process),
            lease.clone(),
            deaths,
        )?;
        let (scheduler_lives, scheduler_gone) = bounded(0);
        let tree = Tree {
            queues,
            scheduler: self.scheduler.then(|| schedule::Setup {
                store: Arc::clone(&store),
                config: Arc::clone(&self.config),
                servers: Arc::clone(&servers),
                alive: scheduler_lives,
            }),
            until_idle: self.until_idle,
            ledger: threads.ledger.clone(),
            lease,
            executor: Arc::new(executor),
            announce: Arc::clone(&self.announce),
            logs: self.logs.clone(),
            service_status: Arc::clone(&self.service_status),
        };
        let outcome = self.grow(tree, threads.check(), signals, died)?;
        let halted = matches!(outcome, TreeOutcome::Halted | TreeOutcome::Died(_));
        // Like the others, it may be held up by a server, and be left anywhere.
        if scheduler_gone.recv_timeout(THREAD_STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "the scheduler does not stop: a server does not answer it; the end comes without it"
            );
        }
        threads.stop(halted);
        deregister(&store, worker);
        watch.stop(Instant::now() + THREAD_STOP_TIMEOUT);
        if outcome != TreeOutcome::Drained {
            runtime.leave_running();
        }
        match outcome {
            TreeOutcome::Drained => Ok(Ended::Drained),
            TreeOutcome::Halted => Ok(Ended::Halted),
            TreeOutcome::Failed(reason) => Err(ServiceError::NotIdle(reason)),
            TreeOutcome::Died(what) => Err(ServiceError::Died { what, worker }),
        }
    }

    fn open_queues(
        &self,
        store: &dyn Store,
        rows: &Arc<EmbeddedQueue>,
        servers: &Servers,
    ) -> Result<Vec<ConsumedQueue>, ServiceError> {
        let consumable = self.config.queues.iter().filter(|queue| queue.consumable);
        let source = |queue: &QueueConfig| {
            let (broker, health) = match &queue.host {
                BrokerHost::Embedded => {
                    let rows = Arc::clone(rows);
                    // It is there when the database is.
                    (broker::embedded(rows), servers.database(&store.describe()))
                }
                BrokerHost::RabbitMq(url) => {
                    let broker = broker::open(url)?;
                    let health = servers.broker(&broker.describe());
                    (broker, health)
                }
            };
            let broker: Arc<dyn Broker> = Arc::from(broker);
            Ok(ConsumedQueue {
                queue: queue.clone(),
                queue_status: self
                    .service_status
                    .queue(&queue.name, queue.concurrency, &health),
                health,
                broker,
            })
        };
        consumable.map(source).collect()
    }

    /// What runs the tasks, with what they share, in a runtime.
    fn executor(&self, shared: ServiceResources) -> Result<(Runtime, Executor), ServiceError> {
        let mut registry = self.all_tasks()?;
        registry.check_states()?;
        // Forked before there is a socket to inherit.
        registry.start_runners()?;
        let runtime = Runtime::start()?;
        let reactor = runtime.handle().clone();
        {
            let _entered = reactor.enter();
            registry.make_states(&self.config)?;
        }
        if let Some(ServiceClient(client)) = registry.states().get().as_deref() {
            client.use_service(shared);
        }
        let limits = PutOffLimits::of(&self.config, self.until_idle);
        let crashes = self.config.max_crashes;
        let executor = Executor::new(registry, crashes, limits, reactor);
        Ok((runtime, executor))
    }

    fn all_tasks(&self) -> Result<Registry, ServiceError> {
        let mut registry = self.registry.clone();
        for (name, command) in &self.config.tasks {
            registry.register_command(name, command.clone())?;
        }
        Ok(registry)
    }

    /// Registers this worker, and waits for the database as long as it takes, unless it is
    /// told to stop meanwhile.
    fn register(
        &self,
        store: &Arc<dyn Store>,
        servers: &Servers,
        process: &WorkerProcess,
        signals: &Receiver<Signal>,
    ) -> Result<ControlFlow<Ended, (WorkerId, Lease)>, ServiceError> {
        let health = servers.database(&store.describe()).probe("the start");
        let mut backoff = Backoff::for_connections();
        loop {
            health.started();
            let sent = BootInstant::now();
            match self.registration(store, process, signals)? {
                ControlFlow::Break(ended) => return Ok(ControlFlow::Break(ended)),
                ControlFlow::Continue(Err(ServiceError::Store(
                    StoreError::Unavailable(error) | StoreError::Conflict(error),
                ))) if !self.until_idle => {
                    health.failed(&error);
                }
                ControlFlow::Continue(Err(error)) => return Err(error),
                ControlFlow::Continue(Ok(worker)) => {
                    health.succeeded();
                    return Ok(ControlFlow::Continue((worker, Lease::granted_at(sent))));
                }
            }
            match signals.recv_timeout(backoff.next_wait()) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(signal) => {
                    self.service_status.stopping();
                    return Ok(ControlFlow::Break(signal.ends_a_start()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.service_status.stopping();
                    return Ok(ControlFlow::Break(Ended::Drained));
                }
            }
        }
    }

    /// Tries it once, on a thread: a database that does not answer, or a lock in it, may hold that up,
    /// and a signal is heard meanwhile.
    fn registration(
        &self,
        store: &Arc<dyn Store>,
        process: &WorkerProcess,
        signals: &Receiver<Signal>,
    ) -> Result<ControlFlow<Ended, Result<WorkerId, ServiceError>>, ServiceError> {
        let (result, results) = bounded(1);
        let (service, tried_on, process) = (self.clone(), Arc::clone(store), process.clone());
        let thread =
            crate::health::worker_thread::WorkerThread::start("registration", move |_| {
                // Nobody waits for it any more if the service was told to stop.
                let _unwanted = result.send(service.try_register(tried_on.as_ref(), &process));
            })?;
        select! {
            recv(results) -> tried => {
                let panicked = |_| io::Error::other("the registration panicked");
                Ok(ControlFlow::Continue(tried.map_err(panicked)?))
            }
            recv(signals) -> signal => {
                self.service_status.stopping();
                log::info!("told to stop before the start was over");
                thread.stop(Instant::now() + THREAD_STOP_TIMEOUT);
                if let Ok(Ok(worker)) = results.try_recv() {
                    deregister(store, worker);
                }
                Ok(ControlFlow::Break(signal.map_or(Ended::Drained, Signal::ends_a_start)))
            }
        }
    }

    fn try_register(
        &self,
        store: &dyn Store,
        process: &WorkerProcess,
    ) -> Result<WorkerId, ServiceError> {
        let mut session = store::session(store)?;
        if self.scheduler {
            let brought = self.schedules.iter().map(|one| one.spec(&self.config));
            let brought: Vec<_> = brought.collect::<Result<_, _>>()?;
            schedule::add_missing(&brought, session.as_mut())?;
            let schedules = session.active_schedules()?;
            (self.announce)(&format!("found {schedules} scheduled tasks to run"));
        }
        session.deregister(&self.predecessors)?;
        liveness::remove_dead_workers(session.as_mut(), &process.namespace)?;
        Ok(session.register(process)?)
    }

    /// RunStore the tree on this thread until it has ended.
    fn grow(
        &self,
        tree: Tree,
        threads_work: impl Fn(Duration) -> bool + Send + Sync + 'static,
        signals: &Receiver<Signal>,
        died: Receiver<&'static str>,
    ) -> Result<TreeOutcome, ServiceError> {
        let (outcome, ended) = bounded(1);
        let executor = Arc::clone(&tree.executor);
        let system = System::new();
        let supervisor = system.block_on(async { SupervisorActor::new(tree, outcome).start() });
        let asked = supervisor.clone();
        let _beating = self
            .service_status
            .pulse()
            .of(move |time| threads_work(time) && actors::all_respond(&asked, time));
        let courier = Courier {
            signals: signals.clone(),
            died,
            supervisor,
            executor,
            service_status: Arc::clone(&self.service_status),
            grace: self.config.shutdown_grace,
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || courier.run())?;
        system.run()?;
        let silent = || TreeOutcome::Died("the supervisor".to_owned());
        Ok(ended.try_recv().unwrap_or_else(|_| silent()))
    }
}
