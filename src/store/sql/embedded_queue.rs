//! The statements of the embedded broker, whose messages wait in their rows.
//!
//! A message waits while it is PUBLISHED and no live worker has taken it. A worker that takes a message becomes its
//! `owner`; the status changes only when the worker claims the message. So a message that a dead worker had taken and
//! not claimed waits again without any cleanup.

use diesel::prelude::*;

use super::engine::{Engine, assignments};
use super::message_row::MessageRow;
use super::rows::CountRow;
use super::sweep::fail_undecodable_by;
use super::transition::{EventSql, EventTerms, cache};
use super::values::ValueTable;
use crate::message::Message;
use crate::state::Event;
use crate::store::{UndecodableRow, WorkerId};

/// A queue's name, as the only value of the statements.
struct QueueFilter<'a> {
    name: &'a str,
    values: ValueTable<'a>,
}

impl<'a> QueueFilter<'a> {
    fn named(name: &'a str) -> Self {
        let values = ValueTable::default().texts("compared", [name]);
        Self { name, values }
    }

    /// The condition that `m` was published to the queue.
    fn has<E: Engine>(&self, engine: &E) -> String {
        format!(
            "m.routing_key = (SELECT v.compared FROM {}) AND {}",
            engine.values_sql(&self.values),
            E::is_exactly("m.routing_key", self.name)
        )
    }

    /// The FROM clause and the condition that read the messages `m` waiting in the queue.
    fn waiting<E: Engine>(&self, engine: &E) -> String {
        let delivery = EventSql::new::<E>(Event::Deliver, &EventTerms::default());
        format!(
            "{} WHERE {} AND {} AND {}",
            E::FROM_WAITING,
            delivery.guard,
            self.has(engine),
            delivery.lookup_guard
        )
    }
}

/// Evaluates `what` over the messages that wait in the queue.
fn query_number<E: Engine>(
    engine: &mut E,
    queue: &str,
    what: &str,
    limit: &str,
) -> QueryResult<i64> {
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
    query_number(engine, queue, "count(*)", "")
}

/// Only reads, and so blocks nobody.
pub(super) fn has_any(engine: &mut impl Engine, queue: &str) -> QueryResult<bool> {
    query_number(engine, queue, "1", "LIMIT 1").map(|n| n > 0)
}

/// Takes waiting messages for `owner`; must run in a transaction. A statement sees the workers as they were when it
/// began, so that it may take a message from a worker that registered meanwhile. That message is delivered twice, but
/// claimed once.
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
        // By id, since a statement does not find every key's row.
        let values = ValueTable::default().integers("id", rows.iter().map(|row| row.id));
        let delivery = cache::by_worker::<E>(Event::Deliver, owner);
        engine.update_by_id("carrot_messagelog", &values, &delivery.set, &delivery.guard)?;
    }
    Ok(rows.into_iter().map(MessageRow::decode).collect())
}

/// Fails messages that a worker has taken and whose rows can't be decoded.
pub(super) fn fail_taken<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    rows: &[UndecodableRow],
) -> QueryResult<()> {
    let change = cache::by_worker::<E>(Event::Discard, owner);
    fail_undecodable_by(engine, rows, &change)
}

/// Gives deliveries back. Messages that were claimed or taken by another worker meanwhile stay as they are.
pub(super) fn put_back<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    keys: &[String],
) -> QueryResult<()> {
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    let change = cache::by_worker::<E>(Event::ReturnDelivery, owner);
    engine
        .update(&change.for_keys(ValueTable::keys(keys)))
        .map(drop)
}

/// Gives back all deliveries from a queue that the worker has not claimed.
pub(super) fn put_back_all<E: Engine>(
    engine: &mut E,
    owner: WorkerId,
    queue: &str,
) -> QueryResult<()> {
    let queue = QueueFilter::named(queue);
    let change = cache::by_worker::<E>(Event::ReturnDelivery, owner);
    let sql = format!(
        "UPDATE carrot_messagelog AS m SET {} WHERE {} AND {}",
        assignments("", &change.set),
        change.full_guard(),
        queue.has(engine),
    );
    engine.execute(&sql, Some(&queue.values)).map(drop)
}
