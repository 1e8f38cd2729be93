//! AMQP frames, and the closing of a channel as RabbitMQ does it when a delivery was not acknowledged within
//! `consumer_timeout`.

use std::io::{self, Read};
use std::net::TcpStream;

/// The type of a frame that holds a method, and the octet that ends each frame.
const METHOD: u8 = 1;
const FRAME_END: u8 = 0xCE;

/// The methods `channel.close` and `channel.close-ok`, class and method.
const CLOSE: [u8; 4] = [0, 20, 0, 40];
const CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// RabbitMQ's reason.
const REASON: &str = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out";

pub fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 7];
    from.read_exact(&mut frame)?;
    let size = u32::from_be_bytes(frame[3..7].try_into().unwrap());
    frame.resize(7 + size as usize + 1, 0);
    from.read_exact(&mut frame[7..])?;
    Ok(frame)
}

pub fn is_close_ok(frame: &[u8]) -> bool {
    frame[0] == METHOD && frame[7..].starts_with(&CLOSE_OK)
}

/// `channel.close` of channel 1: 406, the reason, and no method as the cause.
pub fn close_frame() -> Vec<u8> {
    let mut payload = CLOSE.to_vec();
    payload.extend(406_u16.to_be_bytes());
    payload.push(u8::try_from(REASON.len()).unwrap());
    payload.extend(REASON.as_bytes());
    payload.extend([0; 4]);
    let mut frame = vec![METHOD, 0, 1];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}
