//! Bytes that violate AMQP, and bytes that are no AMQP at all.

use std::time::{Duration, Instant};

use super::CAT;
use super::encoding::{self, Properties, field, frame, method, nested, short};
use super::fake_broker::{Fake, Says};
use crate::support::{Database, Raw, World, eventually};

/// The service logs the violation once, reconnects at growing intervals, and works when the broker has become
/// a real one.
#[track_caller]
fn assert_named(says: Says, reason: &str) {
    let mut world = World::on(Database::Sqlite, CAT);
    world.declare_queue("default");
    world.publish(&[Raw::foreign("cat", Some("good"), "{}")]);
    let fake = Fake::start(says);
    fake.replace_broker(&mut world);

    let mut running = world.launch(&[], "");
    running.await_log(reason);
    let watched = Instant::now();
    let before = fake.connections();
    eventually("the service connects four more times", || {
        fake.connections() >= before + 4
    });
    // The waits between the connections are at least 50, 100, 200 and 400 ms.
    assert!(
        watched.elapsed() > Duration::from_millis(400),
        "{:?}",
        watched.elapsed()
    );
    let log = running.log();
    assert_eq!(log.matches("is not consumed").count(), 1, "{log}");
    assert!(
        !log.contains("is away") && !log.contains("consumed again"),
        "{log}"
    );

    fake.forward_to_rabbitmq();
    assert_eq!(world.ended("good")["status"], "COMPLETED");
    running.stop_with_empty(&world, &["default"]);
    let log = running.log();
    assert_eq!(log.matches(reason).count(), 1, "{log}");
    assert!(!log.contains("is away"), "{log}");
}

#[test]
fn a_frame_that_is_too_large_is_named() {
    let says = |_: &[u8]| b"\x03\0\x01\x00\x02\x00\x00".to_vec();
    assert_named(Says::ToConsumers(says), "a frame of 131080 bytes");
}

#[test]
fn a_giant_body_is_named() {
    let says = |consumer: &[u8]| {
        let deliver = [&short(consumer)[..], &[0, 0, 0, 0, 0, 0, 0, 1, 0]].concat();
        let deliver = method(1, 60, 60, &[&deliver, &short(b""), &short(b"default")]);
        [deliver, frame(2, 1, &Properties::default().header(1 << 60))].concat()
    };
    assert_named(
        Says::ToConsumers(says),
        "a message of 1152921504606846976 bytes",
    );
}

#[test]
fn property_flags_that_continue_are_named() {
    let says = |consumer: &[u8]| {
        let deliver = [&short(consumer)[..], &[0, 0, 0, 0, 0, 0, 0, 1, 0]].concat();
        let deliver = method(1, 60, 60, &[&deliver, &short(b""), &short(b"default")]);
        let header = [&Properties::default().flags(1).header(0)[..], &[0, 0]].concat();
        [deliver, frame(2, 1, &header)].concat()
    };
    assert_named(
        Says::ToConsumers(says),
        "property flags go on in a second word",
    );
}

#[test]
fn a_method_with_tables_that_only_clients_send_is_named() {
    let says = |_: &[u8]| {
        let deep = nested(20_000);
        let table = encoding::long(&field(b"", &deep));
        method(1, 50, 10, &[&[0, 0], &short(b"q"), &[0], &table])
    };
    assert_named(
        Says::ToConsumers(says),
        "method 50.10, which a broker does not send",
    );
}

#[test]
fn valid_frames_in_the_wrong_place_are_named() {
    let says = |_: &[u8]| frame(3, 1, b"a body of nothing");
    assert_named(Says::ToConsumers(says), "received unexpected frame");
}

#[test]
fn bytes_that_are_no_amqp_are_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    assert_named(
        Says::AtOnce(http),
        "no AMQP frame: it begins with the byte 0x48",
    );
    assert_named(
        Says::AtOnce(b"\x15\x03\x03\0\x02\x02\x46".to_vec()),
        "speaks TLS",
    );
}

#[test]
fn check_and_send_name_bytes_that_are_no_amqp() {
    let mut world = World::on(Database::Sqlite, CAT);
    let fake = Fake::start(Says::AtOnce(b"AMQP\0\0\x09\x01".to_vec()));
    fake.replace_broker(&mut world);
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 69, "{out}{err}");
    let reason =
        "the broker breaks the AMQP protocol: it sent the header of AMQP in another version";
    assert!(out.contains(reason), "{out}{err}");

    let (code, uuid, err) = world.run(&["send", "cat"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(reason), "{err}");
    assert_eq!(world.find(uuid.trim()).unwrap()["status"], "PENDING");
}

#[test]
fn a_publisher_names_bytes_that_come_instead_of_a_confirm() {
    let mut world = World::on(Database::Sqlite, CAT);
    let fake = Fake::start(Says::ToPublishers(b"\x02\0\x01\x7f\xff\xff\xff".to_vec()));
    fake.replace_broker(&mut world);

    let (code, uuid, err) = world.run(&["send", "cat"]);

    assert_eq!(code, 0, "{err}");
    let reason = "the broker breaks the AMQP protocol: it sent a frame of 2147483655 bytes";
    assert!(err.contains(reason), "{err}");
    assert_eq!(world.find(uuid.trim()).unwrap()["status"], "PENDING");
}
