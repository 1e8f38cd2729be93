//! Reads Python numbers.

use super::LiteralError;
use super::cursor::{Cursor, is_name_start};
use crate::message::Number;

/// The base of the conversion to decimal: nine decimal digits a limb.
const LIMB: u64 = 1_000_000_000;
/// The most digits of a number that is not decimal. Conversion takes quadratic time. Python's own limit for
/// decimal numbers is the same, and no real number comes near it.
const MAX_RADIX_DIGITS: usize = 4300;

/// Reads a number with its sign. It keeps its digits: JSON, unlike Python, can hold more digits and a larger
/// exponent than a double.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Number, LiteralError> {
    let start = cursor.offset();
    let negative = cursor.eat("-");
    if negative || cursor.eat("+") {
        cursor.skip_blanks();
        if cursor.eat("inf") {
            return Err(cursor.error_at(start, "expected a value that JSON can hold, found inf"));
        }
    }
    let digits_start = cursor.offset();
    let text = match radix(cursor) {
        Some(radix) => whole_of_radix(cursor, radix, digits_start)?,
        None => decimal(cursor, digits_start)?,
    };
    if is_complex(cursor.rest()) {
        return Err(cursor.error_at(
            start,
            "expected a value that JSON can hold, found a complex number",
        ));
    }
    if cursor.peek().is_some_and(is_name_start) {
        return Err(cursor.error("expected the end of the number"));
    }
    let text = match text.trim_start_matches('0') {
        "" => return Ok(Number::from_text("0")),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => text.to_owned(),
        // JSON requires a digit before the point and the exponent.
        text => format!("0{text}"),
    };
    let sign = if negative { "-" } else { "" };
    Ok(Number::from_text(format!("{sign}{text}")))
}

/// Whether the text after a number makes it a complex number: `j`, or `+2j` as in `1+2j`.
fn is_complex(rest: &str) -> bool {
    let imaginary = rest.trim_start_matches(' ').strip_prefix(['+', '-']);
    let end = imaginary.map(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ' ' | '.' | '_' | 'e'))
    });
    end.unwrap_or(rest).starts_with(['j', 'J'])
}

fn radix(cursor: &mut Cursor<'_>) -> Option<u32> {
    let prefixes = [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ];
    let found = prefixes
        .into_iter()
        .find(|(prefix, _)| cursor.eat(prefix))?;
    Some(found.1)
}

/// Reads digits of `radix`, without the underscores between them. Empty if no digit comes next.
fn digits(cursor: &mut Cursor<'_>, radix: u32) -> Result<String, LiteralError> {
    let mut read = String::new();
    loop {
        let run = cursor.take_while(|c| c.is_digit(radix));
        if run.is_empty() && !read.is_empty() {
            return Err(cursor.error("expected a digit after the underscore"));
        }
        read.push_str(run);
        if run.is_empty() || !cursor.eat("_") {
            return Ok(read);
        }
    }
}

