//! Tasks that are external commands. No other module starts a task's process.
//!
//! Each message gets one process, without a shell, in a process group of its own. When the process exits, the
//! rest of the group is killed.

mod communicate;
mod signals;
mod start_error;

use std::io;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Child, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use serde::Serialize;
use serde_json::Value;

use self::communicate::communicate;
use self::start_error::StartError;
use super::guard::Guard;
use super::{Again, RunId, Runner, TaskContext, TaskError, TaskResult};
use crate::config::CommandConfig;
use crate::message::{Literal, Object, Payload};
use crate::names;
use crate::process::limits;

/// A command that exits with this status (`EX_TEMPFAIL`) while the service stops hands its message back.
const HAND_BACK_STATUS: i32 = 75;

/// Runs each message by starting a process.
pub(super) struct CommandRunner {
    config: CommandConfig,
    guard: Arc<Guard>,
}

impl CommandRunner {
    /// A runner of this command. `guard` kills its processes if the service dies.
    pub(super) const fn new(config: CommandConfig, guard: Arc<Guard>) -> Self {
        Self { config, guard }
    }
}

impl Runner for CommandRunner {
    /// A command takes any number, since it is given the digits.
    fn check(&self, _: &Payload) -> Result<(), TaskError> {
        Ok(())
    }

    /// Everything that can fail for lack of a resource happens before the program starts. Afterwards no thread
    /// and no pipe has to be created.
    fn run(&self, context: &TaskContext, payload: &Payload) -> TaskResult {
        let message = message(context, payload)?;
        let started = start(&self.config, self.guard.announce(context.run));
        let mut child = started.map_err(|error| {
            log_guard_error("taken from", self.guard.remove(context.run));
            error.into_task_error()
        })?;
        let group = Pid::from_child(&child);
        // If the guard can't be told, the kernel's parent-death signal still ends the command itself.
        log_guard_error("put on", self.guard.add(context.run, group));
        let communicated = communicate(&mut child, &message, &context.log);
        // Removed before the command is reaped, since its pid may be reused afterwards, and `cancel` and the
        // guard kill every group on the list. `communicate` has ended the group.
        log_guard_error("taken from", self.guard.remove(context.run));
        let reaped = child.wait();
        let (output, status) = communicated
            .and_then(|output| Ok((output, reaped?)))
            .map_err(|error| TaskError::new(format!("the command could not be run: {error}")))?;
        if status.code() == Some(HAND_BACK_STATUS) && context.is_cancelled() {
            let reason = format!(
                "the command exited with status {HAND_BACK_STATUS} while the service stops"
            );
            return Err(Again::new(reason).into());
        }
        classify(output, status)
    }

    fn cancel(&self, run: RunId) {
        self.guard.kill(run);
    }

    fn shut_down(&self) {
        self.guard.kill_all();
    }
}

fn start(
    command: &CommandConfig,
    announce: impl Fn() + Send + Sync + 'static,
) -> Result<Child, StartError> {
    spawn(command, announce).map_err(|source| StartError {
        program: command.command.first().cloned().unwrap_or_default(),
        source,
    })
}

fn log_guard_error(change: &str, result: io::Result<()>) {
    if let Err(error) = result {
        log::error!("a command's process group could not be {change} the guard's list: {error}");
    }
}

fn spawn(
    command: &CommandConfig,
    announce: impl Fn() + Send + Sync + 'static,
) -> io::Result<Child> {
    let (program, arguments) = command
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is empty"))?;
    let mut process = process::Command::new(program);
    process
        .args(arguments)
        .current_dir(&command.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    for variable in names::SYSTEMD_VARIABLES
        .into_iter()
        .chain([names::RESUMED_VARIABLE])
    {
        process.env_remove(variable);
    }
    // In case the guard is gone, the kernel ends the command when the service dies. If the service died before
    // that was set, the command does not start.
    let service = getpid();
    let files = limits::original();
    #[expect(unsafe_code, reason = "a hook in the child has no safe form")]
    // SAFETY: the hook makes only system calls, which are async-signal-safe.
    unsafe {
        process.pre_exec(move || {
            // Before the signals are reset: if the guard is gone, SIGPIPE must still be ignored here.
            announce();
            signals::reset()?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if let Some(files) = files {
                limits::restore(files)?;
            }
            if getppid() == Some(service) {
                Ok(())
            } else {
                Err(Errno::SRCH.into())
            }
        });
    }
    process.spawn()
}

/// What a command reads from its standard input.
#[derive(Serialize)]
struct CommandInput<'a> {
    task: &'a str,
    uuid: &'a str,
    args: &'a [Literal],
    kwargs: &'a Object,
    attempt: u32,
}

/// The message as one line of JSON.
fn message(context: &TaskContext, payload: &Payload) -> serde_json::Result<String> {
    let message = serde_json::to_string(&CommandInput {
        task: &context.task,
        uuid: &context.uuid,
        args: &payload.args,
        kwargs: &payload.kwargs,
        attempt: context.attempt,
    })?;
    Ok(message + "\n")
}

fn classify(output: Vec<u8>, status: ExitStatus) -> TaskResult {
    let mut output = String::from_utf8(output)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    if output.ends_with('\n') {
        output.pop();
    }
    if status.success() {
        return Ok(Value::String(output));
    }
    let exception = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command exited with status {code}"),
        (None, Some(signal)) => format!("the command was ended by signal {signal}"),
        (None, None) => "the command ended in an unknown way".to_owned(),
    };
    Err(TaskError {
        exception,
        traceback: None,
        output: Some(output).filter(|output| !output.is_empty()),
        again: None,
    })
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::logging::TaskLog;
    use crate::task::Stopping;

    fn context() -> TaskContext {
        TaskContext {
            uuid: "uuid".to_owned(),
            task: "sleep".to_owned(),
            queue: "default".to_owned(),
            attempt: 1,
            run: RunId::next(),
            log: TaskLog::new("default-consumer-1"),
            states: Arc::default(),
            stopping: Stopping(watch::channel(false).1),
        }
    }

    #[test]
    fn a_cancel_ends_one_run_and_a_shutdown_the_others() {
        let config = CommandConfig {
            command: ["sh", "-c", "echo begun >&2; exec sleep 60"]
                .map(str::to_owned)
                .to_vec(),
            directory: "/".into(),
        };
        let command = &CommandRunner::new(config, Arc::new(Guard::start().unwrap()));
        let contexts = [context(), context()];
        let killed = "the command was ended by signal 9";
        thread::scope(|scope| {
            let [one, other] = contexts
                .each_ref()
                .map(|context| scope.spawn(move || command.run(context, &Payload::default())));
            for context in &contexts {
                while !context.log.text().contains("begun") {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            command.cancel(contexts[0].run);
            assert_eq!(one.join().unwrap().unwrap_err().exception, killed);
            assert!(!other.is_finished());
            command.shut_down();
            assert_eq!(other.join().unwrap().unwrap_err().exception, killed);
        });
    }
}
