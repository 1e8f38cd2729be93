//! What is observed during the soak and counted at the end.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::database::Link;
use crate::schedules::{self, is_scheduled};
use crate::soak::{Notes, Soak};
use crate::support::{milliseconds, text};
use crate::task::{QUEUES, Task};

/// When nothing has changed for this time, nothing will change any more.
const STANDSTILL: Duration = Duration::from_secs(90);

/// The columns of a row, without long texts.
const COLUMNS: &str = "uuid, status, task, queue, attempts, output, exception, completion_time, \
    failure_time, owner, schedule_id, planned_time";

/// Lines that no log may hold: services know by their host that others are gone.
const NEVER_SAID: [&str; 4] = [
    " has been silent for long",
    " died while it ran ",
    "its client panicked",
    "the ledger panicked",
];

/// How many faults are printed.
const MOST_SHOWN: usize = 20;

/// Records rows that are final, which must not change any more.
pub fn watch(soak: &Soak, mut random: Rng) {
    let query = format!(
        "SELECT {COLUMNS} FROM carrot_messagelog WHERE status IN ('COMPLETED', 'FAILED') \
         ORDER BY id DESC LIMIT 300"
    );
    let mut link = Link::new(&soak.world);
    while soak.goes_on() {
        let seen = link.rows(&query).unwrap_or_default();
        let mut notes = soak.notes();
        for row in seen {
            notes.seen.entry(key(&row).to_owned()).or_insert(row);
        }
        drop(notes);
        soak.pause_within(&mut random, 300..2000);
    }
}

