//! What all databases have in common: the statements, but for what their [`Engine`] says
//! differently.

mod bounds;
mod engine;
mod guards;
mod indexes;
mod late_rows;
mod leases;
mod ledger;
mod loose;
mod migration;
mod occurrences;
mod overlap;
mod patience;
mod prune;
mod publishing;
mod put_off;
mod republish;
mod requeue;
mod schedule_row;
mod schedules;
mod statement;
mod times;
mod transition;
mod values;
mod waiting;
mod workers;

#[cfg(any(feature = "mysql", test))]
pub(super) use engine::ALWAYS;
pub(super) use engine::{Engine, Id, Link, MessageRow, Row, Update, assignments, in_transaction};
pub(super) use indexes::{Fault, Index, faults};
pub(super) use migration::{Steps, forget_lost_steps};
pub(super) use patience::{Patience, watched};
pub(super) use publishing::{Inserted, Target, insert};
pub(super) use schedules::now_on;
pub(super) use statement::Statement;
pub(super) use values::{Column, Values};

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::EmbeddedMigrations;

use chrono::{DateTime, Utc};

use self::loose::LooseText;
use super::session::{
    EmbeddedQueueStore, FactStore, OccurrenceStore, OutboxStore, RecoveryStore, RequeueStore,
    RetentionStore, RunStore, ScheduleStore, Session, TestSession, WorkerStore,
};
use super::{
    Advance, Agenda, Batch, BatchResult, Candidate, EditResult, Heartbeat, LateRowResult,
    MigrationReporter, NewRow, PruneRange, Pruned, ReadySchedules, RecomputeScope,
    RecordedMessages, Requeue, Requeued, ScheduleRow, ScheduleSpec, Store, StoreError, Tables,
    TestStore, UndecodableRow, WhichSchedules, WorkerId, WorkerProcess,
};
use crate::message::Message;

/// A database behind a link, and what of its tables is needed.
pub(super) struct SqlStore<L>(pub(super) L, pub(super) Tables);

