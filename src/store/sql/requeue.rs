//! Requeue: a new message in place of an old one, which is deleted, as django-carrot does it.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::bounds::{Sized, first_ids, size};
use super::engine::{Engine, Id};
use super::guards::{joined, list};
use super::loose::LooseText;
use super::overlap::not_finished_after_all;
use super::publishing::{MessageRow, record};
use super::values::Values;
use crate::failpoint;
use crate::names;
use crate::state::Status;
use crate::store::{NewRow, REQUEUABLE, Requeue, Requeued};

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
}

struct OldRow {
    message: MessageRow,
    uuid: String,
    status: String,
    owner: Option<i64>,
}

impl From<LooseRow> for OldRow {
    fn from(row: LooseRow) -> Self {
        let shown = |text: Option<LooseText>| text.map(LooseText::shown).unwrap_or_default();
        Self {
            message: row.message,
            uuid: shown(row.uuid),
            status: shown(row.status),
            owner: row.owner,
        }
    }
}

impl OldRow {
    /// The columns that make one.
    fn columns<E: Engine>() -> String {
        format!("{}, m.status, m.owner", MessageRow::columns::<E>())
    }

    /// Whether nothing runs it any more: it is final, or was left IN_PROGRESS by a django-carrot
    /// that died, which nobody else ever takes up. Or the broker is to run it: only its user can know that
    /// it never will. Should it come after all, it has no row any more.
    fn may_be_requeued(&self) -> bool {
        self.status
            .parse::<Status>()
            .is_ok_and(|status| REQUEUABLE.contains(&status))
            || (self.status == Status::InProgress.as_str() && self.owner.is_none())
            || self.is_published()
    }

    fn is_published(&self) -> bool {
        self.status == Status::Published.as_str()
    }
}

pub(super) fn requeue(engine: &mut impl Engine, which: &Requeue) -> QueryResult<Vec<Requeued>> {
    let Requeue::Keys(keys) = which;
    let rows = load_keys(engine, keys)?;
    let found: HashSet<String> = rows.iter().map(|row| row.uuid.clone()).collect();
    let mut results = replace(engine, rows)?;
    let unknown = keys.iter().filter(|key| !found.contains(*key));
    results.extend(unknown.cloned().map(Requeued::Unknown));
    Ok(results)
}

/// The highest id of what FAILED.
pub(super) fn last_failed<E: Engine>(engine: &mut E) -> QueryResult<Option<i64>> {
    let last: Vec<Id> = engine.load_once(&format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_messagelog m WHERE m.status IN ({}) \
         ORDER BY m.id DESC LIMIT 1",
        E::BIGINT,
        list([Status::Failed])
    ))?;
    Ok(last.first().map(|row| row.id))
}

/// Requeues the next of what FAILED, as much as is read together; also says after which id there may be more.
pub(super) fn requeue_failed<E: Engine>(
    engine: &mut E,
    after: i64,
    last: i64,
) -> QueryResult<(Vec<Requeued>, Option<i64>)> {
    let failed = format!("m.status IN ({})", list([Status::Failed]));
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
    let rows = rows.into_iter().map(OldRow::from).collect();
    let results = replace(engine, rows)?;
    let is_all = ids.len() == next.len() && next.len() < MOST_FAILED;
    Ok((results, (!is_all).then_some(end)))
}

/// Makes a new message of each row, which is locked, and deletes the old one.
fn replace(engine: &mut impl Engine, old: Vec<OldRow>) -> QueryResult<Vec<Requeued>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    let mut replaced = Vec::new();
    for old in old {
        if !old.may_be_requeued() {
            results.push(Requeued::NotFinal {
                key: old.uuid,
                status: old.status,
            });
            continue;
        }
        let id = old.message.id;
        let was_published = old.is_published();
        match old.message.decode() {
            Ok(mut new) => {
                replaced.push(id);
                new.key = names::new_key();
                rows.push(NewRow::pending(&new));
                results.push(Requeued::As {
                    old: old.uuid,
                    was_published,
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
fn load_keys<E: Engine>(engine: &mut E, keys: &[String]) -> QueryResult<Vec<OldRow>> {
    let values = Values::keys(keys.iter().map(String::as_str));
    let messages = engine.messages(&values);
    let sql = format!(
        "SELECT {} FROM {messages} ORDER BY m.id {}",
        OldRow::columns::<E>(),
        E::LOCK
    );
    let rows: Vec<LooseRow> = engine.load(&sql, Some(&values))?;
    Ok(rows.into_iter().map(OldRow::from).collect())
}
