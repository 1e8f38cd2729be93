//! Carries out the verbs of `daemon`, with django-carrot's output.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::super::args::{DaemonArgs, Verb};
use super::super::configuration::{origin, read, read_and_warn};
use super::super::exit::Exit;
use super::super::failure::CommandFailure;
use super::super::output::{say, warn};
use super::super::program::Program;
use super::super::run;
use super::background;
use crate::config::Origin;
use crate::daemon::{
    DaemonHistory, DetachError, ForkSide, HeldPidfile, PidfileClaim, PidfileError, PidfileHolder,
    PidfileState, StartReport, StopTurn, claim, detach, ensure_folder_writable,
    ensure_single_threaded, inspect, remove_stale, request_status,
};
use crate::health::service_status::ServiceState;
use crate::logging;
use crate::process::init;
use crate::process::privileges::Identity;

/// How often to check whether a service has ended, and what it still waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a service may take until its status shows that it is stopping.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(2);

const SAME_PIDFILE: &str = "if the service was started with a --pidfile, give the same here";

/// Carries out one verb.
pub(super) struct Controller {
    pub(super) args: DaemonArgs,
    /// An absolute path.
    pub(super) pidfile: PathBuf,
}

impl Controller {
    /// Returns twice: in the controller, and in the daemon when that ends.
    pub(super) fn start(&self, origin: &Origin, program: Program) -> Result<Exit, CommandFailure> {
        let config = read_and_warn(origin, &program.defaults)?;
        print("Attempting to start the process");
        if init::is_first() {
            warn(
                "this is process 1 of its container, which ends with it and takes the daemon along: run the service in the foreground there",
            );
        }
        let identity = run::identity(&self.args.service)?;
        let held = self.claim(identity.as_ref())?;
        let side = detach(held);
        if let Ok(ForkSide::Daemon(reporter, held)) = side {
            let history = DaemonHistory::first_run(origin.clone());
            return background::run(&self.args.service, config, program, held, reporter, history);
        }
        let result = side
            .map_err(not_detached)
            .and_then(|side| self.print_start_report(side));
        if result.is_err() {
            // A daemon that has died could not remove its files itself.
            remove_stale(&self.pidfile);
        }
        result
    }

    /// Claims the pidfile, unless a service holds it.
    fn claim(&self, heir: Option<&Identity>) -> Result<HeldPidfile, CommandFailure> {
        let deadline = Instant::now() + STOPPING_TIMEOUT;
        loop {
            let claimed = claim(&self.pidfile, heir);
            let holder = match claimed.map_err(|error| self.with_remedy(error))? {
                PidfileClaim::Held(held) => return Ok(held),
                PidfileClaim::Running(holder) => holder,
            };
            match request_status(&self.pidfile) {
                Ok(report) if report.state == ServiceState::Stopping => {
                    return Err(self.still_stopping(&holder));
                }
                // A service that ends closes its control socket before it exits.
                Err(_) if holder.wait_until_gone(POLL_INTERVAL) && Instant::now() < deadline => {}
                Ok(_) | Err(_) => return Err(self.already_running(&holder)),
            }
        }
    }

    fn print_start_report(&self, side: ForkSide) -> Result<Exit, CommandFailure> {
        let ForkSide::Controller(report) = side else {
            return Ok(Exit::Ok);
        };
        match report {
            StartReport::Up { pid, waiting_for } => {
                print(&format!("Process started successfully with pid: {pid}"));
                for what in waiting_for {
                    print(&format!("It waits: {what}"));
                }
            }
            StartReport::Ended => print("The service has ended already, in order"),
            StartReport::Failed(exit, reason) => {
                return Err(CommandFailure::new(Exit::of(exit), reason));
            }
            StartReport::Died => {
                let log = run::logfile(&self.args.service);
                let died = format!("the service died during its start; see {}", log.display());
                return Err(CommandFailure::new(Exit::Software, died));
            }
        }
        if self.args.verb == Verb::Restart {
            print("Process restarted successfully");
        }
        Ok(Exit::Ok)
    }

    pub(super) fn restart(
        &self,
        config: Option<&Path>,
        program: Program,
    ) -> Result<Exit, CommandFailure> {
        // First checks all that can be checked: an invalid configuration never stops the running service.
        ensure_single_threaded().map_err(not_detached)?;
        logging::set_logger().map_err(|error| CommandFailure::new(Exit::Config, error))?;
        let origin = origin(config)?;
        read(&origin, &program.defaults)?;
        let log = run::logfile(&self.args.service);
        let identity = run::identity(&self.args.service)?;
        run::open_log(&log, identity.as_ref()).map_err(|error| run::not_writable(&log, &error))?;
        match inspect(&self.pidfile).map_err(|error| self.with_remedy(error))? {
            PidfileState::Running(holder) => {
                ensure_folder_writable(&self.pidfile).map_err(|error| self.with_remedy(error))?;
                self.stop_holder(&holder)?;
            }
            PidfileState::Nothing => {
                print("Service is NOT running");
                print(&format!("({})", self.hint()));
            }
            PidfileState::Stale(_) => print("Service is NOT running"),
        }
        self.start(&origin, program)
    }

    pub(super) fn stop(&self) -> Result<Exit, CommandFailure> {
        match inspect(&self.pidfile).map_err(|error| self.with_remedy(error))? {
            PidfileState::Running(holder) => {
                self.stop_holder(&holder)?;
                Ok(Exit::Ok)
            }
            PidfileState::Nothing => {
                let hint = self.hint();
                let nothing = format!("Service is NOT running: {hint}");
                Err(CommandFailure::new(Exit::NotRunning, nothing))
            }
            PidfileState::Stale(pid) => {
                remove_stale(&self.pidfile);
                let dead = format!("Service is NOT running: it has died before, as pid {pid}");
                Err(CommandFailure::new(Exit::NotRunning, dead))
            }
        }
    }

