//! The statements of `carrot_worker`.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::engine::Engine;
use super::guards::joined;
use super::loose::LooseText;
use super::times;
use super::values::ValueTable;
use crate::names;
use crate::store::{DEAD_AFTER, Heartbeat, WorkerId, WorkerProcess};

/// Inserts a worker, with its `id` if it already has one.
fn insert<E: Engine>(
    engine: &mut E,
    id: Option<WorkerId>,
    process: &WorkerProcess,
) -> QueryResult<WorkerId> {
    let host = names::storable_name(&process.host);
    let values = ValueTable::default()
        .texts("host", [host.as_str()])
        .texts("namespace", [process.namespace.as_str()])
        .integers("pid", [process.pid])
        .integers("process_start", [process.process_start]);
    let (id_column, id) = match id {
        Some(WorkerId(id)) => ("id, ", format!("{id}, ")),
        None => ("", String::new()),
    };
    let sql = format!(
        "INSERT INTO carrot_worker ({id_column}host, namespace, pid, process_start, started, heartbeat) \
         SELECT {id}v.host, v.namespace, v.pid, v.process_start, {now}, {now} FROM {source}",
        now = E::NOW,
        source = engine.values_sql(&values)
    );
    engine.insert_one(&sql, &values).map(WorkerId)
}

pub(super) fn register(engine: &mut impl Engine, process: &WorkerProcess) -> QueryResult<WorkerId> {
    insert(engine, None, process)
}

/// Records a heartbeat, and inserts the worker again if its row is gone.
pub(super) fn heartbeat<E: Engine>(
    engine: &mut E,
    id: WorkerId,
    process: &WorkerProcess,
) -> QueryResult<()> {
    let sql = format!(
        "UPDATE carrot_worker SET heartbeat = {} WHERE id = {}",
        E::NOW,
        id.0
    );
    if engine.execute(&sql, None)? == 0 {
        insert(engine, Some(id), process)?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct WorkerRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<LooseText>,
    #[diesel(sql_type = Nullable<Text>)]
    namespace: Option<LooseText>,
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = BigInt)]
    process_start: i64,
}

pub(super) fn workers_in<E: Engine>(
    engine: &mut E,
    namespace: &str,
) -> QueryResult<Vec<(WorkerId, WorkerProcess)>> {
    let sql = "SELECT id, host, namespace, pid, process_start FROM carrot_worker";
    let rows: Vec<WorkerRow> = engine.load(sql, None)?;
    let shown = |text: Option<LooseText>| text.map(LooseText::into_display).unwrap_or_default();
    let worker = |row: WorkerRow| {
        let process = WorkerProcess {
            host: shown(row.host),
            namespace: shown(row.namespace),
            pid: row.pid,
            process_start: row.process_start,
        };
        (WorkerId(row.id), process)
    };
    let workers = rows.into_iter().map(worker);
    Ok(workers
        .filter(|(_, process)| process.namespace == namespace)
        .collect())
}

pub(super) fn deregister(engine: &mut impl Engine, ids: &[WorkerId]) -> QueryResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    engine.execute_unprepared(&format!(
        "DELETE FROM carrot_worker WHERE id IN ({})",
        joined(ids.iter().map(|id| id.0))
    ))
}

#[derive(QueryableByName)]
struct HeartbeatRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    time: Option<LooseText>,
    #[diesel(sql_type = BigInt)]
    is_old: i64,
}

pub(super) fn heartbeats<E: Engine>(engine: &mut E) -> QueryResult<Vec<Heartbeat>> {
    let dead_after = i64::try_from(DEAD_AFTER.as_secs()).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT id, {time} AS time, \
             CAST(CASE WHEN heartbeat < {then} THEN 1 ELSE 0 END AS {bigint}) AS is_old \
         FROM carrot_worker ORDER BY id",
        time = E::time_to_text("heartbeat"),
        then = E::now_plus(-dead_after),
        bigint = E::BIGINT,
    );
    let rows: Vec<HeartbeatRow> = engine.load(&sql, None)?;
    let beat = |row: HeartbeatRow| {
        let time = row.time.map(LooseText::into_display).unwrap_or_default();
        Heartbeat {
            worker: WorkerId(row.id),
            // Our workers write no other format, and a heartbeat that is no time would never become old.
            is_old: row.is_old != 0 || !times::is_canonical(&time),
            time,
        }
    };
    Ok(rows.into_iter().map(beat).collect())
}
