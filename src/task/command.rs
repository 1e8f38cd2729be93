//! A task that is a process: the only place that starts one.
//!
//! No shell; one process a message, in its own group, which ends with the message: what it left
//! running in the background is killed.

mod conversation;
mod lack;
mod signals;

use std::io;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use serde::Serialize;
use serde_json::Value;

use self::conversation::converse;
use super::guard::Guard;
use super::{Again, TaskContext, TaskError, TaskResult};
use crate::config::CommandConfig;
use crate::limits;
use crate::message::{Literal, Object, Payload};
use crate::names;

/// With this status a command hands its message back, if the service is stopping: `EX_TEMPFAIL`.
const HANDS_BACK: i32 = 75;

/// Why a command has no output to show.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// Nothing of its program has run.
    NotStarted(StartError),
    /// It ran and failed, or its message can't be given to a command.
    Failed(TaskError),
}

/// The system did not start a command: it has no program of that name, or no process, pipe or memory left.
#[derive(Debug, thiserror::Error)]
#[error("{program:?} can't be started")]
pub(crate) struct StartError {
    /// The program alone: an argument may be a secret.
    pub(crate) program: String,
    /// What the system said.
    pub(crate) source: io::Error,
}

impl CommandError {
    /// As the message's failure.
    pub(crate) fn into_task_error(self) -> TaskError {
        match self {
            Self::NotStarted(error) => match lack::cause_of(&error.source) {
                Some(cause) => TaskError::unable(cause, TaskError::from(error).exception),
                None => error.into(),
            },
            Self::Failed(error) => error,
        }
    }
}

impl From<TaskError> for CommandError {
    fn from(error: TaskError) -> Self {
        Self::Failed(error)
    }
}

/// Runs the command for one message.
///
/// All that can fail because the system lacks something is done before the program starts; from then on
/// there is no thread and no pipe to obtain.
pub(crate) fn run(
    command: &CommandConfig,
    guard: &Guard,
    context: &TaskContext,
    payload: &Payload,
) -> Result<Value, CommandError> {
    let message = message(context, payload).map_err(TaskError::from)?;
    let mut child = start(command).map_err(CommandError::NotStarted)?;
    let group = Pid::from_child(&child);
    // Without the guard there is still the kernel's signal to the command itself.
    report("guarded", guard.add(group));
    let talked = converse(&mut child, &message, &context.log);
    // Before it is reaped, and while its number is nobody else's: `kill_all` and the guard kill what is
    // on the list. `converse` has ended the group.
    report("let go", guard.remove(group));
    let reaped = child.wait();
    let (output, status) = talked
        .and_then(|output| Ok((output, reaped?)))
        .map_err(|error| TaskError::new(format!("the command could not be run: {error}")))?;
    if status.code() == Some(HANDS_BACK) && context.is_cancelled() {
        let reason = format!("the command exited with status {HANDS_BACK} while the service stops");
        return Err(TaskError::from(Again::new(reason)).into());
    }
    Ok(classify(output, status)?)
}

fn start(command: &CommandConfig) -> Result<Child, StartError> {
    spawn(command).map_err(|source| StartError {
        program: command.command.first().cloned().unwrap_or_default(),
        source,
    })
}

fn report(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        log::error!("a command's process group could not be {what}: {error}");
    }
}

fn spawn(command: &CommandConfig) -> io::Result<Child> {
    let (program, arguments) = command
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is empty"))?;
    let mut process = Command::new(program);
    process
        .args(arguments)
        .current_dir(&command.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    for variable in names::SERVICE_MANAGER {
        process.env_remove(variable);
    }
    // Between the fork and the guard's knowing of it, the kernel ends the command with us; and if we
    // ended before it was told to, the command does not start.
    let service = getpid();
    let files = limits::original();
    #[expect(unsafe_code, reason = "a hook in the child has no safe form")]
    // SAFETY: system calls alone, which are async-signal-safe.
    unsafe {
        process.pre_exec(move || {
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

/// A message as a command is given it.
#[derive(Serialize)]
struct Given<'a> {
    task: &'a str,
    uuid: &'a str,
    args: &'a [Literal],
    kwargs: &'a Object,
    attempt: u32,
}

/// The message as one line of JSON.
fn message(context: &TaskContext, payload: &Payload) -> serde_json::Result<String> {
    let message = serde_json::to_string(&Given {
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
