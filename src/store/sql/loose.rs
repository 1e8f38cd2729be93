//! Columns that load whatever value they have: an unreadable value is a fault of its own row and does not fail all rows
//! that a statement returns.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};

/// The most characters of a value that an error shows.
const MAX_DISPLAYED: usize = 80;

/// A text, or another value in its place.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow)]
pub(in crate::store) enum LooseText {
    Text(String),
    /// A text stored as a blob, which in SQLite equals no text.
    Blob(String),
    /// Bytes that are not UTF-8, escaped.
    Bytes(String),
}

/// Why a value can't be read.
pub(in crate::store) type ValueFault = String;

impl LooseText {
    fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(escape_invalid_utf8(bytes)),
        }
    }

    /// The text.
    pub(in crate::store) fn read(self) -> Result<String, ValueFault> {
        match self {
            Self::Text(text) | Self::Blob(text) => Ok(text),
            Self::Bytes(shown) => Err(not_utf8(&shown)),
        }
    }

    /// The text, if a statement that compares keys finds the row by it.
    pub(in crate::store) fn read_as_key(self) -> Result<String, ValueFault> {
        match self {
            Self::Text(text) if !text.contains('\0') => Ok(text),
            Self::Text(text) => Err(format!("it has a NUL: {text:?}")),
            Self::Blob(text) => Err(format!("it is a blob and no text: {text:?}")),
            Self::Bytes(shown) => Err(not_utf8(&shown)),
        }
    }

    /// A text to display: the value itself, if it can be read.
    pub(in crate::store) fn into_display(self) -> String {
        match self {
            Self::Text(text) | Self::Blob(text) | Self::Bytes(text) => text,
        }
    }
}

fn not_utf8(shown: &str) -> ValueFault {
    let cut: String = shown.chars().take(MAX_DISPLAYED).collect();
    let dots = if cut.len() < shown.len() { "…" } else { "" };
    format!("it is not UTF-8: {cut}{dots}")
}

/// The bytes as a text, with invalid UTF-8 escaped as `\xff`.
fn escape_invalid_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let escaped = chunk.invalid().iter().copied();
        text.extend(escaped.flat_map(std::ascii::escape_default).map(char::from));
    }
    text
}

impl FromSql<Text, Pg> for LooseText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::from_bytes(value.as_bytes()))
    }
}

impl FromSql<Text, Sqlite> for LooseText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let variant = match value.value_type() {
            Some(SqliteType::Binary) => Self::Blob,
            _ => Self::Text,
        };
        let text = value.read_text().to_owned();
        // Diesel replaces invalid UTF-8 with this character, but the text may also contain it.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let bytes = value.read_blob();
            if std::str::from_utf8(bytes).is_err() {
                return Ok(Self::Bytes(escape_invalid_utf8(bytes)));
            }
        }
        Ok(variant(text))
    }
}

#[cfg(feature = "mysql")]
impl FromSql<Text, diesel::mysql::Mysql> for LooseText {
    fn from_sql(value: diesel::mysql::MysqlValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::from_bytes(value.as_bytes()))
    }
}

/// An integer, or another value in its place.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow)]
pub(in crate::store) struct LooseInteger(Result<i64, ValueFault>);

impl LooseInteger {
    /// The integer.
    pub(in crate::store) fn read(self) -> Result<i64, ValueFault> {
        self.0
    }
}

impl FromSql<BigInt, Pg> for LooseInteger {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        <i64 as FromSql<BigInt, Pg>>::from_sql(value).map(|number| Self(Ok(number)))
    }
}

impl FromSql<BigInt, Sqlite> for LooseInteger {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let is_integer = matches!(
            value.value_type(),
            Some(SqliteType::SmallInt | SqliteType::Integer | SqliteType::Long)
        );
        if is_integer {
            return Ok(Self(Ok(value.read_long())));
        }
        let shown = <LooseText as FromSql<Text, Sqlite>>::from_sql(value)?.into_display();
        let shown: String = shown.chars().take(MAX_DISPLAYED).collect();
        Ok(Self(Err(format!("it is no integer: {shown:?}"))))
    }
}

#[cfg(feature = "mysql")]
impl FromSql<BigInt, diesel::mysql::Mysql> for LooseInteger {
    fn from_sql(value: diesel::mysql::MysqlValue<'_>) -> deserialize::Result<Self> {
        <i64 as FromSql<BigInt, diesel::mysql::Mysql>>::from_sql(value)
            .map(|number| Self(Ok(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_recognized_and_escaped() {
        assert_eq!(LooseText::from_bytes("ž".as_bytes()).read().unwrap(), "ž");
        let stray = LooseText::from_bytes(b"caf\xe9 \xff!");
        assert_eq!(stray.clone().into_display(), "caf\\xe9 \\xff!");
        assert_eq!(
            stray.read().unwrap_err(),
            "it is not UTF-8: caf\\xe9 \\xff!"
        );
        let long = LooseText::from_bytes(&[0xff; 1000]).read().unwrap_err();
        assert!(long.len() < 120 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn a_key_that_no_statement_finds_is_a_fault() {
        assert_eq!(LooseText::from_bytes(b"key").read_as_key().unwrap(), "key");
        assert!(LooseText::from_bytes(b"k\0y").read_as_key().is_err());
        assert!(LooseText::from_bytes(b"k\xffy").read_as_key().is_err());
        assert!(LooseText::Blob("key".to_owned()).read_as_key().is_err());
    }
}
