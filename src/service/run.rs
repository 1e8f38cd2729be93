//! Runs a service from its start to its end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};

use super::embedded_queue::EmbeddedQueue;
use super::signal_forwarder::SignalForwarder;
use super::threads::{BackgroundThreads, deregister};
use super::{Ended, Service, ServiceError, Signal};
use crate::actors::{ConsumedQueue, SupervisorActor, Tree, TreeOutcome};
use crate::broker::{self, Broker};
use crate::client::{ServiceClient, ServiceResources};
use crate::config::{BrokerHost, QueueConfig};
use crate::execution::{Executor, PutOffLimits, Runtime};
use crate::health::outage::{self, Servers};
use crate::health::queue_status_handle::QueueStatusHandle;
use crate::health::worker_thread::THREAD_STOP_TIMEOUT;
use crate::maintenance::heartbeat::Lease;
use crate::maintenance::sweep;
use crate::process::limits;
use crate::store::liveness;
use crate::store::{self, Database, Store, WorkerId, WorkerProcess};
use crate::task::Registry;
use crate::{actors, schedule};

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
        let (runtime, executor) = self.executor(ServiceResources {
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
            sweep::until_done(database, Arc::clone(&self.config), Arc::clone(&servers));
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

    /// Runs the background threads and the actor tree of a registered worker until the tree has ended.
    fn run_registered(
        &self,
        registered: Registered,
        queues: Vec<ConsumedQueue>,
        executor: Executor,
        signals: &Receiver<Signal>,
    ) -> Result<TreeOutcome, ServiceError> {
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
        let halted = matches!(outcome, TreeOutcome::Halted | TreeOutcome::Died(_));
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
    ) -> Result<Vec<ConsumedQueue>, ServiceError> {
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
            Ok(ConsumedQueue {
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
    fn executor(&self, shared: ServiceResources) -> Result<(Runtime, Executor), ServiceError> {
        let mut registry = self.all_tasks()?;
        registry.check_states()?;
        // Forks now, before there is a socket to inherit.
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
        let patience = PutOffLimits::of(&self.config, self.until_idle);
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
    ) -> Result<TreeOutcome, ServiceError> {
        let (outcome, ended) = bounded(1);
        let executor = Arc::clone(&tree.executor);
        let system = System::new();
        let supervisor = system.block_on(async { SupervisorActor::new(tree, outcome).start() });
        let watched = supervisor.clone();
        let _guard = self
            .service_status
            .watchdog()
            .set_check(move |time| threads_answer(time) && actors::all_respond(&watched, time));
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
        let supervisor_died = || TreeOutcome::Died("the supervisor".to_owned());
        Ok(ended.try_recv().unwrap_or_else(|_| supervisor_died()))
    }
}
