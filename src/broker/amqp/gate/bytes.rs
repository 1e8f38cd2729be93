//! Builds AMQP frames for the tests.

pub(super) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// A long string; also the content of a byte array, an array or a table, after its type.
pub(super) fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

pub(super) fn table(fields: &[u8]) -> Vec<u8> {
    long(fields)
}

pub(super) fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

pub(super) fn method(class: u16, number: u16, arguments: &[u8]) -> Vec<u8> {
    let (class, number) = (class.to_be_bytes(), number.to_be_bytes());
    [&class[..], &number, arguments].concat()
}

pub(super) fn deliver(tag: u64, routing_key: &[u8]) -> Vec<u8> {
    let tag = tag.to_be_bytes();
    let parts = [
        &short(b"tag")[..],
        &tag,
        &[0],
        &short(b""),
        &short(routing_key),
    ];
    method(60, 60, &parts.concat())
}

pub(super) fn header(body_size: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    let (size, flags) = (body_size.to_be_bytes(), flags.to_be_bytes());
    [&[0, 60, 0, 0], &size[..], &flags, properties].concat()
}

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let channel = channel.to_be_bytes();
    [&[kind], &channel[..], &long(payload), &[0xce]].concat()
}
