use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::super::bytes::{self, entry, frame, long, short, table};
use super::*;

/// The properties that amiquip's parser reads in a mended header with these flags and properties, and the
/// gate's note.
fn read(flags: u16, properties: &[u8]) -> (AMQPProperties, ContentHeader) {
    let mut payload = bytes::header(2, flags, properties);
    let header = header(&mut payload).unwrap();
    let AMQPFrame::Header(1, 60, content) = parsed(2, &payload) else {
        panic!("no header");
    };
    assert_eq!(content.body_size, 2);
    (content.properties, header)
}

fn parsed(kind: u8, payload: &[u8]) -> AMQPFrame {
    let frame = frame(kind, 1, payload);
    let (rest, parsed) = parse_frame(&frame).unwrap();
    assert!(rest.is_empty());
    parsed
}

fn refused(flags: u16, properties: &[u8]) -> ProtocolFault {
    header(&mut bytes::header(2, flags, properties)).unwrap_err()
}

fn headers(fields: &[u8]) -> (FieldTable, Option<UnreadableHeaders>) {
    let (properties, header) = read(0x2000, &table(fields));
    (properties.headers().clone().unwrap(), header.fault)
}

const GREET: &[u8] = b"\x04typeS\0\0\0\x05greet";

fn greets(headers: &FieldTable) -> bool {
    headers.get("type") == Some(&AMQPValue::LongString("greet".to_owned()))
}

#[test]
fn properties_that_are_not_utf8_keep_their_places() {
    // Every property is present; most strings are not UTF-8.
    let texts = [&b"caf\xe9"[..], b"\xff\xfe", b"\xe9"].map(short).concat();
    let id = uuid::Uuid::new_v4();
    let id = [&[0xff], &id.as_bytes()[1..]].concat();
    let all = [
        &short(b"text/plain; name=caf\xe9")[..],
        &short(b"\xc3"),
        &table(GREET),
        &[2, 7],
        &texts,
        &short(&id),
        &7_u64.to_be_bytes(),
        &short(b"django-carrot message"),
        &short(b"gu\xe9st"),
        &short(b"app"),
        &short(b""),
    ]
    .concat();
    let (properties, header) = read(0xfffc, &all);
    assert_eq!(header.message_id, Some(id));
    assert_eq!(header.fault, None);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(*properties.content_type(), text("text/plain; name=caf?"));
    assert_eq!(*properties.content_encoding(), text("?"));
    assert!(greets(properties.headers().as_ref().unwrap()));
    assert_eq!(*properties.priority(), Some(7));
    assert_eq!(*properties.correlation_id(), text("caf?"));
    assert_eq!(*properties.reply_to(), text("??"));
    assert_eq!(*properties.expiration(), text("?"));
    assert_eq!(*properties.timestamp(), Some(7));
    assert_eq!(*properties.type_(), text("django-carrot message"));
    assert_eq!(*properties.user_id(), text("gu?st"));
    assert_eq!(*properties.app_id(), text("app"));
    assert_eq!(*properties.cluster_id(), text(""));
}

#[test]
fn a_valid_header_is_unchanged() {
    let properties = [table(GREET), short("Grüße".as_bytes())].concat();
    let mut payload = bytes::header(2, 0x2080, &properties);
    let before = payload.clone();
    assert_eq!(header(&mut payload), Ok(ContentHeader::default()));
    assert_eq!(payload, before);
}

#[test]
fn every_known_type_leaves_the_next_header_readable() {
    let values: [&[u8]; 20] = [
        b"t\x01",
        b"b\xff",
        b"B\xff",
        b"s\0\x01",
        b"U\0\x01",
        b"u\0\x01",
        b"I\0\0\0\x01",
        b"i\0\0\0\x01",
        b"l\0\0\0\0\0\0\0\x01",
        b"L\0\0\0\0\0\0\0\x01",
        b"f\x7f\xc0\0\0",
        b"d\x7f\xf8\0\0\0\0\0\0",
        b"D\xff\xff\xff\xff\xff",
        b"S\0\0\0\0",
        b"S\0\0\0\x02\xff\xfe",
        b"A\0\0\0\x02tV",
        b"T\xff\xff\xff\xff\xff\xff\xff\xff",
        b"F\0\0\0\0",
        b"x\0\0\0\x01\xff",
        b"V",
    ];
    for value in values {
        let (read, fault) = headers(&[&entry(b"odd", value)[..], GREET].concat());
        assert!(greets(&read), "{value:?}");
        assert_eq!(fault, None, "{value:?}");
    }
}

