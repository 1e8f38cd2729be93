//! JSON values that keep their numbers as they were written.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Serialize, Serializer, ser};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON value that keeps its numbers as they were written: `2.50`, `1e400`, whole numbers of any size.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Literal {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object),
}

/// A number, as it is written in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Number(Box<str>);

/// The literals of an object by name, in the order in which they were written. The last literal of a duplicate
/// name counts.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(String, Literal)>);

impl Literal {
    /// The type of the value, in words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// About how many bytes of memory the value takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null | Self::Bool(_) => 0,
                Self::Number(number) => number.0.len(),
                Self::Text(text) => text.len(),
                Self::List(items) => items.iter().map(Self::size).sum(),
                Self::Object(pairs) => pairs.size(),
            }
    }
}

#[cfg(test)]
impl Literal {
    /// The items of a JSON array.
    pub(crate) fn list(array: Value) -> Vec<Self> {
        match array.into() {
            Self::List(items) => items,
            other => panic!("{other} is no array"),
        }
    }
}

impl Number {
    /// A number from its JSON text, which is not checked.
    pub(super) fn from_text(digits: impl Into<Box<str>>) -> Self {
        Self(digits.into())
    }

    /// The number as it is written in JSON.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the number is too large for any f64.
    pub(super) fn is_beyond_f64(&self) -> bool {
        /// A whole number with at most this many digits fits an f64.
        const FEW_DIGITS: usize = 308;
        let may_be = self.0.len() > FEW_DIGITS || self.0.contains(['e', 'E']);
        may_be && self.0.parse::<f64>().is_ok_and(f64::is_infinite)
    }

    /// The number as i64 or u64, else as the nearest f64. `None` if it is too large.
    fn to_serde(&self) -> Option<serde_json::Number> {
        let whole = self.0.parse::<i64>().map(Into::into);
        whole
            .or_else(|_| self.0.parse::<u64>().map(Into::into))
            .ok()
            .or_else(|| serde_json::Number::from_f64(self.0.parse().ok()?))
    }
}

impl Object {
    /// The names and literals, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Literal)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The literal with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Literal> {
        self.iter()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Whether the object has no literals.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes of memory the names and literals take.
    pub(super) fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.size())
            .sum()
    }
}

impl IntoIterator for Object {
    type Item = (String, Literal);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, Literal)> for Object {
    fn from_iter<T: IntoIterator<Item = (String, Literal)>>(pairs: T) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        Self(if has_duplicate_names(&pairs) {
            keep_last_values(pairs)
        } else {
            pairs
        })
    }
}

fn has_duplicate_names(pairs: &[(String, Literal)]) -> bool {
    const FEW: usize = 8;
    let mut names = pairs.iter().map(|(name, _)| name);
    if pairs.len() <= FEW {
        let earlier = |nth: usize| pairs[..nth].iter().map(|(name, _)| name);
        return names
            .enumerate()
            .any(|(nth, name)| earlier(nth).any(|other| other == name));
    }
    let mut seen = HashSet::with_capacity(pairs.len());
    !names.all(|name| seen.insert(name))
}

fn keep_last_values(pairs: Vec<(String, Literal)>) -> Vec<(String, Literal)> {
    let mut places = HashMap::new();
    let mut kept: Vec<(String, Literal)> = Vec::new();
    for (name, value) in pairs {
        match places.get(&name) {
            Some(&place) => kept[place] = (name, value),
            None => {
                places.insert(name.clone(), kept.len());
                kept.push((name, value));
            }
        }
    }
    kept
}

/// The order does not matter.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        let has = |(nth, (name, value)): (usize, &(String, Literal))| match other.0.get(nth) {
            Some((found, other)) if found == name => other == value,
            _ => other.get(name) == Some(value),
        };
        self.0.len() == other.0.len() && self.0.iter().enumerate().all(has)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// As JSON, in one line.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// As JSON, in one line.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Value> for Literal {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(boolean) => Self::Bool(boolean),
            Value::Number(number) => Self::Number(Number::from_text(number.to_string())),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(pairs) => Self::Object(pairs.into()),
        }
    }
}

impl From<serde_json::Map<String, Value>> for Object {
    fn from(pairs: serde_json::Map<String, Value>) -> Self {
        let pairs = pairs.into_iter();
        Self(pairs.map(|(name, value)| (name, value.into())).collect())
    }
}