    fn stop_holder(&self, holder: &PidfileHolder) -> Result<(), CommandFailure> {
        print("Attempting to stop the process. Please wait...");
        let mut deadline = self
            .args
            .timeout
            .and_then(|time| Instant::now().checked_add(time));
        if self.args.hard && deadline.is_none() {
            self.signal(holder, Signal::KILL)?;
        } else {
            self.terminate(holder)?;
        }
        let mut printed = String::new();
        while !holder.wait_until_gone(POLL_INTERVAL) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if !self.args.hard {
                    return Err(self.still_running(holder));
                }
                deadline = None;
                print("The time is over: killing it");
                self.signal(holder, Signal::KILL)?;
            } else if let Some(what) = self.reason_for_waiting().filter(|what| *what != printed) {
                print(&format!("Waiting {what}"));
                printed = what;
            }
        }
        remove_stale(&self.pidfile);
        print("Process has been stopped");
        Ok(())
    }

    /// Sends SIGTERM, unless the service is stopping already: a second one would stop it hard.
    fn terminate(&self, holder: &PidfileHolder) -> Result<(), CommandFailure> {
        let _turn = StopTurn::wait(&self.pidfile);
        if self.is_stopping() {
            print("It is stopping already");
            return Ok(());
        }
        self.signal(holder, Signal::TERM)?;
        let deadline = Instant::now() + STOPPING_TIMEOUT;
        while !holder.wait_until_gone(POLL_INTERVAL)
            && !self.is_stopping()
            && Instant::now() < deadline
        {}
        Ok(())
    }

    fn signal(&self, holder: &PidfileHolder, signal: Signal) -> Result<(), CommandFailure> {
        holder.signal(signal).map_err(|error| {
            let pid = holder.pid();
            let (exit, reason) = match Errno::from_io_error(&error) {
                Some(Errno::PERM) => (Exit::NotPermitted, "it is another user's".to_owned()),
                _ => (Exit::Software, error.to_string()),
            };
            CommandFailure::new(
                exit,
                format!("the service, pid {pid}, can't be stopped: {reason}"),
            )
        })
    }

    fn is_stopping(&self) -> bool {
        request_status(&self.pidfile).is_ok_and(|report| report.state == ServiceState::Stopping)
    }

    /// What a stopping service still waits for, if known; completes a sentence that begins with "waiting".
    fn reason_for_waiting(&self) -> Option<String> {
        let report = request_status(&self.pidfile).ok()?;
        if report.state != ServiceState::Stopping {
            return None;
        }
        if report.running_tasks > 0 {
            let busy = report.queues.iter().filter(|queue| queue.running_tasks > 0);
            let each: Vec<String> = busy
                .map(|queue| format!("{}: {}", queue.name, queue.running_tasks))
                .collect();
            let (count, each) = (report.running_tasks, each.join(", "));
            return Some(format!("for running tasks: {count} ({each})"));
        }
        if report.in_hand > 0 && !report.waiting_for.is_empty() {
            let (count, away) = (report.in_hand, report.waiting_for.join("; "));
            return Some(format!("to record messages: {count} ({away})"));
        }
        None
    }

    pub(super) fn hint(&self) -> String {
        let pidfile = self.pidfile.display();
        format!("no process holds the pidfile {pidfile}; {SAME_PIDFILE}")
    }

    fn still_running(&self, holder: &PidfileHolder) -> CommandFailure {
        let pid = holder.pid();
        let what = self.reason_for_waiting();
        let what = what.map_or_else(String::new, |what| format!(" ({what})"));
        let running = format!(
            "the service, pid {pid}, is still stopping after --timeout{what}; it goes on, or is killed with --hard"
        );
        CommandFailure::new(Exit::StillRunning, running)
    }

    /// A start that finds a stopping service fails, since no service runs once that has ended.
    fn still_stopping(&self, holder: &PidfileHolder) -> CommandFailure {
        let (pid, pidfile) = (holder.pid(), self.pidfile.display());
        let stopping = format!(
            "the service, pid {pid} ({pidfile}), is still stopping; `restart` waits for it"
        );
        CommandFailure::new(Exit::StillRunning, stopping)
    }

    fn already_running(&self, holder: &PidfileHolder) -> CommandFailure {
        let (pid, pidfile) = (holder.pid(), self.pidfile.display());
        let running = format!(
            "the service is running already, pid {pid} ({pidfile}); a second one needs a --pidfile of its own"
        );
        CommandFailure::new(Exit::AlreadyRunning, running)
    }

    pub(super) fn with_remedy(&self, error: PidfileError) -> CommandFailure {
        let remedy = match self.args.verb {
            _ if matches!(error, PidfileError::Folder(..)) => "nothing was stopped",
            Verb::Start => "give another one with --pidfile, in a folder that you may write to",
            _ => SAME_PIDFILE,
        };
        CommandFailure::new(Exit::Pidfile, format!("{error}; {remedy}"))
    }
}

/// Prints a line. If standard output is closed, the command goes on all the same.
fn print(line: &str) {
    if let Err(failure) = say(line) {
        log::debug!("{}", failure.error);
    }
}

fn not_detached(error: DetachError) -> CommandFailure {
    CommandFailure::new(Exit::Software, error)
}