#[test]
fn values_and_names_that_are_not_utf8_leave_the_next_header_readable() {
    let nested = [entry(b"\xff", b"V"), entry(b"in", b"S\0\0\0\x01\xff")].concat();
    let fields = [
        &entry(b"caf\xe9", b"V")[..],
        &entry(b"value", &[&b"S"[..], &long(b"caf\xe9")].concat()),
        &entry(b"table", &[&b"F"[..], &long(&nested)].concat()),
        &entry(b"array", &[&b"A"[..], &long(b"S\0\0\0\x01\xffV")].concat()),
        GREET,
    ];
    let (headers, fault) = headers(&fields.concat());
    assert!(greets(&headers) && fault.is_none());
    assert_eq!(headers.get("caf?"), Some(&AMQPValue::Void));
    let odd = AMQPValue::ByteArray(b"caf\xe9".to_vec());
    assert_eq!(headers.get("value"), Some(&odd));
    let bytes = AMQPValue::ByteArray(b"\xff".to_vec());
    let inner = [
        ("?".to_owned(), AMQPValue::Void),
        ("in".to_owned(), bytes.clone()),
    ];
    let inner = AMQPValue::FieldTable(inner.into_iter().collect());
    assert_eq!(headers.get("table"), Some(&inner));
    let array = AMQPValue::FieldArray(vec![bytes, AMQPValue::Void]);
    assert_eq!(headers.get("array"), Some(&array));
}

#[test]
fn deep_nesting_becomes_opaque() {
    let array = |inside: Vec<u8>| [&b"A"[..], &long(&inside)].concat();
    let inside = |name: &'static [u8]| move |inside: Vec<u8>| entry(name, &inside);
    let in_table = |content: Vec<u8>| [&b"F"[..], &long(&inside(b"t")(content))].concat();
    for deep in [10, 31, 32, 33, 4040, 16_000] {
        for kind in 0..3 {
            let mut value = b"V".to_vec();
            // The third kind alternates tables and arrays.
            for nth in 0..deep {
                let as_array = kind == 0 || kind == 2 && nth % 2 == 0;
                value = if as_array {
                    array(value)
                } else {
                    in_table(value)
                };
                if value.len() > 130_000 {
                    break;
                }
            }
            let (headers, fault) = headers(&[&entry(b"deep", &value)[..], GREET].concat());
            assert!(greets(&headers) && fault.is_none());
            let mut depth = 0;
            let mut at = headers.get("deep").unwrap();
            loop {
                at = match at {
                    AMQPValue::FieldArray(values) => &values[0],
                    AMQPValue::FieldTable(fields) => &fields["t"],
                    _ => break,
                };
                depth += 1;
            }
            assert!(
                depth == deep.min(MAX_DEPTH - 1),
                "{deep} of kind {kind}: {depth}"
            );
        }
    }
}

#[test]
fn unreadable_headers_are_noted_and_the_next_properties_are_kept() {
    let cases: [(&[u8], UnreadableHeaders); 6] = [
        (b"Z\0\0", UnreadableHeaders::Type(b'Z')),
        (b"\0", UnreadableHeaders::Type(0)),
        (b"S\0\0\xff\xffabc", UnreadableHeaders::Length),
        (b"x\xff\xff\xff\xff", UnreadableHeaders::Length),
        (b"A\0\0\0\x01Z", UnreadableHeaders::Type(b'Z')),
        (b"F\0\0\0\x05\x01aI\0\0", UnreadableHeaders::Length),
    ];
    for (value, fault) in cases {
        for fields in [
            [&entry(b"odd", value)[..], GREET].concat(),
            [GREET, &entry(b"odd", value)].concat(),
        ] {
            let all = [&table(&fields)[..], &short(b"id"), &short(b"kind")].concat();
            let (properties, header) = read(0x20a0, &all);
            assert_eq!(header.fault, Some(fault));
            assert_eq!(properties.message_id().as_deref(), Some("id"));
            assert_eq!(properties.type_().as_deref(), Some("kind"));
        }
    }
    let reason = UnreadableHeaders::Type(b'Z').to_string();
    assert_eq!(reason, "its headers hold a value of the unknown type 'Z'");
}

