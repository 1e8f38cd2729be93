//! Opening a connection, and sorting what goes wrong on one.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use amiquip::{
    Auth, Channel, Connection, ConnectionBlockedNotification, ConnectionOptions, ConnectionTuning,
    Error,
};
use crossbeam_channel::Receiver;

use super::super::BrokerError;
use super::gate::{FRAME_MAX, Gate, Notes, Oddity};
use super::socket::{CONNECT_TIMEOUT, Socket, tcp};
use crate::config::BrokerUrl;

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
    /// What the gate has seen.
    notes: Arc<Notes>,
    socket: TcpStream,
}

impl Link {
    pub(super) fn open(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let away = |error: io::Error| BrokerError::Away(format!("{url}: {error}"));
        let socket = tcp(url).map_err(away)?;
        let notes = Arc::new(Notes::default());
        let gate = Gate::new(Socket::new(url, &socket)?, Arc::clone(&notes));
        let mut connection = connect(url, gate).map_err(|error| {
            let broken = notes.fault().map(|fault| broken(&fault));
            broken.map_or(error, |broken| {
                BrokerError::Protocol(format!("{url}: {broken}"))
            })
        })?;
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
                notes,
                socket,
            }),
            Err(error) => Err(cause(connection, &notes, error)),
        }
    }

    /// The reason for `error`: where the whole connection ended, only its `close` knows.
    pub(super) fn fail(self, error: Error) -> BrokerError {
        drop(self.channel);
        cause(self.connection, &self.notes, error)
    }

    /// What the caller can do about `error`.
    pub(super) fn sorted(&self, error: &Error) -> BrokerError {
        sorted_by(&self.notes, error)
    }

    /// What is odd about a delivery that has been received.
    pub(super) fn oddity(&self, delivery_tag: u64) -> Option<Oddity> {
        self.notes.take(self.channel.channel_id(), delivery_tag)
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
            .map_err(|error| sorted_by(&self.notes, &error))
    }
}

fn connect(url: &BrokerUrl, gate: Gate<Socket>) -> Result<Connection, BrokerError> {
    let options = ConnectionOptions::<Auth>::default()
        .auth(Auth::Plain {
            username: url.username.clone(),
            password: url.password.expose().to_owned(),
        })
        .virtual_host(url.vhost.as_str())
        .frame_max(FRAME_MAX)
        .heartbeat(HEARTBEAT_SECONDS)
        .connection_timeout(Some(CONNECT_TIMEOUT))
        .information(Some("carrot-actors".to_owned()));
    let opened = Connection::insecure_open_stream(gate, options, ConnectionTuning::default());
    opened.map_err(|error| match error {
        Error::InvalidCredentials => BrokerError::Refused(format!(
            "{url}: the broker refuses the user name or the password"
        )),
        // RabbitMQ closes the socket on a virtual host that is not there or not ours (530 or 403).
        Error::ServerClosedConnection { code, message } => {
            BrokerError::Refused(format!("{url}: {code} {message}"))
        }
        other => match sorted(&other) {
            BrokerError::Protocol(reason) => BrokerError::Protocol(format!("{url}: {reason}")),
            sorted => BrokerError::Away(format!("{url}: {sorted}")),
        },
    })
}

fn cause(connection: Connection, notes: &Notes, error: Error) -> BrokerError {
    match error {
        Error::ServerClosedChannel { .. } => sorted(&error),
        other => match connection.close() {
            Err(cause) => sorted_by(notes, &cause),
            Ok(()) => sorted_by(notes, &other),
        },
    }
}

/// What the caller can do about `error`, which to amiquip is one of the socket if the gate has ended the
/// connection.
fn sorted_by(notes: &Notes, error: &Error) -> BrokerError {
    let fault = notes.fault();
    fault.map_or_else(
        || sorted(error),
        |fault| BrokerError::Protocol(broken(&fault)),
    )
}

fn broken(fault: &str) -> String {
    format!("the broker breaks the AMQP protocol: it sent {fault}")
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
        // Frames that are fine each by itself, but not where they came; and what the gate has missed.
        Error::MalformedFrame
        | Error::FrameUnexpected
        | Error::ClientException
        | Error::ReceivedFrameWithBogusChannelId { .. }
        | Error::DuplicateConsumerTag { .. }
        | Error::UnknownConsumerTag { .. }
        | Error::UnsupportedAuthMechanism { .. }
        | Error::UnsupportedLocale { .. }
        | Error::FrameMaxTooSmall { .. }
        | Error::SaslSecureNotSupported => {
            BrokerError::Protocol(format!("the broker breaks the AMQP protocol: {error}"))
        }
        other => BrokerError::Away(other.to_string()),
    }
}
