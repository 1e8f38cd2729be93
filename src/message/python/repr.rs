//! Writes values as CPython's `repr` writes them.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::printable::BOUNDARIES;
use crate::message::Literal;

/// The most significant decimal digits that a double can have.
const MAX_DOUBLE_DIGITS: usize = 767;

/// `args` as the `repr` of a Python tuple: `()`, `(1,)`, `(1, 'two', None)`.
///
/// A number that no double equals keeps its digits. Python reads it as the nearest double, as it does in a
/// message.
#[must_use]
pub fn repr_tuple(args: &[Literal]) -> String {
    let mut text = String::from("(");
    write_items(&mut text, args);
    text.push_str(if args.len() == 1 { ",)" } else { ")" });
    text
}

/// `value` as Python's `repr` has it: `True`, `None`, `[1, 'two']`.
#[must_use]
pub fn repr(value: &Literal) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// Converts a value's `repr` into what Python's `ascii` returns for it.
#[must_use]
pub fn ascii(repr: &str) -> String {
    let mut text = String::with_capacity(repr.len());
    for character in repr.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            // In a repr such characters are in strings only.
            write_escape(&mut text, character);
        }
    }
    text
}

fn write_items(text: &mut String, items: &[Literal]) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write_value(text, item);
    }
}

fn write_value(text: &mut String, value: &Literal) {
    match value {
        Literal::Null => text.push_str("None"),
        Literal::Bool(true) => text.push_str("True"),
        Literal::Bool(false) => text.push_str("False"),
        Literal::Number(number) => text.push_str(&number_text(number.as_str())),
        Literal::Text(string) => write_string(text, string),
        Literal::List(items) => {
            text.push('[');
            write_items(text, items);
            text.push(']');
        }
        Literal::Object(pairs) => {
            text.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_string(text, key);
                text.push_str(": ");
                write_value(text, value);
            }
            text.push('}');
        }
    }
}

fn number_text(written: &str) -> Cow<'_, str> {
    if written == "-0" {
        return "0".into();
    }
    if !written.contains(['.', 'e', 'E']) {
        return written.into();
    }
    let Ok(float) = written.parse() else {
        return written.into();
    };
    let python = float_text(float);
    let is_double = python == written
        || Decimal::of(written).is_some_and(|number| number.is_spelling_of(float));
    if is_double {
        python.into()
    } else {
        written.into()
    }
}

/// A decimal number in a normal form, for comparing numbers that are written in different ways.
#[derive(PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// The digits without leading and trailing zeros.
    digits: String,
    /// The power of ten of the last digit.
    exponent: i64,
}

impl Decimal {
    /// Reads a number. `None` if the text is not a number, or its exponent does not fit an i64.
    fn of(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let places = i64::try_from(fraction.len()).ok()?;
        let zeros = i64::try_from(all.len() - digits.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(places)?;
        let digits = digits.trim_start_matches('0').to_owned();
        Some(Self {
            is_negative,
            exponent: if digits.is_empty() {
                0
            } else {
                exponent.checked_add(zeros)?
            },
            digits,
        })
    }

    /// Whether this is how somebody would write the double: in the fewest digits, or rounded to this many digits.
    fn is_spelling_of(&self, float: f64) -> bool {
        let places = self.digits.len().clamp(1, MAX_DOUBLE_DIGITS) - 1;
        [format!("{float:e}"), format!("{float:.places$e}")]
            .iter()
            .any(|text| Self::of(text).as_ref() == Some(self))
    }
}

/// `float` in the fewest digits that mean it, in Python's format: with an exponent, of at least two digits, if
/// it is below 0.0001 or at least 10^16.
pub(super) fn float_text(float: f64) -> String {
    let scientific = shortest(float);
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let decimals = decimals(digits).saturating_sub(exponent).max(1);
        return format!("{float:.*}", usize::try_from(decimals).unwrap_or_default());
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// The number of digits after the point.
fn decimals(digits: &str) -> i32 {
    let count = digits
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    i32::try_from(count).unwrap_or_default()
}

/// The shortest form of `float`, in scientific notation. If two shortest forms are equally near, Python takes the
/// one with the even last digit, and Rust the larger one.
fn shortest(float: f64) -> String {
    let shortest = format!("{float:e}");
    let digits = shortest.split('e').next().unwrap_or_default();
    let places = usize::try_from(decimals(digits)).unwrap_or_default();
    let even = format!("{float:.places$e}");
    if even.parse() == Ok(float) {
        even
    } else {
        shortest
    }
}

fn write_string(text: &mut String, string: &str) {
    let quote = if string.contains('\'') && !string.contains('"') {
        '"'
    } else {
        '\''
    };
    text.push(quote);
    let needs_no_escape = |c: char| c != quote && c != '\\' && is_printable(c);
    let mut rest = string;
    loop {
        let plain = rest.find(|c| !needs_no_escape(c)).unwrap_or(rest.len());
        text.push_str(&rest[..plain]);
        let mut others = rest[plain..].chars();
        match others.next() {
            None => break,
            Some('\n') => text.push_str("\\n"),
            Some('\r') => text.push_str("\\r"),
            Some('\t') => text.push_str("\\t"),
            Some(c) if c == quote || c == '\\' => text.extend(['\\', c]),
            Some(other) => write_escape(text, other),
        }
        rest = others.as_str();
    }
    text.push(quote);
}

/// Whether `str.isprintable` accepts the character. A newer Python may differ on characters that are newer than
/// our table; it reads both forms.
fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\x7f' => false,
        _ => BOUNDARIES.partition_point(|edge| *edge <= u32::from(character)) % 2 == 1,
    }
}