#[test]
fn protocol_violations_are_named() {
    assert_eq!(refused(0x8000, b"\x20ab"), ProtocolFault::Properties);
    assert_eq!(refused(0x2000, b"\0\0\xff\xff"), ProtocolFault::Properties);
    assert_eq!(refused(0x0040, b"\0\0"), ProtocolFault::Properties);
    assert_eq!(refused(0x0001, b"\0\0"), ProtocolFault::MoreFlags);
    assert_eq!(refused(0x8001, b"\0\0\x04text"), ProtocolFault::MoreFlags);
    let mut large = bytes::header(BODY_MAX + 1, 0, b"");
    assert_eq!(header(&mut large), Err(ProtocolFault::Body(BODY_MAX + 1)));
    assert!(header(&mut bytes::header(BODY_MAX, 0, b"")).is_ok());
    assert_eq!(header(&mut [0, 50]), Err(ProtocolFault::Class(50)));
    assert_eq!(header(&mut [0, 60, 0]), Err(ProtocolFault::Properties));

    assert_eq!(method(&mut [0, 60, 0]), Err(ProtocolFault::NoMethod));
    // Methods that only a client sends; some hold tables.
    for (class, number) in [(50, 10), (60, 20), (20, 20), (30, 11), (90, 11), (1, 1)] {
        let [_, class_low] = u16::to_be_bytes(class);
        let [_, number_low] = u16::to_be_bytes(number);
        let mut payload = [0, class_low, 0, number_low, 0, 0, 0, 0];
        assert_eq!(
            method(&mut payload),
            Err(ProtocolFault::Method(class, number))
        );
    }
    assert_eq!(
        method(&mut [0, 60, 0, 21, 5, b'a']),
        Err(ProtocolFault::Arguments(60, 21))
    );
}

#[test]
fn an_unused_flag_for_more_flags_is_cleared() {
    let (properties, header) = read(0x8003, &short(b"text/plain"));
    assert_eq!(properties.content_type().as_deref(), Some("text/plain"));
    assert_eq!(header, ContentHeader::default());
}

#[test]
fn every_method_of_a_broker_is_parsed_with_strings_that_are_not_utf8() {
    let bad = short(b"caf\xe9");
    let long_bad = long(b"PLAIN caf\xe9");
    let odd = table(&entry(b"caf\xe9", b"S\0\0\0\x01\xff"));
    let zeros = [0; 9];
    let close = [&[0, 200], &bad[..], &[0, 0, 0, 0]].concat();
    let cases: [(u16, u16, Vec<u8>); 37] = [
        (10, 10, [&[0, 9][..], &odd, &long_bad, &long_bad].concat()),
        (10, 20, long_bad.clone()),
        (10, 30, zeros[..8].to_vec()),
        (10, 41, bad.clone()),
        (10, 50, close.clone()),
        (10, 51, vec![]),
        (10, 60, bad.clone()),
        (10, 61, vec![]),
        (20, 11, long_bad),
        (20, 40, close),
        (20, 41, vec![]),
        (40, 11, vec![]),
        (40, 21, vec![]),
        (40, 31, vec![]),
        (40, 51, vec![]),
        (50, 11, [&bad[..], &zeros[..8]].concat()),
        (50, 21, vec![]),
        (50, 31, zeros[..4].to_vec()),
        (50, 41, zeros[..4].to_vec()),
        (50, 51, vec![]),
        (60, 11, vec![]),
        (60, 21, bad.clone()),
        (60, 30, [&bad[..], &[0]].concat()),
        (60, 31, bad.clone()),
        (60, 50, [&[1, 56][..], &bad, &bad, &bad].concat()),
        (60, 60, [&bad[..], &zeros, &bad, &bad].concat()),
        (
            60,
            60,
            [&short(b"c")[..], &zeros, &short(b"e"), &bad].concat(),
        ),
        (
            60,
            60,
            [&short(b"c")[..], &zeros, &bad, &short(b"k")].concat(),
        ),
        (
            60,
            60,
            [&bad[..], &zeros, &short(b"e"), &short(b"k")].concat(),
        ),
        (60, 71, [&zeros[..], &bad, &bad, &zeros[..4]].concat()),
        (60, 72, bad),
        (60, 80, zeros.to_vec()),
        (60, 111, vec![]),
        (60, 120, zeros.to_vec()),
        (85, 11, vec![]),
        (10, 41, vec![0]),
        (20, 11, vec![0; 4]),
    ];
    let mut mended = Vec::new();
    for (class, number, arguments) in cases {
        let mut payload = bytes::method(class, number, &arguments);
        let what = method(&mut payload).unwrap();
        if let MethodKind::Deliver { address_mended, .. } = what {
            mended.push(address_mended);
        }
        let parsed = parsed(1, &payload);
        if let AMQPFrame::Method(1, AMQPClass::Basic(AMQPMethod::Return(returned))) = parsed {
            assert_eq!(returned.routing_key, "caf?");
        }
    }
    assert_eq!(mended, [true, true, true, false]);
}

#[test]
fn only_bad_bytes_are_replaced() {
    for (text, mended) in [
        (&b"caf\xe9"[..], "caf?"),
        (b"\xe9t\xe9", "?t?"),
        (b"gr\xc3\xbc\xc3", "gr\u{fc}?"),
        (b"\xf0\x9f\xa5", "???"),
        (b"\xed\xa0\x80\xc0\x80", "?????"),
    ] {
        let mut bytes = text.to_vec();
        assert!(mend_text(&mut bytes));
        assert_eq!(bytes, mended.as_bytes());
        assert!(!mend_text(&mut bytes));
    }
}
