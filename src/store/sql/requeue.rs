//! Requeue: a new message in place of an old one, which is deleted, as django-carrot does it.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::Engine;
use super::guards::list;
use super::overlap::not_finished_after_all;
use super::publishing::{MessageRow, record};
use super::values::Values;
use crate::names;
use crate::state::Status;
use crate::store::{NewRow, REQUEUABLE, Requeue, Requeued};

#[derive(QueryableByName)]
struct OldRow {
    #[diesel(embed)]
    message: MessageRow,
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
}

impl OldRow {
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
    let mut results = Vec::new();
    let mut found = HashSet::new();
    let mut rows = Vec::new();
    let mut replaced = Vec::new();
    for old in load(engine, which)? {
        found.insert(old.uuid.clone());
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
    }
    if let Requeue::Keys(keys) = which {
        let unknown = keys.iter().filter(|key| !found.contains(*key));
        results.extend(unknown.cloned().map(Requeued::Unknown));
    }
    Ok(results)
}

/// The rows, locked, so that two requeues of one message make one new message.
fn load<E: Engine>(engine: &mut E, which: &Requeue) -> QueryResult<Vec<OldRow>> {
    let columns = format!("{}, m.status, m.owner", MessageRow::columns::<E>());
    let lock = E::LOCK;
    match which {
        Requeue::Keys(keys) => {
            let values = Values::keys(keys.iter().map(String::as_str));
            let messages = engine.messages(&values);
            let sql = format!("SELECT {columns} FROM {messages} ORDER BY m.id {lock}");
            engine.load(&sql, Some(&values))
        }
        Requeue::Failed => {
            let failed = list([Status::Failed]);
            let sql = format!(
                "SELECT {columns} FROM carrot_messagelog m WHERE m.status IN ({failed}) \
                 ORDER BY m.id {lock}"
            );
            engine.load(&sql, None)
        }
    }
}
