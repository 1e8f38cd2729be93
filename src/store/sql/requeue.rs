//! Requeue: as in django-carrot, a new message replaces an old one, which is deleted.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::bounds::{SizedRow, ids_within_limit, message_size_sql};
use super::engine::{ALWAYS_TRUE, Engine};
use super::guards::{is_in, joined};
use super::loose::LooseText;
use super::message_row::MessageRow;
use super::overlap::lower_unfinished_from;
use super::publishing::record;
use super::rows::IdRow;
use super::values::ValueTable;
use crate::failpoint;
use crate::names;
use crate::state::Status;
use crate::store::{NewRow, Requeue, Requeued};

/// The most FAILED messages that one transaction requeues.
const MAX_FAILED: usize = 1000;

/// A row that loads whatever values it has.
#[derive(QueryableByName)]
struct LooseRequeueRow {
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

struct RequeueRow {
    message: MessageRow,
    uuid: String,
    /// Whether the `uuid` identifies the message: false if it is empty or can't be read.
    has_key: bool,
    status: String,
    owner: Option<i64>,
    is_adopted: bool,
}

impl From<LooseRequeueRow> for RequeueRow {
    fn from(row: LooseRequeueRow) -> Self {
        let shown = |text: Option<LooseText>| text.map(LooseText::into_display).unwrap_or_default();
        let key = row.uuid.clone().and_then(|uuid| uuid.read_as_key().ok());
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

impl RequeueRow {
    /// The columns to select.
    fn columns<E: Engine>() -> String {
        format!(
            "{}, m.status, m.owner, m.adopted_uuid IS NOT NULL AS is_adopted",
            MessageRow::columns::<E>()
        )
    }

    /// Whether a requeue may replace the row. If the broker delivers the old message after all, it has no row any more.
    fn may_be_requeued(&self) -> bool {
        let status = self.status.parse::<Status>();
        status.is_ok_and(|status| status.may_be_requeued(self.owner.is_some()))
    }

    fn is_published(&self) -> bool {
        self.status == Status::Published.as_str()
    }
}

/// The rows of one message. Django's table may hold a key twice, and a late row stands beside the row that we adopted
/// while it was missing.
struct RequeueMessage {
    /// The row that counts.
    row: RequeueRow,
    /// The ids of all rows.
    ids: Vec<i64>,
    /// The status of a row that may not be requeued.
    refused: Option<String>,
    was_published: bool,
}

impl RequeueMessage {
    fn new(row: RequeueRow) -> Self {
        let mut message = Self {
            ids: Vec::new(),
            refused: None,
            was_published: false,
            row,
        };
        message.include_current_row();
        message
    }

    /// Adds [`row`](Self::row) to the other fields.
    fn include_current_row(&mut self) {
        self.ids.push(self.row.message.id);
        self.was_published |= self.row.is_published();
        if !self.row.may_be_requeued() {
            self.refused = Some(self.row.status.clone());
        }
    }

    /// Adds another row of the message.
    fn add(&mut self, row: RequeueRow) {
        let before = std::mem::replace(&mut self.row, row);
        self.include_current_row();
        // The publisher's row counts rather than an adopted one, and a PUBLISHED one rather than a final one.
        let rank = |row: &RequeueRow| (!row.is_adopted, row.is_published());
        if rank(&before) >= rank(&self.row) {
            self.row = before;
        }
    }
}

/// Groups rows into messages, in the order of the first rows.
fn group_by_key(rows: Vec<RequeueRow>) -> Vec<RequeueMessage> {
    let mut messages: Vec<RequeueMessage> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for row in rows {
        match known.get(&row.uuid).filter(|_| row.has_key) {
            Some(nth) => messages[*nth].add(row),
            None => {
                if row.has_key {
                    known.insert(row.uuid.clone(), messages.len());
                }
                messages.push(RequeueMessage::new(row));
            }
        }
    }
    messages
}

pub(super) fn requeue(engine: &mut impl Engine, which: &Requeue) -> QueryResult<Vec<Requeued>> {
    let Requeue::Keys(keys) = which;
    let values = ValueTable::keys(keys.iter().map(String::as_str));
    let rows = load(engine, &values, ALWAYS_TRUE)?;
    let found: HashSet<String> = rows.iter().map(|row| row.uuid.clone()).collect();
    let mut results = replace(engine, rows)?;
    let unknown = keys.iter().filter(|key| !found.contains(*key));
    results.extend(unknown.cloned().map(Requeued::Unknown));
    Ok(results)
}

/// The highest id of the FAILED messages.
pub(super) fn last_failed_id<E: Engine>(engine: &mut E) -> QueryResult<Option<i64>> {
    let last: Vec<IdRow> = engine.load_unprepared(&format!(
        "SELECT CAST(m.id AS {}) AS id FROM carrot_messagelog m WHERE {} ORDER BY m.id DESC LIMIT 1",
        E::BIGINT,
        is_in("m.status", [Status::Failed])
    ))?;
    Ok(last.first().map(|row| row.id))
}

/// Requeues the next FAILED messages with ids beyond `after` up to `last`, as many as can be read together. Also
/// returns the id after which there may be more.
pub(super) fn requeue_failed<E: Engine>(
    engine: &mut E,
    after: i64,
    last: i64,
) -> QueryResult<(Vec<Requeued>, Option<i64>)> {
    let failed = is_in("m.status", [Status::Failed]);
    let next: Vec<SizedRow> = engine.load_unprepared(&format!(
        "SELECT CAST(m.id AS {}) AS id, {} FROM carrot_messagelog m \
         WHERE m.id > {after} AND m.id <= {last} AND {failed} ORDER BY m.id LIMIT {MAX_FAILED}",
        E::BIGINT,
        message_size_sql::<E>(),
    ))?;
    let ids = ids_within_limit(&next);
    let Some(&end) = ids.last() else {
        return Ok((Vec::new(), None));
    };
    // Others may have requeued some of them meanwhile.
    let rows: Vec<LooseRequeueRow> = engine.load_unprepared(&format!(
        "SELECT {} FROM carrot_messagelog m WHERE m.id IN ({}) AND {failed} ORDER BY m.id {}",
        RequeueRow::columns::<E>(),
        joined(&ids),
        E::FOR_UPDATE
    ))?;
    let mut rows: Vec<RequeueRow> = rows.into_iter().map(RequeueRow::from).collect();
    // Adds the other rows of these messages.
    let with_key = rows.iter().filter(|row| row.has_key);
    let keys: Vec<String> = with_key.map(|row| row.uuid.clone()).collect();
    let all = |id: i64| std::iter::repeat_n(id, keys.len());
    let values = ValueTable::keys(keys.iter().map(String::as_str))
        .integers("beyond", all(after))
        .integers("until", all(end));
    let is_here = format!("m.id > v.beyond AND m.id <= v.until AND {failed}");
    if !keys.is_empty() {
        rows.extend(load(engine, &values, &format!("NOT ({is_here})"))?);
    }
    let results = replace(engine, rows)?;
    let is_all = ids.len() == next.len() && next.len() < MAX_FAILED;
    Ok((results, (!is_all).then_some(end)))
}

/// Makes a new message for each old one, whose locked rows are all in `old`, and deletes the old rows.
fn replace(engine: &mut impl Engine, old: Vec<RequeueRow>) -> QueryResult<Vec<Requeued>> {
    let mut results = Vec::new();
    let mut rows = Vec::new();
    let mut replaced = Vec::new();
    for old in group_by_key(old) {
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
        // Deletes first, since an occurrence may have only one row.
        engine.delete(&replaced)?;
        record(engine, &rows)?;
        lower_unfinished_from(engine, &rows)?;
        failpoint::hit("requeue.before-commit");
    }
    Ok(results)
}

/// Loads and locks the rows, so that two requeues of a message make one new message.
fn load<E: Engine>(
    engine: &mut E,
    values: &ValueTable<'_>,
    condition: &str,
) -> QueryResult<Vec<RequeueRow>> {
    let sql = format!(
        "SELECT {} FROM {} WHERE {condition} ORDER BY m.id {}",
        RequeueRow::columns::<E>(),
        engine.messages_sql(values),
        E::FOR_UPDATE
    );
    let rows: Vec<LooseRequeueRow> = engine.load(&sql, Some(values))?;
    Ok(rows.into_iter().map(RequeueRow::from).collect())
}
