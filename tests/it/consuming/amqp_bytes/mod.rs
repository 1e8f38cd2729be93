//! Bytes that AMQP allows but amiquip's parser rejects, and bytes that AMQP does not allow.

mod breaches;
mod encoding;
mod fake_broker;
mod raw_client;

use serde_json::json;
use uuid::Uuid;

use self::encoding::{Properties, delivery, field, nested, nested_tables, task, value};
use self::fake_broker::{Fake, Says};
use self::raw_client::Client;
use crate::support::{Database, Raw, Running, World, cases, eventually, text};

cases! { on every_database:
    messages_of_django_whose_properties_are_not_utf8_are_run_once_in_their_rows,
    raw_uuids_as_message_ids_are_those_uuids,
    a_message_id_of_any_bytes_is_a_key,
    headers_that_are_not_utf8_hide_no_task,
    nested_headers_harm_nobody,
    a_message_whose_routing_key_is_not_utf8_can_be_published_again,
    a_message_whose_task_name_is_not_utf8_is_failed_with_the_reason,
    headers_that_can_not_be_read_fail_their_message_and_no_other,
}

const CAT: &str = r#"
[[queues]]
name = "default"
[tasks.cat]
command = ["cat"]
"#;

const DJANGO: &[u8] = b"django-carrot message";

fn world(database: Database) -> World {
    let world = World::on(database, CAT);
    world.declare_queue("default");
    world
}

/// A good message is run after all others, and the log never says that the broker is away.
#[track_caller]
fn assert_all_is_well(world: &World, mut running: Running) {
    world.publish(&[Raw::foreign("cat", Some("the last"), "{}")]);
    assert_eq!(world.ended("the last")["status"], "COMPLETED");
    let (code, out, err) = world.run(&["check"]);
    assert_eq!(code, 0, "{out}{err}");
    running.stop_with_empty(world, &["default"]);
    let log = running.log();
    assert!(
        !log.contains("is away") && !log.contains("malformed"),
        "{log}"
    );
    assert_eq!(log.matches("consuming queue").count(), 1, "{log}");
}

#[track_caller]
fn assert_completed(world: &World, uuids: &[String]) {
    for uuid in uuids {
        let row = world.ended(uuid);
        assert_eq!(row["status"], "COMPLETED", "{row}");
    }
    let rows = world.rows("SELECT uuid FROM carrot_messagelog");
    assert_eq!(rows.len(), uuids.len());
}

fn messages_of_django_whose_properties_are_not_utf8_are_run_once_in_their_rows(database: Database) {
    let world = world(database);
    let base = Properties::default().headers(&[&task("cat")]).kind(DJANGO);
    let uuid = Uuid::new_v4();
    let mut raw = *uuid.as_bytes();
    raw[15] = 0xff;
    let cases = [
        base.clone().correlation_id(&raw),
        base.clone().correlation_id(&raw).timestamp(),
        base.clone().correlation_id(&raw).app_id(b"app"),
        base.clone()
            .correlation_id(&raw)
            .timestamp()
            .app_id(b"\xe9"),
        base.clone().content_type(b"text/plain; name=caf\xe9"),
        base.clone().app_id(&raw).content_type(&raw),
        // Bits that RabbitMQ ignores and forwards.
        base.flags(3),
    ];
    let uuids: Vec<_> = cases.iter().map(|_| Uuid::new_v4().to_string()).collect();
    world.insert_published("default", "cat", &uuids);
    let mut client = Client::of(&world);
    for (properties, uuid) in cases.into_iter().zip(&uuids) {
        client.send(&properties.message_id(uuid.as_bytes()));
    }

    let running = world.start(&[]);

    assert_completed(&world, &uuids);
    assert_all_is_well(&world, running);
}

