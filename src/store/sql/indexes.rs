//! The indexes that our statements need.
//!
//! Diesel's migration steps make only tables and columns. Indexes are built beside them, one statement each, in the
//! way that lets others read and write meanwhile. The migration finds the missing indexes by looking at the tables,
//! so that a migration that was killed resumes where it stopped.

use std::borrow::Cow;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::guards::is_in;
use crate::state::Status;

/// An index that must exist.
pub(in crate::store) struct Index {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) table: &'static str,
    /// Its columns, with `DESC` where the order matters.
    pub(in crate::store) columns: &'static str,
    is_unique: bool,
    rows: IndexedRows,
    /// Whether only the embedded broker needs it. Others don't build it, since the database would have to maintain
    /// one index more for each published message.
    pub(super) embedded_broker_only: bool,
}

impl Index {
    pub(in crate::store) const fn new(
        table: &'static str,
        name: &'static str,
        columns: &'static str,
    ) -> Self {
        Self {
            name,
            table,
            columns,
            is_unique: false,
            rows: IndexedRows::All,
            embedded_broker_only: false,
        }
    }

    pub(in crate::store) const fn unique(mut self) -> Self {
        self.is_unique = true;
        self
    }

    pub(in crate::store) const fn only(mut self, predicate: &'static str) -> Self {
        self.rows = IndexedRows::Where(predicate);
        self
    }

    /// Indexes only messages with that status.
    pub(in crate::store) const fn only_status(mut self, status: Status) -> Self {
        self.rows = IndexedRows::In(status);
        self
    }

    pub(in crate::store) const fn for_embedded_broker(mut self) -> Self {
        self.embedded_broker_only = true;
        self
    }

    /// The statement that builds the index, with `options` before its name.
    pub(in crate::store) fn create(&self, options: &str) -> String {
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        let (name, table, columns) = (self.name, self.table, self.columns);
        let predicate = self.rows.predicate();
        let predicate = predicate.map(|only| format!(" WHERE {only}"));
        format!(
            "CREATE {unique}INDEX {options}{name} ON {table} ({columns}){}",
            predicate.unwrap_or_default()
        )
    }

    /// The error when duplicate rows prevent a unique index.
    pub(in crate::store) fn duplicates(&self, detail: &str) -> String {
        format!(
            "the unique index {} can't be built, since rows of {} are alike in ({}): delete or change all \
             but one of them, and migrate again: {detail}",
            self.name, self.table, self.columns
        )
    }

    /// Whether the existing index is this one.
    pub(super) fn matches(&self, existing: &ExistingIndex, shows_descending: bool) -> bool {
        let plain = |column: &str| match shows_descending {
            true => column.trim().to_owned(),
            false => column.trim().trim_end_matches(" DESC").to_owned(),
        };
        let columns = self.columns.split(',').map(plain);
        // Databases rewrite a predicate, but keep the names in it.
        let predicate_matches = match self.rows.predicate() {
            None => existing.predicate.is_empty(),
            Some(only) => named_words(&only)
                .all(|word| named_words(&existing.predicate).any(|other| other == word)),
        };
        columns.eq(existing.key_columns.split(',').map(str::to_owned))
            && self.is_unique == (existing.is_unique != 0)
            && predicate_matches
    }
}

/// The rows that an index contains.
enum IndexedRows {
    All,
    In(Status),
    Where(&'static str),
}

impl IndexedRows {
    fn predicate(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::All => None,
            Self::In(status) => Some(is_in("status", [*status]).into()),
            Self::Where(predicate) => Some((*predicate).into()),
        }
    }
}

/// The words of a predicate that are no names.
const SYNTAX: [&str; 10] = [
    "AND", "IS", "NOT", "NULL", "DISTINCT", "FROM", "CAST", "AS", "text", "COALESCE",
];

/// The columns and statuses that a predicate names.
fn named_words(predicate: &str) -> impl Iterator<Item = &str> {
    predicate
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty() && !SYNTAX.contains(word))
}

/// An index that the database has.
#[derive(QueryableByName)]
pub(in crate::store) struct ExistingIndex {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Text)]
    pub(super) key_columns: String,
    #[diesel(sql_type = BigInt)]
    pub(super) is_unique: i64,
    #[diesel(sql_type = Text)]
    pub(super) predicate: String,
    #[diesel(sql_type = BigInt)]
    pub(super) is_valid: i64,
}

/// What is wrong with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum IndexFault {
    Missing,
    /// Its build did not complete, or it is disabled.
    Invalid,
    /// An index of the same name has this other definition.
    Different(String),
}

impl IndexFault {
    /// Why the existing index of that name must be dropped, if there is one.
    pub(in crate::store) fn reason(&self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Invalid => Some("is not valid, as after a migration was killed".to_owned()),
            Self::Different(definition) => Some(format!("is another one ({definition})")),
        }
    }
}
