//! Reads JSON into literals.
//!
//! `serde_json` reads the scalars, and says what is wrong with a text; it has no numbers of our kind
//! unless by a feature that changes how all of a program's numbers are read.

use serde::Serialize;
use serde::de::{Deserialize, Error as _, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Error, Value};

use super::literal::{Literal, Number, Object};

/// The most brackets in one another, as `serde_json` has it for everybody else.
const MOST_DEPTH: usize = 127;

/// Reads a JSON text.
///
/// # Errors
/// When it is none, or has more than 127 levels.
pub fn parse(json: &str) -> Result<Literal, Error> {
    let mut reader = Reader { rest: json };
    reader.document().map_err(|fault| match fault {
        Fault::Depth => Error::custom("recursion limit exceeded"),
        Fault::Grammar(error) => at_its_place(json).unwrap_or(error),
    })
}

impl Literal {
    /// What serde makes of a value.
    ///
    /// # Errors
    /// When it is nothing that JSON can hold.
    pub fn of(value: impl Serialize) -> Result<Self, Error> {
        parse(&serde_json::to_string(&value)?)
    }
}

/// What is wrong with the whole text.
fn at_its_place(json: &str) -> Option<Error> {
    let grammar = serde_json::from_str::<IgnoredAny>(json).err();
    // Which lets escapes pass that are half a character.
    grammar.or_else(|| serde_json::from_str::<Value>(json).err())
}

/// Why a text can't be read.
enum Fault {
    Depth,
    Grammar(Error),
}

/// What is not read yet.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Literal, Fault> {
        let value = self.value(MOST_DEPTH)?;
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(expected("the end")),
        }
    }

    /// A value of at most so many levels.
    fn value(&mut self, levels: usize) -> Result<Literal, Fault> {
        match self.peek() {
            Some(b'[' | b'{') if levels == 0 => Err(Fault::Depth),
            Some(b'[') => self.list(levels - 1).map(Literal::List),
            Some(b'{') => self.object(levels - 1).map(Literal::Object),
            Some(b'"') => self.scalar().map(Literal::Text),
            Some(b't' | b'f') => self.scalar().map(Literal::Bool),
            Some(b'n') => self.scalar().map(|()| Literal::Null),
            _ => {
                let digits: &RawValue = self.scalar()?;
                Ok(Literal::Number(Number::spelt(digits.get())))
            }
        }
    }

    fn list(&mut self, levels: usize) -> Result<Vec<Literal>, Fault> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        if self.eats(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value(levels)?);
            if self.eats(b']') {
                return Ok(items);
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, levels: usize) -> Result<Object, Fault> {
        self.expect(b'{')?;
        let mut pairs = Vec::new();
        if self.eats(b'}') {
            return Ok(Object::default());
        }
        loop {
            let name = self.scalar()?;
            self.expect(b':')?;
            pairs.push((name, self.value(levels)?));
            if self.eats(b'}') {
                return Ok(pairs.into_iter().collect());
            }
            self.expect(b',')?;
        }
    }

    /// A value without brackets.
    fn scalar<T: Deserialize<'a>>(&mut self) -> Result<T, Fault> {
        let mut stream = Deserializer::from_str(self.rest).into_iter();
        let scalar = stream.next().ok_or_else(|| expected("a value"))?;
        let scalar = scalar.map_err(Fault::Grammar)?;
        self.rest = &self.rest[stream.byte_offset()..];
        Ok(scalar)
    }

    /// The next byte that is not blank, which stays.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.bytes().next()
    }

    /// Passes over `wanted` if it comes next.
    fn eats(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        match self.eats(wanted) {
            true => Ok(()),
            false => Err(expected(char::from(wanted))),
        }
    }
}

fn expected(what: impl std::fmt::Display) -> Fault {
    Fault::Grammar(Error::custom(format_args!("expected {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read, written again.
    fn again(json: &str) -> String {
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
            assert_eq!(again(number), number);
            let nested = format!("{{\"a\":[{number},{{\"b\":{number}}}]}}");
            assert_eq!(again(&nested), nested);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
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
    fn of_a_name_that_is_there_twice_the_last_value_counts() {
        assert_eq!(again(r#"{"a":1,"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
        let pairs = |values: std::ops::Range<u32>| {
            let pairs = values.map(|n| format!("\"{}\":{n}", n % 100));
            pairs.collect::<Vec<_>>().join(",")
        };
        let twice = format!("{{{}}}", pairs(0..200));
        assert_eq!(again(&twice), format!("{{{}}}", pairs(100..200)));
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