/// Numbers become i64 or u64, else the nearest f64. A number that is too large for any f64 becomes null.
impl From<&Literal> for Value {
    fn from(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(boolean) => Self::Bool(*boolean),
            Literal::Number(number) => number.to_serde().map_or(Self::Null, Self::Number),
            Literal::Text(text) => Self::String(text.clone()),
            Literal::List(items) => items.iter().map(Self::from).collect(),
            Literal::Object(pairs) => Self::Object(pairs.into()),
        }
    }
}

/// Converts numbers as from a reference.
impl From<Literal> for Value {
    fn from(literal: Literal) -> Self {
        Self::from(&literal)
    }
}

/// Converts numbers as from a [`Literal`].
impl From<&Object> for serde_json::Map<String, Value> {
    fn from(pairs: &Object) -> Self {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    }
}

/// Compares a literal with a value as if it were converted into one.
impl PartialEq<Value> for Literal {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(one), Value::Bool(other)) => one == other,
            (Self::Number(one), Value::Number(other)) => one.to_serde().as_ref() == Some(other),
            (Self::Text(one), Value::String(other)) => one == other,
            (Self::List(one), Value::Array(other)) => one == other,
            (Self::Object(one), Value::Object(other)) => {
                let has = |(name, value): (&str, &Self)| {
                    other.get(name).is_some_and(|other| value == other)
                };
                one.0.len() == other.len() && one.iter().all(has)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::json;

    fn plain(json: &str) -> Value {
        json::parse(json).unwrap().into()
    }

    #[test]
    fn a_number_becomes_an_i64_or_u64_or_the_nearest_f64() {
        for (written, value) in [
            ("-0", json!(0)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551615", json!(u64::MAX)),
            (
                "18446744073709551616",
                json!(18_446_744_073_709_551_616_f64),
            ),
            (
                "-9223372036854775809",
                json!(-9_223_372_036_854_775_809_f64),
            ),
            ("2.50", json!(2.5)),
            ("1e-05", json!(0.00001)),
            ("1E2", json!(100.0)),
            ("1e-400", json!(0.0)),
            ("0.1000000000000000055511151231257827", json!(0.1)),
            ("1e308", json!(1e308)),
            ("1e309", Value::Null),
        ] {
            assert_eq!(plain(written), value, "{written}");
        }
    }

    #[test]
    fn only_a_number_that_is_too_large_is_beyond_f64() {
        let whole = |digits: usize| "9".repeat(digits);
        for (written, is_beyond) in [
            ("1", false),
            ("1e308", false),
            ("-1.8e308", true),
            ("1e309", true),
            ("1E+309", true),
            ("1e-309", false),
            ("0e999", false),
            (whole(308).as_str(), false),
            (whole(309).as_str(), true),
            (&format!("0.{}", whole(400)), false),
        ] {
            let number = Number::from_text(written);
            assert_eq!(number.is_beyond_f64(), is_beyond, "{written}");
            assert_eq!(number.to_serde().is_none(), is_beyond, "{written}");
        }
    }

    #[test]
    fn a_serialized_value_keeps_its_digits() {
        let of =
            |value: &dyn Fn() -> Result<Literal, serde_json::Error>| value().unwrap().to_string();
        assert_eq!(of(&|| Literal::of(u128::MAX)), u128::MAX.to_string());
        assert_eq!(
            of(&|| Literal::of((0.1_f32, 0.1_f64, f64::NAN))),
            "[0.1,0.1,null]"
        );
        let raw: Box<RawValue> = serde_json::from_str("[1e400, 2.50]").unwrap();
        assert_eq!(of(&|| Literal::of(&raw)), "[1e400,2.50]");
    }

    #[test]
    fn literals_equal_the_values_that_they_become() {
        let value = json!({"a": [1, 2.5, null, true, "ž\n\"\\"], "b": {}});
        let literal = Literal::from(value.clone());
        assert_eq!(literal, value);
        assert_eq!(literal.to_string(), value.to_string());
        assert_eq!(Value::from(literal), value);
        assert_eq!(
            Literal::from(json!({"a": 1, "b": 2})),
            json!({"b": 2, "a": 1})
        );
        for (one, other) in [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": 1}), json!({"b": 1})),
            (json!([1]), json!([1, 2])),
            (json!(1), json!("1")),
        ] {
            assert_ne!(Literal::from(one), other);
        }
        let one = json::parse(r#"{"a":{"x":1,"y":2},"b":3}"#).unwrap();
        assert_eq!(one, json::parse(r#"{"b":3,"a":{"y":2,"x":1}}"#).unwrap());
        assert_ne!(one, json::parse(r#"{"b":3,"a":{"y":2,"x":0}}"#).unwrap());
        assert_eq!(json::parse("[2.50, 1e-05]").unwrap(), json!([2.5, 0.00001]));
    }
}
