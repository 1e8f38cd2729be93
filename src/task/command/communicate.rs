//! Writes a command's standard input and reads its output and errors, on one thread, until its process has
//! exited.
//!
//! The exit of the process ends this, not the end of the pipes: a process that the command has moved into a
//! session of its own may keep the pipes open for ever, and write or not read as it likes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use crate::logging::TaskLog;

/// How much of standard output is kept. The rest is read and dropped, and a note is appended.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// A line of standard error is cut at this length.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A pipe's default capacity.
const BUFFER_BYTES: usize = 64 << 10;

/// How often to look whether the command has exited, if there is no pidfd.
const EXIT_POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Writes the message to the command and reads its output and errors until it has exited. Then kills its
/// process group, and returns its standard output. Does not reap the command.
pub(super) fn communicate(child: &mut Child, message: &str, log: &TaskLog) -> io::Result<Vec<u8>> {
    let group = Pid::from_child(child);
    let communicated = Communication::start(child, message, log).and_then(|mut communication| {
        communication.run_until_exit(group)?;
        Ok(communication)
    });
    // The group is killed before the command is reaped: until then its number can't be reused.
    end_group(group);
    match communicated {
        Ok(communication) => communication.end(),
        Err(error) => {
            // The command may have left its group.
            let killed = child.kill();
            log::debug!("the command was killed: {killed:?}");
            Err(error)
        }
    }
}

fn end_group(group: Pid) {
    if let Err(error) = kill_process_group(group, Signal::KILL) {
        log::debug!("process group {group:?}: {error}");
    }
}

struct Communication<'a> {
    /// A pidfd, readable once the command has exited. `None` on an old kernel, under a strict seccomp filter,
    /// or if the service has no descriptor left.
    exit: Option<OwnedFd>,
    input: MessageInput<'a>,
    output: Stream<ChildStdout, KeptOutput>,
    errors: Stream<ChildStderr, LogLines<'a>>,
    buffer: Vec<u8>,
}

impl<'a> Communication<'a> {
    fn start(child: &mut Child, message: &'a str, log: &'a TaskLog) -> io::Result<Self> {
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the command has no standard streams"));
        };
        // Only our ends of the pipes become non-blocking: the command's ends are other open files.
        for ours in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            ioctl_fionbio(ours, true)?;
        }
        let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
        Ok(Self {
            exit: exit.ok(),
            input: MessageInput {
                pipe: Some(stdin),
                rest: message.as_bytes(),
            },
            output: Stream::new(stdout, KeptOutput::default()),
            errors: Stream::new(stderr, LogLines::new(log)),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Reads and writes until the command has exited.
    fn run_until_exit(&mut self, command: Pid) -> io::Result<()> {
        loop {
            let [exit, input, output, errors] = self.wait()?;
            // Checked in each round: another process that has the pipes may never stop writing.
            if exit || (self.exit.is_none() && has_exited(command)?) {
                return Ok(());
            }
            if input {
                self.input.write_some();
            }
            if output {
                self.output.read(&mut self.buffer);
            }
            if errors {
                self.errors.read(&mut self.buffer);
            }
        }
    }

    /// Waits until one of exit, input, output and errors is ready. Returns which are.
    fn wait(&self) -> io::Result<[bool; 4]> {
        let open = [
            self.exit.as_ref().map(|exit| (exit.as_fd(), PollFlags::IN)),
            self.input
                .pipe
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::OUT)),
            self.output
                .pipe
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            self.errors
                .pipe
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
        ];
        let polled = open.iter().flatten();
        let mut polled: Vec<PollFd<'_>> = polled
            .map(|(pipe, flags)| PollFd::from_borrowed_fd(*pipe, *flags))
            .collect();
        let timeout = self.exit.is_none().then_some(&EXIT_POLL_INTERVAL);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        Ok(open.map(|pipe| pipe.is_some() && ready.next() == Some(true)))
    }

    /// Reads what is left in the pipes and closes them. Returns the output.
    fn end(mut self) -> io::Result<Vec<u8>> {
        drop(self.input);
        self.errors.read_rest(&mut self.buffer);
        self.output.read_rest(&mut self.buffer);
        self.output.sink.finish()
    }
}

