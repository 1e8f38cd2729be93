//! The indexes that our statements need, and which of them are not as they should be.
//!
//! Diesel's steps make tables and columns alone. Indexes are built beside that, one statement each, in the
//! way in which the database lets others read and write meanwhile; which of them are missing is seen from the
//! tables themselves, so that a migration that was killed goes on where it was.

use std::borrow::Cow;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::engine::Engine;
use super::guards::is_in;
use crate::state::Status;
use crate::store::Tables;

/// An index that must be there.
pub(in crate::store) struct Index {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) table: &'static str,
    /// Its columns, with `DESC` where that counts.
    pub(in crate::store) columns: &'static str,
    is_unique: bool,
    only: Only,
    /// Whether it is the embedded broker's. Nobody else is to pay for it: it is one index more to keep for
    /// each message that is published.
    is_of_queues: bool,
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
            only: Only::All,
            is_of_queues: false,
        }
    }

    pub(in crate::store) const fn unique(mut self) -> Self {
        self.is_unique = true;
        self
    }

    pub(in crate::store) const fn only(mut self, predicate: &'static str) -> Self {
        self.only = Only::Where(predicate);
        self
    }

    /// Only messages in that state.
    pub(in crate::store) const fn of(mut self, status: Status) -> Self {
        self.only = Only::In(status);
        self
    }

    pub(in crate::store) const fn of_queues(mut self) -> Self {
        self.is_of_queues = true;
        self
    }

    /// The statement that builds it, with `how` before its name.
    pub(in crate::store) fn create(&self, how: &str) -> String {
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        let (name, table, columns) = (self.name, self.table, self.columns);
        let predicate = self.only.predicate();
        let predicate = predicate.map(|only| format!(" WHERE {only}"));
        format!(
            "CREATE {unique}INDEX {how}{name} ON {table} ({columns}){}",
            predicate.unwrap_or_default()
        )
    }

    /// What is said when rows are in the way of a unique one.
    pub(in crate::store) fn duplicates(&self, detail: &str) -> String {
        format!(
            "the unique index {} can't be built, since rows of {} are alike in ({}): delete or change all \
             but one of them, and migrate again: {detail}",
            self.name, self.table, self.columns
        )
    }

    fn is(&self, found: &ExistingIndex, tells_descending: bool) -> bool {
        let plain = |column: &str| match tells_descending {
            true => column.trim().to_owned(),
            false => column.trim().trim_end_matches(" DESC").to_owned(),
        };
        let columns = self.columns.split(',').map(plain);
        // How a predicate is written back differs, but not what it names.
        let holds = match self.only.predicate() {
            None => found.predicate.is_empty(),
            Some(only) => {
                words(&only).all(|word| words(&found.predicate).any(|other| other == word))
            }
        };
        columns.eq(found.key_columns.split(',').map(str::to_owned))
            && self.is_unique == (found.is_unique != 0)
            && holds
    }
}

/// What the rows are like that an index holds.
enum Only {
    All,
    In(Status),
    Where(&'static str),
}

impl Only {
    fn predicate(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::All => None,
            Self::In(status) => Some(is_in("status", [*status]).into()),
            Self::Where(predicate) => Some((*predicate).into()),
        }
    }
}

/// What a predicate is written with.
const SYNTAX: [&str; 10] = [
    "AND", "IS", "NOT", "NULL", "DISTINCT", "FROM", "CAST", "AS", "text", "COALESCE",
];

/// The columns and states that a predicate names.
fn words(predicate: &str) -> impl Iterator<Item = &str> {
    predicate
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty() && !SYNTAX.contains(word))
}

/// An index as it is.
#[derive(QueryableByName)]
pub(in crate::store) struct ExistingIndex {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    key_columns: String,
    #[diesel(sql_type = BigInt)]
    is_unique: i64,
    #[diesel(sql_type = Text)]
    predicate: String,
    #[diesel(sql_type = BigInt)]
    is_valid: i64,
}

/// What an index is like that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum IndexFault {
    Missing,
    /// It was never built to its end, or is switched off.
    Invalid,
    /// It is another one.
    Another(String),
}

impl IndexFault {
    /// Why an index of that name has to go, if there is one.
    pub(in crate::store) fn reason(&self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Invalid => {
                Some("is not valid, as a migration leaves it that was killed".to_owned())
            }
            Self::Another(is) => Some(format!("is another one ({is})")),
        }
    }
}

/// Those of the indexes that are needed for `tables` which are not as they should be.
pub(in crate::store) fn index_faults<E: Engine>(
    engine: &mut E,
    tables: Tables,
) -> QueryResult<Vec<(&'static Index, IndexFault)>> {
    let all: Vec<ExistingIndex> = engine.load_unprepared(E::SELECT_INDEXES)?;
    let wanted = E::INDEXES.iter().filter(|index| match tables {
        Tables::Plain => !index.is_of_queues,
        Tables::WithQueues => true,
    });
    let fault = |index: &'static Index| {
        let fault = match all.iter().find(|found| found.name == index.name) {
            None => IndexFault::Missing,
            Some(found) if !index.is(found, E::SHOWS_DESCENDING) => {
                let unique = if found.is_unique == 0 { "" } else { "unique, " };
                let of = &found.key_columns;
                IndexFault::Another(match found.predicate.as_str() {
                    "" => format!("{unique}on {of}"),
                    predicate => format!("{unique}on {of}, where {predicate}"),
                })
            }
            Some(found) if found.is_valid == 0 => IndexFault::Invalid,
            Some(_) => return None,
        };
        Some((index, fault))
    };
    Ok(wanted.filter_map(fault).collect())
}
