//! Fuzzes the gate: amiquip's parser reads each frame that the gate lets through as the gate does, completely, or
//! the connection ends with a named fault. `CARROT_FUZZ` sets the number of inputs; runs by hand use 10⁷.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use fastrand::Rng;

use super::bytes::{frame, header, long, method, short};
use super::tests::through;
use super::*;

/// The default number of inputs: some seconds without optimisation.
const INPUTS: u64 = 30_000;

fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let length = random.usize(..=most);
    let text = random.bool();
    let byte = |random: &mut Rng| match (text, random.u8(..)) {
        (true, byte) => byte & 0x7f,
        (false, byte) => byte,
    };
    (0..length).map(|_| byte(random)).collect()
}

/// A random value of a table, sometimes malformed.
fn value(random: &mut Rng, depth: usize) -> Vec<u8> {
    const TYPES: &[u8] = b"tbBsUuIiLlfdDSATFxVSSAAFFZ";
    let kind = TYPES[random.usize(..TYPES.len())];
    let content = match kind {
        b'S' | b'x' => long(&bytes(random, 12)),
        b'A' if depth > 0 => {
            let values = 0..random.usize(..4);
            long(
                &values
                    .flat_map(|_| value(random, depth - 1))
                    .collect::<Vec<_>>(),
            )
        }
        b'F' if depth > 0 => fields(random, depth - 1),
        b'A' | b'F' => long(b""),
        b'V' => vec![],
        b't' | b'b' | b'B' => vec![random.u8(..)],
        b's' | b'U' | b'u' => random.u16(..).to_be_bytes().to_vec(),
        b'I' | b'i' | b'f' => random.u32(..).to_be_bytes().to_vec(),
        b'D' => (0..5).map(|_| random.u8(..)).collect(),
        _ => random.u64(..).to_be_bytes().to_vec(),
    };
    [&[kind], &content[..]].concat()
}

/// A random table with its length.
fn fields(random: &mut Rng, depth: usize) -> Vec<u8> {
    let mut fields = Vec::new();
    for _ in 0..random.usize(..4) {
        fields.extend(short(&bytes(random, 6)));
        fields.extend(value(random, depth));
    }
    long(&fields)
}

/// A table that is nested up to 200 deep.
fn deep(random: &mut Rng) -> Vec<u8> {
    let mut value = b"V".to_vec();
    for _ in 0..random.usize(..200) {
        value = if random.bool() {
            [&b"A"[..], &long(&value)].concat()
        } else {
            [&b"F"[..], &long(&[&short(b"t")[..], &value].concat())].concat()
        };
    }
    long(&[&short(b"deep")[..], &value].concat())
}

fn content_header(random: &mut Rng) -> Vec<u8> {
    let flags = match random.u8(..8) {
        0 => random.u16(..),
        _ => random.u16(..) & 0xfffc,
    };
    let mut properties = Vec::new();
    for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
        properties.extend(match bit {
            13 if random.u8(..8) == 0 => deep(random),
            13 => fields(random, 4),
            12 | 11 => vec![random.u8(..)],
            6 => random.u64(..).to_be_bytes().to_vec(),
            _ => short(&bytes(random, 20)),
        });
    }
    let size = match random.u8(..16) {
        0 => random.u64(..),
        _ => random.u64(..100),
    };
    header(size, flags, &properties)
}

fn any_method(random: &mut Rng) -> Vec<u8> {
    let classes = [10, 10, 20, 40, 50, 60, 60, 60, 85, 30, 90];
    let numbers = [
        10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 71, 72, 80, 111, 120,
    ];
    let class = classes[random.usize(..classes.len())];
    let number = numbers[random.usize(..numbers.len())];
    let fixed = |random: &mut Rng, length: usize| (0..length).map(|_| random.u8(..)).collect();
    let mut text = |most| short(&bytes(random, most));
    let arguments: Vec<Vec<u8>> = match (class, number) {
        (10, 10) => vec![
            vec![0, 9],
            fields(random, 4),
            long(b"PLAIN"),
            long(b"en_US"),
        ],
        (10 | 20, 50 | 40) => vec![vec![1, 64], text(20), vec![0; 4]],
        (60, 50) => vec![vec![1, 56], text(9), text(9), text(9)],
        (60, 60) => vec![text(9), vec![0; 9], text(9), text(9)],
        (60, 71) => vec![vec![0; 9], text(9), text(9), vec![0; 4]],
        (50, 11) => vec![text(9), vec![0; 8]],
        (60, 21 | 30 | 31 | 72) | (10, 41 | 60) => vec![text(20), vec![0]],
        (20, 11) | (10, 20) => vec![long(&bytes(random, 20))],
        _ => {
            let length = random.usize(..12);
            vec![fixed(random, length)]
        }
    };
    method(class, number, &arguments.concat())
}

