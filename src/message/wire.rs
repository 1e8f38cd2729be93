//! The body of a message: `{"args": […], "kwargs": {…}}` in UTF-8 JSON. As in django-carrot, a key is left out
//! if its value is empty.

use serde::Serialize;
use serde::de::Error as _;

use super::{Literal, Object, Payload, json};

/// Why the body of a message can't be decoded.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or not UTF-8.
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but not an object.
    #[error("the body is {0}, not an object with \"args\" and \"kwargs\"")]
    NotAnObject(&'static str),
    /// `args` or `kwargs` has the wrong type.
    #[error("{key:?} is {found}, not {expected}")]
    WrongType {
        /// `args` or `kwargs`.
        key: &'static str,
        /// The type that it has.
        found: &'static str,
        /// The type that it must have.
        expected: &'static str,
    },
}

/// A body to be encoded.
#[derive(Serialize)]
struct WireBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'a [Literal],
    #[serde(skip_serializing_if = "Object::is_empty")]
    kwargs: &'a Object,
}

/// Decodes a body.
///
/// # Errors
/// When it is not a message's body. The error's text is stored in the message's row.
pub fn decode(body: &[u8]) -> Result<Payload, BodyError> {
    let text = str::from_utf8(body).map_err(serde_json::Error::custom)?;
    let mut payload = Payload::default();
    match json::parse(text)? {
        Literal::Object(pairs) => {
            for (name, value) in pairs {
                match name.as_str() {
                    "args" => payload.args = args(value)?,
                    "kwargs" => payload.kwargs = kwargs(value)?,
                    _ => {}
                }
            }
            Ok(payload)
        }
        other => Err(BodyError::NotAnObject(other.kind())),
    }
}

/// Encodes a body.
#[must_use]
pub fn encode(payload: &Payload) -> Vec<u8> {
    let body = WireBody {
        args: &payload.args,
        kwargs: &payload.kwargs,
    };
    // This can't fail: literals are JSON, and it writes to memory.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// Escapes all characters of a JSON text that are not ASCII, as django-carrot does.
#[must_use]
pub fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
            continue;
        }
        // In JSON such characters are in strings only.
        for unit in character.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

fn args(value: Literal) -> Result<Vec<Literal>, BodyError> {
    match value {
        Literal::Null => Ok(Vec::new()),
        Literal::List(args) => Ok(args),
        other => Err(BodyError::WrongType {
            key: "args",
            found: other.kind(),
            expected: "an array",
        }),
    }
}

fn kwargs(value: Literal) -> Result<Object, BodyError> {
    match value {
        Literal::Null => Ok(Object::default()),
        Literal::Object(kwargs) => Ok(kwargs),
        other => Err(BodyError::WrongType {
            key: "kwargs",
            found: other.kind(),
            expected: "an object",
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_empty_is_left_out() {
        assert_eq!(encode(&Payload::default()), b"{}");
        let arguments = decode(br#"{"args": [1, 2.50]}"#).unwrap();
        assert_eq!(encode(&arguments), br#"{"args":[1,2.50]}"#);
        let arguments = decode(br#"{"kwargs": {"k": 1e400}, "args": null, "more": 1}"#).unwrap();
        assert_eq!(encode(&arguments), br#"{"kwargs":{"k":1e400}}"#);
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
    fn a_body_that_can_not_be_decoded_says_why() {
        let why = |body: &[u8]| decode(body).unwrap_err().to_string();
        assert!(why(b"[1]").contains("the body is an array"));
        assert!(why(b"{\"args\": {}}").contains("\"args\" is an object, not an array"));
        assert!(why(b"{\"kwargs\": 1}").contains("\"kwargs\" is a number"));
        assert!(why(b"\xff\xfe").contains("not JSON"));
        assert!(why(b"").contains("not JSON"));
        assert!(why("[".repeat(100_000).as_bytes()).contains("recursion limit"));
    }
}
