//! The status and owner of messages that a guarded update did not change.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::Engine;
use super::guards::is_not_in;
use super::loose::LooseText;
use super::values::ValueTable;
use crate::state::Status;

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
}

/// A message's status, unless it is none of ours, and its owner.
pub(super) struct CurrentState {
    pub(super) status: Option<Status>,
    pub(super) owner: Option<i64>,
}

impl CurrentState {
    pub(super) fn is_final(&self) -> bool {
        self.status.is_some_and(Status::is_final)
    }
}

/// The current states of the messages with these keys, usually none.
pub(super) fn current_states<'a>(
    engine: &mut impl Engine,
    keys: impl IntoIterator<Item = &'a str>,
) -> QueryResult<HashMap<String, CurrentState>> {
    let values = ValueTable::keys(keys);
    if values.len() == 0 {
        return Ok(HashMap::new());
    }
    // Django's table may hold a key twice: the row that is not final comes last and counts.
    let sql = format!(
        "SELECT m.uuid, m.status, m.owner FROM {} ORDER BY {}",
        engine.messages_sql(&values),
        is_not_in("m.status", Status::finals())
    );
    let rows: Vec<StateRow> = engine.load(&sql, Some(&values))?;
    let state = |row: StateRow| {
        let status = row.status.map(LooseText::into_display);
        let status = status.and_then(|status| status.parse().ok());
        let owner = row.owner;
        (row.uuid, CurrentState { status, owner })
    };
    Ok(rows.into_iter().map(state).collect())
}