impl<L: Link> Store for SqlStore<L>
where
    EmbeddedMigrations: MigrationSource<<L::Engine as Engine>::Backend>,
{
    fn connect(&self) -> Result<Box<dyn Session>, StoreError> {
        Ok(Box::new(SqlSession(self.0.open()?, self.1)))
    }

    fn migrate_reporting(&self, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError> {
        // Who has nothing to do need not have the right to.
        if self.connect()?.is_migrated()? {
            return Ok(());
        }
        self.0.migrate(self.1, tell)
    }

    fn migrates_itself(&self) -> bool {
        L::MIGRATES_ITSELF
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl<L: Link> TestStore for SqlStore<L>
where
    EmbeddedMigrations: MigrationSource<<L::Engine as Engine>::Backend>,
{
    fn connect_for_tests(&self) -> Result<Box<dyn TestSession>, StoreError> {
        Ok(Box::new(SqlSession(self.0.open()?, self.1)))
    }
}

/// A connection.
struct SqlSession<E>(E, Tables);

impl<E: Engine> SqlSession<E> {
    /// RunStore `work` and sorts its error.
    fn run<T>(&mut self, work: impl FnOnce(&mut E) -> QueryResult<T>) -> Result<T, StoreError> {
        work(&mut self.0).map_err(|error| self.0.sort(&error))
    }

    /// RunStore one statement that writes.
    fn alone<T>(&mut self, work: impl FnOnce(&mut E) -> QueryResult<T>) -> Result<T, StoreError> {
        self.run(|engine| engine.alone(true, work))
    }

    /// RunStore `work` in a transaction of its own.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut E) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        self.run(|engine| engine.transaction(true, work))
    }
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: LooseText,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl<E: Engine> Session for SqlSession<E>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    fn is_migrated(&mut self) -> Result<bool, StoreError> {
        let tables = self.1;
        self.run(|engine| migration::is_done(engine, tables))
    }
}

impl<E: Engine> TestSession for SqlSession<E>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    fn make_due(&mut self) -> Result<(), StoreError> {
        self.alone(publishing::make_due)
    }
}

impl<E: Engine> FactStore for SqlSession<E> {
    fn version(&mut self) -> Result<String, StoreError> {
        let names: Vec<Name> = self.run(|engine| engine.load(E::VERSION, None))?;
        Ok(names.into_iter().map(|row| row.name.shown()).collect())
    }

    fn now(&mut self) -> Result<DateTime<Utc>, StoreError> {
        self.run(schedules::now)
    }
}

impl<E: Engine> ScheduleStore for SqlSession<E> {
    fn active_schedules(&mut self) -> Result<i64, StoreError> {
        let sql = "SELECT count(*) AS n FROM carrot_scheduledtask WHERE active";
        let counts: Vec<Count> = self.run(|engine| engine.load(sql, None))?;
        Ok(counts.iter().map(|row| row.n).sum())
    }

    fn schedules(&mut self, which: &WhichSchedules<'_>) -> Result<Vec<ScheduleRow>, StoreError> {
        self.run(|engine| schedules::schedules(engine, which))
    }

    fn add_schedule(&mut self, spec: &ScheduleSpec) -> Result<Option<i64>, StoreError> {
        self.run(|engine| engine.naming(|engine| schedules::add(engine, spec)))
    }

    fn edit_schedule(
        &mut self,
        id: i64,
        was: &ScheduleSpec,
        to: &ScheduleSpec,
    ) -> Result<EditResult, StoreError> {
        let edit = |engine: &mut E| schedules::edit(engine, id, was, to);
        match to.name == was.name {
            true => self.transaction(edit),
            false => self.run(|engine| engine.naming(edit)),
        }
    }

    fn activate_schedule(&mut self, id: i64, active: bool) -> Result<bool, StoreError> {
        self.transaction(|engine| schedules::activate(engine, id, active))
    }

    fn remove_schedule(&mut self, id: i64) -> Result<bool, StoreError> {
        self.transaction(|engine| schedules::remove(engine, id))
    }
}

impl<E: Engine> OccurrenceStore for SqlSession<E> {
    fn agenda(&mut self, held: &[i64]) -> Result<Agenda, StoreError> {
        self.run(|engine| occurrences::agenda(engine, held))
    }

    fn recompute(&mut self, which: RecomputeScope) -> Result<usize, StoreError> {
        self.transaction(|engine| occurrences::recompute(engine, which))
    }

    fn advance_schedules(
        &mut self,
        ready: ReadySchedules,
        limit: usize,
        held: &[i64],
        decide: &mut dyn FnMut(&Candidate) -> Advance,
    ) -> Result<(usize, RecordedMessages<'static>), StoreError> {
        let advance = |engine: &mut E| occurrences::advance(engine, ready, limit, held, decide);
        let (count, messages) = self.transaction(advance)?;
        Ok((count, RecordedMessages::committed(messages)))
    }
}

impl<E: Engine> OutboxStore for SqlSession<E> {
    fn record(&mut self, rows: &[NewRow]) -> Result<(), StoreError> {
        let record = |engine: &mut E| publishing::record(engine, rows);
        match bounds::is_one_statement(rows) {
            true => self.alone(record),
            false => self.transaction(record),
        }
    }

    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError> {
        // Where a crash undoes it, the sweep publishes a second copy.
        self.run(|engine| engine.alone(false, |engine| publishing::mark_published(engine, keys)))
    }

    fn renew_leases(&mut self, keys: &[String], lease: Duration) -> Result<(), StoreError> {
        // Where a crash undoes it, the sweep publishes a second copy.
        self.run(|engine| engine.alone(false, |engine| leases::renew(engine, keys, lease)))
    }

    fn note_refused(&mut self, refused: &[(String, String)]) -> Result<Vec<String>, StoreError> {
        self.transaction(|engine| leases::note_refused(engine, refused))
    }

    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError> {
        self.alone(|engine| publishing::fail_pending(engine, failures))
    }
}

impl<E: Engine> RecoveryStore for SqlSession<E> {
    fn was_notified(&mut self) -> Result<Option<bool>, StoreError> {
        self.run(E::is_told)
    }

    fn take_due_except(
        &mut self,
        limit: usize,
        queues: &BTreeSet<String>,
    ) -> Result<(RecordedMessages<'static>, Vec<UndecodableRow>), StoreError> {
        let taken = self.transaction(|engine| publishing::take_due(engine, limit, queues))?;
        let (due, undecodable) = UndecodableRow::partition(taken);
        Ok((RecordedMessages::committed(due), undecodable))
    }

    fn fail_undecodable(&mut self, rows: &[UndecodableRow]) -> Result<(), StoreError> {
        self.alone(|engine| publishing::fail_undecodable(engine, rows))
    }

    fn recover(&mut self, limit: usize) -> Result<usize, StoreError> {
        self.transaction(|engine| publishing::recover(engine, limit))
    }

    fn publish_late_rows(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<(String, LateRowResult)>, StoreError> {
        let looked = self.run(|engine| late_rows::look(engine, keys))?;
        let come = looked.iter().filter(|(_, _, has_come)| *has_come);
        let come: Vec<String> = come.map(|(key, ..)| key.clone()).collect();
        let others = looked.into_iter().filter(|(_, _, has_come)| !has_come);
        let mut verdicts: Vec<_> = others.map(|(key, late, _)| (key, late)).collect();
        if !come.is_empty() {
            verdicts.extend(self.transaction(|engine| late_rows::mend(engine, &come))?);
        }
        Ok(verdicts)
    }
}

impl<E: Engine> RunStore for SqlSession<E> {
    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError> {
        let lasts = !batch.may_be_lost();
        self.run(|engine| engine.transaction(lasts, |engine| ledger::write(engine, owner, batch)))
    }
}

impl<E: Engine> RequeueStore for SqlSession<E> {
    fn requeue(&mut self, which: &Requeue) -> Result<Vec<Requeued>, StoreError> {
        self.transaction(|engine| requeue::requeue(engine, which))
    }

    fn last_failed_id(&mut self) -> Result<Option<i64>, StoreError> {
        self.run(requeue::last_failed_id)
    }

    fn requeue_failed(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<(Vec<Requeued>, Option<i64>), StoreError> {
        self.transaction(|engine| requeue::requeue_failed(engine, after, last))
    }
}

impl<E: Engine> RetentionStore for SqlSession<E> {
    fn prune(&mut self, stretch: &PruneRange<'_>) -> Result<Pruned, StoreError> {
        self.transaction(|engine| prune::prune(engine, stretch))
    }
}

impl<E: Engine> EmbeddedQueueStore for SqlSession<E> {
    fn is_any_waiting(&mut self, queue: &str) -> Result<bool, StoreError> {
        self.run(|engine| waiting::is_any(engine, queue))
    }

    fn count_waiting(&mut self, queue: &str) -> Result<i64, StoreError> {
        self.run(|engine| waiting::count(engine, queue))
    }

    fn take_waiting(
        &mut self,
        owner: WorkerId,
        queue: &str,
        limit: usize,
    ) -> Result<(Vec<Message>, Vec<UndecodableRow>), StoreError> {
        // Where a crash undoes it, they are delivered twice.
        let take = |engine: &mut E| waiting::take(engine, owner, queue, limit);
        let taken = self.run(|engine| engine.transaction(false, take))?;
        Ok(UndecodableRow::partition(taken))
    }

    fn fail_waiting(&mut self, owner: WorkerId, rows: &[UndecodableRow]) -> Result<(), StoreError> {
        self.alone(|engine| waiting::fail(engine, owner, rows))
    }

    fn put_back(&mut self, owner: WorkerId, keys: &[String]) -> Result<(), StoreError> {
        self.run(|engine| engine.alone(false, |engine| waiting::put_back(engine, owner, keys)))
    }

    fn put_back_all(&mut self, owner: WorkerId, queue: &str) -> Result<(), StoreError> {
        self.run(|engine| engine.alone(false, |engine| waiting::put_back_all(engine, owner, queue)))
    }
}

impl<E: Engine> WorkerStore for SqlSession<E> {
    fn register(&mut self, process: &WorkerProcess) -> Result<WorkerId, StoreError> {
        self.alone(|engine| workers::register(engine, process))
    }

    fn heartbeat(&mut self, id: WorkerId, process: &WorkerProcess) -> Result<(), StoreError> {
        self.alone(|engine| workers::heartbeat(engine, id, process))
    }

    fn workers_in(
        &mut self,
        namespace: &str,
    ) -> Result<Vec<(WorkerId, WorkerProcess)>, StoreError> {
        self.run(|engine| workers::workers_in(engine, namespace))
    }

    fn deregister(&mut self, ids: &[WorkerId]) -> Result<(), StoreError> {
        self.alone(|engine| workers::deregister(engine, ids))
    }

    fn heartbeats(&mut self) -> Result<Vec<Heartbeat>, StoreError> {
        self.run(workers::heartbeats)
    }
}
