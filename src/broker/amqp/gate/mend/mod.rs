//! Mends the bytes that amiquip's parser (amq-protocol 1.x) can't take, without changing a length.
//!
//! | bytes | what the parser does | what the gate does |
//! |---|---|---|
//! | a short string that is not UTF-8 | in a method: refuses the frame, which ends the connection; as a property: skips it, and reads the next one from its place | replaces each bad byte by `?` |
//! | a long string in a method that is not UTF-8 | refuses the frame | replaces each bad byte by `?` |
//! | a long string in a table that is not UTF-8 | drops the rest of the table | makes it a byte array: `S` → `x` |
//! | a name in a table that is not UTF-8 | drops the rest of the table | replaces each bad byte by `?` |
//! | nested tables and arrays | recurses, until its thread's stack overflows | makes them opaque beyond [`MAX_DEPTH`]: `F`, `A` → `x` |
//! | a field type that it does not know, or a length that points out of its table | drops the rest of the table | leaves it, and the message is failed: [`ContentHeader::fault`] |
//! | a body size | allocates as much | reports a fault above [`BODY_MAX`] |
//! | flags that announce a second word of flags | reads that as a property | clears the bit if the properties fit the frame without it, as RabbitMQ reads them and passes them on; else reports a fault |
//! | arguments or properties that extend past their frame | refuses the frame | reports a fault |
//! | a method that it does not know, or that a client sends | refuses it, or recurses in its tables | reports a fault |
//!
//! The types that it knows are `t b B s U u I i L l f d D S A T F x V`, as RabbitMQ reads them.

use super::fault::{BODY_MAX, ProtocolFault};

/// The deepest nesting of tables and arrays that is kept.
const MAX_DEPTH: usize = 32;

/// The methods that matter to the gate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MethodKind {
    /// `basic.deliver`: a message for a consumer follows.
    Deliver {
        tag: u64,
        /// Its exchange or its routing key was not UTF-8.
        address_mended: bool,
    },
    /// `basic.return` or `basic.get-ok`: another message follows.
    OtherContent,
    /// `channel.close` or `channel.close-ok`.
    ChannelClosed,
    Other,
}

/// What the gate has to note about a content header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContentHeader {
    /// The original message id, if it is not UTF-8.
    pub(super) message_id: Option<Vec<u8>>,
    /// Why the message's headers can't be read completely.
    pub(super) fault: Option<UnreadableHeaders>,
}

/// Why a table can't be read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnreadableHeaders {
    #[error("its headers hold a value of the unknown type {:?}", char::from(*.0))]
    Type(u8),
    #[error("a length among its headers points out of their table")]
    Length,
}

/// Mends the payload of a method frame.
pub(super) fn method(payload: &mut [u8]) -> Result<MethodKind, ProtocolFault> {
    let mut walk = PayloadWalk::new(payload);
    let (Some(class), Some(number)) = (walk.u16(), walk.u16()) else {
        return Err(ProtocolFault::NoMethod);
    };
    arguments(&mut walk, class, number)?.ok_or(ProtocolFault::Arguments(class, number))
}

/// `None` if the arguments extend past the frame.
fn arguments(
    walk: &mut PayloadWalk,
    class: u16,
    number: u16,
) -> Result<Option<MethodKind>, ProtocolFault> {
    let other = |walked: Option<()>| walked.map(|()| MethodKind::Other);
    Ok(match (class, number) {
        // connection: start, secure, tune, open-ok, close, close-ok, blocked, unblocked
        (10, 10) => other(walk.start()),
        (10, 20) => other(walk.long_text()),
        (10, 30) => other(walk.skip(8)),
        (10, 41 | 60) => other(walk.text()),
        (10, 50) => other(walk.close()),
        (10, 51 | 61) => Some(MethodKind::Other),
        // channel: open-ok, close, close-ok
        (20, 11) => other(walk.long_text()),
        (20, 40) => walk.close().map(|()| MethodKind::ChannelClosed),
        (20, 41) => Some(MethodKind::ChannelClosed),
        // exchange: declare-ok, delete-ok, bind-ok, unbind-ok; queue: bind-ok, unbind-ok; basic: qos-ok,
        // recover-ok; confirm: select-ok
        (40, 11 | 21 | 31 | 51) | (50, 21 | 51) | (60, 11 | 111) | (85, 11) => {
            Some(MethodKind::Other)
        }
        // queue: declare-ok, purge-ok, delete-ok
        (50, 11) => other(walk.text().and_then(|()| walk.skip(8))),
        (50, 31 | 41) => other(walk.skip(4)),
        // basic: consume-ok, cancel, cancel-ok, get-empty
        (60, 21 | 31 | 72) => other(walk.text()),
        (60, 30) => other(walk.text().and_then(|()| walk.skip(1))),
        // basic: return, deliver, get-ok
        (60, 50) => walk.returned().map(|()| MethodKind::OtherContent),
        (60, 60) => walk.deliver(),
        (60, 71) => walk.got().map(|()| MethodKind::OtherContent),
        // basic: ack, nack
        (60, 80 | 120) => other(walk.skip(9)),
        _ => return Err(ProtocolFault::Method(class, number)),
    })
}

