//! Opening a connection, and sorting what goes wrong on one.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

use amiquip::{
    Auth, Channel, Connection, ConnectionBlockedNotification, ConnectionOptions, ConnectionTuning,
    Error,
};
use crossbeam_channel::Receiver;

use super::super::BrokerError;
use crate::config::BrokerUrl;

/// So long a host may take to accept a connection, and the broker to answer the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Without heartbeats a frozen broker hangs every call, and even drops, for good.
const HEARTBEAT_SECONDS: u16 = 10;

/// An open connection with its one channel. All channels are opened at connect: amiquip's I/O thread
/// can panic when the broker closes the connection while one is being opened.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
    /// Says when the broker stops reading from us; disconnected when the connection dies, which an
    /// idle channel would not notice.
    pub(super) blocked: Receiver<ConnectionBlockedNotification>,
    socket: TcpStream,
}

impl Link {
    pub(super) fn open(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let away = |error: io::Error| BrokerError::Away(format!("{url}: {error}"));
        let socket = tcp(url).map_err(away)?;
        let mut connection = connect(url, socket.try_clone().map_err(away)?)?;
        let opened = connection
            .listen_for_connection_blocked()
            .and_then(|blocked| {
                connection
                    .open_channel(None)
                    .map(|channel| (channel, blocked))
            });
        match opened {
            Ok((channel, blocked)) => Ok(Self {
                connection,
                channel,
                blocked,
                socket,
            }),
            Err(error) => Err(cause(connection, error)),
        }
    }

    /// The reason for `error`: where the whole connection ended, only its `close` knows.
    pub(super) fn fail(self, error: Error) -> BrokerError {
        drop(self.channel);
        cause(self.connection, error)
    }

    /// Ends the connection without a word, so that dropping it waits for nothing.
    pub(super) fn hang_up(&self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            log::debug!("hanging up: {error}");
        }
    }

    /// Closes in order: everything that was sent arrives first.
    pub(super) fn close(self) -> Result<(), BrokerError> {
        self.channel
            .close()
            .and_then(|()| self.connection.close())
            .map_err(|error| sorted(&error))
    }
}

fn connect(url: &BrokerUrl, socket: TcpStream) -> Result<Connection, BrokerError> {
    let stream = mio::net::TcpStream::from_stream(socket)
        .map_err(|error| BrokerError::Away(format!("{url}: {error}")))?;
    let options = ConnectionOptions::<Auth>::default()
        .auth(Auth::Plain {
            username: url.username.clone(),
            password: url.password.expose().to_owned(),
        })
        .virtual_host(url.vhost.as_str())
        .heartbeat(HEARTBEAT_SECONDS)
        .connection_timeout(Some(CONNECT_TIMEOUT))
        .information(Some("carrot-actors".to_owned()));
    let opened = if url.secure {
        secure(url, stream, options)
    } else {
        Connection::insecure_open_stream(stream, options, ConnectionTuning::default())
    };
    opened.map_err(|error| match error {
        Error::InvalidCredentials => BrokerError::Refused(format!(
            "{url}: the broker refuses the user name or the password"
        )),
        // RabbitMQ closes the socket on a virtual host that is not there or not ours (530 or 403).
        Error::ServerClosedConnection { code, message } => {
            BrokerError::Refused(format!("{url}: {code} {message}"))
        }
        #[cfg(feature = "tls")]
        Error::TlsHandshake { source } => {
            let said = source.to_string();
            let hint = hint(&said);
            BrokerError::Away(format!("{url}: TLS handshake failed{hint}: {said}"))
        }
        other => BrokerError::Away(format!("{url}: {}", sorted(&other))),
    })
}

/// A socket of our own with `TCP_NODELAY`: without it a confirmed publish waits 22 ms for an ack.
fn tcp(url: &BrokerUrl) -> io::Result<TcpStream> {
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
    stream: mio::net::TcpStream,
    options: ConnectionOptions<Auth>,
) -> amiquip::Result<Connection> {
    let connector =
        native_tls::TlsConnector::new().map_err(|source| Error::CreateTlsConnector { source })?;
    Connection::open_tls_stream(
        connector,
        &url.host,
        stream,
        options,
        ConnectionTuning::default(),
    )
}

/// What to do about that which OpenSSL `said`, where we know.
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
fn secure(
    _: &BrokerUrl,
    _: mio::net::TcpStream,
    _: ConnectionOptions<Auth>,
) -> amiquip::Result<Connection> {
    Err(Error::TlsFeatureNotEnabled)
}

fn cause(connection: Connection, error: Error) -> BrokerError {
    match error {
        Error::ServerClosedChannel { .. } => sorted(&error),
        other => match connection.close() {
            Err(cause) => sorted(&cause),
            Ok(()) => sorted(&other),
        },
    }
}

/// What the caller can do about `error`.
pub(super) fn sorted(error: &Error) -> BrokerError {
    match error {
        // 403 ACCESS_REFUSED, 404 NOT_FOUND, 405 RESOURCE_LOCKED, 406 PRECONDITION_FAILED close the
        // channel; 403 and 530 NOT_ALLOWED the connection.
        Error::ServerClosedChannel { code, message, .. } => {
            BrokerError::Refused(format!("{code} {message}"))
        }
        Error::ServerClosedConnection {
            code: code @ (403 | 530),
            message,
        } => BrokerError::Refused(format!("{code} {message}")),
        other => BrokerError::Away(other.to_string()),
    }
}
