//! The body of a message: `{"args": […], "kwargs": {…}}` in UTF-8 JSON, each key left out when it is
//! empty, as django-carrot writes it.

use serde_json::{Map, Value};

use super::Arguments;

/// Why a body is not a message's body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or not UTF-8.
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but not an object.
    #[error("the body is {0}, not an object with \"args\" and \"kwargs\"")]
    NotAnObject(&'static str),
    /// `args` or `kwargs` is of another type.
    #[error("{key:?} is {found}, not {expected}")]
    WrongType {
        /// `args` or `kwargs`.
        key: &'static str,
        /// What it is.
        found: &'static str,
        /// What it would have to be.
        expected: &'static str,
    },
}

/// Reads a body.
///
/// # Errors
/// When it is not a message's body; the error says why in words for the message's row.
pub fn decode(body: &[u8]) -> Result<Arguments, BodyError> {
    match serde_json::from_slice(body)? {
        Value::Object(mut object) => Ok(Arguments {
            args: args(object.remove("args"))?,
            kwargs: kwargs(object.remove("kwargs"))?,
        }),
        other => Err(BodyError::NotAnObject(kind(&other))),
    }
}

/// Writes a body.
#[must_use]
pub fn encode(arguments: &Arguments) -> Vec<u8> {
    let mut object = Map::new();
    if !arguments.args.is_empty() {
        object.insert("args".to_owned(), Value::Array(arguments.args.clone()));
    }
    if !arguments.kwargs.is_empty() {
        object.insert("kwargs".to_owned(), Value::Object(arguments.kwargs.clone()));
    }
    Value::Object(object).to_string().into_bytes()
}

/// JSON in ASCII, as django-carrot writes it.
#[must_use]
pub fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
            continue;
        }
        // In JSON they stand in strings alone.
        for unit in character.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

fn args(value: Option<Value>) -> Result<Vec<Value>, BodyError> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(args)) => Ok(args),
        Some(other) => Err(BodyError::WrongType {
            key: "args",
            found: kind(&other),
            expected: "an array",
        }),
    }
}

fn kwargs(value: Option<Value>) -> Result<Map<String, Value>, BodyError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(kwargs)) => Ok(kwargs),
        Some(other) => Err(BodyError::WrongType {
            key: "kwargs",
            found: kind(&other),
            expected: "an object",
        }),
    }
}

/// What `value` is, in words.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out() {
        assert_eq!(encode(&Arguments::default()), b"{}");
        let arguments = decode(br#"{"args": [1, 2.50]}"#).unwrap();
        assert_eq!(encode(&arguments), br#"{"args":[1,2.50]}"#);
        assert!(decode(b"{}").unwrap().args.is_empty());
    }

    #[test]
    fn json_in_ascii_is_the_same_json() {
        let json = r#"{"ž":"🥕\n"}"#;
        assert_eq!(ascii(json), r#"{"\u017e":"\ud83e\udd55\n"}"#);
        let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(value(&ascii(json)), value(json));
    }

    #[test]
    fn a_body_that_is_none_says_why() {
        let why = |body: &[u8]| decode(body).unwrap_err().to_string();
        assert!(why(b"[1]").contains("the body is an array"));
        assert!(why(b"{\"args\": {}}").contains("\"args\" is an object, not an array"));
        assert!(why(b"{\"kwargs\": 1}").contains("\"kwargs\" is a number"));
        assert!(why(b"\xff\xfe").contains("not JSON"));
        assert!(why(b"").contains("not JSON"));
        assert!(why("[".repeat(100_000).as_bytes()).contains("recursion limit"));
    }
}
