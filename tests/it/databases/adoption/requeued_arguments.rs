//! Arguments on their way from a message to its row, in Python's format, and back to a message by a requeue.

use std::collections::HashMap;

use amiquip::{AmqpValue, Delivery};
use carrot_actors::internals::json;
use carrot_actors::message::Literal;
use carrot_actors::task::{Registry, TaskError};
use serde_json::{Value, json};

use super::django::{Django, MESSAGE_LOG};
use super::{adopted_world, message_of, message_rows};
use crate::support::{Database, Raw, World, cases, text};

cases! { on every_database:
    a_requeued_row_of_djangos_is_the_message_that_django_sent,
    every_literal_that_python_writes_is_requeued_as_it_was_sent,
    a_message_is_requeued_with_the_arguments_that_it_came_with,
    arguments_that_a_message_can_not_carry_are_not_requeued_and_stay,
}

/// Literals as CPython writes them, and their values.
fn literals(kind: &str) -> Vec<(String, Literal)> {
    let fixture = json::parse(include_str!("../../../fixtures/python_literals.json")).unwrap();
    let Literal::List(literals) = part(&fixture, kind) else {
        panic!("{kind} is no list");
    };
    let literal = |literal| match part(literal, "python") {
        Literal::Text(python) => (python.clone(), part(literal, "json").clone()),
        other => panic!("{other} is no text"),
    };
    literals.iter().map(literal).collect()
}

/// The value of that name in an object.
fn part<'a>(object: &'a Literal, name: &str) -> &'a Literal {
    let Literal::Object(pairs) = object else {
        panic!("{object} is no object");
    };
    pairs.get(name).unwrap_or(&Literal::Null)
}

/// A world whose queue is not consumed.
fn world(database: Database) -> World {
    let world = adopted_world(database);
    Django::on(&world).delete(MESSAGE_LOG, "1 = 1");
    world.declare_queue("default");
    world
}

/// The row of a message whose task has failed, as django-carrot writes it.
fn failed(uuid: &str, task_args: &str) -> Value {
    let mut row = message_rows().remove(3);
    row["uuid"] = uuid.into();
    row["status"] = "FAILED".into();
    row["task_args"] = task_args.into();
    row["failure_time"] = "2026-11-23 17:00:00.000001".into();
    row["exception"] = "it failed".into();
    row
}