/// Waits until nothing is left to do.
pub fn settle(soak: &Soak) {
    soak.say("no more outages");
    let all = soak.notes().sent.len();
    let mut last = (Value::Null, Instant::now());
    loop {
        let counts = soak.world.rows(
            "SELECT status, count(*) AS count, count(schedule_id) AS scheduled FROM carrot_messagelog \
             GROUP BY status ORDER BY status",
        );
        let sum =
            |column: &str| -> u64 { counts.iter().filter_map(|row| row[column].as_u64()).sum() };
        let rows = sum("count") - sum("scheduled");
        let is_final = |row: &Value| matches!(text(row, "status"), "COMPLETED" | "FAILED");
        let workers = soak.world.rows("SELECT id FROM carrot_worker").len();
        let ready = QUEUES.map(|queue| soak.world.ready(queue));
        let is_done = counts.iter().all(is_final) && rows >= all as u64 && ready == [0, 0];
        if is_done && workers == 2 {
            return soak.say("everything is settled");
        }
        let now = json!([counts, workers, ready]);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > STANDSTILL {
            return soak.fault(format!("{all} messages were sent; nothing moves: {now}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Counts everything, and panics if something is wrong.
pub fn count(soak: &Soak) {
    let query = format!("SELECT {COLUMNS} FROM carrot_messagelog");
    let rows = soak.world.rows(&query);
    let runs = soak.world.all_runs();
    let mut notes = std::mem::take(&mut *soak.notes());
    let (scheduled, sent): (Vec<_>, Vec<_>) = rows.iter().partition(|row| is_scheduled(row));
    notes.faults.extend(faults(&notes, &sent, &runs));
    notes.faults.extend(changed(&notes, &rows));
    let of_schedules = schedules::faults(soak, &scheduled, &runs);
    notes.faults.extend(of_schedules);
    for queue in QUEUES {
        let left = soak.world.ready(queue);
        if left > 0 {
            let fault = format!("{left} messages are left in {queue}");
            notes.faults.push(fault);
        }
    }
    let workers = soak.world.rows("SELECT * FROM carrot_worker");
    if !workers.is_empty() {
        notes.faults.push(format!("workers are left: {workers:?}"));
    }
    for log in soak.world.logs() {
        notes.faults.extend(odd_lines(&log));
    }
    summarise(soak, &notes, &rows, &runs);
    if !notes.faults.is_empty() {
        keep_traces(soak, &rows);
        panic!("{} faults on {:?}", notes.faults.len(), soak.world.database);
    }
}

fn odd_lines(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let is_odd = |line: &&str| NEVER_SAID.iter().any(|words| line.contains(words));
    let lines = text.lines().filter(is_odd);
    lines
        .map(|line| format!("{}: {line}", log.display()))
        .collect()
}

fn key(row: &Value) -> &str {
    text(row, "uuid")
}

pub type Runs = HashMap<String, Vec<i64>>;

fn faults(notes: &Notes, rows: &[&Value], runs: &Runs) -> Vec<String> {
    let mut faults = Vec::new();
    let mut by_key: HashMap<&str, Vec<&Value>> = HashMap::new();
    for row in rows {
        by_key.entry(key(row)).or_default().push(row);
    }
    for sent in &notes.sent {
        match by_key.remove(sent.key.as_str()).unwrap_or_default()[..] {
            [row] => faults.extend(fault(row, sent.task, runs)),
            ref rows => faults.push(format!("{sent:?} has {} rows", rows.len())),
        }
    }
    // Messages that `send` recorded without being able to report it.
    let untold: Vec<&Value> = by_key.into_values().flatten().collect();
    if untold.len() > notes.in_doubt {
        faults.push(format!("rows of messages that were not sent: {untold:?}"));
    }
    for row in untold {
        match Task::named(text(row, "task")) {
            Some(task) => faults.extend(fault(row, task, runs)),
            None => faults.push(format!("{row} was not sent")),
        }
    }
    faults
}

/// Rows that were final, and have changed since.
fn changed(notes: &Notes, rows: &[Value]) -> Vec<String> {
    let last: HashMap<&str, &Value> = rows.iter().map(|row| (key(row), row)).collect();
    let is_changed = |(key, seen): &(&String, &Value)| last.get(key.as_str()) != Some(seen);
    let changed = notes.seen.iter().filter(is_changed);
    changed
        .map(|(key, seen)| {
            let now = last.get(key.as_str());
            format!("{seen} was final, and is now {now:?}")
        })
        .collect()
}

/// What is wrong with the row and the runs of a message. A run notes its start in milliseconds, and the
/// database's times are taken in milliseconds here. So a run that began no later than the end has at most the
/// same number.
pub fn fault(row: &Value, task: Task, runs: &Runs) -> Option<String> {
    let none = Vec::new();
    let runs = runs.get(key(row)).unwrap_or(&none);
    if row["status"] != task.end() {
        return Some(format!("{task:?} ended as {row}, with runs at {runs:?}"));
    }
    if runs.is_empty() == task.runs() {
        return Some(format!("{task:?} has runs at {runs:?}: {row}"));
    }
    let ended = match task.end() {
        "COMPLETED" => "completion_time",
        _ => "failure_time",
    };
    let ended = milliseconds(row, ended);
    let late: Vec<_> = runs.iter().filter(|began| **began > ended).collect();
    (!late.is_empty()).then(|| {
        format!("{task:?} ended at {ended} and was run again at {late:?} of {runs:?}: {row}")
    })
}

fn summarise(soak: &Soak, notes: &Notes, rows: &[Value], runs: &Runs) {
    let by = |column: &str| {
        let mut counts = BTreeMap::<&str, usize>::new();
        for row in rows {
            *counts.entry(text(row, column)).or_default() += 1;
        }
        format!("{counts:?}")
    };
    let again = runs.values().filter(|runs| runs.len() > 1).count();
    let total: usize = runs.values().map(Vec::len).sum();
    let most = runs.values().map(Vec::len).max().unwrap_or_default();
    let scheduled = rows.iter().filter(|row| is_scheduled(row)).count();
    let database = soak.world.database;
    eprintln!("-- {database:?}, {:?}", soak.length);
    eprintln!("sent      {}: {:?}", notes.sent.len(), notes.by);
    eprintln!(
        "          {} times sent to a broker that did not confirm it",
        notes.unconfirmed
    );
    eprintln!(
        "          {} failed to be sent by command, of which {} were recorded",
        notes.in_doubt,
        (rows.len() - scheduled).saturating_sub(notes.sent.len())
    );
    eprintln!("scheduled {scheduled}");
    eprintln!("tasks     {}", by("task"));
    eprintln!("ends      {}", by("status"));
    eprintln!("runs      {total}; {again} messages ran more than once, at most {most} times");
    eprintln!("outages   {:#?}", notes.outages);
    eprintln!("seen      {} final rows, before the end", notes.seen.len());
    for fault in notes.faults.iter().take(MOST_SHOWN) {
        eprintln!("FAULT     {fault}");
    }
    eprintln!("faults    {}", notes.faults.len());
}

/// Saves what is needed to find the cause.
fn keep_traces(soak: &Soak, rows: &[Value]) {
    let directory = format!(
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/soak/{:?}"),
        soak.world.database
    );
    fs::create_dir_all(&directory).unwrap();
    let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    fs::write(format!("{directory}/rows"), rows.join("\n")).unwrap();
    fs::copy(
        soak.world.directory().join("runs"),
        format!("{directory}/runs"),
    )
    .unwrap();
    for log in soak.world.logs() {
        let name = log.file_name().unwrap().to_string_lossy();
        fs::copy(&log, format!("{directory}/{name}")).unwrap_or_default();
    }
    eprintln!("rows, runs and logs are kept in {directory}");
}