/// Some frames as a broker might send them, with some corruptions.
fn talk(random: &mut Rng) -> Vec<u8> {
    let mut talk = Vec::new();
    for _ in 0..random.usize(1..5) {
        let (kind, payload) = match random.u8(..8) {
            0..=3 => (2, content_header(random)),
            4 | 5 => (1, any_method(random)),
            6 => (3, bytes(random, 40)),
            _ => (8, Vec::new()),
        };
        talk.extend(frame(kind, random.u16(..3), &payload));
    }
    // Half of the inputs have wrong, missing or extra bytes.
    if random.bool() {
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..talk.len());
            match random.u8(..6) {
                0 => talk.truncate(at.max(1)),
                1 => talk.insert(at, random.u8(..)),
                2 => drop(talk.remove(at)),
                3 => talk[at] = random.u8(..),
                4 => talk[at] ^= 1 << random.u8(..8),
                _ => talk[at] = talk[at].wrapping_add(1),
            }
            if talk.is_empty() {
                talk.push(0);
            }
        }
    }
    talk
}

/// Checks that the gate and the parser read a complete frame alike.
fn check(kind: u8, frame: &[u8]) {
    let (rest, parsed) = parse_frame(frame).unwrap_or_else(|error| panic!("{error:?}"));
    assert!(rest.is_empty(), "all is consumed");
    let payload = &frame[HEAD_LENGTH..frame.len() - 1];
    if kind != 2 {
        return;
    }
    let AMQPFrame::Header(_, 60, content) = parsed else {
        panic!("another frame: {parsed:?}");
    };
    // The parser has as many properties as the flags announce: it skipped none.
    let flags = u16::from_be_bytes([payload[12], payload[13]]);
    assert_eq!(content.properties.bitmask(), flags & 0xfffc);
    // If the gate can read all headers, the parser has all of them, except for duplicate names and the order.
    let mut again = payload.to_vec();
    let seen = mend::header(&mut again).unwrap();
    assert_eq!(again, payload, "what is mended stays so");
    assert_eq!(seen.message_id, None);
    if seen.fault.is_none()
        && let Some(headers) = content.properties.headers()
    {
        let mut names = mend::names(&mut again);
        names.sort();
        names.dedup();
        assert!(headers.keys().eq(names.iter()), "{headers:?}: {names:?}");
    }
}

fn try_one(input: &[u8], random: &mut Rng) -> bool {
    let most = [1, 3, 64, 1 << 20][random.usize(..4)];
    let room = [1, 7, 32, 4096][random.usize(..4)];
    let (given, fault, _) = through(input, most, room);
    assert!(given.len() <= input.len());
    let mut rest = &given[..];
    while rest.len() >= HEAD_LENGTH {
        let head = FrameHead::read(rest).unwrap().unwrap();
        let Some(frame) = rest.get(..head.length) else {
            assert!(
                matches!(head.kind, FrameKind::Opaque),
                "only bodies pass in parts"
            );
            break;
        };
        check(rest[0], frame);
        rest = &rest[head.length..];
    }
    fault.is_some()
}

#[test]
fn any_input_is_parsed_or_ends_with_a_named_fault() {
    let inputs = std::env::var("CARROT_FUZZ").ok();
    let inputs = inputs.map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let mut faults = 0_u64;
    for seed in 0..inputs {
        let mut random = Rng::with_seed(seed);
        let input = talk(&mut random);
        let tried = std::panic::catch_unwind(|| {
            let mut random = Rng::with_seed(seed);
            try_one(&input, &mut random)
        });
        match tried {
            Ok(fault) => faults += u64::from(fault),
            Err(_) => panic!("seed {seed}: {input:02x?}"),
        }
    }
    // Both outcomes are frequent.
    assert!(
        faults > inputs / 20 && faults < inputs * 19 / 20,
        "{faults} of {inputs}"
    );
}
