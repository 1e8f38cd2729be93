//! The gate between a broker's socket and amiquip. It follows the incoming frames, buffers each method and content
//! header until the frame is complete, and mends it, so that amiquip gets nothing that its parser can't take.
//! Bodies and heartbeats pass as they come. A violation of the protocol ends the connection with an error; its
//! reason is in the [`GateNotes`].

mod delivery_notes;
mod fault;
mod mend;

use std::io::{self, Read, Write};
use std::sync::Arc;

use amiquip::IoStream;
use mio::{Evented, Poll, PollOpt, Ready, Token};

pub(super) use self::delivery_notes::{DeliveryNote, GateNotes};
pub(super) use self::fault::FRAME_MAX;
use self::fault::{HEADER_ROOM, ProtocolFault};
use self::mend::MethodKind;

/// The bytes of a frame before its payload: type, channel, size.
const HEAD_LENGTH: usize = 7;

/// The byte after each payload.
const FRAME_END: u8 = 0xce;

/// The most bytes of a long frame that are read at once.
const MAX_READ: usize = 16 << 10;

/// A stream for amiquip, which returns the mended bytes of `stream`.
pub(super) struct Gate<S> {
    stream: S,
    notes: Arc<GateNotes>,
    /// The beginning of an incomplete frame or, if `given` is set, the complete frame that is being returned.
    held: Vec<u8>,
    /// How many bytes of the complete frame in `held` have been returned.
    given: Option<usize>,
    /// How many bytes of a body or a heartbeat are still to pass, including the end of the frame.
    passing: usize,
    /// The messages whose content header is still to come, by channel.
    announced: Vec<(u16, AnnouncedMessage)>,
    /// The violation that ends the connection once the bytes before it have been returned.
    fault: Option<ProtocolFault>,
}

/// A message whose content header is still to come.
enum AnnouncedMessage {
    Delivery { tag: u64, address_mended: bool },
    Other,
}

enum FrameKind {
    Method,
    Header,
    /// A body or a heartbeat, which passes unchanged.
    Opaque,
}

/// The head of a frame: its type, channel and size.
struct FrameHead {
    kind: FrameKind,
    channel: u16,
    /// The length of the complete frame.
    length: usize,
}

impl FrameHead {
    /// Reads a head; `None` if `bytes` holds only part of it.
    fn read(bytes: &[u8]) -> Result<Option<Self>, ProtocolFault> {
        let Some(first) = bytes.first() else {
            return Ok(None);
        };
        let (kind, most) = match first {
            1 => (FrameKind::Method, FRAME_MAX),
            2 => (FrameKind::Header, FRAME_MAX + HEADER_ROOM),
            3 | 8 => (FrameKind::Opaque, FRAME_MAX),
            0x15 | 0x16 => return Err(ProtocolFault::Tls),
            b'A' => return Err(ProtocolFault::OtherVersion),
            other => return Err(ProtocolFault::NoFrame(*other)),
        };
        let Some(&[_, c0, c1, s0, s1, s2, s3]) = bytes.first_chunk::<HEAD_LENGTH>() else {
            return Ok(None);
        };
        let length = u64::from(u32::from_be_bytes([s0, s1, s2, s3])) + HEAD_LENGTH as u64 + 1;
        match usize::try_from(length) {
            Ok(whole) if length <= most.into() => Ok(Some(Self {
                kind,
                channel: u16::from_be_bytes([c0, c1]),
                length: whole,
            })),
            _ => Err(ProtocolFault::TooLarge(length)),
        }
    }
}

impl<S> Gate<S> {
    pub(super) fn new(stream: S, notes: Arc<GateNotes>) -> Self {
        Self {
            stream,
            notes,
            held: Vec::new(),
            given: None,
            passing: 0,
            announced: Vec::new(),
            fault: None,
        }
    }

    /// Mends `bytes`, which follow the bytes that have passed. Returns how many of them may pass, and holds the rest
    /// back. A fault is kept until the bytes before it have been returned.
    fn admit(&mut self, bytes: &mut [u8]) -> usize {
        let mut passed = 0;
        while let Some(rest) = bytes.get_mut(passed..)
            && !rest.is_empty()
            && self.fault.is_none()
        {
            match self.admit_one(rest) {
                Ok(0) => break,
                Ok(length) => passed += length,
                Err(fault) => self.fault = Some(fault),
            }
        }
        passed
    }

