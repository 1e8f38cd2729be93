//! Requeue: a new message in place of an old one, which is deleted, as django-carrot does it.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::bounds::{Sized, first_ids, size};
use super::engine::{ALWAYS, Engine, Id};
use super::guards::{is_in, joined};
use super::loose::LooseText;
use super::overlap::not_finished_after_all;
use super::publishing::{MessageRow, record};
use super::values::Values;
use crate::failpoint;
use crate::names;
use crate::state::Status;
use crate::store::{NewRow, Requeue, Requeued};

/// So many messages that FAILED are requeued in one transaction at most.
const MOST_FAILED: usize = 1000;

/// A row as it loads, whatever stands in it.
#[derive(QueryableByName)]
struct LooseRow {
    #[diesel(embed)]
    message: MessageRow,
    #[diesel(sql_type = Nullable<Text>)]
    uuid: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
    #[diesel(sql_type = Bool)]
    is_adopted: bool,
}

struct OldRow {
    message: MessageRow,
    uuid: String,
    /// Whether that says which message it is: not if it can't be read, or is empty.
    has_key: bool,
    status: String,
    owner: Option<i64>,
    is_adopted: bool,
}

impl From<LooseRow> for OldRow {
    fn from(row: LooseRow) -> Self {
        let shown = |text: Option<LooseText>| text.map(LooseText::shown).unwrap_or_default();
        let key = row.uuid.clone().and_then(|uuid| uuid.read_key().ok());
        Self {
            message: row.message,
            has_key: key.is_some_and(|key| !key.is_empty()),
            uuid: shown(row.uuid),
            status: shown(row.status),
            owner: row.owner,
            is_adopted: row.is_adopted,
        }
    }
}

impl OldRow {
    /// The columns that make one.
    fn columns<E: Engine>() -> String {
        format!(
            "{}, m.status, m.owner, m.adopted_uuid IS NOT NULL AS is_adopted",
            MessageRow::columns::<E>()
        )
    }

    /// Should its message come after all, it has no row any more.
    fn may_be_requeued(&self) -> bool {
        let status = self.status.parse::<Status>();
        status.is_ok_and(|status| status.may_be_requeued(self.owner.is_some()))
    }

    fn is_published(&self) -> bool {
        self.status == Status::Published.as_str()
    }
}

/// The rows of one message. Django's table may hold a key twice, and one that comes late stands beside ours
/// that says that there is none.
struct OldMessage {
    /// The row that counts.
    row: OldRow,
    /// The ids of all.
    ids: Vec<i64>,
    /// The status of one that may not be requeued.
    refused: Option<String>,
    was_published: bool,
}

impl OldMessage {
    fn new(row: OldRow) -> Self {
        let mut message = Self {
            ids: Vec::new(),
            refused: None,
            was_published: false,
            row,
        };
        message.count();
        message
    }

    /// Takes the row that counts into account.
    fn count(&mut self) {
        self.ids.push(self.row.message.id);
        self.was_published |= self.row.is_published();
        if !self.row.may_be_requeued() {
            self.refused = Some(self.row.status.clone());
        }
    }

    /// Another of its rows.
    fn add(&mut self, row: OldRow) {
        let before = std::mem::replace(&mut self.row, row);
        self.count();
        // Its publisher's rather than ours, and one that is to be run rather than one that is over.
        let rank = |row: &OldRow| (!row.is_adopted, row.is_published());
        if rank(&before) >= rank(&self.row) {
            self.row = before;
        }
    }
}

/// The messages of these rows, in their order.
fn messages(rows: Vec<OldRow>) -> Vec<OldMessage> {
    let mut messages: Vec<OldMessage> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for row in rows {
        match known.get(&row.uuid).filter(|_| row.has_key) {
            Some(nth) => messages[*nth].add(row),
            None => {
                if row.has_key {
                    known.insert(row.uuid.clone(), messages.len());
                }
                messages.push(OldMessage::new(row));
            }
        }
    }
    messages
}

pub(super) fn requeue(engine: &mut impl Engine, which: &Requeue) -> QueryResult<Vec<Requeued>> {
    let Requeue::Keys(keys) = which;
    let values = Values::keys(keys.iter().map(String::as_str));
    let rows = load(engine, &values, ALWAYS)?;
    let found: HashSet<String> = rows.iter().map(|row| row.uuid.clone()).collect();
    let mut results = replace(engine, rows)?;
    let unknown = keys.iter().filter(|key| !found.contains(*key));
    results.extend(unknown.cloned().map(Requeued::Unknown));
    Ok(results)
}

