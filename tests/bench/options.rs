//! The options: what to measure, and for how long.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::database::Kind;

/// Measures the service on this machine: its throughput beside that of the broker's client library alone, the
/// latency of its tasks, and its costs without work.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
pub struct Options {
    /// Take a few seconds for each, to try a change; its figures do not count
    #[arg(long)]
    quick: bool,
    /// Measure only these
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Measure only on these databases
    #[arg(long, value_name = "DATABASE", value_enum, value_delimiter = ',')]
    databases: Vec<Kind>,
    /// Consumers of the queue, one run each
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4, 16])]
    pub concurrency: Vec<usize>,
    /// How much the service logs: the usual level in production, and a verbose one
    #[arg(long, value_name = "LEVEL", value_delimiter = ',', default_values = ["WARNING", "INFO"])]
    pub loglevels: Vec<String>,
    /// A prefetch_factor other than the default
    #[arg(long, value_name = "N")]
    pub prefetch_factor: Option<usize>,
    /// The x-max-priority of the queues; none by default, as RabbitMQ is slower with it
    #[arg(long, value_name = "N")]
    pub priorities: Option<i32>,
    /// How many rounds each figure is the median of [default: 3; quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Messages of a run that counts tasks [default: 40000; quick: 10000]
    #[arg(long, value_name = "N")]
    messages: Option<usize>,
    /// Finished rows in the table before the first run
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub history: usize,
    /// Where the figures are written
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub json: PathBuf,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// What the priorities of a queue cost RabbitMQ itself
    Priorities,
    /// What the service consumes and acknowledges, without claiming or running it
    Consuming,
    /// No-op functions, from the queue to their COMPLETED rows
    Tracked,
    /// Messages with rows and confirms, singly and in batches
    Publishing,
    /// From publishing to the task's first line, at 1 000 messages a second
    Latency,
    /// The embedded broker: no-op functions to their COMPLETED rows, how late they start, and what it
    /// costs without work
    Embedded,
    /// From a transaction that records a message to the start of its task
    Transactions,
    /// Commands, from the queue to their COMPLETED rows
    Commands,
    /// A service without work
    Idle,
    /// 100 000 schedules, their occurrences spread over a minute
    Schedules,
}

impl Options {
    /// Whether this is to be measured.
    pub fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }

    /// The databases to measure on.
    pub fn databases(&self) -> &[Kind] {
        if self.databases.is_empty() {
            Kind::value_variants()
        } else {
            &self.databases
        }
    }

    /// Whether it is only a trial, of which no figure counts.
    pub const fn is_quick(&self) -> bool {
        self.quick
    }

    /// How many readings a figure has.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Messages of a run that counts tasks.
    pub fn messages(&self) -> usize {
        self.messages
            .unwrap_or(if self.quick { 10_000 } else { 40_000 })
    }

    /// `full`, or a fifth of it where no figure counts.
    pub const fn scaled(&self, full: usize) -> usize {
        if self.quick { full / 5 } else { full }
    }
}
