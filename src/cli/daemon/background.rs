//! The service as a daemon: the process that `daemon start` forks off, which executes itself again when a vital
//! part has died.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Receiver;
use nix::sys::signal::{SigSet, Signal as Number};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default};

use super::super::args::ServiceArgs;
use super::super::configuration::read;
use super::super::exit::Exit;
use super::super::failure::{CommandFailure, with_causes};
use super::super::program::Program;
use super::super::run::{self, system};
use crate::config::Config;
use crate::daemon::{
    ControlServer, ControlSocket, DaemonHistory, HeldPidfile, LeftoverChildren, ResumedDaemon,
    StartReporter, handle_sigpipe, reexecute,
};
use crate::health::service_status::ServiceStatus;
use crate::logging::{self, LogFile};
use crate::service::{ServiceError, Signal};

/// Runs the service in this process, the daemon, and reports to the controller how the start went.
pub(super) fn run(
    args: &ServiceArgs,
    config: Arc<Config>,
    program: Program,
    held: HeldPidfile,
    reporter: StartReporter,
    history: DaemonHistory,
) -> Result<Exit, CommandFailure> {
    let reporter = Arc::new(reporter);
    let ran = Daemon::first_run(args, &held, &reporter, history)
        .and_then(|daemon| daemon.serve(args, config, program));
    end(held, &ran);
    match &ran {
        Ok(_) => reporter.report_ended(),
        Err(failure) => {
            reporter.report_failed(failure.exit as u8, &with_causes(failure.error.as_ref()))
        }
    }
    ran
}

/// Runs the service again in this process, a daemon that has executed itself again.
pub(super) fn run_again(
    args: &ServiceArgs,
    program: Program,
    resumed: ResumedDaemon,
) -> Result<Exit, CommandFailure> {
    let ResumedDaemon {
        held,
        socket,
        log,
        children,
        history,
    } = resumed;
    let ran = Daemon::next_run(args, &held, socket, log, history)
        .and_then(|daemon| daemon.restart(args, program, children));
    end(held, &ran);
    ran
}

fn end(held: HeldPidfile, ran: &Result<Exit, CommandFailure>) {
    if let Err(failure) = ran {
        log::error!("{}", with_causes(failure.error.as_ref()));
    }
    held.release();
}

/// Reports to the controller when the service is up. From then on no controller waits for the service, and it
/// restarts itself when it fails.
fn report_start(
    service_status: &Arc<ServiceStatus>,
    reporter: &Arc<StartReporter>,
) -> io::Result<()> {
    let (service_status, reporter) = (Arc::clone(service_status), Arc::clone(reporter));
    let report = move || {
        let report = service_status.wait_until_up();
        if report.is_up() {
            reporter.report_up(&report);
            service_status.enable_restart();
        }
    };
    let thread = std::thread::Builder::new().name("start".to_owned());
    thread.spawn(report).map(drop)
}

/// A daemon that answers on its control socket and receives signals.
struct Daemon<'a> {
    held: &'a HeldPidfile,
    control: ControlServer,
    log: LogFile,
    signals: ServiceSignals,
    service_status: Arc<ServiceStatus>,
    history: DaemonHistory,
}

impl<'a> Daemon<'a> {
    /// The daemon that `daemon start` has forked off.
    fn first_run(
        args: &ServiceArgs,
        held: &'a HeldPidfile,
        reporter: &Arc<StartReporter>,
        history: DaemonHistory,
    ) -> Result<Self, CommandFailure> {
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
        let signals = ServiceSignals::listen().map_err(system)?;
        // From now on a controller that finds the pid can stop the service in order.
        held.write_pid()?;
        let daemon = Self::new(held, socket, log, signals, ServiceStatus::new(), history)?;
        report_start(&daemon.service_status, reporter).map_err(system)?;
        Ok(daemon)
    }

    /// The daemon that has executed itself again: the pid in the pidfile, the user and the umask are unchanged.
    fn next_run(
        args: &ServiceArgs,
        held: &'a HeldPidfile,
        socket: ControlSocket,
        log: LogFile,
        history: DaemonHistory,
    ) -> Result<Self, CommandFailure> {
        run::start_logging(args, None, Some(log.clone()))?;
        log_panics();
        handle_sigpipe().map_err(system)?;
        let signals = ServiceSignals::listen().map_err(system)?;
        let restarts = history.restarts.clone();
        let service_status = restarts.map_or_else(ServiceStatus::new, ServiceStatus::after);
        let daemon = Self::new(held, socket, log, signals, service_status, history)?;
        // The log file may have been moved away in the meantime.
        logging::check_reopening();
        Ok(daemon)
    }

