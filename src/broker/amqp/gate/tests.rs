use super::bytes::{deliver, entry, frame, header, long, method, short, table};
use super::fault::BODY_MAX;
use super::*;

/// A socket that returns its bytes in pieces of at most `most`, and would block after each.
pub(super) struct PiecewiseSocket {
    bytes: Vec<u8>,
    read: usize,
    most: usize,
    blocks: bool,
}

impl PiecewiseSocket {
    pub(super) fn new(bytes: &[u8], most: usize) -> Self {
        Self {
            bytes: bytes.to_vec(),
            read: 0,
            most,
            blocks: false,
        }
    }
}

impl Read for PiecewiseSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.read..];
        self.blocks = !self.blocks && !rest.is_empty();
        if self.blocks {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.most.min(buffer.len()).min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}

/// All that the gate returns of `bytes` in reads of at most `room`, the error that ended the connection, and the
/// notes.
pub(super) fn through(
    bytes: &[u8],
    most: usize,
    room: usize,
) -> (Vec<u8>, Option<String>, Arc<GateNotes>) {
    let notes = Arc::new(GateNotes::default());
    let mut gate = Gate::new(PiecewiseSocket::new(bytes, most), Arc::clone(&notes));
    let mut given = Vec::new();
    let mut buffer = vec![0; room];
    let fault = loop {
        match gate.read(&mut buffer) {
            Ok(0) => break None,
            Ok(length) => given.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    assert_eq!(fault, notes.fault());
    (given, fault, notes)
}

const PIECES: [usize; 6] = [1, 2, 3, 7, 100, 1 << 20];
const ROOMS: [usize; 5] = [1, 5, 8, 4096, 1 << 20];

/// Frames of a broker: a long header, bodies, heartbeats, and fields to mend; and the same frames mended.
fn talk() -> (Vec<u8>, Vec<u8>) {
    let talk = |bad: &[u8], kind: u8| {
        let value = [&[kind][..], &long(&[b'x'; 9000]), b"V"].concat();
        let odd = [
            &entry(b"", &value[..value.len() - 1])[..],
            &entry(bad, b"V"),
        ]
        .concat();
        [
            frame(1, 0, &method(10, 60, &short(bad))),
            frame(8, 0, b""),
            frame(1, 1, &deliver(1, bad)),
            frame(
                2,
                1,
                &header(5003, 0x2080, &[table(&odd), short(bad)].concat()),
            ),
            frame(3, 1, &[0xce; 5000]),
            frame(8, 0, b""),
            frame(3, 1, b"end"),
            frame(1, 1, &deliver(2, b"fine")),
            frame(2, 1, &header(0, 0x0080, &short(b"fine"))),
            frame(
                1,
                1,
                &method(
                    60,
                    50,
                    &[&[1, 56][..], &short(bad), &short(b""), &short(bad)].concat(),
                ),
            ),
            frame(2, 1, &header(1, 0x0080, &short(bad))),
            frame(3, 1, b"x"),
            frame(
                1,
                1,
                &method(
                    60,
                    71,
                    &[&[0; 9][..], &short(b""), &short(bad), &[0; 4]].concat(),
                ),
            ),
            frame(2, 1, &header(0, 0x0080, &short(bad))),
        ]
        .concat()
    };
    (talk(b"caf\xe9", b'S'), talk(b"caf?", b'S'))
}

#[test]
fn output_and_notes_do_not_depend_on_how_the_bytes_are_split() {
    let (bytes, mended) = talk();
    for most in PIECES {
        for room in ROOMS {
            let (given, fault, notes) = through(&bytes, most, room);
            assert_eq!(fault, None);
            assert!(given == mended, "pieces of {most} for {room}");
            let odd = notes.take(1, 1).unwrap();
            assert_eq!(odd.message_id.as_deref(), Some(&b"caf\xe9"[..]));
            assert!(odd.address_mended && odd.fault().is_none());
            // `basic.return` and `basic.get-ok` are not deliveries.
            assert_eq!(notes.take(1, 2), None);
            assert_eq!(notes.take(1, 0), None);
        }
    }
}

#[test]
fn bytes_before_a_fault_pass_and_the_fault_is_named() {
    let fine = frame(1, 1, &method(60, 11, b""));
    let too_large = |kind: u8, length: u32| {
        let size = (length - 8).to_be_bytes();
        [&[kind, 0, 1][..], &size, b"begun"].concat()
    };
    let mut open_ended = frame(2, 1, &header(0, 0, b""));
    *open_ended.last_mut().unwrap() = 0;
    let mut open_body = frame(3, 1, b"body");
    *open_body.last_mut().unwrap() = 0;
    for (wrong, reason) in [
        (too_large(1, FRAME_MAX + 1), "a frame of 131073 bytes"),
        (too_large(3, FRAME_MAX + 1), "a frame of 131073 bytes"),
        (too_large(8, u32::MAX), "a frame of 4294967295 bytes"),
        (
            too_large(2, FRAME_MAX + HEADER_ROOM + 1),
            "a frame of 196609 bytes",
        ),
        (
            b"\x02\0\x01\xff\xff\xff\xff".to_vec(),
            "a frame of 4294967303 bytes",
        ),
        (open_ended, "does not end where it says"),
        (open_body, "does not end where it says"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "no AMQP frame"),
        (b"AMQP\0\0\x09\x01".to_vec(), "another version"),
        (b"\x15\x03\x03\0\x02\x02\x46".to_vec(), "amqps://"),
        (frame(1, 1, &method(50, 10, b"")), "method 50.10"),
        (
            frame(2, 1, &header(BODY_MAX + 1, 0, b"")),
            "a message of 536870913 bytes",
        ),
    ] {
        for most in PIECES {
            for room in ROOMS {
                let (given, fault, _) = through(&[&fine[..], &wrong].concat(), most, room);
                assert!(given.starts_with(&fine));
                assert!(given.len() < fine.len() + wrong.len());
                assert!(
                    fault.as_ref().unwrap().contains(reason),
                    "{fault:?}, {reason}"
                );
            }
        }
    }
}

#[test]
fn a_header_that_fills_more_than_a_frame_passes() {
    // RabbitMQ 3.10 sends one of 131 278 bytes, if a dead letter's header had filled its frame.
    let content = vec![b'x'; 131_278];
    let fields = entry(b"a", &[&b"S"[..], &long(&content)].concat());
    let bytes = frame(2, 1, &header(0, 0x2000, &table(&fields)));
    let (given, fault, _) = through(&bytes, 4096, 4096);
    assert_eq!(fault, None);
    assert!(given == bytes);
}