/// The type of a property.
#[derive(Clone, Copy)]
enum Property {
    Text,
    MessageId,
    Table,
    Fixed(usize),
}

/// The properties of `basic`, in the order of their flags from bit 15 down.
const PROPERTIES: [Property; 14] = {
    use Property::{Fixed, MessageId, Table, Text};
    [
        Text,      // content-type
        Text,      // content-encoding
        Table,     // headers
        Fixed(1),  // delivery-mode
        Fixed(1),  // priority
        Text,      // correlation-id
        Text,      // reply-to
        Text,      // expiration
        MessageId, // message-id
        Fixed(8),  // timestamp
        Text,      // type
        Text,      // user-id
        Text,      // app-id
        Text,      // cluster-id
    ]
};

/// The offset of the flags in the payload, after class, weight and body size.
const FLAGS: usize = 12;

/// Mends the payload of a content header frame.
pub(super) fn header(payload: &mut [u8]) -> Result<ContentHeader, ProtocolFault> {
    let mut walk = PayloadWalk::new(payload);
    let class = walk.u16().ok_or(ProtocolFault::Properties)?;
    if class != 60 {
        return Err(ProtocolFault::Class(class));
    }
    walk.skip(2).ok_or(ProtocolFault::Properties)?;
    let size = walk.u64().ok_or(ProtocolFault::Properties)?;
    if size > BODY_MAX {
        return Err(ProtocolFault::Body(size));
    }
    let flags = walk.u16().ok_or(ProtocolFault::Properties)?;
    let more = flags & 1 != 0;
    let header = properties(&mut walk, flags);
    // If there is no second word of flags, the properties fill the frame.
    if more && (header.is_none() || walk.at < walk.bytes.len()) {
        return Err(ProtocolFault::MoreFlags);
    }
    if more && let Some(low) = payload.get_mut(FLAGS + 1) {
        *low &= !1;
    }
    header.ok_or(ProtocolFault::Properties)
}

/// `None` if the properties extend past the frame.
fn properties(walk: &mut PayloadWalk, flags: u16) -> Option<ContentHeader> {
    let mut header = ContentHeader::default();
    for (nth, property) in PROPERTIES.into_iter().enumerate() {
        if flags & (0x8000 >> nth) == 0 {
            continue;
        }
        match property {
            Property::Text => walk.text()?,
            Property::MessageId => header.message_id = walk.original_text()?,
            Property::Table => header.fault = walk.table()?,
            Property::Fixed(length) => walk.skip(length)?,
        }
    }
    Some(header)
}

