//! The parameters of a task's function: the message's arguments, shared states, the context.

use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::de::value::{MapDeserializer, SeqDeserializer};

use super::states::Need;
use super::{TaskContext, TaskError};
use crate::message::Arguments;

/// A type that a task's function can have as a parameter.
pub trait FromMessage: Sized {
    /// Makes the value for a run, in the [runtime](crate#async-tasks) of the service's tasks.
    ///
    /// # Errors
    /// When it can't be made from this message. The message is FAILED with that error, and the task is not
    /// called.
    fn from_message(context: &TaskContext, arguments: &Arguments) -> Result<Self, TaskError>;

    /// The state that the value can't be made without. A service without that state does not start.
    #[must_use]
    fn need() -> Option<Need> {
        None
    }
}

/// The positional arguments: a tuple, or any other type that a JSON array deserialises to. A message whose
/// arguments do not fit is FAILED, with a text that says which argument is wrong and why.
///
/// ```
/// use carrot_actors::{Args, TaskError};
///
/// fn resize(Args((path, width)): Args<(String, u32)>) -> Result<String, TaskError> {
///     Ok(format!("{path} at {width}"))
/// }
/// # assert_eq!(resize(Args(("a".to_owned(), 3))).unwrap(), "a at 3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args<T>(pub T);

/// The named arguments: a struct, or any other type that a JSON object deserialises to. A message whose
/// arguments do not fit is FAILED, with a text that names the field.
///
/// ```
/// use carrot_actors::{Kwargs, TaskError};
///
/// #[derive(serde::Deserialize)]
/// struct Resize {
///     path: String,
///     #[serde(default)]
///     draft: bool,
/// }
///
/// fn resize(Kwargs(resize): Kwargs<Resize>) -> Result<String, TaskError> {
///     Ok(resize.path)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kwargs<T>(pub T);

/// A value that all tasks of the app share, such as a connection pool; see
/// [`App::state`](crate::App::state).
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use carrot_actors::{State, TaskError};
///
/// fn count(total: State<AtomicU32>) -> Result<u32, TaskError> {
///     Ok(total.fetch_add(1, Ordering::Relaxed))
/// }
/// ```
#[derive(Debug)]
pub struct State<T>(Arc<T>);

impl<T> State<T> {
    /// The shared value itself.
    #[must_use]
    pub fn into_inner(self) -> Arc<T> {
        self.0
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromMessage for Args<T> {
    fn from_message(_: &TaskContext, arguments: &Arguments) -> Result<Self, TaskError> {
        arguments.positional().map(Self)
    }
}

impl<T: DeserializeOwned> FromMessage for Kwargs<T> {
    fn from_message(_: &TaskContext, arguments: &Arguments) -> Result<Self, TaskError> {
        arguments.named().map(Self)
    }
}

impl<T: Send + Sync + 'static> FromMessage for State<T> {
    fn from_message(context: &TaskContext, _: &Arguments) -> Result<Self, TaskError> {
        let need = Need::of::<T>();
        let state = context.states.get().map(Self);
        state.ok_or_else(|| TaskError::new(need.missing_message()))
    }

    fn need() -> Option<Need> {
        Some(Need::of::<T>())
    }
}

impl FromMessage for TaskContext {
    fn from_message(context: &TaskContext, _: &Arguments) -> Result<Self, TaskError> {
        Ok(context.clone())
    }
}

/// All arguments, as they came.
impl FromMessage for Arguments {
    fn from_message(_: &TaskContext, arguments: &Arguments) -> Result<Self, TaskError> {
        Ok(arguments.clone())
    }
}

impl Arguments {
    /// The positional arguments as a tuple or another type that a JSON array deserialises to.
    ///
    /// # Errors
    /// When they do not fit; the error says which argument is wrong and why.
    pub fn positional<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        serde_path_to_error::deserialize(SeqDeserializer::new(self.args.iter()))
            .map_err(|error| wrong("positional", &error))
    }

    /// The named arguments as a struct or another type that a JSON object deserialises to.
    ///
    /// # Errors
    /// When they do not fit; the error names the field.
    pub fn named<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        let named = self.kwargs.iter();
        let named = named.map(|(name, value)| (name.as_str(), value));
        serde_path_to_error::deserialize(MapDeserializer::new(named))
            .map_err(|error| wrong("named", &error))
    }
}

