//! AMQP 0-9-1 encoded as bytes, valid or not.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// A long string, a byte array, an array or a table, without the octet of its type.
pub fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

/// A field of a table.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

/// A value of this type, with its length.
pub fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &long(content)].concat()
}

/// The field that names the task.
pub fn task(name: &str) -> Vec<u8> {
    field(b"type", &value(b'S', name.as_bytes()))
}

/// Nested arrays.
pub fn nested(deep: usize) -> Vec<u8> {
    (0..deep).fold(b"V".to_vec(), |inside, _| value(b'A', &inside))
}

/// Nested tables and arrays, in turns.
pub fn nested_tables(deep: usize) -> Vec<u8> {
    (0..deep).fold(b"V".to_vec(), |inside, nth| match nth % 2 {
        0 => value(b'F', &field(b"", &inside)),
        _ => value(b'A', &inside),
    })
}

/// The encoded properties of a message.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    flags: u16,
    /// Each property with the bit of its flag.
    encoded: Vec<(u16, Vec<u8>)>,
}

impl Properties {
    fn with(mut self, bit: u16, encoded: Vec<u8>) -> Self {
        self.flags |= 1 << bit;
        self.encoded.push((bit, encoded));
        self
    }

    /// Sets flags that have no property.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    pub fn content_type(self, text: &[u8]) -> Self {
        self.with(15, short(text))
    }

    pub fn headers(self, fields: &[&[u8]]) -> Self {
        self.with(13, long(&fields.concat()))
    }

    pub fn correlation_id(self, text: &[u8]) -> Self {
        self.with(10, short(text))
    }

    pub fn message_id(self, text: &[u8]) -> Self {
        self.with(7, short(text))
    }

    pub fn timestamp(self) -> Self {
        self.with(6, 1_700_000_000_u64.to_be_bytes().to_vec())
    }

    pub fn kind(self, text: &[u8]) -> Self {
        self.with(5, short(text))
    }

    pub fn app_id(self, text: &[u8]) -> Self {
        self.with(3, short(text))
    }

    /// The payload of a content header frame.
    pub fn header(&self, body_size: u64) -> Vec<u8> {
        let mut encoded = self.encoded.clone();
        encoded.sort_by_key(|(bit, _)| std::cmp::Reverse(*bit));
        let encoded: Vec<u8> = encoded.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let (size, flags) = (body_size.to_be_bytes(), self.flags.to_be_bytes());
        [&[0, 60, 0, 0], &size[..], &flags, &encoded].concat()
    }
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let channel = channel.to_be_bytes();
    [&[kind], &channel[..], &long(payload), &[0xce]].concat()
}

pub fn method(channel: u16, class: u16, number: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let (class, number) = (class.to_be_bytes(), number.to_be_bytes());
    let payload = [&class[..], &number, &arguments.concat()].concat();
    frame(1, channel, &payload)
}

/// A delivery on channel 1 to the consumer with this tag.
pub fn delivery(consumer: &[u8], tag: u64, properties: &Properties, body: &[u8]) -> Vec<u8> {
    let deliver = [&short(consumer)[..], &tag.to_be_bytes(), &[0]].concat();
    [
        method(1, 60, 60, &[&deliver, &short(b""), &short(b"default")]),
        frame(2, 1, &properties.header(body.len() as u64)),
        frame(3, 1, body),
    ]
    .concat()
}

/// Reads a frame: its type, its channel and its payload.
pub fn read_frame(stream: &mut TcpStream) -> io::Result<(u8, u16, Vec<u8>)> {
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut payload = vec![0; length as usize + 1];
    stream.read_exact(&mut payload)?;
    payload.pop();
    Ok((head[0], u16::from_be_bytes([head[1], head[2]]), payload))
}

/// Reads a method: its class, its number and its arguments. Other frames are skipped.
pub fn read_method(stream: &mut TcpStream) -> io::Result<(u16, u16, Vec<u8>)> {
    loop {
        let (kind, _, payload) = read_frame(stream)?;
        if kind == 1 {
            let [c0, c1, n0, n1] = *payload.first_chunk().unwrap();
            let arguments = payload[4..].to_vec();
            let numbers = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([n0, n1]));
            return Ok((numbers.0, numbers.1, arguments));
        }
    }
}

pub fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}
