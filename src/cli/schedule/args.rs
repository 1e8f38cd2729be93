//! What the user typed after `schedule`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::schedule;

const TIMETABLES: &str = "\
Timetables:
  --every 5m                 30s, 5m, 1h30m, 7d, 2w: from when it is saved on, in elapsed time
  --cron '0 3 * * 1-5'       minute hour day month weekday; weekdays are 0 (or 7) for Sunday to 6, or SUN to SAT
  --cron '*/10 8-18 * * *'   a step, a range; 1,15 is a list
  --cron '30 0 3 * * *'      with six fields the second comes first, with seven the year last
  --cron @daily              also @hourly, @weekly, @monthly, @yearly

A cron line goes by the clocks of --timezone (UTC without). Of a run that is planned in an hour that the clocks \
repeat there is one; one in an hour that they skip happens when the gap ends; what fires all through the \
hour (*/10) keeps its pace.

Missed runs (no service was there, or the schedule was disabled):
  --missed run_once          one run stands for all that were missed (the default)
  --missed run_all           each is made up for, of the last hundred
  --missed skip              none is

What has no --queue goes to the first queue of the configuration. A service takes up whatever is \
changed here within a second.";

const JSON: &str = "\
--json prints one object (list: an array of them) with the keys id, name, task, args, kwargs, queue, \
exchange, routing_key, priority, active, interval_type, interval_count, cron, timezone, missed, overlap, next_run, \
last_run (times in UTC, RFC 3339) and problem (why it does not run); show adds next_runs, each with local and utc. \
What there is none of is null. run prints the key uuid.

A schedule is named by its name, or by its id.";

/// See and change what is published by the clock.
#[derive(Debug, Args)]
#[command(after_help = JSON)]
pub(in crate::cli) struct ScheduleArgs {
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: ScheduleCommand,
}

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// List all, Django's as well
    List,
    /// Show one, and its next ten runs in its time zone and in UTC
    Show(Which),
    /// Add one
    #[command(after_help = TIMETABLES)]
    Add(Box<AddArgs>),
    /// Change what is given, and nothing else
    #[command(after_help = TIMETABLES)]
    Edit(Box<EditArgs>),
    /// Have one run again
    Enable(Which),
    /// Have one not run, until it is enabled
    Disable(Which),
    /// Remove one; the messages that it has published stay
    Remove(Which),
    /// Publish a message of one now, beside its timetable, enabled or not, and print its uuid
    Run(Which),
}

/// Which schedule.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its name, or its id
    pub(super) name: String,
}

/// A new schedule.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("timetable").required(true).args(["every", "cron"]))]
pub(super) struct AddArgs {
    /// What it is to be called
    pub(super) name: String,
    /// The task's name
    pub(super) task: String,
    /// Have it not run, until it is enabled
    #[arg(long)]
    pub(super) disabled: bool,
    #[command(flatten)]
    pub(super) fields: FieldArgs,
}

/// A schedule that is to be another.
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    #[command(flatten)]
    pub(super) which: Which,
    /// What it is to be called from now on
    #[arg(long = "name", value_name = "NAME", id = "rename")]
    pub(super) rename: Option<String>,
    /// The task's name
    #[arg(long)]
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) fields: FieldArgs,
}

/// What can be said of a schedule.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct FieldArgs {
    /// How long from one run to the next
    #[arg(long, value_name = "INTERVAL", conflicts_with = "cron")]
    pub(super) every: Option<String>,
    /// A cron line
    #[arg(long, value_name = "LINE")]
    pub(super) cron: Option<String>,
    /// The time zone of the cron line and of what is shown, as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub(super) timezone: Option<String>,
    /// The task's positional arguments, as a JSON array
    #[arg(long, value_name = "JSON")]
    pub(super) args: Option<String>,
    /// Its named arguments, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) kwargs: Option<String>,
    /// The queue
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// 0 to 255, higher first
    #[arg(long)]
    pub(super) priority: Option<u8>,
    /// What becomes of missed runs
    #[arg(long, value_enum)]
    pub(super) missed: Option<Missed>,
    /// Whether a run may begin while the message of the one before is not finished
    #[arg(long, value_enum)]
    pub(super) overlap: Option<Overlap>,
}

/// What becomes of missed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Missed {
    /// One stands for all
    #[value(name = "run_once", alias = "run-once")]
    RunOnce,
    /// Each is made up for
    #[value(name = "run_all", alias = "run-all")]
    RunAll,
    /// They are left out
    Skip,
}

impl Missed {
    /// What was chosen.
    pub(super) const fn policy(self) -> schedule::Missed {
        match self {
            Self::RunOnce => schedule::Missed::RunOnce,
            Self::RunAll => schedule::Missed::RunAll,
            Self::Skip => schedule::Missed::Skip,
        }
    }
}

/// Whether runs may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Overlap {
    /// It may
    Allow,
    /// It is left out
    Skip,
}

impl Overlap {
    /// What was chosen.
    pub(super) const fn policy(self) -> schedule::Overlap {
        match self {
            Self::Allow => schedule::Overlap::Allow,
            Self::Skip => schedule::Overlap::Skip,
        }
    }
}
