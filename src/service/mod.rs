//! The service: opens the database and the brokers, runs the threads and the actor tree until a signal stops
//! them, and drains.

pub(crate) mod embedded_queue;
pub(crate) mod notifier;
mod registration;
mod signal_forwarder;
mod threads;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};

use self::embedded_queue::EmbeddedQueue;
use self::signal_forwarder::SignalForwarder;
use self::threads::{BackgroundThreads, deregister};
use crate::actors::{Outcome, Source, SupervisorActor, Tree};
use crate::broker::{self, Broker, BrokerError};
use crate::client::{OfService, Shared};
use crate::config::{BrokerHost, Config, QueueConfig};
use crate::execution::{Executor, Patience, Runtime};
use crate::health::outage::{self, Servers};
use crate::health::queue_status_handle::QueueStatusHandle;
use crate::health::service_status::ServiceStatus;
use crate::health::worker_thread::THREAD_STOP_TIMEOUT;
use crate::maintenance::heartbeat::Lease;
use crate::maintenance::sweep;
use crate::process::limits;
use crate::schedule::{Schedule, ScheduleError};
use crate::store::liveness;
use crate::store::{self, Database, Store, StoreError, WorkerId, WorkerProcess};
use crate::task::{DuplicateTask, Registry, StateError};
use crate::{actors, schedule};

/// The parts and options of a service.
#[derive(Clone)]
pub struct Service {
    /// What the user configured.
    pub config: Arc<Config>,
    /// The tasks that are functions; commands come from the configuration.
    pub registry: Registry,
    /// Schedules that are added at the start if there is none of that name.
    pub schedules: Vec<Schedule>,
    /// Whether to start the scheduler.
    pub scheduler: bool,
    /// Whether to run what is queued now and then end.
    pub until_idle: bool,
    /// Prints a start-up line for the user.
    pub announce: Arc<dyn Fn(&str) + Send + Sync>,
    /// The name of the log file, for the last start-up line.
    pub logs: String,
    /// Where it records its state.
    pub service_status: Arc<ServiceStatus>,
    /// The workers of earlier runs in this process that may still be registered: since the process lives, others
    /// take them for alive.
    pub predecessors: Vec<WorkerId>,
}

/// A signal to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order; the second time, stop hard.
    Stop,
    /// Stop hard.
    Halt,
}

impl Signal {
    /// How a service ends that receives the signal before its start is over.
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
    /// It was stopped hard: running tasks were left for redelivery.
    Halted,
}