    /// [`Self::admit`] for the first frame or the rest of one.
    fn admit_one(&mut self, bytes: &mut [u8]) -> Result<usize, ProtocolFault> {
        if self.passing > 0 {
            return self.pass(bytes);
        }
        let Some(head) = FrameHead::read(bytes)? else {
            self.held.extend_from_slice(bytes);
            return Ok(0);
        };
        if let FrameKind::Opaque = head.kind {
            self.passing = head.length;
            return self.pass(bytes);
        }
        let Some(frame) = bytes.get_mut(..head.length) else {
            self.held.extend_from_slice(bytes);
            return Ok(0);
        };
        self.mend(&head, frame)?;
        Ok(head.length)
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<usize, ProtocolFault> {
        let length = self.passing.min(bytes.len());
        if length == self.passing && bytes.get(length - 1) != Some(&FRAME_END) {
            return Err(ProtocolFault::NoEnd);
        }
        self.passing -= length;
        Ok(length)
    }

    /// Mends a complete method or header frame, and notes what was mended in a delivery.
    fn mend(&mut self, head: &FrameHead, frame: &mut [u8]) -> Result<(), ProtocolFault> {
        let Some((&mut FRAME_END, frame)) = frame.split_last_mut() else {
            return Err(ProtocolFault::NoEnd);
        };
        let payload = frame.get_mut(HEAD_LENGTH..).unwrap_or_default();
        let channel = head.channel;
        if let FrameKind::Header = head.kind {
            let header = mend::header(payload)?;
            if let Some(AnnouncedMessage::Delivery {
                tag,
                address_mended,
            }) = self.take_announced(channel)
                && let Some(note) = DeliveryNote::of(header, address_mended)
            {
                self.notes.put(channel, tag, note);
            }
            return Ok(());
        }
        let content = match mend::method(payload)? {
            MethodKind::Deliver {
                tag,
                address_mended,
            } => AnnouncedMessage::Delivery {
                tag,
                address_mended,
            },
            MethodKind::OtherContent => AnnouncedMessage::Other,
            MethodKind::ChannelClosed => {
                self.take_announced(channel);
                return Ok(());
            }
            MethodKind::Other => return Ok(()),
        };
        self.take_announced(channel);
        self.announced.push((channel, content));
        Ok(())
    }

    fn take_announced(&mut self, channel: u16) -> Option<AnnouncedMessage> {
        let mut announced = self.announced.iter();
        let place = announced.position(|(of, _)| *of == channel)?;
        Some(self.announced.swap_remove(place).1)
    }

    /// Copies the complete frame in `held` to `buffer`, as far as it fits; `None` if there is no complete frame.
    fn copy_complete(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let given = self.given?;
        let rest = self.held.get(given..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.given = Some(given + length);
        if length == rest.len() {
            self.given = None;
            self.held.clear();
        }
        Some(length)
    }

    /// The error that ends the connection. amiquip reports it as an error of the socket.
    fn end_with(&self, fault: &ProtocolFault) -> io::Error {
        self.notes.set_fault(fault);
        io::Error::new(io::ErrorKind::InvalidData, fault.clone())
    }
}

impl<S: Read> Gate<S> {
    /// How many bytes must be in `held` before any of them may pass.
    fn bytes_needed(&self) -> Result<usize, ProtocolFault> {
        let head = FrameHead::read(&self.held)?;
        Ok(match head {
            None
            | Some(FrameHead {
                kind: FrameKind::Opaque,
                ..
            }) => HEAD_LENGTH,
            Some(head) => head.length,
        })
    }

    /// Reads the rest of a frame that is longer than amiquip's buffer. `false` at the end of the stream.
    fn read_long(&mut self, needed: usize) -> io::Result<bool> {
        let held = self.held.len();
        self.held.resize(needed.min(held + MAX_READ), 0);
        let read = self.stream.read(&mut self.held[held..]);
        self.held
            .truncate(held + read.as_ref().copied().unwrap_or(0));
        if read? == 0 {
            return Ok(false);
        }
        if self.held.len() == needed {
            let mut whole = std::mem::take(&mut self.held);
            if self.admit(&mut whole) > 0 {
                self.held = whole;
                self.given = Some(0);
            }
        }
        Ok(true)
    }
}

impl<S: Read> Read for Gate<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(given) = self.copy_complete(buffer) {
                return Ok(given);
            }
            if let Some(fault) = &self.fault {
                return Err(self.end_with(fault));
            }
            if self.passing == 0 {
                let needed = self.bytes_needed().map_err(|fault| self.end_with(&fault))?;
                if needed > buffer.len() {
                    if self.read_long(needed)? {
                        continue;
                    }
                    return Ok(0);
                }
            }
            let held = self.held.len();
            buffer[..held].copy_from_slice(&self.held);
            // `held` is cleared only after a successful read.
            let read = self.stream.read(&mut buffer[held..])?;
            if read == 0 {
                return Ok(0);
            }
            self.held.clear();
            let passed = self.admit(&mut buffer[..held + read]);
            if passed > 0 {
                return Ok(passed);
            }
        }
    }
}

impl<S: Write> Write for Gate<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: Evented> Evented for Gate<S> {
    fn register(&self, poll: &Poll, token: Token, what: Ready, how: PollOpt) -> io::Result<()> {
        self.stream.register(poll, token, what, how)
    }

    fn reregister(&self, poll: &Poll, token: Token, what: Ready, how: PollOpt) -> io::Result<()> {
        self.stream.reregister(poll, token, what, how)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.stream.deregister(poll)
    }
}

/// amiquip registers for edges and reads until the stream would block. So bytes that are held back, or not yet
/// returned, are never left over.
impl<S: Read + Write + Evented + Send + 'static> IoStream for Gate<S> {}

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