fn write_escape(text: &mut String, character: char) {
    let code = u32::from(character);
    let written = match code {
        0..=0xff => write!(text, "\\x{code:02x}"),
        0x100..=0xffff => write!(text, "\\u{code:04x}"),
        _ => write!(text, "\\U{code:08x}"),
    };
    // Writing to a String does not fail.
    written.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::{ascii, repr_tuple};
    use crate::message::{Literal, Number};
    use serde_json::json;

    #[test]
    fn a_tuple_of_one_has_its_comma() {
        assert_eq!(repr_tuple(&[]), "()");
        assert_eq!(repr_tuple(&Literal::list(json!([1]))), "(1,)");
        assert_eq!(
            repr_tuple(&Literal::list(json!([1, "two", null]))),
            "(1, 'two', None)"
        );
    }

    #[test]
    fn containers_are_written_with_their_keys_in_order() {
        let value = json!([[], {}, { "b": [true, false], "a": null }]);
        assert_eq!(
            repr_tuple(&[value.into()]),
            "([[], {}, {'b': [True, False], 'a': None}],)"
        );
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (number, text) in [
            ("0", "0"),
            ("-0", "0"),
            ("-7", "-7"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1E5", "100000.0"),
            ("2.50", "2.5"),
            ("-0.0", "-0.0"),
            ("1e22", "1e+22"),
            ("1e16", "1e+16"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("123456789012345680.0", "1.2345678901234568e+17"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("0.000123456", "0.000123456"),
            ("5e-324", "5e-324"),
            ("237648929499134.625", "237648929499134.62"),
            ("1379185880518856.25", "1379185880518856.2"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("0.1", "0.1"),
            ("1e16", "1e+16"),
            ("10.0e15", "1e+16"),
            ("237648929499134.63", "237648929499134.62"),
            ("0.1000000000000000055511151231257827", "0.1"),
            ("0e9", "0.0"),
            ("-0.00e-5", "-0.0"),
        ] {
            let value = Literal::Number(Number::from_text(number));
            assert_eq!(repr_tuple(&[value]), format!("({text},)"), "{number}");
        }
    }

    #[test]
    fn ascii_is_the_same_in_other_letters() {
        let value = Literal::from(json!({"it's ž": "🥕\n é"}));
        let text = ascii(&repr_tuple(std::slice::from_ref(&value)));
        assert_eq!(text, r#"({"it's \u017e": '\U0001f955\n \xe9'},)"#);
        assert_eq!(super::super::parse_tuple(&text), Ok(vec![value]));
    }

    #[test]
    fn a_number_that_python_would_change_keeps_its_digits() {
        let long = format!("0.{}", "7".repeat(100_000));
        for number in [
            "1e+400",
            "-1e+400",
            "1e-400",
            "1.0000000000000001",
            "1.00000000000000000001",
            "123456789012345678901.5",
            "1e+99999999999999999999",
            &long,
        ] {
            let value = Literal::Number(Number::from_text(number));
            assert_eq!(repr_tuple(&[value]), format!("({number},)"));
        }
    }

    #[test]
    fn strings_are_quoted_and_escaped_as_python_does() {
        for (string, text) in [
            ("", "''"),
            ("it's", "\"it's\""),
            ("say \"hi\"", "'say \"hi\"'"),
            ("it's \"both\"", "'it\\'s \"both\"'"),
            ("a\\b\n\r\t\0\x1b\x7f", "'a\\\\b\\n\\r\\t\\x00\\x1b\\x7f'"),
            (
                "é\u{a0}\u{ad}\u{2028}\u{feff}",
                "'é\\xa0\\xad\\u2028\\ufeff'",
            ),
            ("😀\u{e0001}\u{10ffff}", "'😀\\U000e0001\\U0010ffff'"),
        ] {
            assert_eq!(
                repr_tuple(&[Literal::Text(string.to_owned())]),
                format!("({text},)")
            );
        }
    }
}
