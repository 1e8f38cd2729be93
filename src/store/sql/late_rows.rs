//! Late rows: a message without a row was CANCELLED, in a row that we adopted for it, and then the transaction of its
//! publisher committed.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::engine::Engine;
use super::loose::LooseText;
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::failpoint;
use crate::state::{Event, Status, transition};
use crate::store::LateRowResult;

/// One of the rows of a message.
#[derive(QueryableByName)]
pub(super) struct RowCopy {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
    #[diesel(sql_type = Bool)]
    is_adopted: bool,
}

impl RowCopy {
    /// Whether its status is one of ours and meets the condition.
    fn has_status(&self, condition: impl Fn(Status) -> bool) -> bool {
        let status = self.status.clone().map(LooseText::into_display);
        status.is_some_and(|status| status.parse().is_ok_and(condition))
    }

    /// Whether we adopted this row to record that the message had none.
    fn is_placeholder(&self) -> bool {
        self.is_adopted && self.has_status(|status| status == Status::Cancelled)
    }

    /// Whether, by this row, the broker should still have the message.
    fn can_be_published(&self) -> bool {
        self.owner.is_none()
            && self.has_status(|status| transition(status, Event::RowCommittedLate).is_some())
    }
}

/// The rows of each message.
type RowsByKey = HashMap<String, Vec<RowCopy>>;

fn load<E: Engine>(engine: &mut E, keys: &[String], lock: &str) -> QueryResult<RowsByKey> {
    let values = ValueTable::keys(keys.iter().map(String::as_str));
    let sql = format!(
        "SELECT CAST(m.id AS {bigint}) AS id, m.uuid, m.status, m.owner, \
             m.adopted_uuid IS NOT NULL AS is_adopted \
         FROM {messages} ORDER BY m.id {lock}",
        bigint = E::BIGINT,
        messages = engine.messages_sql(&values),
    );
    let mut rows = RowsByKey::new();
    for row in engine.load::<RowCopy>(&sql, Some(&values))? {
        rows.entry(row.uuid.clone()).or_default().push(row);
    }
    Ok(rows)
}

/// The result for a message, the id of the row to publish, and the ids of the rows to delete.
fn decide(rows: &[RowCopy]) -> (LateRowResult, Option<i64>, Vec<i64>) {
    let (adopted, original): (Vec<&RowCopy>, Vec<&RowCopy>) =
        rows.iter().partition(|row| row.is_adopted);
    let placeholders = adopted.into_iter().filter(|row| row.is_placeholder());
    let placeholders: Vec<i64> = placeholders.map(|row| row.id).collect();
    if placeholders.is_empty() {
        // The message was requeued, or another service has resolved it.
        return (LateRowResult::Settled, None, placeholders);
    }
    if original.is_empty() {
        return (LateRowResult::StillMissing, None, Vec::new());
    }
    let waits = original.iter().find(|row| row.can_be_published());
    match waits.map(|row| row.id) {
        Some(id) => (LateRowResult::Republished, Some(id), placeholders),
        // The message has run all the same, or is running.
        None => (LateRowResult::Settled, None, placeholders),
    }
}

/// Reads, without locks, what has become of messages, and which of them [`resolve`] must handle: usually none.
pub(super) fn inspect<E: Engine>(
    engine: &mut E,
    keys: &[String],
) -> QueryResult<Vec<(String, LateRowResult, bool)>> {
    let rows = load(engine, keys, "")?;
    let results = keys.iter().map(|key| {
        let (late, _, placeholders) = decide(rows.get(key).map_or(&[], Vec::as_slice));
        (key.clone(), late, !placeholders.is_empty())
    });
    Ok(results.collect())
}

/// Makes messages PENDING whose own rows have been committed, and deletes the rows that we adopted for them.
pub(super) fn resolve<E: Engine>(
    engine: &mut E,
    keys: &[String],
) -> QueryResult<Vec<(String, LateRowResult)>> {
    let rows = load(engine, keys, E::FOR_UPDATE)?;
    let mut results = Vec::new();
    let (mut published, mut deleted) = (Vec::new(), Vec::new());
    for key in keys {
        let (late, waits, placeholders) = decide(rows.get(key).map_or(&[], Vec::as_slice));
        published.extend(waits);
        deleted.extend(placeholders);
        results.push((key.clone(), late));
    }
    if !published.is_empty() {
        let change = EventSql::new::<E>(Event::RowCommittedLate, &EventTerms::default());
        change.execute_on_locked(engine, published)?;
    }
    failpoint::hit("late.mended");
    if !deleted.is_empty() {
        engine.delete(&deleted)?;
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Status::{Cancelled, Completed, Failed, InProgress, Pending, Published};

    fn row(id: i64, status: &str, owner: Option<i64>, is_adopted: bool) -> RowCopy {
        RowCopy {
            id,
            uuid: "k".to_owned(),
            status: Some(LooseText::Text(status.to_owned())),
            owner,
            is_adopted,
        }
    }

    #[test]
    fn only_a_row_without_an_owner_is_published_again_and_only_beside_a_placeholder() {
        let placeholder = || row(1, Cancelled.as_str(), None, true);
        let of = |rows: Vec<RowCopy>| decide(&rows);
        assert_eq!(
            of(vec![placeholder()]),
            (LateRowResult::StillMissing, None, vec![])
        );
        let published = || row(2, Published.as_str(), None, false);
        let mended = (LateRowResult::Republished, Some(2), vec![1]);
        assert_eq!(of(vec![placeholder(), published()]), mended);
        // Django has recorded it twice: the first row counts.
        let third = row(3, Published.as_str(), None, false);
        assert_eq!(of(vec![placeholder(), published(), third]), mended);
        let others = [Pending, InProgress, Completed, Failed].map(Status::as_str);
        for status in others.into_iter().chain(["odd"]) {
            let other = row(2, status, None, false);
            assert_eq!(
                of(vec![placeholder(), other]),
                (LateRowResult::Settled, None, vec![1])
            );
        }
        let owned = row(2, Published.as_str(), Some(7), false);
        assert_eq!(
            of(vec![placeholder(), owned]),
            (LateRowResult::Settled, None, vec![1])
        );
        // The placeholder was requeued, or there is none.
        for rows in [
            vec![],
            vec![published()],
            vec![row(1, Failed.as_str(), None, true), published()],
        ] {
            assert_eq!(of(rows), (LateRowResult::Settled, None, vec![]));
        }
    }
}