fn wrong(what: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> TaskError {
    let reason = error.inner();
    let place = error.path().to_string();
    TaskError::new(match place.as_str() {
        "." => format!("wrong {what} arguments: {reason}"),
        place => format!("wrong {what} arguments: {place}: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::message::wire;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Size {
        width: u32,
        #[serde(default)]
        box_: Vec<(String, f64)>,
    }

    fn arguments(args: Value, kwargs: Value) -> Arguments {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else {
            panic!("not arguments");
        };
        Arguments { args, kwargs }
    }

    #[test]
    fn a_wrong_argument_is_named_however_deep_it_is() {
        for (kwargs, expected) in [
            (json!({}), "wrong named arguments: missing field `width`"),
            (
                json!({"width": "wide"}),
                "arguments: width: invalid type: string \"wide\", expected u32",
            ),
            (json!({"width": -1}), "arguments: width: invalid "),
            (
                json!({"width": 1, "box_": [["a", 1], ["b", {}]]}),
                "box_[1][1]: invalid type: map",
            ),
            (
                json!({"width": 1, "colour": 1}),
                "unknown field `colour`, expected",
            ),
        ] {
            let wrong = arguments(json!([]), kwargs).named::<Size>().unwrap_err();
            assert!(wrong.exception.contains(expected), "{}", wrong.exception);
        }
        for (args, expected) in [
            (
                json!([]),
                "wrong positional arguments: invalid length 0, expected a tuple",
            ),
            (json!(["a"]), "invalid length 1, expected a tuple of size 2"),
            (json!(["a", 1, 2]), "invalid length 3, expected"),
            (
                json!(["a", "b"]),
                "wrong positional arguments: [1]: invalid type: string \"b\"",
            ),
        ] {
            let wrong = arguments(args, json!({}));
            let wrong = wrong.positional::<(String, u32)>().unwrap_err();
            assert!(wrong.exception.contains(expected), "{}", wrong.exception);
        }
    }

    #[test]
    fn arguments_that_fit_are_read() {
        let given = arguments(
            json!(["a", null, [1, 2.5], {"width": 3}]),
            json!({"width": 4, "box_": [["b", 1e300]]}),
        );
        let (text, nothing, list, size): (String, Option<u8>, Vec<f64>, Size) =
            given.positional().unwrap();
        assert_eq!((text.as_str(), nothing, list), ("a", None, vec![1.0, 2.5]));
        assert_eq!(size.width, 3);
        assert_eq!(given.named::<Size>().unwrap().box_[0].1, 1e300);
        let any: Vec<Value> = given.positional().unwrap();
        assert_eq!(any, given.args);
    }

    fn received(body: &str) -> Arguments {
        wire::decode(body.as_bytes()).unwrap().into()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Position {
        x: f64,
        y: f64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Placed {
        name: String,
        #[serde(flatten)]
        position: Position,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type")]
    enum Shape {
        Circle { radius: f64 },
        Square { side: f64, turns: i64 },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Amount {
        Whole(i64),
        Part(f64),
        Text(String),
    }

    #[test]
    fn floats_are_read_by_whatever_serde_derives() {
        let placed = received(r#"{"kwargs": {"name": "a", "x": 1e-05, "y": 2.50}}"#);
        let position = Position { x: 0.00001, y: 2.5 };
        let name = "a".to_owned();
        assert_eq!(placed.named::<Placed>().unwrap(), Placed { name, position });
        let circle = received(r#"{"kwargs": {"type": "Circle", "radius": 1.5}}"#);
        let radius = 1.5;
        assert_eq!(circle.named::<Shape>().unwrap(), Shape::Circle { radius });
        let shapes = received(
            r#"{"args": [{"type": "Square", "side": 1e-05, "turns": -3},
                         {"radius": 2.50, "type": "Circle"}]}"#,
        );
        let (square, circle): (Shape, Shape) = shapes.positional().unwrap();
        let (side, turns) = (0.00001, -3);
        assert_eq!(square, Shape::Square { side, turns });
        assert_eq!(circle, Shape::Circle { radius: 2.5 });
        let amounts = received(r#"{"args": [3, 1e-05, 2.50, 1.5, "1.5"]}"#);
        let amounts: Vec<Amount> = amounts.positional().unwrap();
        let part = |part| Amount::Part(part);
        let expected = [Amount::Whole(3), part(0.00001), part(2.5), part(1.5)];
        assert_eq!(amounts[..4], expected);
        assert_eq!(amounts[4], Amount::Text("1.5".to_owned()));
        let any = received(r#"{"kwargs": {"x": 1.5}}"#)
            .named::<Value>()
            .unwrap();
        assert!(any["x"].is_f64());
    }

    #[test]
    fn a_whole_number_is_read_up_to_64_bits_and_named_beyond() {
        let most = received(r#"{"args": [18446744073709551615, -9223372036854775808]}"#);
        assert_eq!(
            most.positional::<(u64, i64)>().unwrap(),
            (u64::MAX, i64::MIN)
        );
        let huge = received(r#"{"args": [123456789012345678901], "kwargs": {"width": 1e2}}"#);
        let near: (f64,) = huge.positional().unwrap();
        assert_eq!(near, (123_456_789_012_345_680_000.0,));
        let wrong = huge.positional::<(i64,)>().unwrap_err();
        let told = "wrong positional arguments: [0]: invalid type: floating point";
        assert!(wrong.exception.starts_with(told), "{}", wrong.exception);
        let huge = received(r#"{"kwargs": {"width": 123456789012345678901}}"#);
        let wrong = huge.named::<Size>().unwrap_err().exception;
        let told = "wrong named arguments: width: invalid type: floating point";
        assert!(wrong.starts_with(told), "{wrong}");
    }
}