impl World {
    /// Requeues all failed messages: the new uuid of each old one.
    #[track_caller]
    pub fn requeue_failed(&self) -> HashMap<String, String> {
        let (code, out, err) = self.run(&["requeue", "--failed"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let pair = |line: &str| {
            let (old, new) = line.split_once(" -> ").unwrap();
            (old.to_owned(), new.to_owned())
        };
        out.lines().map(pair).collect()
    }

    /// Takes all messages from the queue, by their ids.
    pub fn take_all(&self, queue: &str) -> HashMap<String, Delivery> {
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        let mut taken = HashMap::new();
        while let Some(get) = channel.basic_get(queue, true).unwrap() {
            let id = get.delivery.properties.message_id().clone().unwrap();
            taken.insert(id, get.delivery);
        }
        drop(channel);
        connection.close().unwrap();
        taken
    }
}

fn body(message: &Delivery) -> Literal {
    json::parse(str::from_utf8(&message.body).unwrap()).unwrap()
}

/// The positional arguments in a body. A body without any does not have them.
fn args(body: &Literal) -> Literal {
    match part(body, "args") {
        Literal::Null => Literal::List(Vec::new()),
        args => args.clone(),
    }
}

fn a_requeued_row_of_djangos_is_the_message_that_django_sent(database: Database) {
    let world = world(database);
    let mut django = Django::on(&world);
    for mut row in message_rows() {
        row["status"] = json!("FAILED");
        row["failure_time"] = row["publish_time"].clone();
        row["exception"] = json!("it failed");
        django.create(MESSAGE_LOG, &[row]);
    }

    let requeued = world.requeue_failed();

    let messages = world.take_all("default");
    assert_eq!(messages.len(), message_rows().len());
    for before in message_rows() {
        let sent = message_of(&before);
        let key = &requeued[text(&before, "uuid")];
        let message = &messages[key];
        assert_eq!(message.exchange, text(&sent, "exchange"));
        assert_eq!(message.routing_key, text(&sent, "routing_key"));
        assert_eq!(body(message), json::parse(text(&sent, "body")).unwrap());
        let (properties, of_sent) = (&message.properties, &sent["properties"]);
        assert_eq!(
            properties.priority().map(Value::from),
            Some(of_sent["priority"].clone())
        );
        assert_eq!(properties.type_().as_deref(), of_sent["type"].as_str());
        assert_eq!(
            properties.content_type().as_deref(),
            of_sent["content_type"].as_str()
        );
        let headers = properties.headers().as_ref().unwrap();
        let task = AmqpValue::LongString(text(&of_sent["headers"], "type").to_owned());
        assert_eq!((headers.len(), headers.get("type")), (1, Some(&task)));

        let row = django
            .filter(MESSAGE_LOG, &format!("uuid = '{key}'"))
            .remove(0);
        assert_eq!(row["status"], "PUBLISHED");
        for column in [
            "exchange",
            "queue",
            "routing_key",
            "priority",
            "task",
            "task_args",
        ] {
            assert_eq!(row[column], before[column], "{column}");
        }
        for column in [
            "exception",
            "failure_time",
            "completion_time",
            "output",
            "log",
        ] {
            assert!(row[column].is_null(), "{column}");
        }
        let content = |row: &Value| json::parse(text(row, "content")).unwrap();
        assert_eq!(content(&row), content(&before));
    }
    assert_eq!(
        django.filter(MESSAGE_LOG, "1 = 1").len(),
        messages.len(),
        "the old messages are deleted"
    );
}

fn every_literal_that_python_writes_is_requeued_as_it_was_sent(database: Database) {
    let world = world(database);
    let literals = literals("written");
    let rows = (literals.iter().enumerate())
        .map(|(nth, (python, _))| failed(&format!("literal-{nth}"), python));
    let mut django = Django::on(&world);
    django.create(MESSAGE_LOG, &rows.collect::<Vec<_>>());

    let requeued = world.requeue_failed();

    let messages = world.take_all("default");
    assert_eq!(messages.len(), literals.len());
    let rows = django.filter(MESSAGE_LOG, "1 = 1");
    let rows: HashMap<_, _> = rows.iter().map(|row| (text(row, "uuid"), row)).collect();
    for (nth, (python, literal)) in literals.iter().enumerate() {
        let key = &requeued[&format!("literal-{nth}")];
        assert_eq!(args(&body(&messages[key])), *literal, "{python}");
        assert_eq!(rows[&**key]["task_args"], **python);
    }
}

fn a_message_is_requeued_with_the_arguments_that_it_came_with(database: Database) {
    let world = world(database);
    let mut bodies: Vec<_> = (literals("written").into_iter())
        .map(|(_, args)| format!("{{\"args\": {args}, \"kwargs\": {{\"same\": {args}}}}}"))
        .collect();
    // Numbers that are not doubles, or that CPython would write otherwise.
    let numbers = "[1e+400, -1e+400, 1e-400, 1.00000000000000000001, 123456789012345678901.5]";
    bodies.push(format!("{{\"args\": {numbers}}}"));
    let messages: Vec<_> = (bodies.iter().enumerate())
        .map(|(nth, body)| {
            Raw::foreign(
                "app.tasks.noop",
                Some(&format!("came-{nth}")),
                body.as_str(),
            )
        })
        .collect();
    world.publish(&messages);
    let mut tasks = Registry::new();
    tasks
        .register("app.tasks.noop", |_, _| Err(TaskError::new("once more")))
        .unwrap();
    let mut config = world.config();
    config.tasks.clear();
    let service = world.in_process_with(tasks, config);
    world.await_count("FAILED", bodies.len());
    service.stop();

    let requeued = world.requeue_failed();

    let messages = world.take_all("default");
    assert_eq!(messages.len(), bodies.len());
    for (nth, sent) in bodies.iter().enumerate() {
        let again = body(&messages[&requeued[&format!("came-{nth}")]]);
        let sent = json::parse(sent).unwrap();
        assert_eq!(part(&again, "kwargs"), part(&sent, "kwargs"));
        assert_eq!(args(&again), args(&sent));
    }
}

fn arguments_that_a_message_can_not_carry_are_not_requeued_and_stay(database: Database) {
    let world = world(database);
    let refused = [literals("refused"), literals("nonsense")].concat();
    let rows = (refused.iter().enumerate())
        .map(|(nth, (python, _))| failed(&format!("literal-{nth}"), python));
    let mut django = Django::on(&world);
    django.create(MESSAGE_LOG, &rows.collect::<Vec<_>>());
    let before = django.filter(MESSAGE_LOG, "1 = 1");

    let (code, out, err) = world.run(&["requeue", "--failed"]);

    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert_eq!(err.lines().count(), refused.len());
    for line in err.lines() {
        assert!(
            line.contains(" is not requeued: task_args can't be read: at character "),
            "{line}"
        );
    }
    assert_eq!(django.filter(MESSAGE_LOG, "1 = 1"), before);
    assert_eq!(world.ready("default"), 0);
}
