//! A connection as a session: it maps each call of the store to statements and a transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_migrations::EmbeddedMigrations;

use super::engine::Engine;
use super::loose::LooseText;
use super::rows::CountRow;
use super::{
    bounds, embedded_queue, late_rows, leases, ledger, migration, occurrences, prune, publishing,
    requeue, schedules, sweep, workers,
};
use crate::message::Message;
use crate::store::session::{
    EmbeddedQueueStore, FactStore, OccurrenceStore, OutboxStore, RecoveryStore, RequeueStore,
    RetentionStore, RunStore, ScheduleStore, Session, TestSession, WorkerStore,
};
use crate::store::{
    Advance, Agenda, Batch, BatchResult, Candidate, EditResult, Heartbeat, LateRowResult, NewRow,
    PruneRange, Pruned, ReadySchedules, RecomputeReason, RecordedMessages, Requeue, Requeued,
    ScheduleRow, ScheduleSpec, StoreError, Tables, UndecodableRow, WhichSchedules, WorkerId,
    WorkerProcess,
};

/// A connection.
pub(super) struct SqlSession<E>(pub(super) E, pub(super) Tables);

impl<E: Engine> SqlSession<E> {
    /// Runs `work` and classifies its error.
    fn run<T>(&mut self, work: impl FnOnce(&mut E) -> QueryResult<T>) -> Result<T, StoreError> {
        work(&mut self.0).map_err(|error| self.0.classify(&error))
    }

    /// Runs one statement that writes.
    fn single_statement<T>(
        &mut self,
        work: impl FnOnce(&mut E) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        self.run(|engine| engine.single_statement(true, work))
    }

    /// Runs `work` in a transaction of its own.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut E) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        self.run(|engine| engine.transaction(true, work))
    }
}

#[derive(QueryableByName)]
struct VersionRow {
    #[diesel(sql_type = Text)]
    name: LooseText,
}

impl<E: Engine> Session for SqlSession<E>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    fn is_migrated(&mut self) -> Result<bool, StoreError> {
        let tables = self.1;
        self.run(|engine| migration::is_up_to_date(engine, tables))
    }
}

impl<E: Engine> TestSession for SqlSession<E>
where
    EmbeddedMigrations: MigrationSource<E::Backend>,
{
    fn make_due(&mut self) -> Result<(), StoreError> {
        self.single_statement(sweep::make_due)
    }
}

impl<E: Engine> FactStore for SqlSession<E> {
    fn version(&mut self) -> Result<String, StoreError> {
        let names: Vec<VersionRow> = self.run(|engine| engine.load(E::SELECT_VERSION, None))?;
        Ok(names
            .into_iter()
            .map(|row| row.name.into_display())
            .collect())
    }

    fn now(&mut self) -> Result<DateTime<Utc>, StoreError> {
        self.run(schedules::now)
    }
}

impl<E: Engine> ScheduleStore for SqlSession<E> {
    fn active_schedules(&mut self) -> Result<i64, StoreError> {
        let sql = "SELECT count(*) AS n FROM carrot_scheduledtask WHERE active";
        let counts: Vec<CountRow> = self.run(|engine| engine.load(sql, None))?;
        Ok(counts.iter().map(|row| row.n).sum())
    }

    fn schedules(&mut self, which: &WhichSchedules<'_>) -> Result<Vec<ScheduleRow>, StoreError> {
        self.run(|engine| schedules::schedules(engine, which))
    }

    fn add_schedule(&mut self, spec: &ScheduleSpec) -> Result<Option<i64>, StoreError> {
        self.run(|engine| engine.with_naming_lock(|engine| schedules::add(engine, spec)))
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
            false => self.run(|engine| engine.with_naming_lock(edit)),
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

    fn recompute(&mut self, which: RecomputeReason) -> Result<usize, StoreError> {
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
        match bounds::fits_one_statement(rows) {
            true => self.single_statement(record),
            false => self.transaction(record),
        }
    }

    fn mark_published(&mut self, keys: &[String]) -> Result<(), StoreError> {
        // If a crash of the database undoes this, the sweep publishes a second copy.
        self.run(|engine| {
            engine.single_statement(false, |engine| publishing::mark_published(engine, keys))
        })
    }

    fn renew_leases(&mut self, keys: &[String], lease: Duration) -> Result<(), StoreError> {
        // If a crash of the database undoes this, the sweep publishes a second copy.
        self.run(|engine| {
            engine.single_statement(false, |engine| leases::renew(engine, keys, lease))
        })
    }

    fn note_refused(&mut self, refused: &[(String, String)]) -> Result<Vec<String>, StoreError> {
        self.transaction(|engine| leases::note_refused(engine, refused))
    }

    fn fail_pending(&mut self, failures: &[(String, String)]) -> Result<(), StoreError> {
        self.single_statement(|engine| publishing::fail_pending(engine, failures))
    }
}

impl<E: Engine> RecoveryStore for SqlSession<E> {
    fn was_notified(&mut self) -> Result<Option<bool>, StoreError> {
        self.run(E::was_notified)
    }

