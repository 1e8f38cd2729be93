//! The statements of the embedded broker, whose messages wait in their rows.
//!
//! A message waits while it is PUBLISHED and no live worker has taken it. Who takes it becomes its
//! `owner`; its state changes only when it is claimed. So what a worker had taken and not claimed waits
//! again when that worker is gone, and nobody has to clear up.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::engine::{Engine, assignments};
use super::publishing::{MessageRow, end_undecodable};
use super::transition::{EventSql, EventTerms};
use super::values::ValueTable;
use crate::message::Message;
use crate::state::Event;
use crate::store::{UndecodableRow, WorkerId};

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// A queue by its name, which the statements read as their only value.
struct QueueFilter<'a> {
    name: &'a str,
    values: ValueTable<'a>,
}

impl<'a> QueueFilter<'a> {
    fn named(name: &'a str) -> Self {
        let values = ValueTable::default().texts("compared", [name]);
        Self { name, values }
    }

    /// The condition that `m` was published to it.
    fn has<E: Engine>(&self, engine: &E) -> String {
        format!(
            "m.routing_key = (SELECT v.compared FROM {}) AND {}",
            engine.values_sql(&self.values),
            E::is_exactly("m.routing_key", self.name)
        )
    }

    /// What follows FROM to read the messages `m` that wait in it.
    fn waiting<E: Engine>(&self, engine: &E) -> String {
        let delivery = EventSql::of::<E>(Event::Deliver, &EventTerms::default());
        format!(
            "{} WHERE {} AND {} AND {}",
            E::FROM_WAITING,
            delivery.guard,
            self.has(engine),
            delivery.lookup_guard
        )
    }
}

/// How many messages wait in the queue, or only whether any do.
fn number<E: Engine>(engine: &mut E, queue: &str, what: &str, limit: &str) -> QueryResult<i64> {
    let queue = QueueFilter::named(queue);
    let sql = format!(
        "SELECT CAST({what} AS {}) AS n FROM {} {limit}",
        E::BIGINT,
        queue.waiting(engine)
    );
    let numbers: Vec<CountRow> = engine.load(&sql, Some(&queue.values))?;
    Ok(numbers.iter().map(|row| row.n).sum())
}

pub(super) fn count(engine: &mut impl Engine, queue: &str) -> QueryResult<i64> {
    number(engine, queue, "count(*)", "")
}

/// By reading alone, which disturbs nobody.
pub(super) fn is_any(engine: &mut impl Engine, queue: &str) -> QueryResult<bool> {
    number(engine, queue, "1", "LIMIT 1").map(|n| n > 0)
}

/// In a transaction. A statement sees the workers as they were when it began, so that it may take a
/// message from one that came meanwhile: that is delivered twice then, and claimed once.
pub(super) fn take<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    queue: &str,
    limit: usize,
) -> QueryResult<Vec<Result<Message, UndecodableRow>>> {
    let queue = QueueFilter::named(queue);
    let sql = format!(
        "SELECT {} FROM {} ORDER BY m.priority DESC, m.id LIMIT {limit} {}",
        MessageRow::columns::<E>(),
        queue.waiting(engine),
        E::FOR_UPDATE_SKIP_LOCKED,
    );
    let rows: Vec<MessageRow> = engine.load(&sql, Some(&queue.values))?;
    if !rows.is_empty() {
        // By their ids: not every key finds its row.
        let values = ValueTable::default().integers("id", rows.iter().map(|row| row.id));
        let delivery = EventSql::by::<E>(Event::Deliver, owner);
        engine.update_by_id("carrot_messagelog", &values, &delivery.set, &delivery.guard)?;
    }
    Ok(rows.into_iter().map(MessageRow::decode).collect())
}

/// Ends messages that a worker has taken and that can't be read.
pub(super) fn fail<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    rows: &[UndecodableRow],
) -> QueryResult<()> {
    let change = EventSql::by::<E>(Event::Discard, owner);
    end_undecodable(engine, rows, &change)
}

/// What was claimed meanwhile, or taken by another, stays as it is.
pub(super) fn put_back<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    keys: &[String],
) -> QueryResult<()> {
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    let change = EventSql::by::<E>(Event::Return, owner);
    engine
        .update(&change.of_keys(ValueTable::keys(keys)))
        .map(drop)
}

pub(super) fn put_back_all<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    queue: &str,
) -> QueryResult<()> {
    let queue = QueueFilter::named(queue);
    let change = EventSql::by::<E>(Event::Return, owner);
    let sql = format!(
        "UPDATE carrot_messagelog AS m SET {} WHERE {} AND {}",
        assignments("", &change.set),
        change.full_guard(),
        queue.has(engine),
    );
    engine.execute(&sql, Some(&queue.values)).map(drop)
}
