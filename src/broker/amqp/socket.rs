//! The socket below the gate: TCP, or TLS over TCP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream as MioStream;
use mio::{Evented, Poll, PollOpt, Ready, Token};

use super::super::BrokerError;
use crate::config::BrokerUrl;

/// How long a host may take to accept a connection, for the TLS handshake, and for the AMQP handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The stream that amiquip reads and writes through the gate. It never blocks.
pub(super) enum AmqpSocket {
    Plain(MioStream),
    #[cfg(feature = "tls")]
    Tls(Box<native_tls::TlsStream<MioStream>>),
}

impl AmqpSocket {
    /// Wraps `stream` as the socket to speak AMQP on.
    pub(super) fn new(url: &BrokerUrl, stream: &TcpStream) -> Result<Self, BrokerError> {
        let shared = stream.try_clone().and_then(MioStream::from_stream);
        let shared = shared.map_err(|error| BrokerError::Away(format!("{url}: {error}")))?;
        if url.secure {
            secure(url, shared, stream)
        } else {
            Ok(Self::Plain(shared))
        }
    }

    fn tcp(&self) -> &MioStream {
        match self {
            Self::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for AmqpSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for AmqpSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Evented for AmqpSocket {
    fn register(&self, poll: &Poll, token: Token, what: Ready, how: PollOpt) -> io::Result<()> {
        self.tcp().register(poll, token, what, how)
    }

    fn reregister(&self, poll: &Poll, token: Token, what: Ready, how: PollOpt) -> io::Result<()> {
        self.tcp().reregister(poll, token, what, how)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.tcp().deregister(poll)
    }
}

/// Opens a TCP connection with `TCP_NODELAY`: without it a confirmed publish waits 22 ms for an ack.
pub(super) fn tcp(url: &BrokerUrl) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(feature = "tls")]
fn secure(
    url: &BrokerUrl,
    stream: MioStream,
    descriptor: &TcpStream,
) -> Result<AmqpSocket, BrokerError> {
    let connector = native_tls::TlsConnector::new().map_err(|error| {
        BrokerError::Away(format!("{url}: could not create TLS connector: {error}"))
    })?;
    let secured = handshake(&connector, &url.host, stream, descriptor).map_err(|said| {
        let hint = hint(&said);
        BrokerError::Away(format!("{url}: TLS handshake failed{hint}: {said}"))
    })?;
    Ok(AmqpSocket::Tls(Box::new(secured)))
}

/// Completes the TLS handshake on `stream`, or says what went wrong. `descriptor` belongs to the same socket.
#[cfg(feature = "tls")]
fn handshake(
    connector: &native_tls::TlsConnector,
    host: &str,
    stream: MioStream,
    descriptor: &TcpStream,
) -> Result<native_tls::TlsStream<MioStream>, String> {
    use native_tls::HandshakeError::{Failure, WouldBlock};

    let started = std::time::Instant::now();
    let mut shaken = connector.connect(host, stream);
    loop {
        let waits = match shaken {
            Ok(secured) => return Ok(secured),
            Err(Failure(error)) => return Err(error.to_string()),
            Err(WouldBlock(waits)) => waits,
        };
        let Some(left) = CONNECT_TIMEOUT.checked_sub(started.elapsed()) else {
            let seconds = CONNECT_TIMEOUT.as_secs();
            return Err(format!("the broker has not finished it within {seconds} s"));
        };
        await_readable(descriptor, left).map_err(|error| error.to_string())?;
        shaken = waits.handshake();
    }
}

/// Waits until the socket is readable, for at most a second and at most `left`: the caller then retries a
/// handshake that waits for room to write, too.
#[cfg(feature = "tls")]
fn await_readable(socket: &TcpStream, left: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let wait = left.min(Duration::from_secs(1));
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&wait)))?;
    Ok(())
}

/// A hint on the cause of an OpenSSL error with the text `said`, if known.
#[cfg(feature = "tls")]
fn hint(said: &str) -> &'static str {
    let hints = [
        ("mismatch", " (the certificate is for another host)"),
        (
            "certificate verify failed",
            " (SSL_CERT_FILE can name a CA to trust)",
        ),
        ("wrong version number", " (does this port speak TLS?)"),
    ];
    let known = hints.iter().find(|(part, _)| said.contains(part));
    known.map_or("", |(_, hint)| hint)
}

#[cfg(not(feature = "tls"))]
fn secure(url: &BrokerUrl, _: MioStream, _: &TcpStream) -> Result<AmqpSocket, BrokerError> {
    Err(without_tls(url))
}

/// The error for a TLS URL in a build without TLS.
pub(super) fn without_tls(url: &BrokerUrl) -> BrokerError {
    BrokerError::Unsupported(format!(
        "{url} asks for TLS, which this build is without: build with `--features tls`, or use amqp://"
    ))
}
