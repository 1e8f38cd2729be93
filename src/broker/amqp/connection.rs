//! Opens connections and classifies their errors.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use amiquip::{
    Auth, Channel, Connection, ConnectionBlockedNotification, ConnectionOptions, ConnectionTuning,
    Error,
};
use crossbeam_channel::Receiver;

use super::super::BrokerError;
use super::gate::{DeliveryNote, FRAME_MAX, Gate, GateNotes};
use super::socket::{AmqpSocket, CONNECT_TIMEOUT, tcp};
use crate::config::BrokerUrl;

/// The heartbeat interval. Without heartbeats, every call on a frozen broker's connection would hang for ever, and
/// so would dropping it.
const HEARTBEAT_SECONDS: u16 = 10;

/// An open connection with its one channel. The channel is opened when connecting, never later: amiquip's I/O thread
/// can panic if the broker closes the connection while a channel is being opened.
pub(super) struct AmqpConnection {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
    /// Notices that the broker has stopped or resumed reading from us. It disconnects when the connection ends,
    /// which an idle channel would not notice.
    pub(super) blocked: Receiver<ConnectionBlockedNotification>,
    /// What the gate has noted about this connection.
    notes: Arc<GateNotes>,
    socket: TcpStream,
}

impl AmqpConnection {
    pub(super) fn open(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let away = |error: io::Error| BrokerError::Away(format!("{url}: {error}"));
        let socket = tcp(url).map_err(away)?;
        let notes = Arc::new(GateNotes::default());
        let gate = Gate::new(AmqpSocket::new(url, &socket)?, Arc::clone(&notes));
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

    /// The reason for `error`. If the whole connection ended, only closing it returns the reason.
    pub(super) fn fail(self, error: Error) -> BrokerError {
        drop(self.channel);
        cause(self.connection, &self.notes, error)
    }

    /// Classifies `error` by what the caller can do about it.
    pub(super) fn classify(&self, error: &Error) -> BrokerError {
        classify_with_notes(&self.notes, error)
    }

    /// The gate's note on a delivery that has been received, if there is one.
    pub(super) fn note(&self, delivery_tag: u64) -> Option<DeliveryNote> {
        self.notes.take(self.channel.channel_id(), delivery_tag)
    }

    /// Shuts the socket down without closing the connection in AMQP, so that dropping it does not wait.
    pub(super) fn hang_up(&self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            log::debug!("shutting the socket down: {error}");
        }
    }

    /// Closes the connection in order: everything that was sent arrives first.
    pub(super) fn close(self) -> Result<(), BrokerError> {
        self.channel
            .close()
            .and_then(|()| self.connection.close())
            .map_err(|error| classify_with_notes(&self.notes, &error))
    }
}

fn connect(url: &BrokerUrl, gate: Gate<AmqpSocket>) -> Result<Connection, BrokerError> {
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
        // RabbitMQ closes the connection if the virtual host does not exist or is forbidden (530 or 403).
        Error::ServerClosedConnection { code, message } => {
            BrokerError::Refused(format!("{url}: {code} {message}"))
        }
        other => match classify(&other) {
            BrokerError::Protocol(reason) => BrokerError::Protocol(format!("{url}: {reason}")),
            sorted => BrokerError::Away(format!("{url}: {sorted}")),
        },
    })
}

fn cause(connection: Connection, notes: &GateNotes, error: Error) -> BrokerError {
    match error {
        Error::ServerClosedChannel { .. } => classify(&error),
        other => match connection.close() {
            Err(cause) => classify_with_notes(notes, &cause),
            Ok(()) => classify_with_notes(notes, &other),
        },
    }
}

/// Classifies `error`. If the gate has ended the connection, amiquip reports an error of the socket and the
/// notes hold the real reason.
fn classify_with_notes(notes: &GateNotes, error: &Error) -> BrokerError {
    let fault = notes.fault();
    fault.map_or_else(
        || classify(error),
        |fault| BrokerError::Protocol(broken(&fault)),
    )
}

fn broken(fault: &str) -> String {
    format!("the broker breaks the AMQP protocol: it sent {fault}")
}

/// Classifies `error` by what the caller can do about it.
pub(super) fn classify(error: &Error) -> BrokerError {
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
        // Frames that are valid but not where they came, and violations that the gate has missed.
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
