//! Reads Python literals into JSON values.

use super::cursor::{Cursor, is_name_start};
use super::repr::float_text;
use super::{LiteralError, MAX_DEPTH, number, string};
use crate::message::{Literal, Object};

/// The most characters of an unknown name that an error repeats.
const MAX_SHOWN_CHARACTERS: usize = 40;

/// Reads what [`repr_tuple`](super::repr_tuple) and Python write: a tuple or a list. An empty text and `None`
/// mean no arguments.
///
/// Tuples become JSON arrays. As with `json.dumps`, a key that is a number, a boolean or None becomes text. A
/// number keeps its digits.
///
/// # Errors
/// When `text` is not a literal, or holds what JSON can't: bytes, a set, a complex number, infinity, a lone
/// surrogate, more than 126 levels.
pub fn parse_tuple(text: &str) -> Result<Vec<Literal>, LiteralError> {
    let mut cursor = Cursor::new(text);
    cursor.skip_blanks();
    let rest = cursor.rest().trim_end();
    if rest.is_empty() || rest == "None" {
        return Ok(Vec::new());
    }
    let args = if cursor.eat("[") {
        read_items(&mut cursor, "]", 1)?.items
    } else if cursor.eat("(") {
        let Sequence {
            items,
            is_tuple,
            end,
        } = read_items(&mut cursor, ")", 1)?;
        if !is_tuple {
            return Err(cursor.error_at(end, "expected a comma, which a tuple of one item needs"));
        }
        items
    } else {
        return Err(cursor.error("expected a tuple, in parentheses"));
    };
    expect_end(&mut cursor)?;
    Ok(args)
}

/// Reads a schedule's `task_args`: a list without brackets, as `1, 'x', True`. An empty text means no
/// arguments.
///
/// # Errors
/// As [`parse_tuple`].
pub fn parse_list(text: &str) -> Result<Vec<Literal>, LiteralError> {
    let mut cursor = Cursor::new(text);
    read_items(&mut cursor, "", 1).map(|list| list.items)
}

fn expect_end(cursor: &mut Cursor<'_>) -> Result<(), LiteralError> {
    cursor.skip_blanks();
    if cursor.rest().is_empty() {
        return Ok(());
    }
    Err(cursor.error("expected nothing more"))
}

/// Passes over `close` if it comes next. Returns whether it did. An empty `close` means the end of the text.
fn eat_close(cursor: &mut Cursor<'_>, close: &str) -> bool {
    cursor.skip_blanks();
    if close.is_empty() {
        return cursor.rest().is_empty();
    }
    cursor.eat(close)
}

fn expected(cursor: &Cursor<'_>, what: &str, close: &str) -> LiteralError {
    let close = match close {
        "" => "the end",
        close => close,
    };
    cursor.error(format!("expected {what} or {close}"))
}

struct Sequence {
    items: Vec<Literal>,
    /// Whether these items in parentheses are a tuple: there is a comma, or no item.
    is_tuple: bool,
    /// The offset where the last item ended.
    end: usize,
}

/// Reads items up to `close`. The opening bracket has been read, and is the `depth`th.
fn read_items(
    cursor: &mut Cursor<'_>,
    close: &str,
    depth: usize,
) -> Result<Sequence, LiteralError> {
    let mut read = Sequence {
        items: Vec::new(),
        is_tuple: true,
        end: cursor.offset(),
    };
    while !eat_close(cursor, close) {
        read.items.push(read_value(cursor, depth)?);
        read.end = cursor.offset();
        cursor.skip_blanks();
        if cursor.eat(",") {
            continue;
        }
        if !eat_close(cursor, close) {
            return Err(expected(cursor, "a comma", close));
        }
        read.is_tuple = read.items.len() > 1;
        break;
    }
    Ok(read)
}

