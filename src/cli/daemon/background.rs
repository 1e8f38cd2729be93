//! The service as a daemon: the process that `daemon start` has forked off, and what that is executed as again
//! when it has lost what it can't do without.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Receiver;
use nix::sys::signal::{SigSet, Signal as Number};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default};

use super::super::args::ServiceArgs;
use super::super::run::{self, system};
use super::super::{Exit, Failure, Program, read, told};
use crate::config::Config;
use crate::daemon::{
    ControlServer, ControlSocket, DaemonHistory, HeldPidfile, LeftoverChildren, ResumedDaemon,
    StartReporter, handle_sigpipe, reexecute,
};
use crate::health::service_status::ServiceStatus;
use crate::logging::{self, LogFile};
use crate::service::{ServiceError, Signal};

/// RunStore the service as the daemon that this process is, and has it said to the controller how its
/// start went.
pub(super) fn run(
    args: &ServiceArgs,
    config: Arc<Config>,
    program: Program,
    held: HeldPidfile,
    launch: StartReporter,
    past: DaemonHistory,
) -> Result<Exit, Failure> {
    let launch = Arc::new(launch);
    let ran = Daemon::first(args, &held, &launch, past)
        .and_then(|daemon| daemon.live(args, config, program));
    end(held, &ran);
    match &ran {
        Ok(_) => launch.over(),
        Err(failure) => launch.failed(failure.exit as u8, &told(failure.error.as_ref())),
    }
    ran
}

/// RunStore the service as the daemon that this process was before.
pub(super) fn run_again(
    args: &ServiceArgs,
    program: Program,
    resumed: ResumedDaemon,
) -> Result<Exit, Failure> {
    let ResumedDaemon {
        held,
        socket,
        log,
        children,
        past,
    } = resumed;
    let ran = Daemon::again(args, &held, socket, log, past)
        .and_then(|daemon| daemon.live_again(args, program, children));
    end(held, &ran);
    ran
}

fn end(held: HeldPidfile, ran: &Result<Exit, Failure>) {
    if let Err(failure) = ran {
        log::error!("{}", told(failure.error.as_ref()));
    }
    held.release();
}

/// Says it to the controller when the service is up. From then on nobody waits for it, and it is started
/// again by itself.
fn report_start(
    service_status: &Arc<ServiceStatus>,
    launch: &Arc<StartReporter>,
) -> io::Result<()> {
    let (service_status, launch) = (Arc::clone(service_status), Arc::clone(launch));
    let report = move || {
        let report = service_status.wait_until_up();
        if report.is_up() {
            launch.up(&report);
            service_status.enable_restart();
        }
    };
    let thread = std::thread::Builder::new().name("start".to_owned());
    thread.spawn(report).map(drop)
}

/// A daemon that can be asked and signalled.
struct Daemon<'a> {
    held: &'a HeldPidfile,
    control: ControlServer,
    log: LogFile,
    heard: Heard,
    service_status: Arc<ServiceStatus>,
    past: DaemonHistory,
}

impl<'a> Daemon<'a> {
    fn first(
        args: &ServiceArgs,
        held: &'a HeldPidfile,
        launch: &Arc<StartReporter>,
        past: DaemonHistory,
    ) -> Result<Self, Failure> {
        let path = run::logfile(args);
        let identity = run::identity(args)?;
        let log = run::open_log(&path, identity.as_ref())
            .map_err(|error| run::not_writable(&path, &error))?;
        let socket = ControlSocket::bind(held.path())?;
        if let Some(identity) = &identity {
            held.give_to(identity)?;
            socket.give_to(identity)?;
        }
        run::start_logging(args, identity.as_ref(), Some(log.clone()))?;
        log_panics();
        let heard = Heard::hear().map_err(system)?;
        // Who stops it from now on, stops it in order.
        held.write_pid()?;
        let service_status = ServiceStatus::new();
        let control = socket.serve(Arc::clone(&service_status)).map_err(system)?;
        report_start(&service_status, launch).map_err(system)?;
        Ok(Self {
            held,
            control,
            log,
            heard,
            service_status,
            past,
        })
    }

