//! Numbers keep all their digits on every way of a message.

use std::sync::{Arc, Mutex};

use carrot_actors::message::Arguments;
use carrot_actors::testing::TestApp;
use carrot_actors::{App, Args, Kwargs, Middleware, Next, TaskContext, TaskError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{World, text};

/// Numbers that no f64 holds, in JSON and in Python.
const DIGITS: &str =
    "[1e+400,2.50,1e-05,-0.0,123456789012345678901234567890,1.00000000000000000001]";
const PYTHON: &str =
    "1e+400, 2.5, 1e-05, -0.0, 123456789012345678901234567890, 1.00000000000000000001";

/// The same in JSON, after a row was read.
const REREAD: &str =
    "[1e+400,2.5,1e-05,-0.0,123456789012345678901234567890,1.00000000000000000001]";

#[test]
fn a_command_gets_every_digit_that_was_typed_and_a_row_keeps_them() {
    let world = World::new("[[queues]]\nname = \"default\"\n[tasks.cat]\ncommand = [\"cat\"]\n");
    world.declare_queue("default");
    let kwargs = format!("{{\"same\": {DIGITS}}}");
    let uuid = world.send(&["cat", "--args", DIGITS, "--kwargs", &kwargs]);
    let timetable = ["--every", "1d", "--disabled"];
    let schedule = [
        "schedule", "add", "daily", "cat", "--args", DIGITS, "--kwargs", &kwargs,
    ];
    assert_eq!(world.run(&[&schedule[..], &timetable].concat()).0, 0);
    let (_, scheduled, _) = world.run(&["schedule", "run", "daily"]);
    let (code, _, err) = world.run(&["--testmode", "--logfile", "carrot.log"]);
    assert_eq!(code, 0, "{err}");

    for (uuid, args) in [(uuid.as_str(), DIGITS), (scheduled.trim(), REREAD)] {
        let row = world.find(uuid).unwrap();
        assert_eq!(row["status"], "COMPLETED", "{row}");
        let given = format!("\"args\":{args},\"kwargs\":{{\"same\":{DIGITS}}}");
        assert!(text(&row, "output").contains(&given), "{row}");
        assert_eq!(row["task_args"], format!("({PYTHON})"));
        assert_eq!(row["content"], format!("{{\"same\":{DIGITS}}}"));
    }
    let (_, shown, _) = world.run(&["schedule", "show", "daily", "--json"]);
    for number in DIGITS.trim_matches(['[', ']']).split(',') {
        assert!(shown.contains(number), "{number}: {shown}");
    }
}

/// A middleware that records the arguments that it sees.
struct Onlooker(Arc<Mutex<Vec<Value>>>);

impl Middleware for Onlooker {
    fn around(
        &self,
        _: &TaskContext,
        arguments: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        self.0.lock().unwrap().push(json!(arguments.args));
        next.run()
    }
}

#[test]
fn middleware_sees_null_for_numbers_that_only_a_command_can_be_given() {
    let world = World::new("[[queues]]\nname = \"default\"\n[tasks.cat]\ncommand = [\"cat\"]\n");
    world.declare_queue("default");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = app().middleware(Onlooker(Arc::clone(&seen)));
    let service = world.in_process(app.into_registry().unwrap());
    let uuid = world.send(&["cat", "--args", "[1e+400, 2.50]"]);
    let row = world.ended(&uuid);
    assert!(text(&row, "output").contains("[1e+400,2.50]"), "{row}");
    assert_eq!(*seen.lock().unwrap(), [json!([null, 2.5])]);
    service.stop();
}

#[derive(Deserialize)]
struct Position {
    x: f64,
    y: f64,
}

#[derive(Deserialize)]
struct Placed {
    name: String,
    #[serde(flatten)]
    position: Position,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Shape {
    Circle { radius: f64 },
    Square { side: f64 },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Whole(i64),
    Part(f64),
}

fn place(Kwargs(placed): Kwargs<Placed>) -> Result<Value, TaskError> {
    let Position { x, y } = placed.position;
    Ok(json!([placed.name, x, y]))
}

fn area(Kwargs(shape): Kwargs<Shape>) -> Result<f64, TaskError> {
    Ok(match shape {
        Shape::Circle { radius } => 3.0 * radius * radius,
        Shape::Square { side } => side * side,
    })
}

fn sum(Args(amounts): Args<Vec<Amount>>) -> Result<f64, TaskError> {
    let sum = |sum, amount: Amount| match amount {
        Amount::Whole(whole) => sum + f64::from(u16::try_from(whole).unwrap()),
        Amount::Part(part) => sum + part,
    };
    Ok(amounts.into_iter().fold(0.0, sum))
}

fn double(Args((n,)): Args<(i64,)>) -> Result<i64, TaskError> {
    Ok(2 * n)
}

fn app() -> App {
    App::new()
        .task("place", place)
        .task("area", area)
        .task("sum", sum)
        .task("double", double)
}

/// Runs a message with these arguments, in JSON; its result.
fn ran(app: &mut TestApp, task: &str, args: &str, kwargs: &str) -> Result<Value, String> {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    let draft = app.task(task).args(raw(args)).kwargs(raw(kwargs));
    let result = app.run(draft).unwrap().result;
    result.map_err(|error| error.exception)
}

#[test]
fn functions_read_floats_into_any_type_that_serde_derives() {
    let mut app = app().test().unwrap();
    for (task, args, kwargs, expected) in [
        (
            "place",
            "[]",
            "{\"name\": \"a\", \"x\": 1e-05, \"y\": 2.50}",
            json!(["a", 0.00001, 2.5]),
        ),
        (
            "area",
            "[]",
            "{\"type\": \"Circle\", \"radius\": 1.5}",
            json!(6.75),
        ),
        (
            "area",
            "[]",
            "{\"side\": 2.50, \"type\": \"Square\"}",
            json!(6.25),
        ),
        ("sum", "[1, 2.50, 1.5, 1e-05]", "{}", json!(5.00001)),
    ] {
        assert_eq!(ran(&mut app, task, args, kwargs), Ok(expected), "{task}");
    }
}

#[test]
fn numbers_that_no_function_can_take_fail_the_message_and_are_named() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let app = app().on_failure(move |_, arguments, error| {
        let line = format!("{}: {}", json!(arguments.args), error.exception);
        hear.lock().unwrap().push(line);
    });
    let mut app = app.test().unwrap();
    let huge = ran(&mut app, "double", "[123456789012345678901]", "{}").unwrap_err();
    let expected = "wrong positional arguments: [0]: invalid type: floating point";
    assert!(huge.starts_with(expected), "{huge}");
    let beyond = ran(&mut app, "double", "[3, 1e400]", "{}").unwrap_err();
    assert_eq!(
        beyond,
        "wrong positional arguments: [1]: 1e+400 is beyond every f64"
    );
    let beyond = ran(&mut app, "sum", "[]", "{\"a\": {\"b\": -1e400}}").unwrap_err();
    assert_eq!(
        beyond,
        "wrong named arguments: a.b: -1e400 is beyond every f64"
    );
    let told = told.lock().unwrap();
    assert!(
        told[1].starts_with("[3,null]: wrong positional"),
        "{told:?}"
    );
    assert_eq!(told.len(), 3);
}
