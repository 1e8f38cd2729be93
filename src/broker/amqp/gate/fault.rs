//! The violations of the protocol that the gate detects.

/// The largest frame that we agree to, in bytes; RabbitMQ's own default.
pub(in super::super) const FRAME_MAX: u32 = 128 << 10;

/// How much larger than [`FRAME_MAX`] a content header may be, in bytes. RabbitMQ accepts a header that fills a
/// frame, adds headers of its own (`x-death`, `x-delivery-count`) and never splits the frame.
pub(super) const HEADER_ROOM: u32 = 64 << 10;

/// The largest body, in bytes. RabbitMQ accepts none above; amiquip allocates as much as a header announces.
pub(super) const BODY_MAX: u64 = 512 << 20;

/// A violation of the protocol, which ends the connection. The text reads after "the broker sent".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolFault {
    #[error("a TLS record: this port speaks TLS, for which the URL begins with amqps://")]
    Tls,
    #[error("the header of AMQP in another version than 0-9-1")]
    OtherVersion,
    #[error("what is no AMQP frame: it begins with the byte {0:#04x}")]
    NoFrame(u8),
    #[error("a frame of {0} bytes, where {FRAME_MAX} were agreed as the most")]
    TooLarge(u64),
    #[error("a frame that does not end where it says that it does")]
    NoEnd,
    #[error("method {0}.{1}, which a broker does not send to a client like us")]
    Method(u16, u16),
    #[error("method {0}.{1} without all its arguments")]
    Arguments(u16, u16),
    #[error("a method frame without a method")]
    NoMethod,
    #[error("the header of a message of class {0}, where only basic (60) has messages")]
    Class(u16),
    #[error("a message of {0} bytes, where {BODY_MAX} are the most")]
    Body(u64),
    #[error("a message whose property flags go on in a second word, which AMQP 0-9-1 does not use")]
    MoreFlags,
    #[error("a message whose properties do not fit the frame of its header")]
    Properties,
}