/// Walks through a payload and mends the fields that it passes. A step returns `None` if it leads out of the payload.
struct PayloadWalk<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> PayloadWalk<'a> {
    const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn start(&mut self) -> Option<()> {
        self.skip(2)?;
        // The broker's description of itself need not be readable.
        self.table()?;
        self.long_text()?;
        self.long_text()
    }

    fn close(&mut self) -> Option<()> {
        self.skip(2)?;
        self.text()?;
        self.skip(4)
    }

    fn returned(&mut self) -> Option<()> {
        self.skip(2)?;
        self.text()?;
        self.text()?;
        self.text()
    }

    fn got(&mut self) -> Option<()> {
        self.skip(9)?;
        self.text()?;
        self.text()?;
        self.skip(4)
    }

    fn deliver(&mut self) -> Option<MethodKind> {
        self.text()?;
        let tag = self.u64()?;
        self.skip(1)?;
        let exchange_mended = self.short_string()?;
        let key_mended = self.short_string()?;
        Some(MethodKind::Deliver {
            tag,
            address_mended: exchange_mended || key_mended,
        })
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get_mut(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N).and_then(|bytes| (*bytes).try_into().ok())
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        let length = self.array().map(u32::from_be_bytes)?;
        usize::try_from(length).ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Passes a short string. Returns whether it was mended.
    fn short_string(&mut self) -> Option<bool> {
        let length = self.u8()?;
        self.take(length.into()).map(mend_text)
    }

    fn text(&mut self) -> Option<()> {
        self.short_string().map(drop)
    }

    /// Passes a short string. Returns the original, if it was mended.
    fn original_text(&mut self) -> Option<Option<Vec<u8>>> {
        let length = self.u8()?;
        let text = self.take(length.into())?;
        if std::str::from_utf8(text).is_ok() {
            return Some(None);
        }
        let original = text.to_vec();
        mend_text(text);
        Some(Some(original))
    }

    fn long_text(&mut self) -> Option<()> {
        let length = self.length()?;
        self.take(length).map(mend_text).map(drop)
    }

    /// Passes a table. Returns why it can't be read completely, if so.
    fn table(&mut self) -> Option<Option<UnreadableHeaders>> {
        let length = self.length()?;
        let mut inside = PayloadWalk::new(self.take(length)?);
        Some(inside.fields(1).err())
    }

    /// Passes all fields of a table.
    fn fields(&mut self, depth: usize) -> Result<(), UnreadableHeaders> {
        let mut fault = Ok(());
        while self.at < self.bytes.len() {
            self.text().ok_or(UnreadableHeaders::Length)?;
            fault = fault.and(self.value(depth)?);
        }
        fault
    }

    /// Passes all values of an array.
    fn values(&mut self, depth: usize) -> Result<(), UnreadableHeaders> {
        let mut fault = Ok(());
        while self.at < self.bytes.len() {
            fault = fault.and(self.value(depth)?);
        }
        fault
    }

    /// Passes a value in a table or an array that is `depth` deep. The outer result says whether the rest of the
    /// table can be read, the inner one whether everything inside the value can.
    fn value(&mut self, depth: usize) -> Result<Result<(), UnreadableHeaders>, UnreadableHeaders> {
        let place = self.at;
        let kind = self.u8().ok_or(UnreadableHeaders::Length)?;
        let length = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'L' | b'l' | b'd' | b'T' => 8,
            b'S' | b'x' | b'A' | b'F' => self.length().ok_or(UnreadableHeaders::Length)?,
            _ => return Err(UnreadableHeaders::Type(kind)),
        };
        let content = self.take(length).ok_or(UnreadableHeaders::Length)?;
        let (inside, opaque) = match kind {
            b'S' => (Ok(()), std::str::from_utf8(content).is_err()),
            b'A' | b'F' if depth >= MAX_DEPTH => (Ok(()), true),
            b'A' => (PayloadWalk::new(content).values(depth + 1), false),
            b'F' => (PayloadWalk::new(content).fields(depth + 1), false),
            _ => (Ok(()), false),
        };
        if opaque && let Some(kind) = self.bytes.get_mut(place) {
            *kind = b'x';
        }
        Ok(inside)
    }
}

/// Replaces each byte that is not UTF-8 by `?`. Returns whether there was one.
fn mend_text(text: &mut [u8]) -> bool {
    let mut mended = false;
    let mut from = 0;
    while let Some(rest) = text.get_mut(from..)
        && let Err(error) = std::str::from_utf8(rest)
    {
        let bad = error.valid_up_to();
        let end = error.error_len().map_or(rest.len(), |length| bad + length);
        if let Some(bad) = rest.get_mut(bad..end) {
            bad.fill(b'?');
        }
        from += end;
        mended = true;
    }
    mended
}

/// The names in a content header's table, for the tests.
#[cfg(test)]
pub(super) fn names(payload: &mut [u8]) -> Vec<String> {
    let mut walk = PayloadWalk::new(payload);
    let mut names = Vec::new();
    walk.skip(FLAGS).unwrap();
    let flags = walk.u16().unwrap();
    for text in [0x8000, 0x4000] {
        if flags & text != 0 {
            walk.text().unwrap();
        }
    }
    let length = walk.length().unwrap();
    let mut inside = PayloadWalk::new(walk.take(length).unwrap());
    while inside.at < inside.bytes.len() {
        let length = inside.u8().unwrap().into();
        let name = inside.take(length).unwrap().to_vec();
        names.push(String::from_utf8(name).unwrap());
        inside.value(1).unwrap().unwrap();
    }
    names
}

#[cfg(test)]
mod tests;
