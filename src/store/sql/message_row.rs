//! A message's row, as a statement loads it.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::engine::Engine;
use super::loose::LooseText;
use super::times;
use crate::message::{Message, Occurrence};
use crate::store::UndecodableRow;
use crate::store::row::Columns;

/// The columns of a message. The row loads whatever values they have.
#[derive(QueryableByName)]
pub(super) struct MessageRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    uuid: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    task: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    task_args: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    content: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    exchange: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    routing_key: Option<LooseText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    priority: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    schedule_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    planned_time: Option<LooseText>,
}

impl MessageRow {
    /// The columns to select.
    pub(super) fn columns<E: Engine>() -> String {
        let bigint = E::BIGINT;
        format!(
            "CAST(m.id AS {bigint}) AS id, m.uuid, m.task, m.task_args, m.content, m.queue, \
             m.exchange, m.routing_key, CAST(m.priority AS {bigint}) AS priority, \
             CAST(m.schedule_id AS {bigint}) AS schedule_id, {planned} AS planned_time",
            planned = E::time_to_text("m.planned_time"),
        )
    }

    /// The message, or the fault of its row.
    pub(super) fn decode(self) -> Result<Message, UndecodableRow> {
        let id = self.id;
        let key = match self.uuid.map(LooseText::read_as_key) {
            Some(Ok(key)) => key,
            odd => {
                let fault = odd.and_then(Result::err);
                let fault = fault.unwrap_or_else(|| "it is NULL".to_owned());
                return Err(UndecodableRow {
                    id,
                    key: format!("of row {id}"),
                    reason: format!("uuid can't be read: {fault}"),
                });
            }
        };
        let mut fault = None;
        let mut read = |column: &str, value: Option<LooseText>| match value?.read() {
            Ok(text) => Some(text),
            Err(reason) => {
                fault.get_or_insert_with(|| format!("{column} can't be read: {reason}"));
                None
            }
        };
        // A message without a readable planned time runs all the same, as one outside of the timetable.
        let planned = self.planned_time.map(LooseText::into_display);
        let planned = planned.as_deref().and_then(times::parse);
        let occurrence = |schedule| Occurrence { schedule, planned };
        let columns = Columns {
            id,
            key,
            task: read("task", self.task).unwrap_or_default(),
            task_args: read("task_args", self.task_args),
            content: read("content", self.content),
            queue: read("queue", self.queue),
            exchange: read("exchange", self.exchange),
            routing_key: read("routing_key", self.routing_key),
            priority: self.priority.unwrap_or_default(),
            occurrence: self.schedule_id.map(occurrence),
        };
        match fault {
            None => columns.decode(),
            Some(reason) => Err(UndecodableRow {
                id,
                key: columns.key,
                reason,
            }),
        }
    }
}
