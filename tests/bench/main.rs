//! The throughput, the latency and the costs of the service, on this machine and its servers. Run it by
//! `scripts/bench`, which takes `--help`.
//! `scripts/bench`, which takes `--help`.
//!
//! Each figure is the median of several rounds. Figures that are compared are measured in turns, since
//! machines are noisy: a reading of tracked tasks stands beside one of the limit, which is consuming and
//! acknowledging with the client library alone, taken just before. The service is a separate process with its
//! real command line, on a table with a history, and with the default configuration except for the queue's
//! priorities (`--priorities`).
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark stops at its first fault, and prints"
)]

mod broker;
mod commands;
mod consuming;
mod database;
mod expectations;
mod idle;
mod latency;
mod lone;
mod machine;
mod options;
mod publishing;
mod raw;
mod report;
mod schedules;
mod service;
mod tracked;

use std::process::ExitCode;

use carrot_actors::LogLevel;
use carrot_actors::internals::logging;
use clap::Parser;
use serde_json::json;

use self::broker::Rabbit;
use self::database::Database;
use self::options::{Options, What};
use self::report::{Key, Report};

/// What every measurement needs.
pub struct Bench {
    options: Options,
    rabbit: Rabbit,
    report: Report,
}

impl Bench {
    /// New keys for the messages of a run.
    fn keys(&self) -> Vec<String> {
        (0..self.options.messages())
            .map(|_| carrot_actors::internals::names::new_key())
            .collect()
    }
}

fn main() -> ExitCode {
    if let Some(code) = service::live() {
        return code;
    }
    let options = Options::parse();
    logging::start(LogLevel::Warning, None).expect("no other logger");
    let mut bench = Bench {
        rabbit: Rabbit::find(options.priorities),
        options,
        report: Report::default(),
    };
    let databases = prepare(&mut bench);
    for round in 1..=bench.options.rounds() {
        println!("round {round}");
        if bench.options.wants(What::Priorities) {
            raw::with_priorities(&mut bench);
        }
        if bench.options.wants(What::Consuming) {
            consuming::round(&mut bench);
        }
        for database in &databases {
            measure(&mut bench, database, round == 1);
        }
    }
    drop(databases);
    finish(&bench);
    ExitCode::SUCCESS
}

fn prepare(bench: &mut Bench) -> Vec<Database> {
    for (of, version) in machine::versions() {
        bench.report.version(&of, &version);
    }
    bench.report.version("broker", &bench.rabbit.version);
    let mut databases = Vec::new();
    for kind in bench.options.databases() {
        match Database::prepare(*kind, bench.options.history) {
            Ok(database) => {
                bench.report.version(database.name(), &database.version);
                databases.push(database);
            }
            Err(why) => bench.report.skip(kind.name(), why),
        }
    }
    databases
}

/// Runs one round on one database.
fn measure(bench: &mut Bench, database: &Database, first: bool) {
    let others = Key::new("others' CPU", "% of all");
    bench.report.add(others, machine::others());
    if bench.options.wants(What::Tracked) {
        tracked::round(bench, database);
    }
    if bench.options.wants(What::Publishing) {
        publishing::round(bench, database);
    }
    if bench.options.wants(What::Latency) {
        latency::round(bench, database);
    }
    if bench.options.wants(What::Embedded) {
        database.with_queues(|| measure_embedded(bench, database, first));
    }
    if bench.options.wants(What::Transactions) {
        lone::transactions_round(bench, database);
    }
    if bench.options.wants(What::Commands) {
        commands::round(bench, database);
    }
    if bench.options.wants(What::Schedules) {
        schedules::round(bench, database);
    }
    if bench.options.wants(What::Idle) && first {
        idle::run(bench, database);
    }
}

/// The same for the embedded broker.
fn measure_embedded(bench: &mut Bench, database: &Database, first: bool) {
    tracked::embedded_round(bench, database);
    latency::embedded_round(bench, database);
    lone::embedded_round(bench, database);
    if first {
        idle::embedded(bench, database);
    }
}

fn finish(bench: &Bench) {
    let options = &bench.options;
    let settings = json!({
        "quick": options.is_quick(),
        "rounds": options.rounds(),
        "messages": options.messages(),
        "history": options.history,
        "x-max-priority": options.priorities,
        "prefetch_factor": options.prefetch_factor.map_or(json!("default"), |factor| json!(factor)),
    });
    let machine = machine::describe();
    bench.report.print(&machine);
    bench.report.write(&options.json, &machine, &settings);
    println!("\nwritten to {}", options.json.display());
    if options.is_quick() {
        println!("--quick: no figure counts");
    }
}
