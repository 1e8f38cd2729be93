//! Schedules: each planned time has one message, which has ended.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::count::{Runs, fault};
use crate::soak::Soak;
use crate::support::{milliseconds, outcome};
use crate::task::{QUEUES, Task};

/// The schedules. Each runs every second, and no outage may cost it a run. They are named like their tasks.
const SCHEDULES: [(Task, &str); 4] = [
    (Task::Quick, QUEUES[0]),
    (Task::Slow, QUEUES[0]),
    (Task::Note, QUEUES[1]),
    (Task::Errs, QUEUES[1]),
];

const PERIOD: i64 = 1000;

/// A schedule that is due for no longer is on time, in milliseconds.
const ON_TIME: i64 = 2 * PERIOD;

/// How long a schedule may take to catch up: one that the database has refused is held back for a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// The least share of its possible runs that a schedule must have: at first no service may be up.
const LEAST: f64 = 0.5;

/// Adds the schedules.
pub fn begin(soak: &Soak) {
    for (task, queue) in SCHEDULES {
        let name = task.name();
        command(
            soak,
            &[
                "add", name, name, "--every", "1s", "--queue", queue, "--missed", "run_all",
            ],
        );
    }
}

/// Deactivates the schedules, once they have caught up.
pub fn end(soak: &Soak) {
    let began = Instant::now();
    while !are_on_time(soak) {
        if began.elapsed() > PATIENCE {
            soak.fault(format!("schedules are late still after {PATIENCE:?}"));
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    for (task, _) in SCHEDULES {
        command(soak, &["disable", task.name()]);
    }
}

fn are_on_time(soak: &Soak) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let due = i64::try_from(now.as_millis()).unwrap() - ON_TIME;
    let schedules = soak.world.rows("SELECT * FROM carrot_scheduledtask");
    schedules
        .iter()
        .all(|row| row["next_run"].is_string() && milliseconds(row, "next_run") > due)
}

fn command(soak: &Soak, arguments: &[&str]) {
    const TRIES: usize = 20;
    let arguments = [&["schedule"], arguments].concat();
    for _ in 0..TRIES {
        let (code, _, err) = outcome(&mut soak.world.command(&arguments));
        if code == 0 {
            return;
        }
        soak.say(&format!("{arguments:?} ended with {code}: {err}"));
        thread::sleep(Duration::from_millis(500));
    }
    soak.fault(format!("{arguments:?} has failed {TRIES} times"));
}

/// Whether the message belongs to a schedule.
pub fn is_scheduled(row: &Value) -> bool {
    !row["schedule_id"].is_null()
}

/// What is wrong with the messages of the schedules.
pub fn faults(soak: &Soak, rows: &[&Value], runs: &Runs) -> Vec<String> {
    let mut by_schedule: HashMap<i64, Vec<&Value>> = HashMap::new();
    for row in rows {
        let id = row["schedule_id"].as_i64().unwrap();
        by_schedule.entry(id).or_default().push(row);
    }
    let schedules = soak.world.rows("SELECT * FROM carrot_scheduledtask");
    let mut faults = Vec::new();
    if schedules.len() != SCHEDULES.len() {
        faults.push(format!("schedules are not all there: {schedules:?}"));
    }
    for schedule in &schedules {
        let id = schedule["id"].as_i64().unwrap();
        let rows = by_schedule.remove(&id).unwrap_or_default();
        let task = Task::named(schedule["task"].as_str().unwrap()).unwrap();
        faults.extend(rows.iter().filter_map(|row| fault(row, task, runs)));
        faults.extend(times_fault(soak, schedule, &rows));
    }
    faults.extend(
        by_schedule
            .keys()
            .map(|id| format!("there is no schedule {id}")),
    );
    faults
}

/// From the first time on, each second must have one message, and the next run follows the last of them.
fn times_fault(soak: &Soak, schedule: &Value, rows: &[&Value]) -> Option<String> {
    let mut times: Vec<i64> = rows
        .iter()
        .map(|row| milliseconds(row, "planned_time"))
        .collect();
    times.push(milliseconds(schedule, "next_run"));
    times.sort_unstable();
    let odd: Vec<_> = times
        .windows(2)
        .filter(|pair| pair[1] - pair[0] != PERIOD)
        .collect();
    let least = soak.length.as_secs_f64() * LEAST;
    (!odd.is_empty() || (rows.len() as f64) < least).then(|| {
        let count = rows.len();
        format!("{schedule} has {count} messages, and not one for each time at {odd:?}")
    })
}