fn has_exited(command: Pid) -> io::Result<bool> {
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::Pid(command), exited)?.is_some())
}

/// The message, and the pipe to the command's standard input.
struct MessageInput<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl MessageInput<'_> {
    /// Writes as much as the pipe takes, and closes the pipe after the last byte. It is no error if the
    /// command does not read its message.
    fn write_some(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if is_retryable(&error) => return,
            Err(error) => {
                log::debug!("the command did not read its message: {error}");
                self.rest = &[];
            }
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

fn is_retryable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A receiver of a stream's bytes.
trait StreamSink {
    fn take(&mut self, bytes: &[u8]);
    /// Is called when the stream can't be read any more.
    fn fail(&mut self, error: io::Error);
    /// Is called when the stream has ended.
    fn end(&mut self) {}
}

/// One of the command's streams.
struct Stream<R, S> {
    /// `None` once it has ended.
    pipe: Option<R>,
    sink: S,
}

impl<R: Read + AsFd, S: StreamSink> Stream<R, S> {
    const fn new(pipe: R, sink: S) -> Self {
        let pipe = Some(pipe);
        Self { pipe, sink }
    }

    /// Reads once, without blocking. Returns the number of bytes.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        match pipe.read(buffer) {
            Ok(0) => self.close(),
            Ok(count) => {
                self.sink.take(&buffer[..count]);
                return count;
            }
            Err(error) if is_retryable(&error) => {}
            Err(error) => {
                self.sink.fail(error);
                self.close();
            }
        }
        0
    }

    /// Reads the bytes that are in the pipe now, then closes it. These include all that the command has
    /// written. What other processes write from now on is not read.
    fn read_rest(&mut self, buffer: &mut [u8]) {
        let buffered = self.pipe.as_ref().map_or(Ok(0), ioctl_fionread);
        let mut buffered = buffered.map_or(0, |buffered| {
            usize::try_from(buffered).unwrap_or(usize::MAX)
        });
        while buffered > 0 {
            let most = buffer.len().min(buffered);
            match self.read(&mut buffer[..most]) {
                0 => break,
                count => buffered -= count,
            }
        }
        self.close();
    }

    fn close(&mut self) {
        if self.pipe.take().is_some() {
            self.sink.end();
        }
    }
}

/// The first [`MAX_OUTPUT_BYTES`] of standard output.
#[derive(Default)]
struct KeptOutput {
    kept: Vec<u8>,
    is_cut: bool,
    error: Option<io::Error>,
}

impl KeptOutput {
    fn finish(mut self) -> io::Result<Vec<u8>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.is_cut {
            self.kept
                .extend_from_slice(b"\n[the rest of the output is left out]");
        }
        Ok(self.kept)
    }
}

impl StreamSink for KeptOutput {
    fn take(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES.saturating_sub(self.kept.len());
        let kept = bytes.len().min(room);
        self.kept.extend_from_slice(&bytes[..kept]);
        self.is_cut |= kept < bytes.len();
    }

    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
    }
}

/// Adds each line of standard error to the message's log and to the service's log.
struct LogLines<'a> {
    line: Vec<u8>,
    log: &'a TaskLog,
}

impl<'a> LogLines<'a> {
    const fn new(log: &'a TaskLog) -> Self {
        let line = Vec::new();
        Self { line, log }
    }

    fn log_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = format_args!("{}", text.trim_end_matches(['\n', '\r']));
        self.log.append(Level::Info, &text);
        // Suspended, since the line is in the message's log already.
        TaskLog::suspend(|| log::info!("{text}"));
        self.line.clear();
    }
}

impl StreamSink for LogLines<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while !piece.is_empty() {
                let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
                let (head, tail) = piece.split_at(piece.len().min(room));
                self.line.extend_from_slice(head);
                if self.line.ends_with(b"\n") || self.line.len() >= MAX_LINE_BYTES {
                    self.log_line();
                }
                piece = tail;
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        log::warn!("standard error of a command can't be read: {error}");
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.log_line();
        }
    }
}