    /// The pid in the pidfile, the user and the umask are what they were.
    fn again(
        args: &ServiceArgs,
        held: &'a HeldPidfile,
        socket: ControlSocket,
        log: LogFile,
        past: DaemonHistory,
    ) -> Result<Self, Failure> {
        run::start_logging(args, None, Some(log.clone()))?;
        log_panics();
        handle_sigpipe().map_err(system)?;
        let heard = Heard::hear().map_err(system)?;
        let service_status = past
            .restarts
            .clone()
            .map_or_else(ServiceStatus::new, ServiceStatus::after);
        let control = socket.serve(Arc::clone(&service_status)).map_err(system)?;
        // It may have been moved away meanwhile.
        logging::rehearse_reopening();
        Ok(Self {
            held,
            control,
            log,
            heard,
            service_status,
            past,
        })
    }

    fn live_again(
        self,
        args: &ServiceArgs,
        program: Program,
        children: LeftoverChildren,
    ) -> Result<Exit, Failure> {
        let wait = self.past.rest();
        log::warn!("executed again in the same process; the service starts in {wait:.1?}");
        if children.outlive(wait, &self.heard.signals).is_some() {
            self.service_status.set_stopping();
            log::info!("told to stop before the service was started again");
            return Ok(Exit::Ok);
        }
        self.service_status.set_restarted();
        let config = read(&self.past.origin, &program.defaults)?;
        self.live(args, config, program)
    }

    fn live(
        self,
        args: &ServiceArgs,
        config: Arc<Config>,
        program: Program,
    ) -> Result<Exit, Failure> {
        let began = Instant::now();
        let ran = run::serve(
            args,
            config,
            program,
            self.log.path().display().to_string(),
            Arc::clone(&self.service_status),
            &self.heard.signals,
            self.past.workers(),
        );
        let error = match ran {
            Ok(ended) => return Ok(run::in_order_or_not(ended)),
            Err(error) => error,
        };
        if let Some(past) = self.next(&error, began)
            && self.service_status.will_restart()
        {
            if self.heard.has_nothing() {
                log::warn!("this process executes itself again");
                let refused = reexecute(self.held, &self.control, &self.log, past);
                log::error!("it can't be executed again: {refused}");
            } else {
                log::info!("told to stop, and not started again");
            }
        }
        Err(error.into())
    }

    /// What the next life knows, if there is to be one.
    fn next(&self, error: &ServiceError, began: Instant) -> Option<DaemonHistory> {
        let life = began.elapsed();
        match error {
            ServiceError::Died { what, worker } => Some(self.past.and(what, Some(*worker), life)),
            // What the system has too little of when many begin again, it may have later.
            ServiceError::System(_) if self.past.restarts.is_some() => {
                Some(self.past.and("the start", None, life))
            }
            _ => None,
        }
    }
}

/// Standard error leads nowhere.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// The signals that this process hears until another program is executed in it, which hears those after.
struct Heard {
    signals: Receiver<Signal>,
    /// It was told to stop.
    told: Arc<AtomicBool>,
    /// Nobody hears a signal any more: it does what it does to any process.
    deaf: Arc<AtomicBool>,
}

impl Heard {
    fn hear() -> io::Result<Self> {
        let heard = Self {
            signals: run::signals()?,
            told: Arc::default(),
            deaf: Arc::default(),
        };
        for signal in [SIGTERM, SIGINT] {
            // In this order: one that is not seen to have come has ended this process.
            register(signal, Arc::clone(&heard.told))?;
            register_conditional_default(signal, Arc::clone(&heard.deaf))?;
        }
        Ok(heard)
    }

    /// Whether it was not told to stop. From then on a signal ends this process, or waits until the next
    /// program hears it.
    fn has_nothing(&self) -> bool {
        let waiting = [Number::SIGINT, Number::SIGTERM, Number::SIGHUP];
        let waiting: SigSet = waiting.into_iter().collect();
        if let Err(error) = waiting.thread_block() {
            log::debug!("signals do not wait for the next program: {error}");
        }
        self.deaf.store(true, Ordering::SeqCst);
        !self.told.load(Ordering::SeqCst)
    }
}
