//! The statements of `carrot_worker`.

use diesel::dsl::{insert_into, now};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::super::schema::carrot_worker::dsl;
use super::super::{DEAD_AFTER, WorkerId, WorkerProcess};
use crate::names;

pub(super) fn register(
    connection: &mut PgConnection,
    process: &WorkerProcess,
) -> QueryResult<WorkerId> {
    insert_into(dsl::carrot_worker)
        .values((
            dsl::host.eq(names::storable_name(&process.host)),
            dsl::namespace.eq(&process.namespace),
            dsl::pid.eq(process.pid),
            dsl::process_start.eq(process.process_start),
        ))
        .returning(dsl::id)
        .get_result(connection)
        .map(WorkerId)
}

pub(super) fn heartbeat(
    connection: &mut PgConnection,
    id: WorkerId,
    process: &WorkerProcess,
) -> QueryResult<()> {
    insert_into(dsl::carrot_worker)
        .values((
            dsl::id.eq(id.0),
            dsl::host.eq(names::storable_name(&process.host)),
            dsl::namespace.eq(&process.namespace),
            dsl::pid.eq(process.pid),
            dsl::process_start.eq(process.process_start),
        ))
        .on_conflict(dsl::id)
        .do_update()
        .set(dsl::heartbeat.eq(now))
        .execute(connection)
        .map(drop)
}

pub(super) fn workers_in(
    connection: &mut PgConnection,
    namespace: &str,
) -> QueryResult<Vec<(WorkerId, WorkerProcess)>> {
    let rows: Vec<(i64, String, String, i32, i64)> = dsl::carrot_worker
        .filter(dsl::namespace.eq(namespace))
        .select((
            dsl::id,
            dsl::host,
            dsl::namespace,
            dsl::pid,
            dsl::process_start,
        ))
        .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|(id, host, namespace, pid, process_start)| {
            let process = WorkerProcess {
                host,
                namespace,
                pid,
                process_start,
            };
            (WorkerId(id), process)
        })
        .collect())
}

pub(super) fn deregister(connection: &mut PgConnection, ids: &[WorkerId]) -> QueryResult<()> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    diesel::delete(dsl::carrot_worker.filter(dsl::id.eq_any(ids)))
        .execute(connection)
        .map(drop)
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

pub(super) fn silent_workers(connection: &mut PgConnection) -> QueryResult<Vec<WorkerId>> {
    let rows: Vec<Id> = diesel::sql_query(format!(
        "SELECT id FROM carrot_worker WHERE heartbeat < now() - interval '{} seconds'",
        DEAD_AFTER.as_secs()
    ))
    .load(connection)?;
    Ok(rows.into_iter().map(|row| WorkerId(row.id)).collect())
}
