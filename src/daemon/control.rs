//! The control socket beside the pidfile. The service sends its status, as one line of JSON, to every client
//! that connects, and reads nothing. Only its owner and root may connect.

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

/// The longest path of a socket, in bytes (unix(7): `sun_path` less its NUL).
const LONGEST_PATH: usize = 107;

/// How long to wait for an answer; the service answers at once unless it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest answer that is read: longer than any service's.
const MOST_ANSWER_BYTES: u64 = 16 << 20;

/// Why a control socket can't be made or given to another user.
#[derive(Debug, thiserror::Error)]
#[error("the control socket {0} can't be made: {1}")]
pub struct ControlSocketError(PathBuf, io::Error);

/// Why the service's status could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket, or nobody listens: the service has just started, or ends.
    #[error("it has no control socket {0}")]
    Absent(PathBuf),
    /// Another user owns it.
    #[error("its control socket {0} is its owner's")]
    NotPermitted(PathBuf),
    /// The service hangs, or the socket is not a service's.
    #[error("it does not answer on its control socket {0}: {1}")]
    Silent(PathBuf, io::Error),
}

/// The path of the socket that belongs to a pidfile.
fn path_of(pidfile: &Path) -> PathBuf {
    let mut path = OsString::from(pidfile);
    path.push(".sock");
    path.into()
}

/// A control socket that is not answered on yet.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    socket: BoundSocket,
}

/// The socket that this process has made.
#[derive(Debug)]
struct BoundSocket {
    pidfile: PathBuf,
    /// The inode that was made, to tell it from one that has replaced it.
    inode: SocketInode,
}

/// The device and the inode of a socket, if they could be read.
pub(super) type SocketInode = Option<(u64, u64)>;

impl BoundSocket {
    /// The inode at the path now.
    fn inode_now(pidfile: &Path) -> SocketInode {
        let found = fs::symlink_metadata(path_of(pidfile)).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Removes the socket, unless another service's has replaced it: if somebody removed our pidfile, another
    /// service can have started.
    fn remove_ours(&self) {
        if self.inode == Self::inode_now(&self.pidfile) {
            remove(&self.pidfile);
        }
    }
}

impl ControlSocket {
    /// Makes the socket that belongs to a pidfile, whose lock the caller must hold: a socket that is there
    /// already is a dead service's. To be called before there are threads.
    ///
    /// # Errors
    /// When it can't be made, or something other than a socket has its path.
    pub fn bind(pidfile: &Path) -> Result<Self, ControlSocketError> {
        failpoint::hit("daemon.forked");
        let path = path_of(pidfile);
        remove(pidfile);
        // By umask, since others could connect before a chmod.
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = with_short_path(&path, |path| UnixListener::bind(path));
        umask(before);
        let bound = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self {
                listener,
                socket: BoundSocket {
                    pidfile: pidfile.to_owned(),
                    inode: BoundSocket::inode_now(pidfile),
                },
            }),
            Err(error) => Err(ControlSocketError(path, error)),
        }
    }

    /// The socket that this process made before it executed itself again.
    pub(super) fn inherited(pidfile: PathBuf, listener: OwnedFd, inode: SocketInode) -> Self {
        let listener = UnixListener::from(listener);
        let socket = BoundSocket { pidfile, inode };
        Self { listener, socket }
    }

    /// Gives the socket to the user that the service is going to be.
    ///
    /// # Errors
    /// When that is refused, or something other than a socket has its path by now.
    pub fn give_to(&self, identity: &Identity) -> Result<(), ControlSocketError> {
        let path = path_of(&self.socket.pidfile);
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
        given.map_err(|error| ControlSocketError(path, error))
    }

    /// Starts the thread that answers on the socket.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn serve(self, service_status: Arc<ServiceStatus>) -> io::Result<ControlServer> {
        failpoint::hit("daemon.named");
        let Self { listener, socket } = self;
        let kept = listener.try_clone()?;
        let (stopped, stop) = io::pipe()?;
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || answer_until(&stopped, &listener, &service_status))?;
        Ok(ControlServer {
            _stop: stop,
            _thread: thread,
            listener: kept,
            socket,
        })
    }
}

/// Answers on a control socket until it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    /// Ends the thread when it is closed.
    _stop: io::PipeWriter,
    _thread: std::thread::JoinHandle<()>,
    listener: UnixListener,
    socket: BoundSocket,
}

impl ControlServer {
    /// What [`ControlSocket::inherited`] needs. A client that connects meanwhile waits.
    pub(super) fn inheritable(&self) -> (BorrowedFd<'_>, SocketInode) {
        (self.listener.as_fd(), self.socket.inode)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.socket.remove_ours();
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
            // A client that has gone needs no answer.
            Ok((stream, _)) => answer(stream, service_status).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("the control socket: {error}");
                // Out of descriptors, which may be temporary.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer(mut stream: UnixStream, service_status: &ServiceStatus) -> io::Result<()> {
    let mut line = serde_json::to_vec(&service_status.report())?;
    line.push(b'\n');
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&line)
}

/// Removes the socket that belongs to a pidfile, if it is a socket and we may.
pub(super) fn remove(pidfile: &Path) {
    let path = path_of(pidfile);
    let is_socket = fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && let Err(error) = fs::remove_file(&path) {
        log::debug!("{} can't be removed: {error}", path.display());
    }
}

/// Asks the service with that pidfile for its status.
///
/// # Errors
/// When it does not answer.
pub fn request_status(pidfile: &Path) -> Result<StatusReport, AskError> {
    let path = path_of(pidfile);
    let silent = |error| AskError::Silent(path.clone(), error);
    let stream = with_short_path(&path, connect).map_err(|error| match error.kind() {
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

/// Connects without waiting for a service that hangs and accepts no connection.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn read_line(stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = String::new();
    let read = BufReader::new(stream.take(MOST_ANSWER_BYTES)).read_line(&mut line);
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let reason = format!("nothing for {} s", ANSWER_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
        read => read.map(|_| line),
    }
}

/// The process that listens on the socket of that pidfile; `None` if none does.
///
/// # Errors
/// When we may not connect.
pub(super) fn listening_process(pidfile: &Path) -> io::Result<Option<Pid>> {
    match with_short_path(&path_of(pidfile), connect) {
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

/// Calls `call` with a path to the same file that is short enough for a socket.
fn with_short_path<T>(path: &Path, call: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
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
