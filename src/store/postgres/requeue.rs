//! Requeue: a new message in place of an old one, which is deleted, as django-carrot does it.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::super::{NewRow, REQUEUABLE, Requeue, Requeued};
use super::guards::list;
use super::publishing::{MessageRow, record};
use crate::names;
use crate::state::Status;

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
    /// that died, which nobody else ever takes up.
    fn may_be_requeued(&self) -> bool {
        self.status
            .parse::<Status>()
            .is_ok_and(|status| REQUEUABLE.contains(&status))
            || (self.status == Status::InProgress.as_str() && self.owner.is_none())
    }
}

pub(super) fn requeue(
    connection: &mut PgConnection,
    which: &Requeue,
) -> QueryResult<Vec<Requeued>> {
    let mut results = Vec::new();
    let mut found = HashSet::new();
    let mut rows = Vec::new();
    for old in load(connection, which)? {
        found.insert(old.uuid.clone());
        if !old.may_be_requeued() {
            results.push(Requeued::NotFinal {
                key: old.uuid,
                status: old.status,
            });
            continue;
        }
        match old.message.decode() {
            Ok(mut new) => {
                new.key = names::new_key();
                rows.push(NewRow::pending(&new));
                results.push(Requeued::As { old: old.uuid, new });
            }
            Err(undecodable) => results.push(Requeued::Undecodable(undecodable)),
        }
    }
    record(connection, &rows)?;
    let replaced: Vec<&str> = results
        .iter()
        .filter_map(|result| match result {
            Requeued::As { old, .. } => Some(old.as_str()),
            _ => None,
        })
        .collect();
    diesel::sql_query("DELETE FROM carrot_messagelog WHERE uuid = ANY($1)")
        .bind::<Array<Text>, _>(replaced)
        .execute(connection)?;
    if let Requeue::Keys(keys) = which {
        let unknown = keys.iter().filter(|key| !found.contains(*key));
        results.extend(unknown.cloned().map(Requeued::Unknown));
    }
    Ok(results)
}

/// The rows, locked, so that two requeues of one message make one new message.
fn load(connection: &mut PgConnection, which: &Requeue) -> QueryResult<Vec<OldRow>> {
    let select = format!(
        "SELECT {}, status, owner FROM carrot_messagelog",
        MessageRow::COLUMNS
    );
    match which {
        Requeue::Keys(keys) => diesel::sql_query(format!(
            "{select} WHERE uuid = ANY($1) ORDER BY id FOR UPDATE"
        ))
        .bind::<Array<Text>, _>(keys)
        .load(connection),
        Requeue::Failed => diesel::sql_query(format!(
            "{select} WHERE status IN ({}) ORDER BY id FOR UPDATE",
            list([Status::Failed])
        ))
        .load(connection),
    }
}
