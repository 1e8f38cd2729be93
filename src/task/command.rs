//! A task that is a process: the only place that starts one.
//!
//! No shell; one process a message, in its own group, which ends with the message: what it left
//! running in the background is killed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use serde::Serialize;
use serde_json::Value;

use super::guard::Guard;
use super::{TaskContext, TaskError, TaskResult};
use crate::config::CommandConfig;
use crate::logging::TaskLog;
use crate::message::{Literal, Object, Payload};
use crate::names;

/// So much of standard output is kept; the rest is read and left out, and that is said.
const MOST_OUTPUT: u64 = 16 << 20;

/// How often a silent stream is asked whether its command still runs.
const LOOK_FOR_EXIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A line of standard error is cut at this length.
const MOST_LINE: u64 = 64 << 10;

/// Runs the command for one message.
pub(crate) fn run(
    command: &CommandConfig,
    guard: &Guard,
    context: &TaskContext,
    payload: &Payload,
) -> TaskResult {
    let message = message(context, payload)?;
    // The program alone: an argument may be a secret.
    let program = command.command.first().map_or("", String::as_str);
    let mut child = spawn(command)
        .map_err(|error| TaskError::new(format!("{program:?} can't be started: {error}")))?;
    let group = Pid::from_child(&child);
    // Without the guard there is still the kernel's signal to the command itself.
    report("guarded", guard.add(group));
    let ran = converse(&mut child, context, &message);
    // Before it is reaped, and while its number is nobody else's: `kill_all` and the guard kill what is
    // on the list. `converse` has ended the group.
    report("let go", guard.remove(group));
    let reaped = child.wait();
    let (output, status) = ran
        .and_then(|output| Ok((output, reaped?)))
        .map_err(|error| TaskError::new(format!("the command could not be run: {error}")))?;
    classify(output, status)
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
    #[expect(unsafe_code, reason = "a hook in the child has no safe form")]
    // SAFETY: two system calls, which are async-signal-safe.
    unsafe {
        process.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(service) {
                Ok(())
            } else {
                Err(Errno::SRCH.into())
            }
        });
    }
    process.spawn()
}

/// Gives the command its message and reads what it says, until it has exited.
fn converse(child: &mut Child, context: &TaskContext, message: &str) -> io::Result<Vec<u8>> {
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("the command has no standard streams"));
    };
    let group = Pid::from_child(child);
    let log = context.log.clone();
    // What they log is the consumer's.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let named = || thread::Builder::new().name(name.clone());
    let exited = AtomicBool::new(false);
    let stdout = UntilExit::new(stdout, &exited);
    let stderr = UntilExit::new(stderr, &exited);
    thread::scope(|scope| {
        let started = named()
            .spawn_scoped(scope, || read_output(stdout))
            .and_then(|output| {
                let errors = named().spawn_scoped(scope, || read_log(stderr, &log))?;
                let input = named().spawn_scoped(scope, || feed(stdin, message))?;
                Ok((output, errors, input))
            });
        // The group is ended before the command is reaped: until then its number is its own.
        let waited = started.as_ref().map_or(Ok(()), |_| wait_for_exit(group));
        end_group(group);
        exited.store(true, Ordering::Release);
        let (output, errors, input) = started?;
        waited?;
        let panicked = |_| io::Error::other("a reader of the command's output panicked");
        input.join().map_err(panicked)?;
        errors.join().map_err(panicked)?;
        output.join().map_err(panicked)?
    })
}

fn wait_for_exit(process: Pid) -> io::Result<()> {
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    retry_on_intr(|| waitid(WaitId::Pid(process), exited))?;
    Ok(())
}

/// A stream of the command, to its end, or to where it is when the command has exited: a process that
/// it sent off into a session of its own may hold the stream open for ever.
struct UntilExit<'a, R> {
    stream: R,
    exited: &'a AtomicBool,
}

impl<'a, R> UntilExit<'a, R> {
    const fn new(stream: R, exited: &'a AtomicBool) -> Self {
        Self { stream, exited }
    }
}

impl<R: Read + AsFd> Read for UntilExit<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked first, so that what came before the exit is read.
            let exited = self.exited.load(Ordering::Acquire);
            let mut streams = [PollFd::new(&self.stream, PollFlags::IN)];
            if poll(&mut streams, Some(&LOOK_FOR_EXIT))? > 0 {
                return self.stream.read(buffer);
            }
            if exited {
                return Ok(0);
            }
        }
    }
}

fn end_group(group: Pid) {
    if let Err(error) = kill_process_group(group, Signal::KILL) {
        log::debug!("process group {group:?}: {error}");
    }
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

/// A command need not read its message.
fn feed(mut stdin: ChildStdin, message: &str) {
    if let Err(error) = stdin.write_all(message.as_bytes()) {
        log::debug!("the command did not read its message: {error}");
    }
}

fn read_output(stdout: impl Read) -> io::Result<Vec<u8>> {
    let mut stdout = stdout;
    let mut output = Vec::new();
    stdout.by_ref().take(MOST_OUTPUT).read_to_end(&mut output)?;
    if io::copy(&mut stdout, &mut io::sink())? > 0 {
        output.extend_from_slice(b"\n[the rest of the output is left out]");
    }
    Ok(output)
}

/// Each line of standard error is a line of the message's log, and of the service's.
fn read_log(stderr: impl Read, log: &TaskLog) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match stderr.by_ref().take(MOST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = format_args!("{}", text.trim_end_matches(['\n', '\r']));
                log.append(Level::Info, &text);
                log::info!("{text}");
            }
            Err(error) => {
                log::warn!("standard error of a command can't be read: {error}");
                return;
            }
        }
    }
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
    })
}
