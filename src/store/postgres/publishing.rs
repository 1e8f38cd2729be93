//! The statements of publishing and of the sweep.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::super::row::Columns;
use super::super::{NewRow, PUBLISH_LEASE, UndecodableRow};
use super::guards::{OWNER_IS_DEAD, sources};
use super::statement::Statement;
use crate::message::Message;
use crate::state::Event;

/// The columns of [`NewRow`], each as one array.
#[derive(Default)]
pub(super) struct RowArrays<'a> {
    key: Vec<&'a str>,
    status: Vec<&'static str>,
    task: Vec<&'a str>,
    task_args: Vec<Option<&'a str>>,
    content: Vec<Option<&'a str>>,
    queue: Vec<&'a str>,
    exchange: Vec<&'a str>,
    routing_key: Vec<&'a str>,
    priority: Vec<i32>,
    exception: Vec<Option<&'a str>>,
}

impl<'a> RowArrays<'a> {
    pub(super) fn of(rows: impl IntoIterator<Item = &'a NewRow>) -> Self {
        let mut arrays = Self::default();
        for row in rows {
            arrays.key.push(&row.key);
            arrays.status.push(row.status.as_str());
            arrays.task.push(&row.task);
            arrays.task_args.push(row.task_args.as_deref());
            arrays.content.push(row.content.as_deref());
            arrays.queue.push(&row.queue);
            arrays.exchange.push(&row.exchange);
            arrays.routing_key.push(&row.routing_key);
            arrays.priority.push(i32::from(row.priority));
            arrays.exception.push(row.exception.as_deref());
        }
        arrays
    }

    /// Inserts the rows. Where `adopted`, the key is unique among adopted rows, and a row that is
    /// there already stays.
    pub(super) fn insert(self, connection: &mut PgConnection, adopted: bool) -> QueryResult<usize> {
        let lease = PUBLISH_LEASE.as_secs();
        let (adopted_uuid, conflict) = if adopted {
            (
                "key",
                "ON CONFLICT (adopted_uuid) WHERE adopted_uuid IS NOT NULL DO NOTHING",
            )
        } else {
            ("NULL", "")
        };
        let sql = format!(
            "INSERT INTO carrot_messagelog (uuid, status, task, task_args, content, queue, exchange, \
                 routing_key, priority, exception, publish_time, failure_time, due_time, adopted_uuid) \
             SELECT key, status, task, task_args, content, queue, exchange, routing_key, priority, \
                 exception, now(), CASE WHEN status = 'FAILED' THEN now() END, \
                 CASE WHEN status = 'PENDING' THEN now() + interval '{lease} seconds' END, {adopted_uuid} \
             FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY \
                 AS v(key, status, task, task_args, content, queue, exchange, routing_key, priority, \
                      exception, position) \
             ORDER BY position {conflict}"
        );
        Statement::<()>::new(&sql)
            .bind::<Array<Text>, _>(self.key)
            .bind::<Array<Text>, _>(self.status)
            .bind::<Array<Text>, _>(self.task)
            .bind::<Array<Nullable<Text>>, _>(self.task_args)
            .bind::<Array<Nullable<Text>>, _>(self.content)
            .bind::<Array<Text>, _>(self.queue)
            .bind::<Array<Text>, _>(self.exchange)
            .bind::<Array<Text>, _>(self.routing_key)
            .bind::<Array<Integer>, _>(self.priority)
            .bind::<Array<Nullable<Text>>, _>(self.exception)
            .execute(connection)
    }
}

pub(super) fn record(connection: &mut PgConnection, rows: &[NewRow]) -> QueryResult<()> {
    RowArrays::of(rows).insert(connection, false).map(drop)
}

pub(super) fn mark_published(connection: &mut PgConnection, keys: &[String]) -> QueryResult<()> {
    let sql = format!(
        "UPDATE carrot_messagelog SET status = 'PUBLISHED', due_time = NULL \
         WHERE uuid = ANY(?) AND status IN ({})",
        sources(Event::Confirm)
    );
    Statement::<()>::new(&sql)
        .bind::<Array<Text>, _>(keys)
        .execute(connection)
        .map(drop)
}