/// Reads one value inside of `depth` brackets.
fn read_value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Literal, LiteralError> {
    cursor.skip_blanks();
    let start = cursor.offset();
    let Some(first) = cursor.peek() else {
        return Err(cursor.error("expected a value, found the end"));
    };
    match first {
        '(' | '[' | '{' if depth >= MAX_DEPTH => Err(cursor.error(format!(
            "expected at most {MAX_DEPTH} brackets in one another"
        ))),
        '(' => {
            cursor.eat("(");
            let mut read = read_items(cursor, ")", depth + 1)?;
            // A single value in parentheses is not a tuple.
            let single = if read.is_tuple {
                None
            } else {
                read.items.pop()
            };
            Ok(single.unwrap_or(Literal::List(read.items)))
        }
        '[' => {
            cursor.eat("[");
            read_items(cursor, "]", depth + 1).map(|list| Literal::List(list.items))
        }
        '{' => {
            cursor.eat("{");
            read_dict(cursor, start, depth + 1).map(Literal::Object)
        }
        '\'' | '"' => string::read(cursor).map(Literal::Text),
        '<' => Err(not_json(cursor, start, "an object")),
        '0'..='9' | '.' | '+' | '-' => number::read(cursor).map(Literal::Number),
        _ if is_name_start(first) => read_name(cursor),
        _ => Err(cursor.error("expected a value")),
    }
}

