//! The scheduler: which occurrences are published, by which service, and how often.

mod dead_threads;
mod django_carrot;
mod edits;
mod missed_and_overlapping;
mod occurrences;
mod start_and_stop;

use serde_json::{Value, json};

use crate::support::{Database, Running, World, eventually, milliseconds, text, traced_config};

/// A world whose tasks note their runs, without a limit of crashes.
fn world(database: Database) -> World {
    World::on(database, &traced_config("max_crashes = 1000", 4))
}

/// A schedule as Django inserts it, with additional columns of Django's or ours.
fn row(name: &str, task: &str, seconds: u32, others: &Value) -> Value {
    let mut row = json!({
        "interval_type": "seconds", "interval_count": seconds, "exchange": null,
        "routing_key": "default", "queue": "default", "task": task, "task_args": null,
        "content": "\"{}\"", "active": true, "task_name": name,
    });
    let columns = row.as_object_mut().unwrap();
    columns.extend(others.as_object().cloned().unwrap_or_default());
    row
}

impl World {
    /// Inserts a schedule; its id.
    #[track_caller]
    fn insert_schedule(&self, row: &Value) -> i64 {
        self.insert_into("carrot_scheduledtask", row);
        let name = self.database.literal(&row["task_name"]);
        let ids = self.rows(&format!(
            "SELECT id FROM carrot_scheduledtask WHERE task_name = {name}"
        ));
        ids[0]["id"].as_i64().unwrap()
    }

    /// Makes the schedule due since so many seconds ago, as a service would have computed it.
    fn make_due_since(&self, id: i64, seconds: u64) {
        let since = self.database.ago(seconds);
        let timetable = match self.database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => "CONCAT(interval_type, ' ', interval_count, '  ')",
            _ => "interval_type || ' ' || CAST(interval_count AS text) || '  '",
        };
        self.execute(&format!(
            "UPDATE carrot_scheduledtask SET anchor = {since}, next_run = {since}, \
             planned_for = {timetable} WHERE id = {id}"
        ));
    }

    fn schedule_row(&self, id: i64) -> Value {
        let query = format!("SELECT * FROM carrot_scheduledtask WHERE id = {id}");
        self.rows(&query).remove(0)
    }

    /// The messages of a schedule's occurrences.
    fn occurrences(&self, id: i64) -> Vec<Value> {
        self.rows(&format!(
            "SELECT * FROM carrot_messagelog WHERE schedule_id = {id} ORDER BY planned_time"
        ))
    }

    /// Waits until the schedule has `count` messages.
    #[track_caller]
    fn await_occurrences(&self, id: i64, count: usize) -> Vec<Value> {
        eventually(&format!("{count} messages of schedule {id}"), || {
            Some(self.occurrences(id)).filter(|rows| rows.len() >= count)
        })
    }

    /// Deactivates all schedules, and waits until their messages have ended; the rows of these.
    #[track_caller]
    fn end_schedules(&self) -> Vec<Value> {
        self.execute("UPDATE carrot_scheduledtask SET active = false");
        let all = "SELECT * FROM carrot_messagelog WHERE schedule_id IS NOT NULL \
                   ORDER BY schedule_id, planned_time";
        eventually("all messages of schedules have ended", || {
            Some(self.rows(all)).filter(|rows| {
                rows.iter()
                    .all(|row| ["COMPLETED", "FAILED"].contains(&text(row, "status")))
            })
        })
    }
}

/// The planned times, in milliseconds.
fn planned(rows: &[Value]) -> Vec<i64> {
    rows.iter()
        .map(|row| milliseconds(row, "planned_time"))
        .collect()
}

/// Fails unless the planned times are one second apart, and each has one message, which is COMPLETED.
#[track_caller]
fn assert_each_second_has_one(rows: &[Value]) {
    for row in rows {
        assert_eq!(row["status"], "COMPLETED", "{row}");
    }
    let times = planned(rows);
    for pair in times.windows(2) {
        assert_eq!(pair[1] - pair[0], 1000, "{times:?}");
    }
}

#[track_caller]
fn stop(services: Vec<Running>) {
    for mut service in services {
        assert_eq!(service.terminate(), 0);
    }
}
