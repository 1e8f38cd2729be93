//! The control socket beside the pidfile. Who connects is told how the service is, as one line of JSON;
//! the service reads nothing from it. Its owner and root may connect.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, umask};

use crate::failpoint;
use crate::health::service_status::{ServiceStatus, StatusReport};
use crate::process::privileges::Identity;

/// What a path of a socket can hold (unix(7): `sun_path` with its NUL).
const LONGEST_PATH: usize = 107;

/// So long an answer may take; the service answers at once unless it stands still.
const ANSWER: Duration = Duration::from_secs(3);

/// More than any service says.
const MOST_BYTES: u64 = 16 << 20;

/// Why a control socket can't be made, or can't be made another user's.
#[derive(Debug, thiserror::Error)]
#[error("the control socket {0} can't be made: {1}")]
pub struct SocketError(PathBuf, io::Error);

/// Why the service did not say how it is.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket, or nobody listens: the service has just begun, or ends.
    #[error("it has no control socket {0}")]
    Absent(PathBuf),
    /// Only its owner is told.
    #[error("its control socket {0} is its owner's")]
    NotPermitted(PathBuf),
    /// It stands still, or is not what we think.
    #[error("it does not answer on its control socket {0}: {1}")]
    Silent(PathBuf, io::Error),
}

/// The socket's path.
fn path_of(pidfile: &Path) -> PathBuf {
    let mut path = OsString::from(pidfile);
    path.push(".sock");
    path.into()
}

/// A socket that nobody answers on yet.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    place: Place,
}

/// Where a socket of ours is.
#[derive(Debug)]
struct Place {
    pidfile: PathBuf,
    /// What was made there.
    made: Made,
}

/// The device and the inode of a socket, if it could be seen.
pub(super) type Made = Option<(u64, u64)>;

impl Place {
    /// What is there now.
    fn found(pidfile: &Path) -> Made {
        let found = fs::symlink_metadata(path_of(pidfile)).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Removes the socket, unless another's is in its place: whoever removed our pidfile may have let
    /// another service start.
    fn clear(&self) {
        if self.made == Self::found(&self.pidfile) {
            remove(&self.pidfile);
        }
    }
}

impl Socket {
    /// Makes the socket that goes with a pidfile, which must be held: one that is there is a dead
    /// service's. To be called before there are threads.
    ///
    /// # Errors
    /// When it can't be made, or its place is taken by something else.
    pub fn bind(pidfile: &Path) -> Result<Self, SocketError> {
        failpoint::hit("daemon.forked");
        let path = path_of(pidfile);
        remove(pidfile);
        // Nobody else may connect, not even for the moment before a chmod.
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = at_short_path(&path, |path| UnixListener::bind(path));
        umask(before);
        let bound = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self {
                listener,
                place: Place {
                    pidfile: pidfile.to_owned(),
                    made: Place::found(pidfile),
                },
            }),
            Err(error) => Err(SocketError(path, error)),
        }
    }

    /// The one that this process has made before.
    pub(super) fn inherited(pidfile: PathBuf, listener: OwnedFd, made: Made) -> Self {
        let listener = UnixListener::from(listener);
        let place = Place { pidfile, made };
        Self { listener, place }
    }

    /// Makes the socket another user's, who is to answer.
    ///
    /// # Errors
    /// When that is refused, or something else is in its place by now.
    pub fn give_to(&self, identity: &Identity) -> Result<(), SocketError> {
        let path = path_of(&self.place.pidfile);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let given = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|place| {
                let is_socket = fs::File::from(place.try_clone()?).metadata()?.file_type();
                if is_socket.is_socket() {
                    identity.give(place)
                } else {
                    Err(Errno::NOTSOCK.into())
                }
            });
        given.map_err(|error| SocketError(path, error))
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn serve(self, service_status: Arc<ServiceStatus>) -> io::Result<Control> {
        failpoint::hit("daemon.named");
        let Self { listener, place } = self;
        let kept = listener.try_clone()?;
        let (stopped, stop) = io::pipe()?;
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || answer_until(&stopped, &listener, &service_status))?;
        Ok(Control {
            _stop: stop,
            _thread: thread,
            listener: kept,
            place,
        })
    }
}

/// A control socket that is answered on, until this is dropped.
#[derive(Debug)]
pub struct Control {
    /// Its end ends the thread.
    _stop: io::PipeWriter,
    _thread: std::thread::JoinHandle<()>,
    listener: UnixListener,
    place: Place,
}

impl Control {
    /// What [`Socket::inherited`] is made from: who connects meanwhile waits.
    pub(super) fn kept(&self) -> (BorrowedFd<'_>, Made) {
        (self.listener.as_fd(), self.place.made)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.place.clear();
    }
}

fn answer_until(stopped: &io::PipeReader, listener: &UnixListener, service_status: &ServiceStatus) {
    loop {
        let mut ready = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        if retry_on_intr(|| poll(&mut ready, None)).is_err() || !ready[1].revents().is_empty() {
            return;
        }
        match listener.accept() {
            // Who does not wait for the answer needs none.
            Ok((stream, _)) => answer(stream, service_status).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("the control socket: {error}");
                // Out of descriptors: that may pass.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer(mut stream: UnixStream, service_status: &ServiceStatus) -> io::Result<()> {
    let mut line = serde_json::to_vec(&service_status.report())?;
    line.push(b'\n');
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(&line)
}

/// Removes the socket that goes with a pidfile, if it is one and we may.
pub(super) fn remove(pidfile: &Path) {
    let path = path_of(pidfile);
    let is_socket = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && let Err(error) = fs::remove_file(&path) {
        log::debug!("{} can't be removed: {error}", path.display());
    }
}

/// Asks the service with that pidfile how it is.
///
/// # Errors
/// When it does not say so.
pub fn ask(pidfile: &Path) -> Result<StatusReport, AskError> {
    let path = path_of(pidfile);
    let silent = |error| AskError::Silent(path.clone(), error);
    let stream = at_short_path(&path, connect).map_err(|error| match error.kind() {
        _ if is_absent(&error) => AskError::Absent(path.clone()),
        io::ErrorKind::PermissionDenied => AskError::NotPermitted(path.clone()),
        _ => silent(error),
    })?;
    let line = read_line(stream).map_err(silent)?;
    if line.is_empty() {
        return Err(AskError::Absent(path));
    }
    serde_json::from_str(&line).map_err(|error| silent(error.into()))
}

/// Not held up by a service that stands still and accepts nobody.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn read_line(stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = String::new();
    let read = BufReader::new(stream.take(MOST_BYTES)).read_line(&mut line);
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let reason = format!("nothing for {} s", ANSWER.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
        read => read.map(|_| line),
    }
}

/// Who listens there; `None` if nobody does, yet or any more.
///
/// # Errors
/// When we may not know.
pub(super) fn listener(pidfile: &Path) -> io::Result<Option<Pid>> {
    match at_short_path(&path_of(pidfile), connect) {
        Ok(stream) => Ok(Some(socket_peercred(&stream)?.pid)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Calls with a path to the same place that is short enough for a socket.
fn at_short_path<T>(path: &Path, call: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    if path.as_os_str().len() <= LONGEST_PATH {
        return call(path);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let short = Path::new("/proc/self/fd")
        .join(number.to_string())
        .join(name);
    if short.as_os_str().len() > LONGEST_PATH {
        let most = LONGEST_PATH - (short.as_os_str().len() - name.len());
        let reason = format!("its name is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    call(&short)
}