pub(super) fn fail_pending(
    connection: &mut PgConnection,
    failures: &[(String, String)],
) -> QueryResult<()> {
    let (keys, reasons): (Vec<&str>, Vec<&str>) = failures
        .iter()
        .map(|(key, reason)| (key.as_str(), reason.as_str()))
        .unzip();
    diesel::sql_query(format!(
        "UPDATE carrot_messagelog m SET status = 'FAILED', exception = v.reason, failure_time = now() \
         FROM unnest($1, $2) AS v(key, reason) WHERE m.uuid = v.key AND m.status IN ({})",
        sources(Event::Reject)
    ))
    .bind::<Array<Text>, _>(keys)
    .bind::<Array<Text>, _>(reasons)
    .execute(connection)
    .map(drop)
}

#[derive(QueryableByName)]
pub(super) struct MessageRow {
    #[diesel(sql_type = Text)]
    uuid: String,
    #[diesel(sql_type = Text)]
    task: String,
    #[diesel(sql_type = Nullable<Text>)]
    task_args: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    content: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    exchange: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    routing_key: Option<String>,
    #[diesel(sql_type = Integer)]
    priority: i32,
}

impl MessageRow {
    /// The columns that make one.
    pub(super) const COLUMNS: &str =
        "uuid, task, task_args, content, queue, exchange, routing_key, priority";

    pub(super) fn decode(self) -> Result<Message, UndecodableRow> {
        Columns {
            key: self.uuid,
            task: self.task,
            task_args: self.task_args,
            content: self.content,
            queue: self.queue,
            exchange: self.exchange,
            routing_key: self.routing_key,
            priority: self.priority,
        }
        .decode()
    }
}

pub(super) fn take_due(
    connection: &mut PgConnection,
    limit: usize,
) -> QueryResult<Vec<Result<Message, UndecodableRow>>> {
    let sql = format!(
        "UPDATE carrot_messagelog SET due_time = now() + interval '{lease} seconds' \
         WHERE id IN (SELECT id FROM carrot_messagelog \
             WHERE status = 'PENDING' AND due_time <= now() \
             ORDER BY due_time LIMIT $1 FOR UPDATE SKIP LOCKED) \
         RETURNING {columns}",
        lease = PUBLISH_LEASE.as_secs(),
        columns = MessageRow::COLUMNS,
    );
    let rows: Vec<MessageRow> = diesel::sql_query(sql)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(connection)?;
    Ok(rows.into_iter().map(MessageRow::decode).collect())
}

#[derive(QueryableByName)]
struct RowId {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// In a transaction: first the rows are locked, then it is asked once more whether their owners are
/// dead. A statement sees the workers as they were when it began, and a row as it is when it locks
/// it; a worker that came in between would be taken for dead.
pub(super) fn recover(connection: &mut PgConnection, limit: usize) -> QueryResult<usize> {
    let found: Vec<RowId> = diesel::sql_query(format!(
        "SELECT m.id::bigint AS id FROM carrot_messagelog m \
         WHERE m.status = 'IN_PROGRESS' AND m.owner IS NOT NULL AND {OWNER_IS_DEAD} \
         ORDER BY m.id LIMIT $1 FOR UPDATE SKIP LOCKED"
    ))
    .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
    .load(connection)?;
    if found.is_empty() {
        return Ok(0);
    }
    diesel::sql_query(format!(
        "UPDATE carrot_messagelog m SET status = 'PENDING', suspect = true, due_time = now() \
         WHERE m.id = ANY($1) AND m.status IN ({}) AND {OWNER_IS_DEAD}",
        sources(Event::Recover)
    ))
    .bind::<Array<BigInt>, _>(found.into_iter().map(|row| row.id).collect::<Vec<_>>())
    .execute(connection)
}