/// Reads a whole number that is written in another `radix`. Returns its decimal digits.
fn whole_of_radix(
    cursor: &mut Cursor<'_>,
    radix: u32,
    start: usize,
) -> Result<String, LiteralError> {
    cursor.eat("_");
    let read = digits(cursor, radix)?;
    if read.is_empty() {
        return Err(cursor.error(format!("expected a digit of base {radix}")));
    }
    if read.len() > MAX_RADIX_DIGITS {
        return Err(cursor.error_at(
            start,
            format!("expected at most {MAX_RADIX_DIGITS} digits of base {radix}"),
        ));
    }
    // Nine decimal digits each, the lowest first.
    let mut limbs: Vec<u64> = Vec::new();
    for digit in read.chars().filter_map(|c| c.to_digit(radix)) {
        let mut carry = u64::from(digit);
        for limb in &mut limbs {
            let sum = *limb * u64::from(radix) + carry;
            *limb = sum % LIMB;
            carry = sum / LIMB;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    Ok(limbs
        .iter()
        .rev()
        .map(|limb| format!("{limb:09}"))
        .collect())
}

/// Reads a decimal number. Returns it as JSON, apart from leading zeros.
fn decimal(cursor: &mut Cursor<'_>, start: usize) -> Result<String, LiteralError> {
    let mut text = digits(cursor, 10)?;
    let has_point = cursor.eat(".");
    if has_point {
        let fraction = digits(cursor, 10)?;
        if text.is_empty() && fraction.is_empty() {
            return Err(cursor.error("expected a digit"));
        }
        let fraction = if fraction.is_empty() { "0" } else { &fraction };
        text = format!("{text}.{fraction}");
    }
    if text.is_empty() {
        return Err(cursor.error("expected a digit"));
    }
    let has_exponent = cursor.eat("e") || cursor.eat("E");
    if has_exponent {
        let sign = if cursor.eat("-") {
            "-"
        } else {
            cursor.eat("+");
            "+"
        };
        let exponent = digits(cursor, 10)?;
        if exponent.is_empty() {
            return Err(cursor.error("expected a digit of the exponent"));
        }
        text = format!("{text}e{sign}{exponent}");
    }
    let is_float = has_point || has_exponent;
    let zeros = text.starts_with('0') && text.contains(|c| c != '0');
    if !is_float && zeros {
        return Err(cursor.error_at(start, "expected a whole number without zeros before it"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::parse_list;
    use crate::message::Literal;

    fn read(text: &str) -> Result<String, String> {
        match parse_list(text) {
            Ok(args) => match &args[..] {
                [Literal::Number(number)] => Ok(number.as_str().to_owned()),
                other => panic!("{other:?}"),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_way_to_write_a_number_is_read() {
        for (text, number) in [
            ("0", "0"),
            ("-0", "0"),
            ("00_0", "0"),
            ("1_000", "1000"),
            ("+5", "5"),
            ("- 5", "-5"),
            ("0xFf", "255"),
            ("-0x_f_f", "-255"),
            ("0o17", "15"),
            ("0B101", "5"),
            ("0x0", "0"),
            (
                "0xffffffffffffffffffffffff",
                "79228162514264337593543950335",
            ),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-0.0", "-0.0"),
            ("1_0.2_5", "10.25"),
            ("2.50", "2.50"),
            ("0e5", "0e+5"),
            ("1e+16", "1e+16"),
            ("1e-0_7", "1e-07"),
            ("01.5", "1.5"),
            ("-00.5", "-0.5"),
            ("00e-1", "0e-1"),
            ("1.e5", "1.0e+5"),
            ("1e-400", "1e-400"),
            ("-1e400", "-1e+400"),
            ("0.1000000000000000055511", "0.1000000000000000055511"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for (text, told) in [
            ("-", "at character 2: expected a digit"),
            ("--1", "at character 2: expected a digit"),
            ("-True", "at character 2: expected a digit"),
            (
                "-inf",
                "at character 1: expected a value that JSON can hold, found inf",
            ),
            (".", "at character 2: expected a digit"),
            (
                "012",
                "at character 1: expected a whole number without zeros before it",
            ),
            (
                "1_",
                "at character 3: expected a digit after the underscore",
            ),
            (
                "1__0",
                "at character 3: expected a digit after the underscore",
            ),
            ("1e", "at character 3: expected a digit of the exponent"),
            ("1._5", "at character 3: expected the end of the number"),
            ("12ab", "at character 3: expected the end of the number"),
            ("0x", "at character 3: expected a digit of base 16"),
            ("0b2", "at character 3: expected a digit of base 2"),
            ("1+2", "at character 2: expected a comma or the end"),
            (
                "0, 1 + 2.5j",
                "at character 4: expected a value that JSON can hold, found a complex number",
            ),
            (
                "2j",
                "at character 1: expected a value that JSON can hold, found a complex number",
            ),
        ] {
            assert_eq!(read(text), Err(told.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_very_long_number_is_read_or_refused_in_no_time() {
        let long = "7".repeat(1_000_000);
        assert_eq!(read(&long).as_deref(), Ok(&*long));
        assert!(
            read(&format!("0x{long}"))
                .unwrap_err()
                .contains("expected at most 4300 digits")
        );
        assert!(read(&format!("1e{long}")).is_ok());
        assert!(read(&format!("0x{}", "f".repeat(4300))).is_ok());
    }
}
