//! A message's arguments: as they are sent and recorded, and as a task gets them.

use serde_json::{Map, Value};

use super::literal::{Literal, Number, Object};

/// A task's arguments, as the task and its middleware get them.
///
/// Numbers are i64, u64 or f64. A whole number that fits neither i64 nor u64 becomes the nearest f64. If a
/// number is too large for any f64, such as `1e400`, a function is not called and its message is FAILED. A
/// command gets all numbers as they were written, and its middleware sees null for one that is too large.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arguments {
    /// The positional arguments.
    pub args: Vec<Value>,
    /// The named arguments.
    pub kwargs: Map<String, Value>,
}

/// A task's arguments as they are sent and recorded, with every digit of their numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload {
    /// The positional arguments.
    pub args: Vec<Literal>,
    /// The named arguments.
    pub kwargs: Object,
}

/// An argument that is too large for any f64, so that no function can be called with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wrong {kind} arguments: {place}: {digits:.40} is beyond every f64")]
pub struct TooLarge {
    /// `positional` or `named`.
    pub kind: &'static str,
    /// Where it is in the arguments, as `size` or `[1].size`.
    pub place: String,
    /// The number, as it was written.
    pub digits: String,
}

impl Payload {
    /// About how many bytes of memory the arguments take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.args.iter().map(Literal::size).sum::<usize>() + self.kwargs.size()
    }

    /// Checks that a function can be called with these arguments.
    ///
    /// # Errors
    /// When a number is too large for any f64.
    pub fn check(&self) -> Result<(), TooLarge> {
        let positional = too_large_item(&self.args).map(|found| ("positional", found));
        let named = || too_large_value(&self.kwargs).map(|found| ("named", found));
        positional
            .or_else(named)
            .map_or(Ok(()), |(kind, (place, number))| {
                Err(TooLarge {
                    kind,
                    place: place.strip_prefix('.').unwrap_or(&place).to_owned(),
                    digits: number.as_str().to_owned(),
                })
            })
    }
}

/// Finds a number that is too large for any f64, and its place, as `[1].size`.
fn too_large(literal: &Literal) -> Option<(String, &Number)> {
    match literal {
        Literal::Number(number) if number.is_beyond_f64() => Some((String::new(), number)),
        Literal::List(items) => too_large_item(items),
        Literal::Object(pairs) => too_large_value(pairs),
        _ => None,
    }
}

fn too_large_item(items: &[Literal]) -> Option<(String, &Number)> {
    items.iter().enumerate().find_map(|(nth, item)| {
        too_large(item).map(|(place, number)| (format!("[{nth}]{place}"), number))
    })
}

fn too_large_value(pairs: &Object) -> Option<(String, &Number)> {
    pairs.iter().find_map(|(name, value)| {
        too_large(value).map(|(place, number)| (format!(".{name}{place}"), number))
    })
}

impl From<Arguments> for Payload {
    fn from(arguments: Arguments) -> Self {
        Self {
            args: arguments.args.into_iter().map(Literal::from).collect(),
            kwargs: arguments.kwargs.into(),
        }
    }
}

/// A number that is too large for any f64 becomes null.
impl From<&Payload> for Arguments {
    fn from(payload: &Payload) -> Self {
        Self {
            args: payload.args.iter().map(Value::from).collect(),
            kwargs: (&payload.kwargs).into(),
        }
    }
}

/// A number that is too large for any f64 becomes null.
impl From<Payload> for Arguments {
    fn from(payload: Payload) -> Self {
        Self::from(&payload)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::message::{Arguments, wire};

    #[test]
    fn a_number_that_no_task_can_be_called_with_is_named() {
        for (body, told) in [
            ("{\"args\": [1e308, 1e-400, 2.50]}", None),
            (
                "{\"args\": [1, 1e400]}",
                Some("positional arguments: [1]: 1e400 is"),
            ),
            (
                "{\"args\": [[{\"a\": [-1e400]}]]}",
                Some("positional arguments: [0][0].a[0]: -1e400 is"),
            ),
            (
                "{\"kwargs\": {\"size\": {\"x\": 1E999}}}",
                Some("named arguments: size.x: 1E999 is beyond every f64"),
            ),
        ] {
            let checked = wire::decode(body.as_bytes()).unwrap().check();
            match told {
                None => assert_eq!(checked, Ok(())),
                Some(told) => assert!(checked.unwrap_err().to_string().contains(told)),
            }
        }
    }

    #[test]
    fn middleware_sees_null_for_a_number_that_is_too_large() {
        let payload = wire::decode(b"{\"args\": [1, 1e400], \"kwargs\": {\"x\": [-1e400]}}");
        let arguments = Arguments::from(payload.unwrap());
        assert_eq!(arguments.args, [json!(1), json!(null)]);
        assert_eq!(arguments.kwargs["x"], json!([null]));
    }
}
