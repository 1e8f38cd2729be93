//! Reads TOML tables key by key, and reports each fault instead of stopping at the first.
//!
//! Each key that a [`Section`] may have is asked for by name; keys that were never asked for are unknown. An
//! [`Entry`] is a value with the path of its key. A method that returns `None` for a wrong value has reported the
//! fault.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::fault::Faults;
use crate::suggest;

/// The most characters of a wrong value that a fault repeats.
const MAX_SHOWN_CHARACTERS: usize = 40;

/// A table whose keys we define.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    table: &'a Table,
    known: Vec<&'static str>,
    /// Old names that are still read, but never suggested.
    outdated: Vec<&'static str>,
    confidential: bool,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a Table, faults: &'a Faults) -> Self {
        Self {
            path: String::new(),
            table,
            known: Vec::new(),
            outdated: Vec::new(),
            confidential: false,
            faults,
        }
    }

    /// The value of `key`, which is a known key from now on.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        self.entry(key)
    }

    /// The value of a key by its old name.
    pub(super) fn outdated(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.outdated.push(key);
        self.entry(key)
    }

    fn entry(&self, key: &str) -> Option<Entry<'a>> {
        self.table.get(key).map(|value| Entry {
            path: join(&self.path, key),
            value,
            confidential: self.confidential,
            faults: self.faults,
        })
    }

    /// As [`get`](Self::get), but reports a fault if `key` is missing.
    pub(super) fn require(&mut self, key: &'static str, what: &str) -> Option<Entry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.faults.report(
                join(&self.path, key),
                format!("is missing; it must be {what}"),
            );
        }
        entry
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let mut known_or_outdated = self.known.iter().chain(&self.outdated);
            if !known_or_outdated.any(|name| name == key) {
                self.faults
                    .report(join(&self.path, key), self.unknown_key(key));
            }
        }
    }

    fn unknown_key(&self, key: &str) -> String {
        if let Some(meant) = suggest::nearest(key, &self.known) {
            return format!("is not a known key; did you mean {meant}?");
        }
        let mut known = self.known.clone();
        known.sort_unstable();
        format!("is not a known key; known are {}", known.join(", "))
    }
}

/// A value, and the path of its key.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    path: String,
    value: &'a Value,
    confidential: bool,
    faults: &'a Faults,
}

impl<'a> Entry<'a> {
    /// From now on no fault of this entry, or of one below it, repeats a value.
    pub(super) fn confidential(mut self) -> Self {
        self.confidential = true;
        self
    }

    /// The raw value.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Reports `problem` at this key.
    pub(super) fn fault(&self, problem: impl Into<String>) {
        self.faults.report(self.path.clone(), problem);
    }

    /// Reports that the value must be `expected`, and what it is instead.
    pub(super) fn mismatch(&self, expected: &str) {
        let found = if self.confidential {
            type_name(self.value).to_owned()
        } else {
            display(self.value)
        };
        self.fault(format!("must be {expected}, not {found}"));
    }

    fn or_mismatch<T>(&self, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.mismatch(expected);
        }
        value
    }

    /// The value as a string. `expected` completes "must be …".
    pub(super) fn string(&self, expected: &str) -> Option<&'a str> {
        self.or_mismatch(self.value.as_str(), expected)
    }

    /// The value as a boolean.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.or_mismatch(self.value.as_bool(), "true or false")
    }

    /// The value as a whole number in `range`, all of which must fit `T`.
    pub(super) fn whole<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Option<T> {
        let number = self
            .value
            .as_integer()
            .filter(|number| range.contains(number));
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.or_mismatch(
            number.and_then(|number| T::try_from(number).ok()),
            &expected,
        )
    }

    /// The value as a table whose keys we define.
    pub(super) fn section(&self, expected: &str) -> Option<Section<'a>> {
        let table = self.or_mismatch(self.value.as_table(), expected)?;
        Some(Section {
            path: self.path.clone(),
            table,
            known: Vec::new(),
            outdated: Vec::new(),
            confidential: self.confidential,
            faults: self.faults,
        })
    }

    /// The value as a table whose keys the user defines.
    pub(super) fn pairs(&self, expected: &str) -> Option<Vec<(&'a str, Entry<'a>)>> {
        let table = self.or_mismatch(self.value.as_table(), expected)?;
        let pair = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), self.child(join(&self.path, key), value))
        };
        Some(table.iter().map(pair).collect())
    }

    /// The value as a list.
    pub(super) fn items(&self, expected: &str) -> Option<Vec<Entry<'a>>> {
        let list = self.or_mismatch(self.value.as_array(), expected)?;
        let item = |(index, value)| self.child(format!("{}[{index}]", self.path), value);
        Some(list.iter().enumerate().map(item).collect())
    }

    fn child(&self, path: String, value: &'a Value) -> Entry<'a> {
        Entry {
            path,
            value,
            confidential: self.confidential,
            faults: self.faults,
        }
    }
}

/// The path of `key` in the table at `path`, in TOML's notation.
fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn display(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().nth(MAX_SHOWN_CHARACTERS).is_some() => {
            let start: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
            format!("{start:?}…")
        }
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => type_name(value).to_owned(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "this whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, Section, Table};

    fn faults_of(text: &str, read: impl FnOnce(&mut Section<'_>)) -> String {
        let table: Table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::root(&table, &faults);
        read(&mut section);
        section.finish();
        faults
            .into_result((), None)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_wrong_value_is_shown_with_what_would_be_right() {
        let text = faults_of("n = 'four'\nb = 1.5\ns = [1]", |section| {
            assert_eq!(section.get("n").unwrap().whole::<u8>(1..=9), None);
            assert_eq!(section.get("b").unwrap().boolean(), None);
            assert_eq!(section.get("s").unwrap().string("a name"), None);
        });
        assert!(
            text.contains("\n  n: must be a whole number from 1 to 9, not \"four\""),
            "{text}"
        );
        assert!(
            text.contains("\n  b: must be true or false, not 1.5"),
            "{text}"
        );
        assert!(text.contains("\n  s: must be a name, not a list"), "{text}");
    }

    #[test]
    fn a_confidential_value_is_not_shown() {
        let text = faults_of("p = { x = 'hunter2' }", |section| {
            let entry = section.get("p").unwrap().confidential();
            let mut inner = entry.section("a table").unwrap();
            assert_eq!(inner.get("x").unwrap().whole::<u16>(1..=2), None);
        });
        assert!(
            text.ends_with("p.x: must be a whole number from 1 to 2, not a string"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_one_that_was_meant() {
        let text = faults_of("hots = 1\n'a b' = 2", |section| {
            assert!(section.get("host").is_none());
        });
        assert!(
            text.contains("hots: is not a known key; did you mean host?"),
            "{text}"
        );
        assert!(
            text.contains("\"a b\": is not a known key; known are host"),
            "{text}"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = faults_of(&format!("n = '{}'", "x".repeat(1000)), |section| {
            assert_eq!(section.get("n").unwrap().boolean(), None);
        });
        assert!(text.len() < 200 && text.ends_with("x\"…"), "{text}");
    }
}
