//! The command line of `schedule`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::schedule;

const TIMETABLE_HELP: &str = "\
Timetables:
  --every 5m                 30s, 5m, 1h30m, 7d, 2w: elapsed time, counted from when the schedule is saved
  --cron '0 3 * * 1-5'       minute hour day month weekday; weekdays are 0 (or 7) for Sunday to 6, or SUN to SAT
  --cron '*/10 8-18 * * *'   a step, a range; 1,15 is a list
  --cron '30 0 3 * * *'      with six fields the second comes first, with seven the year last
  --cron @daily              also @hourly, @weekly, @monthly, @yearly

A cron line is in the time of --timezone (default: UTC). When the clocks are set back, a run in the repeated \
hour happens once; when they are set forward, a run in the skipped hour happens at the end of the gap; a run \
every few minutes (*/10) keeps its interval.

Missed runs (no service ran, or the schedule was disabled):
  --missed run_once          one run for all missed ones (the default)
  --missed run_all           one run for each missed one, at most for the last hundred
  --missed skip              no run

Without --queue, messages go to the first queue in the configuration. Services notice changes within a second.";

const SCHEDULE_HELP: &str = "\
--json prints one object (list: an array of them) with the keys id, name, task, args, kwargs, queue, \
exchange, routing_key, priority, active, interval_type, interval_count, cron, timezone, missed, overlap, next_run, \
last_run (times in UTC, RFC 3339) and problem (why it does not run); show adds next_runs, each with local and utc. \
Absent values are null. run prints an object with the key uuid.

NAME is a schedule's name or its id.";

/// Show and change schedules.
#[derive(Debug, Args)]
#[command(after_help = SCHEDULE_HELP)]
pub(in crate::cli) struct ScheduleArgs {
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: ScheduleCommand,
}

/// The commands of `schedule`.
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// List all schedules, including Django's
    List,
    /// Show a schedule, with its next ten runs in its time zone and in UTC
    Show(ScheduleName),
    /// Add a schedule
    #[command(after_help = TIMETABLE_HELP)]
    Add(Box<AddArgs>),
    /// Change a schedule; what is not given stays as it is
    #[command(after_help = TIMETABLE_HELP)]
    Edit(Box<EditArgs>),
    /// Let a schedule run again
    Enable(ScheduleName),
    /// Stop a schedule until it is enabled
    Disable(ScheduleName),
    /// Remove a schedule; the messages that it has published stay
    Remove(ScheduleName),
    /// Publish a schedule's message now, whether or not it is enabled, and print the uuid; the timetable is unchanged
    Run(ScheduleName),
}

/// A schedule that exists.
#[derive(Debug, Args)]
pub(super) struct ScheduleName {
    /// The schedule's name or id
    pub(super) name: String,
}

/// The options of `schedule add`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("timetable").required(true).args(["every", "cron"]))]
pub(super) struct AddArgs {
    /// The new schedule's name
    pub(super) name: String,
    /// The task's name
    pub(super) task: String,
    /// Add it disabled: it does not run until it is enabled
    #[arg(long)]
    pub(super) disabled: bool,
    #[command(flatten)]
    pub(super) fields: FieldArgs,
}

/// The options of `schedule edit`.
#[derive(Debug, Args)]
pub(super) struct EditArgs {
    #[command(flatten)]
    pub(super) schedule: ScheduleName,
    /// The new name
    #[arg(long = "name", value_name = "NAME", id = "rename")]
    pub(super) rename: Option<String>,
    /// The task's name
    #[arg(long)]
    pub(super) task: Option<String>,
    #[command(flatten)]
    pub(super) fields: FieldArgs,
}

/// The options that `schedule add` and `schedule edit` share.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct FieldArgs {
    /// The time from one run to the next
    #[arg(long, value_name = "INTERVAL", conflicts_with = "cron")]
    pub(super) every: Option<String>,
    /// A cron line
    #[arg(long, value_name = "LINE")]
    pub(super) cron: Option<String>,
    /// The time zone of the cron line and of the shown times, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub(super) timezone: Option<String>,
    /// The task's positional arguments, as a JSON array
    #[arg(long, value_name = "JSON")]
    pub(super) args: Option<String>,
    /// The task's named arguments, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) kwargs: Option<String>,
    /// The queue
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// 0 to 255, higher first
    #[arg(long)]
    pub(super) priority: Option<u8>,
    /// What to do about missed runs
    #[arg(long, value_enum)]
    pub(super) missed: Option<MissedArg>,
    /// Whether a run may begin while the previous run's message is not finished
    #[arg(long, value_enum)]
    pub(super) overlap: Option<OverlapArg>,
}

/// The values of `--missed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MissedArg {
    /// One run for all missed ones
    #[value(name = "run_once", alias = "run-once")]
    RunOnce,
    /// One run for each missed one
    #[value(name = "run_all", alias = "run-all")]
    RunAll,
    /// No run
    Skip,
}

impl MissedArg {
    /// The policy that the value means.
    pub(super) const fn policy(self) -> schedule::Missed {
        match self {
            Self::RunOnce => schedule::Missed::RunOnce,
            Self::RunAll => schedule::Missed::RunAll,
            Self::Skip => schedule::Missed::Skip,
        }
    }
}

/// The values of `--overlap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OverlapArg {
    /// It may
    Allow,
    /// It is skipped
    Skip,
}

impl OverlapArg {
    /// The policy that the value means.
    pub(super) const fn policy(self) -> schedule::Overlap {
        match self {
            Self::Allow => schedule::Overlap::Allow,
            Self::Skip => schedule::Overlap::Skip,
        }
    }
}