    /// A daemon that answers on its control socket.
    fn new(
        held: &'a HeldPidfile,
        socket: ControlSocket,
        log: LogFile,
        signals: ServiceSignals,
        service_status: Arc<ServiceStatus>,
        history: DaemonHistory,
    ) -> Result<Self, CommandFailure> {
        let control = socket.serve(Arc::clone(&service_status)).map_err(system)?;
        Ok(Self {
            held,
            control,
            log,
            signals,
            service_status,
            history,
        })
    }

    fn restart(
        self,
        args: &ServiceArgs,
        program: Program,
        children: LeftoverChildren,
    ) -> Result<Exit, CommandFailure> {
        let wait = self.history.restart_delay();
        log::warn!("executed again in the same process; the service starts in {wait:.1?}");
        if children
            .wait_until_gone(wait, &self.signals.receiver)
            .is_some()
        {
            self.service_status.set_stopping();
            log::info!("told to stop before the service was started again");
            return Ok(Exit::Ok);
        }
        self.service_status.set_restarted();
        let config = read(&self.history.origin, &program.defaults)?;
        self.serve(args, config, program)
    }

    fn serve(
        self,
        args: &ServiceArgs,
        config: Arc<Config>,
        program: Program,
    ) -> Result<Exit, CommandFailure> {
        let began = Instant::now();
        let ran = run::serve(
            args,
            config,
            program,
            self.log.path().display().to_string(),
            Arc::clone(&self.service_status),
            &self.signals.receiver,
            self.history.workers(),
        );
        let error = match ran {
            Ok(ended) => return Ok(run::log_end(ended)),
            Err(error) => error,
        };
        if let Some(history) = self.next_history(&error, began)
            && self.service_status.will_restart()
        {
            if self.signals.none_received() {
                log::warn!("this process executes itself again");
                let refused = reexecute(self.held, &self.control, &self.log, history);
                log::error!("it can't be executed again: {refused}");
            } else {
                log::info!("told to stop, and not started again");
            }
        }
        Err(error.into())
    }

    /// The history for the next run, if this error is followed by one.
    fn next_history(&self, error: &ServiceError, began: Instant) -> Option<DaemonHistory> {
        let run_time = began.elapsed();
        match error {
            ServiceError::Died { what, worker } => {
                Some(self.history.after_run(what, Some(*worker), run_time))
            }
            // The system may lack resources only for the moment, when many services restart at once.
            ServiceError::System(_) if self.history.restarts.is_some() => {
                Some(self.history.after_run("the start", None, run_time))
            }
            _ => None,
        }
    }
}

/// Logs panics, since a daemon's standard error is `/dev/null`.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Receives the signals of this process until it executes another program, which receives the later ones.
struct ServiceSignals {
    receiver: Receiver<Signal>,
    /// Whether SIGTERM or SIGINT has come.
    received: Arc<AtomicBool>,
    /// Whether signals have their default effect again: they end the process.
    default_again: Arc<AtomicBool>,
}

impl ServiceSignals {
    fn listen() -> io::Result<Self> {
        let signals = Self {
            receiver: run::signals()?,
            received: Arc::default(),
            default_again: Arc::default(),
        };
        for signal in [SIGTERM, SIGINT] {
            // In this order: a signal whose `received` is not seen has ended this process.
            register(signal, Arc::clone(&signals.received))?;
            register_conditional_default(signal, Arc::clone(&signals.default_again))?;
        }
        Ok(signals)
    }

    /// Whether no signal to stop has come. After this call a signal ends this process, or waits until the next
    /// program receives it.
    fn none_received(&self) -> bool {
        let blocked = [Number::SIGINT, Number::SIGTERM, Number::SIGHUP];
        let blocked: SigSet = blocked.into_iter().collect();
        if let Err(error) = blocked.thread_block() {
            log::debug!("signals do not wait for the next program: {error}");
        }
        self.default_again.store(true, Ordering::SeqCst);
        !self.received.load(Ordering::SeqCst)
    }
}
