//! What a command is given and what it says, on one thread, until its process has exited.
//!
//! The end of the process is the end of the conversation. A process that the command has sent off into a
//! session of its own may hold the pipes for ever, and may write or refuse to read as it likes.

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

/// So much of standard output is kept; the rest is read and left out, and that is said.
const MOST_OUTPUT: usize = 16 << 20;

/// A line of standard error is cut at this length.
const MOST_LINE: usize = 64 << 10;

/// As much as a pipe holds, unless the command has changed that.
const BUFFER: usize = 64 << 10;

/// How often the kernel is asked whether the command still runs, if it can't say so by itself.
const LOOK_FOR_EXIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Gives the command its message and reads what it says, until it has exited. Then nothing of its process
/// group is left; the command itself is not reaped yet. Returns its standard output.
pub(super) fn converse(child: &mut Child, message: &str, log: &TaskLog) -> io::Result<Vec<u8>> {
    let group = Pid::from_child(child);
    let talked = Conversation::begin(child, message, log).and_then(|mut conversation| {
        conversation.follow(group)?;
        Ok(conversation)
    });
    // The group is ended before the command is reaped: until then its number is its own.
    end_group(group);
    match talked {
        Ok(conversation) => conversation.end(),
        Err(error) => {
            // It may have left its group.
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

struct Conversation<'a> {
    /// Readable once the command has exited. `None` where there is no such thing: on an old kernel, under
    /// a strict seccomp filter, or when the process has no descriptor left.
    exit: Option<OwnedFd>,
    input: Input<'a>,
    output: Stream<ChildStdout, Output>,
    errors: Stream<ChildStderr, Lines<'a>>,
    buffer: Vec<u8>,
}

impl<'a> Conversation<'a> {
    fn begin(child: &mut Child, message: &'a str, log: &'a TaskLog) -> io::Result<Self> {
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the command has no standard streams"));
        };
        // Our ends alone: the command's are other open files.
        for ours in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            ioctl_fionbio(ours, true)?;
        }
        let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
        Ok(Self {
            exit: exit.ok(),
            input: Input {
                pipe: Some(stdin),
                rest: message.as_bytes(),
            },
            output: Stream::new(stdout, Output::default()),
            errors: Stream::new(stderr, Lines::of(log)),
            buffer: vec![0; BUFFER],
        })
    }

    /// Goes on until the command has exited.
    fn follow(&mut self, command: Pid) -> io::Result<()> {
        loop {
            let [exit, input, output, errors] = self.wait()?;
            // Looked at in each round: whoever else has the pipes may always have something to say.
            if exit || (self.exit.is_none() && has_exited(command)?) {
                return Ok(());
            }
            if input {
                self.input.feed();
            }
            if output {
                self.output.read(&mut self.buffer);
            }
            if errors {
                self.errors.read(&mut self.buffer);
            }
        }
    }

    /// Waits until something can be done, and says of which of the four.
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
        let timeout = self.exit.is_none().then_some(&LOOK_FOR_EXIT);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        Ok(open.map(|pipe| pipe.is_some() && ready.next() == Some(true)))
    }

    /// Reads what lies in the pipes, and closes them.
    fn end(mut self) -> io::Result<Vec<u8>> {
        drop(self.input);
        self.errors.read_rest(&mut self.buffer);
        self.output.read_rest(&mut self.buffer);
        self.output.into.finish()
    }
}

fn has_exited(command: Pid) -> io::Result<bool> {
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::Pid(command), exited)?.is_some())
}

/// The message, for standard input.
struct Input<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl Input<'_> {
    /// Writes what the pipe takes; closes it after the last byte. A command need not read its message.
    fn feed(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if is_to_be_tried_again(&error) => return,
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

fn is_to_be_tried_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Where the bytes of a stream go.
trait Sink {
    fn take(&mut self, bytes: &[u8]);
    /// The stream can't be read any more.
    fn fail(&mut self, error: io::Error);
    /// The stream has ended.
    fn end(&mut self) {}
}

/// One of the command's streams.
struct Stream<R, S> {
    /// `None` once it has ended.
    pipe: Option<R>,
    into: S,
}

impl<R: Read + AsFd, S: Sink> Stream<R, S> {
    const fn new(pipe: R, into: S) -> Self {
        let pipe = Some(pipe);
        Self { pipe, into }
    }

    /// Reads once, and no more than there is. How much that was.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        match pipe.read(buffer) {
            Ok(0) => self.close(),
            Ok(count) => {
                self.into.take(&buffer[..count]);
                return count;
            }
            Err(error) if is_to_be_tried_again(&error) => {}
            Err(error) => {
                self.into.fail(error);
                self.close();
            }
        }
        0
    }

    /// Reads what is in the pipe now, which is all that the command itself has left there, and nothing that
    /// others write after it.
    fn read_rest(&mut self, buffer: &mut [u8]) {
        let held = self.pipe.as_ref().map_or(Ok(0), ioctl_fionread);
        let mut held = held.map_or(0, |held| usize::try_from(held).unwrap_or(usize::MAX));
        while held > 0 {
            let most = buffer.len().min(held);
            match self.read(&mut buffer[..most]) {
                0 => break,
                count => held -= count,
            }
        }
        self.close();
    }

    fn close(&mut self) {
        if self.pipe.take().is_some() {
            self.into.end();
        }
    }
}

/// Standard output, as far as it is kept.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    is_cut: bool,
    fault: Option<io::Error>,
}

impl Output {
    fn finish(mut self) -> io::Result<Vec<u8>> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.is_cut {
            self.kept
                .extend_from_slice(b"\n[the rest of the output is left out]");
        }
        Ok(self.kept)
    }
}

impl Sink for Output {
    fn take(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT.saturating_sub(self.kept.len());
        let kept = bytes.len().min(room);
        self.kept.extend_from_slice(&bytes[..kept]);
        self.is_cut |= kept < bytes.len();
    }

    fn fail(&mut self, error: io::Error) {
        self.fault = Some(error);
    }
}

/// Standard error: each line is one of the message's log, and of the service's.
struct Lines<'a> {
    line: Vec<u8>,
    log: &'a TaskLog,
}

impl<'a> Lines<'a> {
    const fn of(log: &'a TaskLog) -> Self {
        let line = Vec::new();
        Self { line, log }
    }

    fn say(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = format_args!("{}", text.trim_end_matches(['\n', '\r']));
        self.log.append(Level::Info, &text);
        // It is in the message's log already, whatever the service logs.
        TaskLog::suspend(|| log::info!("{text}"));
        self.line.clear();
    }
}

impl Sink for Lines<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while !piece.is_empty() {
                let room = MOST_LINE.saturating_sub(self.line.len());
                let (head, tail) = piece.split_at(piece.len().min(room));
                self.line.extend_from_slice(head);
                if self.line.ends_with(b"\n") || self.line.len() >= MOST_LINE {
                    self.say();
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
            self.say();
        }
    }
}