fn raw_uuids_as_message_ids_are_those_uuids(database: Database) {
    let world = world(database);
    // A UUID whose bytes happen to be UTF-8 is read as text.
    let natural = std::iter::repeat_with(Uuid::new_v4)
        .filter(|uuid| std::str::from_utf8(uuid.as_bytes()).is_err());
    let uuids: Vec<Uuid> = natural.take(16).collect();
    let keys: Vec<_> = uuids.iter().map(Uuid::to_string).collect();
    // Half of them have a row of Django's.
    world.insert_published("default", "cat", &keys[..8]);
    let mut client = Client::of(&world);
    for (nth, uuid) in uuids.iter().enumerate() {
        let mut properties = Properties::default()
            .headers(&[&task("cat")])
            .message_id(uuid.as_bytes());
        if nth < 8 {
            properties = properties.kind(DJANGO);
        }
        if nth % 2 == 0 {
            properties = properties.timestamp();
        }
        if nth % 4 < 2 {
            properties = properties.app_id(b"app");
        }
        client.send(&properties);
        client.send(&properties);
    }

    let running = world.start(&[]);

    assert_completed(&world, &keys);
    let log = running.log();
    assert_all_is_well(&world, running);
    assert!(!log.contains("FAILED"), "{log}");
}

fn a_message_id_of_any_bytes_is_a_key(database: Database) {
    let world = world(database);
    let mut client = Client::of(&world);
    for id in [&b"caf\xe9"[..], b"caf\xe8", &[0xff; 255], b"\xff"] {
        let properties = Properties::default().headers(&[&task("cat")]);
        for _ in 0..3 {
            client.send(&properties.clone().message_id(id));
        }
    }

    let running = world.start(&[]);

    world.await_completed(4);
    assert_all_is_well(&world, running);
    assert_eq!(world.rows("SELECT uuid FROM carrot_messagelog").len(), 5);
}

fn headers_that_are_not_utf8_hide_no_task(database: Database) {
    let world = world(database);
    let inside = [field(b"\xe9", &value(b'S', b"\xe9")), field(b"x", b"V")].concat();
    let odd = [
        field(b"a", &value(b'S', b"caf\xe9")),
        field(b"caf\xe9", &value(b'S', b"fine")),
        field(b"\xff", b"V"),
        field(b"a", &value(b'F', &inside)),
        field(b"a", &value(b'A', &value(b'S', b"\xff"))),
        [
            field(b"a", b"L\0\0\0\0\0\0\0\x01"),
            field(b"b", &value(b'x', b"\xff")),
        ]
        .concat(),
        [field(b"a", b"D\0\0\0\0\x01"), field(b"b", b"u\0\x01")].concat(),
    ];
    let ids: Vec<_> = (0..odd.len()).map(|nth| format!("odd-{nth}")).collect();
    let mut client = Client::of(&world);
    for (odd, id) in odd.iter().zip(&ids) {
        let properties = Properties::default().headers(&[odd, &task("cat")]);
        client.send(&properties.message_id(id.as_bytes()));
    }

    let running = world.start(&[]);

    assert_completed(&world, &ids);
    assert_all_is_well(&world, running);
}

fn nested_headers_harm_nobody(database: Database) {
    let config = r#"
        [[queues]]
        name = "default"
        [[queues]]
        name = "other"
        [tasks.cat]
        command = ["cat"]
        [tasks.wait]
        command = ["sh", "-c", "until [ -e go ]; do sleep 0.05; done"]
        "#;
    let world = World::on(database, config);
    world.declare_queue("default");
    let waiting = world.enqueue("other", "wait", 1);
    let running = world.start(&[]);
    eventually("the task of the other queue runs", || {
        let row = world.find(&waiting[0])?;
        (row["status"] == "IN_PROGRESS").then_some(())
    });
    let deep = [
        nested(4040),
        nested(26_000),
        nested_tables(4040),
        nested_tables(20_000),
    ];
    let ids: Vec<_> = (0..deep.len()).map(|nth| format!("deep-{nth}")).collect();
    let mut client = Client::of(&world);
    for (deep, id) in deep.iter().zip(&ids) {
        let properties = Properties::default().headers(&[&field(b"deep", deep), &task("cat")]);
        client.send(&properties.message_id(id.as_bytes()));
    }

    for id in &ids {
        assert_eq!(world.ended(id)["status"], "COMPLETED");
    }
    world.write("go", "");
    assert_eq!(world.ended(&waiting[0])["status"], "COMPLETED");
    let mut running = running;
    running.stop_with_empty(&world, &["default", "other"]);
    assert!(!running.log().contains("is away"), "{}", running.log());
}

