//! Reads JSON into [`Literal`]s, which keep the digits of numbers.
//!
//! `serde_json` reads the scalars and describes errors. It could keep the digits itself only with a feature that
//! changes how all numbers of a program are read.

use serde::Serialize;
use serde::de::{Deserialize, Error as _, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Error, Value};

use super::literal::{Literal, Number, Object};

/// How deep brackets may be nested: the limit of `serde_json`.
const MAX_DEPTH: usize = 127;

/// Reads a JSON text.
///
/// # Errors
/// When it is not JSON, or is nested more than 127 levels deep.
pub fn parse(json: &str) -> Result<Literal, Error> {
    let mut reader = JsonReader { rest: json };
    reader.document().map_err(|error| match error {
        JsonError::Depth => Error::custom("recursion limit exceeded"),
        JsonError::Grammar(error) => error_with_position(json).unwrap_or(error),
    })
}

impl Literal {
    /// Serializes a value.
    ///
    /// # Errors
    /// When the value can't be written as JSON.
    pub fn of(value: impl Serialize) -> Result<Self, Error> {
        parse(&serde_json::to_string(&value)?)
    }
}

/// The error of `serde_json` for the whole text, which has the line and column.
fn error_with_position(json: &str) -> Option<Error> {
    let grammar = serde_json::from_str::<IgnoredAny>(json).err();
    // `IgnoredAny` accepts escapes of lone surrogates; `Value` does not.
    grammar.or_else(|| serde_json::from_str::<Value>(json).err())
}

/// Why a text can't be read.
enum JsonError {
    Depth,
    Grammar(Error),
}

/// A reader of a JSON text; `rest` is not read yet.
struct JsonReader<'a> {
    rest: &'a str,
}

impl<'a> JsonReader<'a> {
    fn document(&mut self) -> Result<Literal, JsonError> {
        let value = self.value(MAX_DEPTH)?;
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(expected("the end")),
        }
    }

    /// Reads a value with at most this many levels of brackets.
    fn value(&mut self, levels: usize) -> Result<Literal, JsonError> {
        match self.peek() {
            Some(b'[' | b'{') if levels == 0 => Err(JsonError::Depth),
            Some(b'[') => self.list(levels - 1).map(Literal::List),
            Some(b'{') => self.object(levels - 1).map(Literal::Object),
            Some(b'"') => self.scalar().map(Literal::Text),
            Some(b't' | b'f') => self.scalar().map(Literal::Bool),
            Some(b'n') => self.scalar().map(|()| Literal::Null),
            _ => {
                let digits: &RawValue = self.scalar()?;
                Ok(Literal::Number(Number::from_text(digits.get())))
            }
        }
    }

    fn list(&mut self, levels: usize) -> Result<Vec<Literal>, JsonError> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        if self.skip_if(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value(levels)?);
            if self.skip_if(b']') {
                return Ok(items);
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, levels: usize) -> Result<Object, JsonError> {
        self.expect(b'{')?;
        let mut pairs = Vec::new();
        if self.skip_if(b'}') {
            return Ok(Object::default());
        }
        loop {
            let name = self.scalar()?;
            self.expect(b':')?;
            pairs.push((name, self.value(levels)?));
            if self.skip_if(b'}') {
                return Ok(pairs.into_iter().collect());
            }
            self.expect(b',')?;
        }
    }

    /// Reads a value without brackets.
    fn scalar<T: Deserialize<'a>>(&mut self) -> Result<T, JsonError> {
        let mut stream = Deserializer::from_str(self.rest).into_iter();
        let scalar = stream.next().ok_or_else(|| expected("a value"))?;
        let scalar = scalar.map_err(JsonError::Grammar)?;
        self.rest = &self.rest[stream.byte_offset()..];
        Ok(scalar)
    }

    /// The next byte that is not white space, without passing over it.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next()
    }

    /// Passes over `wanted` if it comes next. Returns whether it did.
    fn skip_if(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        match self.skip_if(wanted) {
            true => Ok(()),
            false => Err(expected(char::from(wanted))),
        }
    }
}

fn expected(what: impl std::fmt::Display) -> JsonError {
    JsonError::Grammar(Error::custom(format_args!("expected {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text and writes what was read.
    fn rewritten(json: &str) -> String {
        parse(json)
            .unwrap_or_else(|error| panic!("{json}: {error}"))
            .to_string()
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        let long = "7".repeat(100_000);
        for number in [
            "0", "-0", "-7", "2.50", "1e-05", "1E5", "0e+5", "1e400", "-1e400", "1e-400", &long,
        ] {
            assert_eq!(rewritten(number), number);
            let nested = format!("{{\"a\":[{number},{{\"b\":{number}}}]}}");
            assert_eq!(rewritten(&nested), nested);
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_position() {
        let texts = "|[1|[1,]|[,1]|[1 2]|[1]]|{\"a\" 1}|{\"a\":1,}|{1:2}|{|nul|nulls|tru|'a'|\"a|\"\\x\"|\
                     \"a\nb\"|01|1.|.5|+1|-|1e|1e+|0x1|1_0|NaN|[1}|{\"a\":1]|[\u{a0}1]|1 a|[\n1,\n2;]";
        for text in texts.split('|') {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            let error = parse(text).expect_err(text);
            assert!(error.line() > 0, "{text}: {error}");
        }
        let half = parse("[1,\n\"\\ud83d\"]").unwrap_err();
        assert_eq!((half.line(), half.column()), (2, 8), "{half}");
    }

    #[test]
    fn the_last_value_of_a_duplicate_name_counts() {
        assert_eq!(rewritten(r#"{"a":1,"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
        let pairs = |values: std::ops::Range<u32>| {
            let pairs = values.map(|n| format!("\"{}\":{n}", n % 100));
            pairs.collect::<Vec<_>>().join(",")
        };
        let twice = format!("{{{}}}", pairs(0..200));
        assert_eq!(rewritten(&twice), format!("{{{}}}", pairs(100..200)));
    }

    #[test]
    fn brackets_go_as_deep_as_with_serde_json() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [1, 126, 127, 128, 129] {
            let expected = serde_json::from_str::<Value>(&nested(levels));
            assert_eq!(parse(&nested(levels)).is_ok(), expected.is_ok(), "{levels}");
        }
        for endless in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
            let told = parse(&endless).unwrap_err().to_string();
            assert!(told.contains("recursion limit"), "{told}");
        }
    }

    #[test]
    fn every_text_is_read_as_serde_json_reads_it() {
        let pieces = "[ ] [ ] { } {\"a\": \"b\": , , : \n 0 12 - 1.5 2e3 E + . null true false \" \"ž\" \
                      \"\\u00e9\" \"\\n \\ 18446744073709551615";
        let pieces: Vec<_> = pieces.split(' ').chain([" "]).collect();
        let mut random = fastrand::Rng::with_seed(3);
        let mut read = 0;
        for _ in 0..200_000 {
            let text: String = (0..random.usize(1..9))
                .map(|_| *random.choice(&pieces).unwrap())
                .collect();
            match (parse(&text), serde_json::from_str::<Value>(&text)) {
                (Ok(found), Ok(expected)) => {
                    let again: Value = serde_json::from_str(&found.to_string()).unwrap();
                    assert_eq!(again, expected, "{text}");
                    read += 1;
                }
                (Err(_), Err(_)) => {}
                (Ok(_), Err(error)) if error.to_string().contains("out of range") => {}
                (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
        assert!(read > 5_000, "{read}");
    }
}
