//! Python literals, as django-carrot stores arguments in the database.
//!
//! `carrot_messagelog.task_args` holds the `repr` of a tuple, and `carrot_scheduledtask.task_args` a list
//! without brackets. This module writes what CPython would write, and reads what CPython's `literal_eval` reads,
//! unless JSON can't hold it.

mod cursor;
#[cfg(test)]
mod fixture;
mod number;
mod parse;
mod printable;
mod repr;
mod string;

pub use parse::{parse_list, parse_tuple};
pub use repr::{ascii, repr, repr_tuple};

/// How deep brackets may be nested, including those of the outer tuple.
///
/// With the object of a message's body around the arguments, this is the deepest nesting that `serde_json`
/// reads (it refuses 128 levels). So arguments from a message can be read back from its row, and arguments from
/// a row can be sent.
const MAX_DEPTH: usize = 126;

/// Why a text is not a Python literal that JSON can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {problem}")]
pub struct LiteralError {
    /// The position, in characters from 1. At the end of the text it is one past the last character.
    pub position: usize,
    /// What was expected there, or what JSON can't hold.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, parse_list, parse_tuple, repr, repr_tuple};
    use crate::message::{Literal, Number, wire};
    use serde_json::{Value, json};

    /// Any JSON that `serde_json` itself would write, and whole numbers of any size.
    fn random_value(random: &mut fastrand::Rng, depth: usize) -> Literal {
        match random.u8(if depth == 0 { 0..6 } else { 0..8 }) {
            0 => Literal::Null,
            1 => Literal::Bool(random.bool()),
            2 => Value::from(random.i64(..) >> random.u8(..64)).into(),
            3 => Value::from(f64::from_bits(random.u64(..))).into(),
            4 => Literal::Number(Number::from_text("9".repeat(random.usize(1..60)))),
            5 => Literal::Text(random_text(random)),
            6 => Literal::List(
                (0..random.usize(..4))
                    .map(|_| random_value(random, depth - 1))
                    .collect(),
            ),
            _ => {
                let pair = |random: &mut fastrand::Rng| {
                    (random_text(random), random_value(random, depth - 1))
                };
                Literal::Object((0..random.usize(..4)).map(|_| pair(random)).collect())
            }
        }
    }

    fn random_text(random: &mut fastrand::Rng) -> String {
        let one = |random: &mut fastrand::Rng| match random.u8(..4) {
            0 => random.char('\0'..='\u{ff}'),
            1 => random.char(..),
            2 => *random
                .choice(&['\'', '"', '\\', '\n', 'x', 'u', '0'])
                .unwrap(),
            _ => random.alphanumeric(),
        };
        (0..random.usize(..12)).map(|_| one(random)).collect()
    }

    /// The same value with its numbers as Python writes them.
    fn respelled(value: &Literal) -> Literal {
        match value {
            Literal::Number(_) => Literal::Number(Number::from_text(repr(value))),
            Literal::List(items) => Literal::List(items.iter().map(respelled).collect()),
            Literal::Object(pairs) => {
                let pairs = pairs.iter();
                let pairs = pairs.map(|(key, value)| (key.to_owned(), respelled(value)));
                Literal::Object(pairs.collect())
            }
            other => other.clone(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let args: Vec<Literal> = (0..random.usize(..4))
                .map(|_| random_value(&mut random, 3))
                .collect();
            let text = repr_tuple(&args);
            let read = parse_tuple(&text).map(Literal::List);
            assert_eq!(read, Ok(respelled(&Literal::List(args))), "{text}");
        }
    }

    /// Pieces of literals, from which random texts are made.
    const PIECES: [&str; 43] = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "'",
        "\"",
        "'''",
        "\\",
        "\\x",
        "\\u",
        "\\U0010ffff",
        "\\ud83d",
        "\\ude00",
        "\\N{",
        "\\777",
        "\n",
        "\r\n",
        " ",
        "0",
        "0x",
        "1",
        "_",
        ".",
        "e",
        "E+",
        "-",
        "+",
        "j",
        "b",
        "u",
        "r'",
        "f'",
        "None",
        "True",
        "nan",
        "é",
        "😀",
        "\0",
        "#",
    ];

    #[test]
    fn no_text_causes_a_panic() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..50_000 {
            let mut text: String = (0..random.usize(..12))
                .map(|_| random.choice(PIECES).unwrap())
                .collect();
            if random.bool() {
                let value = random_value(&mut random, 2);
                let at = text
                    .char_indices()
                    .map(|(at, _)| at)
                    .nth(random.usize(..6))
                    .unwrap_or(0);
                text.insert_str(at, &repr_tuple(&[value]));
            }
            for result in [parse_tuple(&text), parse_list(&text)] {
                match result {
                    Ok(args) => {
                        let read = parse_tuple(&repr_tuple(&args)).map(Literal::List);
                        assert_eq!(read, Ok(respelled(&Literal::List(args))), "{text}");
                    }
                    Err(error) => assert!(
                        (1..=text.chars().count() + 1).contains(&error.position),
                        "{text}: {error}"
                    ),
                }
            }
        }
    }

    #[test]
    fn a_long_text_is_read_in_linear_time() {
        let items = ["None", "1.5", "'a'", "[]", "{1: -2}"];
        for item in items {
            let text = format!("({item}, {})", format!("{item}, ").repeat(100_000));
            assert_eq!(parse_tuple(&text).unwrap().len(), 100_001);
        }
    }

    #[test]
    fn what_a_body_can_hold_a_row_can_hold_and_no_more() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let body = |levels: usize| format!("{{\"args\": [{}]}}", nested(levels));
        let deepest = MAX_DEPTH - 1;
        assert!(serde_json::from_str::<Value>(&body(deepest)).is_ok());
        let args = wire::decode(body(deepest).as_bytes()).unwrap().args;
        assert_eq!(parse_tuple(&repr_tuple(&args)).as_ref(), Ok(&args));
        assert_eq!(parse_list(&nested(deepest)).as_ref(), Ok(&args));
        assert!(serde_json::from_str::<Value>(&body(deepest + 1)).is_err());
        assert!(wire::decode(body(deepest + 1).as_bytes()).is_err());
        for bracket in ["(", "[", "{1:", "{'a': ["] {
            let error = parse_list(&bracket.repeat(1_000_000)).unwrap_err();
            assert!(error.to_string().contains("126 brackets"), "{error}");
        }
        assert!(parse_list(&nested(deepest + 1)).is_err());
    }

    #[test]
    fn rows_that_django_carrot_wrote_are_read() {
        for (text, args) in [
            ("()", json!([])),
            ("('1', \"'x'\", 'True')", json!(["1", "'x'", "True"])),
            (
                "(1, 2.5, 'three', None, True)",
                json!([1, 2.5, "three", null, true]),
            ),
            ("(['a', {'b': 1}],)", json!([["a", { "b": 1 }]])),
            ("(\"it's, tricky\",)", json!(["it's, tricky"])),
        ] {
            let parsed = parse_tuple(text).unwrap();
            assert_eq!(parsed, Literal::list(args));
            assert_eq!(repr_tuple(&parsed), text);
        }
        assert_eq!(
            parse_list("1, 'x', True"),
            Ok(Literal::list(json!([1, "x", true])))
        );
    }
}
