//! Rows that come late: a message was CANCELLED, in a row of ours, because it had none, and then the transaction
//! of its publisher committed.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::engine::Engine;
use super::loose::LooseText;
use super::transition::{Change, Terms};
use super::values::Values;
use crate::failpoint;
use crate::state::{Event, Status, transition};
use crate::store::LateRowResult;

#[derive(QueryableByName)]
pub(super) struct Copy {
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

impl Copy {
    /// Whether its status is one of ours for which that holds.
    fn is(&self, is_one: impl Fn(Status) -> bool) -> bool {
        let status = self.status.clone().map(LooseText::shown);
        status.is_some_and(|status| status.parse().is_ok_and(is_one))
    }

    /// Whether it is the row of ours that says that there is none.
    fn is_twin(&self) -> bool {
        self.is_adopted && self.is(|status| status == Status::Cancelled)
    }

    /// Whether the broker is to have its message still, for all that it says.
    fn waits_for_its_message(&self) -> bool {
        self.owner.is_none() && self.is(|status| transition(status, Event::ComeLate).is_some())
    }
}

/// The rows of each of these messages.
type Rows = HashMap<String, Vec<Copy>>;

fn load<E: Engine>(engine: &mut E, keys: &[String], lock: &str) -> QueryResult<Rows> {
    let values = Values::keys(keys.iter().map(String::as_str));
    let sql = format!(
        "SELECT CAST(m.id AS {bigint}) AS id, m.uuid, m.status, m.owner, \
             m.adopted_uuid IS NOT NULL AS is_adopted \
         FROM {messages} ORDER BY m.id {lock}",
        bigint = E::BIGINT,
        messages = engine.messages(&values),
    );
    let mut rows = Rows::new();
    for row in engine.load::<Copy>(&sql, Some(&values))? {
        rows.entry(row.uuid.clone()).or_default().push(row);
    }
    Ok(rows)
}

/// What has become of a message, and the ids of the row that is to be published and of those that are to go.
fn verdict(rows: &[Copy]) -> (LateRowResult, Option<i64>, Vec<i64>) {
    let (adopted, original): (Vec<&Copy>, Vec<&Copy>) = rows.iter().partition(|row| row.is_adopted);
    let twins = adopted.into_iter().filter(|row| row.is_twin());
    let twins: Vec<i64> = twins.map(|row| row.id).collect();
    if twins.is_empty() {
        // It was requeued, or another service has seen to it.
        return (LateRowResult::Settled, None, twins);
    }
    if original.is_empty() {
        return (LateRowResult::StillMissing, None, Vec::new());
    }
    let waits = original.iter().find(|row| row.waits_for_its_message());
    match waits.map(|row| row.id) {
        Some(id) => (LateRowResult::Republished, Some(id), twins),
        // It has been run all the same, or runs.
        None => (LateRowResult::Settled, None, twins),
    }
}

/// What has become of messages, without a lock: rarely is there anything to do.
pub(super) fn look<E: Engine>(
    engine: &mut E,
    keys: &[String],
) -> QueryResult<Vec<(String, LateRowResult, bool)>> {
    let rows = load(engine, keys, "")?;
    let verdicts = keys.iter().map(|key| {
        let (late, _, twins) = verdict(rows.get(key).map_or(&[], Vec::as_slice));
        (key.clone(), late, !twins.is_empty())
    });
    Ok(verdicts.collect())
}

/// Has messages published whose rows have come, and deletes the rows that say that there are none.
pub(super) fn mend<E: Engine>(
    engine: &mut E,
    keys: &[String],
) -> QueryResult<Vec<(String, LateRowResult)>> {
    let rows = load(engine, keys, E::LOCK)?;
    let mut verdicts = Vec::new();
    let (mut published, mut deleted) = (Vec::new(), Vec::new());
    for key in keys {
        let (late, waits, twins) = verdict(rows.get(key).map_or(&[], Vec::as_slice));
        published.extend(waits);
        deleted.extend(twins);
        verdicts.push((key.clone(), late));
    }
    if !published.is_empty() {
        let change = Change::of::<E>(Event::ComeLate, &Terms::default());
        change.of_locked(engine, published)?;
    }
    failpoint::hit("late.mended");
    if !deleted.is_empty() {
        engine.delete(&deleted)?;
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Status::{Cancelled, Completed, Failed, InProgress, Pending, Published};

    fn row(id: i64, status: &str, owner: Option<i64>, is_adopted: bool) -> Copy {
        Copy {
            id,
            uuid: "k".to_owned(),
            status: Some(LooseText::Text(status.to_owned())),
            owner,
            is_adopted,
        }
    }

    #[test]
    fn only_a_row_that_nobody_has_is_published_again_and_only_beside_ours() {
        let twin = || row(1, Cancelled.as_str(), None, true);
        let of = |rows: Vec<Copy>| verdict(&rows);
        assert_eq!(
            of(vec![twin()]),
            (LateRowResult::StillMissing, None, vec![])
        );
        let published = || row(2, Published.as_str(), None, false);
        let mended = (LateRowResult::Republished, Some(2), vec![1]);
        assert_eq!(of(vec![twin(), published()]), mended);
        // Twice Django's: the first one counts.
        let third = row(3, Published.as_str(), None, false);
        assert_eq!(of(vec![twin(), published(), third]), mended);
        let others = [Pending, InProgress, Completed, Failed].map(Status::as_str);
        for status in others.into_iter().chain(["odd"]) {
            let other = row(2, status, None, false);
            assert_eq!(
                of(vec![twin(), other]),
                (LateRowResult::Settled, None, vec![1])
            );
        }
        let owned = row(2, Published.as_str(), Some(7), false);
        assert_eq!(
            of(vec![twin(), owned]),
            (LateRowResult::Settled, None, vec![1])
        );
        // Ours was requeued, or is no such row.
        for rows in [
            vec![],
            vec![published()],
            vec![row(1, Failed.as_str(), None, true), published()],
        ] {
            assert_eq!(of(rows), (LateRowResult::Settled, None, vec![]));
        }
    }
}