    fn take_due_except(
        &mut self,
        limit: usize,
        queues: &BTreeSet<String>,
    ) -> Result<(RecordedMessages<'static>, Vec<UndecodableRow>), StoreError> {
        let taken = self.transaction(|engine| sweep::take_due(engine, limit, queues))?;
        let (due, undecodable) = UndecodableRow::partition(taken);
        Ok((RecordedMessages::committed(due), undecodable))
    }

    fn fail_undecodable(&mut self, rows: &[UndecodableRow]) -> Result<(), StoreError> {
        self.single_statement(|engine| sweep::fail_undecodable(engine, rows))
    }

    fn recover(&mut self, limit: usize) -> Result<usize, StoreError> {
        self.transaction(|engine| sweep::recover(engine, limit))
    }

    fn publish_late_rows(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<(String, LateRowResult)>, StoreError> {
        let inspected = self.run(|engine| late_rows::inspect(engine, keys))?;
        let (resolvable, others): (Vec<_>, Vec<_>) = inspected
            .into_iter()
            .partition(|(_, _, is_resolvable)| *is_resolvable);
        let resolvable: Vec<String> = resolvable.into_iter().map(|(key, ..)| key).collect();
        let others = others.into_iter().map(|(key, late, _)| (key, late));
        let mut results: Vec<_> = others.collect();
        if !resolvable.is_empty() {
            results.extend(self.transaction(|engine| late_rows::resolve(engine, &resolvable))?);
        }
        Ok(results)
    }
}

impl<E: Engine> RunStore for SqlSession<E> {
    fn write(&mut self, owner: WorkerId, batch: &Batch) -> Result<BatchResult, StoreError> {
        let durable = !batch.may_be_lost();
        self.run(|engine| engine.transaction(durable, |engine| ledger::write(engine, owner, batch)))
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
    fn prune(&mut self, range: &PruneRange<'_>) -> Result<Pruned, StoreError> {
        self.transaction(|engine| prune::prune(engine, range))
    }
}

impl<E: Engine> EmbeddedQueueStore for SqlSession<E> {
    fn is_any_waiting(&mut self, queue: &str) -> Result<bool, StoreError> {
        self.run(|engine| embedded_queue::has_any(engine, queue))
    }

    fn count_waiting(&mut self, queue: &str) -> Result<i64, StoreError> {
        self.run(|engine| embedded_queue::count(engine, queue))
    }

    fn take_waiting(
        &mut self,
        owner: WorkerId,
        queue: &str,
        limit: usize,
    ) -> Result<(Vec<Message>, Vec<UndecodableRow>), StoreError> {
        // If a crash of the database undoes this, the messages are delivered twice.
        let take = |engine: &mut E| embedded_queue::take(engine, owner, queue, limit);
        let taken = self.run(|engine| engine.transaction(false, take))?;
        Ok(UndecodableRow::partition(taken))
    }

    fn fail_waiting(&mut self, owner: WorkerId, rows: &[UndecodableRow]) -> Result<(), StoreError> {
        self.single_statement(|engine| embedded_queue::fail_taken(engine, owner, rows))
    }

    fn put_back(&mut self, owner: WorkerId, keys: &[String]) -> Result<(), StoreError> {
        self.run(|engine| {
            engine.single_statement(false, |engine| {
                embedded_queue::put_back(engine, owner, keys)
            })
        })
    }

    fn put_back_all(&mut self, owner: WorkerId, queue: &str) -> Result<(), StoreError> {
        self.run(|engine| {
            engine.single_statement(false, |engine| {
                embedded_queue::put_back_all(engine, owner, queue)
            })
        })
    }
}

impl<E: Engine> WorkerStore for SqlSession<E> {
    fn register(&mut self, process: &WorkerProcess) -> Result<WorkerId, StoreError> {
        self.single_statement(|engine| workers::register(engine, process))
    }

    fn heartbeat(&mut self, id: WorkerId, process: &WorkerProcess) -> Result<(), StoreError> {
        self.single_statement(|engine| workers::heartbeat(engine, id, process))
    }

    fn workers_in(
        &mut self,
        namespace: &str,
    ) -> Result<Vec<(WorkerId, WorkerProcess)>, StoreError> {
        self.run(|engine| workers::workers_in(engine, namespace))
    }

    fn deregister(&mut self, ids: &[WorkerId]) -> Result<(), StoreError> {
        self.single_statement(|engine| workers::deregister(engine, ids))
    }

    fn heartbeats(&mut self) -> Result<Vec<Heartbeat>, StoreError> {
        self.run(workers::heartbeats)
    }
}