fn a_message_whose_routing_key_is_not_utf8_can_be_published_again(database: Database) {
    let world = world(database);
    let mut client = Client::of(&world);
    client.fanout("everywhere", "default");
    let properties = Properties::default().headers(&[&task("cat")]);
    for id in ["first", "second"] {
        let properties = properties.clone().message_id(id.as_bytes());
        client.publish("everywhere", b"caf\xe9", &properties, b"{}");
    }
    client.publish(
        "everywhere",
        b"plain",
        &properties.message_id(b"third"),
        b"{}",
    );

    let running = world.start(&[]);

    for (id, exchange, key) in [
        ("first", "", "default"),
        ("second", "", "default"),
        ("third", "everywhere", "plain"),
    ] {
        let row = world.ended(id);
        assert_eq!(row["status"], "COMPLETED", "{row}");
        assert_eq!(
            (&row["exchange"], &row["routing_key"]),
            (&json!(exchange), &json!(key))
        );
    }
    world.execute("UPDATE carrot_messagelog SET status = 'FAILED' WHERE uuid = 'first'");
    let (code, out, err) = world.run(&["requeue", "first"]);
    assert_eq!(code, 0, "{out}{err}");
    world.await_completed(3);
    assert_all_is_well(&world, running);
}

fn a_message_whose_task_name_is_not_utf8_is_failed_with_the_reason(database: Database) {
    let world = world(database);
    let name = field(b"type", &value(b'S', b"caf\xe9"));
    let properties = Properties::default().headers(&[&name]);
    Client::of(&world).send(&properties.message_id(b"nameless"));

    let running = world.start(&[]);

    let row = world.ended("nameless");
    assert_eq!(row["status"], "FAILED", "{row}");
    let reason = "its header `type` must be a text in UTF-8";
    assert!(text(&row, "exception").contains(reason), "{row}");
    assert_all_is_well(&world, running);
}

/// RabbitMQ refuses such headers from publishers, so the fake broker sends them.
fn headers_that_can_not_be_read_fail_their_message_and_no_other(database: Database) {
    let says = |consumer: &[u8]| {
        let odd = field(b"odd", b"Z\0\0");
        let lie = field(b"lie", b"S\0\0\xff\xff");
        let cases: [(&str, &[&[u8]]); 4] = [
            ("before", &[&odd, &task("cat")]),
            ("behind", &[&task("cat"), &odd]),
            ("length", &[&task("cat"), &lie]),
            ("good", &[&task("cat")]),
        ];
        let mut bytes = Vec::new();
        for (nth, (id, headers)) in cases.into_iter().enumerate() {
            let properties = Properties::default()
                .headers(headers)
                .message_id(id.as_bytes());
            let tag = nth as u64 + 1;
            bytes.extend(delivery(consumer, tag, &properties, b"{\"args\": [1]}"));
        }
        bytes
    };
    // One consumer for each message: the fake broker does not redeliver what is returned to it.
    let config = CAT.replace("[tasks", "concurrency = 8\n[tasks");
    let mut world = World::on(database, &config);
    let fake = Fake::start(Says::ToConsumers(says));
    fake.replace_broker(&mut world);

    let mut running = world.start(&[]);

    for (id, reason) in [
        ("before", "its headers hold a value of the unknown type 'Z'"),
        ("behind", "its headers hold a value of the unknown type 'Z'"),
        (
            "length",
            "a length among its headers points out of their table",
        ),
    ] {
        let row = world.ended(id);
        assert_eq!(row["status"], "FAILED", "{row}");
        assert!(text(&row, "exception").contains(reason), "{row}");
        assert_eq!(row["task_args"], "(1,)");
    }
    assert_eq!(world.ended("good")["status"], "COMPLETED");
    eventually("all messages are acknowledged", || {
        (fake.acknowledged().iter().max() == Some(&4)).then_some(())
    });
    assert_eq!(running.terminate(), 0);
    let log = running.log();
    assert!(!log.contains("is away") && !log.contains("breaks"), "{log}");
    assert_eq!(log.matches("consuming queue").count(), 1, "{log}");
}