fn is_name_part(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Reads a value that starts with a letter: a constant, or a string with a prefix.
fn read_name(cursor: &mut Cursor<'_>) -> Result<Literal, LiteralError> {
    if string::is_at_start(cursor.rest()) {
        return string::read(cursor).map(Literal::Text);
    }
    let start = cursor.offset();
    let name = cursor.take_while(|c| is_name_part(c) || c == '.');
    let shown: String = name.chars().take(MAX_SHOWN_CHARACTERS).collect();
    match name {
        "None" => Ok(Literal::Null),
        "True" => Ok(Literal::Bool(true)),
        "False" => Ok(Literal::Bool(false)),
        "nan" | "inf" | "Ellipsis" => Err(not_json(cursor, start, name)),
        "set" | "frozenset" => Err(not_json(cursor, start, "a set")),
        // The repr of many objects is a call of their constructor.
        _ if cursor.peek() == Some('(') => Err(not_json(cursor, start, &shown)),
        _ => {
            let problem = format!("expected a value, found the name {shown}; a text needs quotes");
            Err(cursor.error_at(start, problem))
        }
    }
}

/// The error for a value that Python has and JSON has not.
fn not_json(cursor: &Cursor<'_>, start: usize, found: &str) -> LiteralError {
    let problem = format!("expected a value that JSON can hold, found {found}");
    cursor.error_at(start, problem)
}

/// Reads a dict. Its `{` has been read at `start`, and is the `depth`th bracket.
fn read_dict(cursor: &mut Cursor<'_>, start: usize, depth: usize) -> Result<Object, LiteralError> {
    let mut pairs = Vec::new();
    while !eat_close(cursor, "}") {
        let key_start = cursor.offset();
        let key = read_value(cursor, depth)?;
        cursor.skip_blanks();
        if !cursor.eat(":") {
            let is_set = pairs.is_empty() && matches!(cursor.peek(), Some(',' | '}'));
            return Err(if is_set {
                not_json(cursor, start, "a set")
            } else {
                cursor.error("expected a colon")
            });
        }
        let key =
            key_text(key).ok_or_else(|| cursor.error_at(key_start, "expected a simple key"))?;
        pairs.push((key, read_value(cursor, depth)?));
        cursor.skip_blanks();
        if cursor.eat(",") {
            continue;
        }
        if !eat_close(cursor, "}") {
            return Err(expected(cursor, "a comma", "}"));
        }
        break;
    }
    Ok(pairs.into_iter().collect())
}

/// Converts a dict's key into a JSON object's, as `json.dumps` does.
fn key_text(key: Literal) -> Option<String> {
    match key {
        Literal::Text(text) => Some(text),
        Literal::Null => Some("null".to_owned()),
        Literal::Bool(boolean) => Some(boolean.to_string()),
        Literal::Number(number) => {
            let text = number.as_str();
            if !text.contains(['.', 'e', 'E']) {
                return Some(text.to_owned());
            }
            // JSON has no text for infinity.
            let float: Option<f64> = text.parse().ok();
            float.filter(|float| float.is_finite()).map(float_text)
        }
        Literal::List(_) | Literal::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_list, parse_tuple};
    use crate::message::Literal;
    use serde_json::json;

    fn tuple(text: &str) -> Literal {
        parse_tuple(text).map_or_else(|error| panic!("{text}: {error}"), Literal::List)
    }

    fn refused(text: &str) -> String {
        parse_list(text).expect_err(text).to_string()
    }

    #[test]
    fn tuples_lists_and_nothing_are_arguments() {
        for text in ["", "  ", "None", " None\n", "()", "( )", "[]"] {
            assert_eq!(tuple(text), json!([]), "{text:?}");
        }
        for text in [
            "(1, 2)",
            "[1, 2]",
            "(1,2,)",
            " ( 1\n,\t2 ) ",
            "[(1), ((2)),]",
        ] {
            assert_eq!(tuple(text), json!([1, 2]), "{text:?}");
        }
        assert_eq!(tuple("(1,)"), json!([1]));
        assert_eq!(
            tuple("((1, 2), (), (3,), [(4)])"),
            json!([[1, 2], [], [3], [4]])
        );
    }

    #[test]
    fn what_is_no_tuple_is_refused() {
        for (text, told) in [
            ("1", "at character 1: expected a tuple, in parentheses"),
            (
                "(1)",
                "at character 3: expected a comma, which a tuple of one item needs",
            ),
            ("(1, 2) 3", "at character 8: expected nothing more"),
            ("(1, 2", "at character 6: expected a comma or )"),
            ("(1,", "at character 4: expected a value, found the end"),
            ("(,)", "at character 2: expected a value"),
            ("('é' 2)", "at character 6: expected a comma or )"),
        ] {
            assert_eq!(parse_tuple(text).expect_err(text).to_string(), told);
        }
    }

    #[test]
    fn a_list_needs_no_brackets() {
        for (text, args) in [
            ("", json!([])),
            (" \n", json!([])),
            ("1", json!([1])),
            ("1, 'x', True", json!([1, "x", true])),
            ("None", json!([null])),
            (
                "'a, b', [1, 2], {'k': (3,)},",
                json!(["a, b", [1, 2], { "k": [3] }]),
            ),
            ("(1, 2)", json!([[1, 2]])),
        ] {
            assert_eq!(parse_list(text), Ok(Literal::list(args)), "{text:?}");
        }
        assert_eq!(
            refused("1, foo"),
            "at character 4: expected a value, found the name foo; a text needs quotes"
        );
        assert_eq!(
            refused("1 2"),
            "at character 3: expected a comma or the end"
        );
        assert_eq!(refused(","), "at character 1: expected a value");
        assert_eq!(refused("1)"), "at character 2: expected a comma or the end");
    }

    #[test]
    fn simple_keys_become_text_as_json_has_it() {
        let text = "({'a': 1, 2: 3, True: 4, None: 5, 1.50: 6, 1e16: 7, -0x10: 8, (9): 9},)";
        let keys = json!([{
            "a": 1, "2": 3, "true": 4, "null": 5, "1.5": 6, "1e+16": 7, "-16": 8, "9": 9
        }]);
        assert_eq!(tuple(text), keys);
        assert_eq!(
            refused("{(1, 2): 3}"),
            "at character 2: expected a simple key"
        );
        assert_eq!(refused("{'a' 1}"), "at character 6: expected a colon");
        assert_eq!(
            refused("{'a': 1 'b': 2}"),
            "at character 9: expected a comma or }"
        );
        assert_eq!(
            refused("{'a':"),
            "at character 6: expected a value, found the end"
        );
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in [
            "{1, 2}", "{1}", "set()", "inf", "nan", "-inf", "1j", "...", "b''",
        ] {
            refused(text);
        }
        assert_eq!(
            refused("[{1}]"),
            "at character 2: expected a value that JSON can hold, found a set"
        );
        assert_eq!(
            refused("nan"),
            "at character 1: expected a value that JSON can hold, found nan"
        );
        assert_eq!(
            refused("[datetime.date(2020, 1, 1)]"),
            "at character 2: expected a value that JSON can hold, found datetime.date"
        );
    }
}