/// The highest id of what FAILED.
pub(super) fn last_failed_id<E: Engine>(engine: &mut E) -> QueryResult<Option<i64>> {
    let last: Vec<Id> = engine.load_once(&format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_messagelog m WHERE {} ORDER BY m.id DESC LIMIT 1",
        E::BIGINT,
        is_in("m.status", [Status::Failed])
    ))?;
    Ok(last.first().map(|row| row.id))
}

/// Requeues the next of what FAILED, as much as is read together; also says after which id there may be more.
pub(super) fn requeue_failed<E: Engine>(
    engine: &mut E,
    after: i64,
    last: i64,
) -> QueryResult<(Vec<Requeued>, Option<i64>)> {
    let failed = is_in("m.status", [Status::Failed]);
    let next: Vec<Sized> = engine.load_once(&format!(
        "SELECT CAST(m.id AS {}) AS id, {} FROM carrot_messagelog m \
         WHERE m.id > {after} AND m.id <= {last} AND {failed} ORDER BY m.id LIMIT {MOST_FAILED}",
        E::BIGINT,
        size::<E>(),
    ))?;
    let ids = first_ids(&next);
    let Some(&end) = ids.last() else {
        return Ok((Vec::new(), None));
    };
    // Unless another has requeued them meanwhile.
    let rows: Vec<LooseRow> = engine.load_once(&format!(
        "SELECT {} FROM carrot_messagelog m WHERE m.id IN ({}) AND {failed} ORDER BY m.id {}",
        OldRow::columns::<E>(),
        joined(&ids),
        E::LOCK
    ))?;
    let mut rows: Vec<OldRow> = rows.into_iter().map(OldRow::from).collect();
    // With the other rows of these messages.
    let with_key = rows.iter().filter(|row| row.has_key);
    let keys: Vec<String> = with_key.map(|row| row.uuid.clone()).collect();
    let all = |id: i64| std::iter::repeat_n(id, keys.len());
    let values = Values::keys(keys.iter().map(String::as_str))
        .integers("beyond", all(after))
        .integers("until", all(end));
    let is_here = format!("m.id > v.beyond AND m.id <= v.until AND {failed}");
    if !keys.is_empty() {
        rows.extend(load(engine, &values, &format!("NOT ({is_here})"))?);
    }
    let results = replace(engine, rows)?;
    let is_all = ids.len() == next.len() && next.len() < MOST_FAILED;
    Ok((results, (!is_all).then_some(end)))
}

/// Makes a new message of all rows of each, which are locked, and deletes the old ones.
fn replace(engine: &mut impl Engine, old: Vec<OldRow>) -> QueryResult<Vec<Requeued>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    let mut replaced = Vec::new();
    for old in messages(old) {
        let key = old.row.uuid;
        if let Some(status) = old.refused {
            results.push(Requeued::NotFinal { key, status });
            continue;
        }
        match old.row.message.decode() {
            Ok(mut new) => {
                replaced.extend(old.ids);
                new.key = names::new_key();
                rows.push(NewRow::pending(&new));
                results.push(Requeued::Replaced {
                    old: key,
                    was_published: old.was_published,
                    new: Box::new(new),
                });
            }
            Err(undecodable) => results.push(Requeued::Undecodable(undecodable)),
        }
    }
    if !rows.is_empty() {
        // In this order: an occurrence has one row.
        engine.delete(&replaced)?;
        record(engine, &rows)?;
        not_finished_after_all(engine, &rows)?;
        failpoint::hit("requeue.before-commit");
    }
    Ok(results)
}

/// The rows, locked, so that two requeues of one message make one new message.
fn load<E: Engine>(
    engine: &mut E,
    values: &Values<'_>,
    condition: &str,
) -> QueryResult<Vec<OldRow>> {
    let sql = format!(
        "SELECT {} FROM {} WHERE {condition} ORDER BY m.id {}",
        OldRow::columns::<E>(),
        engine.messages(values),
        E::LOCK
    );
    let rows: Vec<LooseRow> = engine.load(&sql, Some(values))?;
    Ok(rows.into_iter().map(OldRow::from).collect())
}