/// Why a service did not start, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Two tasks have the same name.
    #[error(transparent)]
    DuplicateTask(#[from] DuplicateTask),
    /// The tasks' shared state is missing or can't be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// A schedule of the app's is invalid.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The database can't be used.
    #[error("the database can't be used: {0}")]
    Store(#[from] StoreError),
    /// The broker can't be used.
    #[error("the broker can't be used: {0}")]
    Broker(#[from] BrokerError),
    /// With `until_idle`: the queued messages could not be run.
    #[error("what is queued could not be run: {0}")]
    NotIdle(String),
    /// A vital part has died that can't be restarted by itself.
    #[error("{what} died: what was running is run again")]
    Died {
        /// The part.
        what: String,
        /// The service's worker id.
        worker: WorkerId,
    },
    /// The system refused something.
    #[error("the service could not be started: {0}")]
    System(#[from] io::Error),
}

/// A registered worker, and the servers that it uses.
struct Registered {
    store: Arc<dyn Store>,
    servers: Arc<Servers>,
    worker: WorkerId,
    process: WorkerProcess,
    lease: Lease,
}

impl Service {
    /// Runs until `signals` says to stop; with `until_idle`, until the queues are empty.
    ///
    /// # Errors
    /// When it can't start for a reason that waiting does not cure, or a vital part has died.
    pub fn run(self, signals: &Receiver<Signal>) -> Result<Ended, ServiceError> {
        limits::raise(&self.config);
        let store: Arc<dyn Store> = store::open_for(&self.config)?.into();
        self.service_status.set_scheduler(self.scheduler);
        let servers = Arc::clone(self.service_status.servers());
        let process = liveness::this_process()?;
        let embedded = Arc::new(EmbeddedQueue::new(
            Arc::clone(&store),
            process.namespace.clone(),
        ));
        let queues = self.open_queues(store.as_ref(), &embedded, &servers)?;
        let (runtime, executor) = self.executor(Shared {
            store: Arc::clone(&store),
            servers: Arc::clone(&servers),
        })?;
        let watch = outage::watch(Arc::clone(&servers))?;
        let (worker, lease) = match self.register(&store, &servers, &process, signals)? {
            ControlFlow::Continue(registered) => registered,
            ControlFlow::Break(ended) => return Ok(ended),
        };
        embedded.set_owner(worker);
        log::info!("this is worker {}, pid {}", worker.0, process.pid);
        if self.until_idle {
            let database = Database::of(Arc::clone(&store), &servers, "the sweep");
            sweep::once(database, Arc::clone(&self.config), Arc::clone(&servers));
        }
        let registered = Registered {
            store: Arc::clone(&store),
            servers,
            worker,
            process,
            lease,
        };
        let outcome = self.run_registered(registered, queues, executor, signals)?;
        deregister(&store, worker);
        watch.stop(Instant::now() + THREAD_STOP_TIMEOUT);
        if outcome != Outcome::Drained {
            runtime.leave_running();
        }
        match outcome {
            Outcome::Drained => Ok(Ended::Drained),
            Outcome::Halted => Ok(Ended::Halted),
            Outcome::Failed(reason) => Err(ServiceError::NotIdle(reason)),
            Outcome::Died(what) => Err(ServiceError::Died { what, worker }),
        }
    }

    /// Runs the background threads and the actor tree of a registered worker until the tree has ended.
    fn run_registered(
        &self,
        registered: Registered,
        queues: Vec<Source>,
        executor: Executor,
        signals: &Receiver<Signal>,
    ) -> Result<Outcome, ServiceError> {
        let Registered {
            store,
            servers,
            worker,
            process,
            lease,
        } = registered;
        let (deaths, died) = unbounded();
        let threads = BackgroundThreads::start(
            &store,
            &self.config,
            &servers,
            (worker, process),
            lease.clone(),
            deaths,
        )?;
        let (scheduler_alive, scheduler_ended) = bounded(0);
        let tree = Tree {
            queues,
            scheduler: self.scheduler.then(|| schedule::Setup {
                store,
                config: Arc::clone(&self.config),
                servers,
                alive: scheduler_alive,
            }),
            until_idle: self.until_idle,
            ledger: threads.ledger.clone(),
            lease,
            executor: Arc::new(executor),
            announce: Arc::clone(&self.announce),
            logs: self.logs.clone(),
            service_status: Arc::clone(&self.service_status),
        };
        let outcome = self.run_tree(tree, threads.check(), signals, died)?;
        let halted = matches!(outcome, Outcome::Halted | Outcome::Died(_));
        // A server may block the scheduler, like the other threads; it can be left at any point.
        if scheduler_ended.recv_timeout(THREAD_STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "the scheduler does not stop: a server does not answer it; ending without it"
            );
        }
        threads.stop(halted);
        Ok(outcome)
    }

    fn open_queues(
        &self,
        store: &dyn Store,
        embedded: &Arc<EmbeddedQueue>,
        servers: &Servers,
    ) -> Result<Vec<Source>, ServiceError> {
        let consumable = self.config.queues.iter().filter(|queue| queue.consumable);
        let source = |queue: &QueueConfig| {
            let (broker, health) = match &queue.host {
                BrokerHost::Embedded => {
                    let embedded = Arc::clone(embedded);
                    // The embedded broker is away when the database is.
                    (
                        broker::embedded(embedded),
                        servers.database(&store.describe()),
                    )
                }
                BrokerHost::RabbitMq(url) => {
                    let broker = broker::open(url)?;
                    let health = servers.broker(&broker.describe());
                    (broker, health)
                }
            };
            let broker: Arc<dyn Broker> = Arc::from(broker);
            Ok(Source {
                queue: queue.clone(),
                queue_status: QueueStatusHandle::register(
                    &self.service_status,
                    &queue.name,
                    queue.concurrency,
                    &health,
                ),
                health,
                broker,
            })
        };
        consumable.map(source).collect()
    }

    /// The executor of the tasks with their shared state, and its runtime.
    fn executor(&self, shared: Shared) -> Result<(Runtime, Executor), ServiceError> {
        let mut registry = self.all_tasks()?;
        registry.check()?;
        // Forks now, before there is a socket to inherit.
        registry.start_runners()?;
        let runtime = Runtime::start()?;
        let reactor = runtime.reactor().clone();
        {
            let _entered = reactor.enter();
            registry.make_states(&self.config)?;
        }
        if let Some(OfService(client)) = registry.states().get().as_deref() {
            client.joins(shared);
        }
        let patience = Patience::of(&self.config, self.until_idle);
        let crashes = self.config.max_crashes;
        let executor = Executor::new(registry, crashes, patience, reactor);
        Ok((runtime, executor))
    }

    fn all_tasks(&self) -> Result<Registry, ServiceError> {
        let mut registry = self.registry.clone();
        for (name, command) in &self.config.tasks {
            registry.register_command(name, command.clone())?;
        }
        Ok(registry)
    }

    /// Runs the actor tree on this thread until it has ended.
    fn run_tree(
        &self,
        tree: Tree,
        threads_answer: impl Fn(Duration) -> bool + Send + Sync + 'static,
        signals: &Receiver<Signal>,
        died: Receiver<&'static str>,
    ) -> Result<Outcome, ServiceError> {
        let (outcome, ended) = bounded(1);
        let executor = Arc::clone(&tree.executor);
        let system = System::new();
        let supervisor = system.block_on(async { SupervisorActor::new(tree, outcome).start() });
        let watched = supervisor.clone();
        let _guard = self
            .service_status
            .watchdog()
            .set_check(move |time| threads_answer(time) && actors::answers(&watched, time));
        let forwarder = SignalForwarder {
            signals: signals.clone(),
            died,
            supervisor,
            executor,
            service_status: Arc::clone(&self.service_status),
            grace: self.config.shutdown_grace,
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || forwarder.run())?;
        system.run()?;
        let supervisor_died = || Outcome::Died("the supervisor".to_owned());
        Ok(ended.try_recv().unwrap_or_else(|_| supervisor_died()))
    }
}
