//! The arguments of the command line, for clap.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};

use super::schedule::ScheduleArgs;
use crate::logging::LogLevel;

/// django-carrot's default.
const DEFAULT_PIDFILE: &str = "/var/run/carrot.pid";

/// The value of `--logfile` that means standard error.
pub(super) const STDERR_NAME: &str = "-";

const EXIT_CODES: &str = "\
Exit codes:
   0  done; a service: stopped in order
   1  done in part; standard error says what was not done
 3-9  of `daemon`: see `daemon --help`
  64  the command line is wrong
  65  wrong input: arguments that are not JSON, an invalid time or timetable, an unknown schedule
  66  the current directory can't be read
  67  there is no such user or group
  69  the broker or the database is away or refuses the connection, or the tasks' shared state can't be made
  70  the system refused something, a daemon died during its start, or a vital part of the service died:
      running tasks are run again by the next service (a daemon restarts itself)
  72  the pidfile can't be used
  73  the log file given with --logfile, or a daemon's, can't be written
  74  standard output can't be written
  75  stopped hard: running tasks were left for redelivery
  77  the service belongs to another user, or only root can become the user of --user
  78  the configuration is wrong, the database is not migrated, or the program has set a logger

Signals to the service: SIGTERM or SIGINT stops it in order, a second one at once; SIGHUP reopens its log
file.

Configuration: --config FILE, else $CARROT_CONFIG, else ./carrot.toml, else /etc/carrot/carrot.toml.
CARROT_DEFAULT_BROKER and CARROT_DATABASE_URL (or DATABASE_URL) override the file.";

const DAEMON_HELP: &str = "\
start    returns when the service consumes, or when it waits for a broker or database that is away, and
         names that. The service runs in /; paths in options are relative to the current directory
stop     sends SIGTERM once; running tasks finish, unless shutdown_grace ends first
         --timeout TIME           then gives up (exit code 8); the service goes on stopping
         --timeout TIME --hard    then sends SIGKILL
         --hard                   sends SIGKILL at once: running tasks are killed, and run again later
restart  checks the configuration, stops the service if it runs, and starts it
status   whether the service runs; to its owner also since when, what it does and what it waits for; --json

A daemon of which a vital part dies restarts itself, in the same process; status says so.

These commands know only services that `start` has started: use systemctl for a service of systemd's.

Exit codes:
   0  done; status: it is running
   1  status: it died and left its pidfile
   3  status: it is not running
   4  status: unknown, since the pidfile can't be used
   7  stop: it was not running
   8  stop, restart: it is still stopping after --timeout; start: it is still stopping, and nothing was
      started
   9  start: it is running already
  72  the pidfile, or the control socket beside it (FILE.sock), can't be used
  73  the log file can't be written
  77  stop, restart: the service belongs to another user
  78  the configuration is wrong, the database is not migrated, or the program has set a logger
Others as in `carrot-actors --help`.";

const PRUNE_HELP: &str = "\
The configuration sets for each state how long messages are kept; those in other states are kept forever:

  [history]
  completed = \"7d\"
  failed = \"90d\"
  # also: cancelled, expired

Messages that are not finished are never deleted. A service with a history prunes by itself, once an hour or \
as often as `every` says. This command does it now, in small transactions with pauses; services can run \
meanwhile, and the command can be stopped at any time.";

const REQUEUE_HELP: &str = "\
A new message with a new uuid replaces the old one. --failed takes all FAILED messages. A uuid can name any \
finished message, or a PUBLISHED one that its broker has lost, such as by a purged queue. If the broker still \
has that one, a service records it as CANCELLED; it runs only if a program other than django-carrot or \
carrot-actors has published it. Messages that wait for their broker (PENDING) or run are left alone.";

const SEND_HELP: &str = "\
With --delay or --at the message is recorded now, and a service publishes it when its time has come by the \
database's clock. The broker may be away now, and anything may be restarted meanwhile:

  carrot-actors send reports.build --delay 30s
  carrot-actors send reports.build --at 2027-01-31T18:00:00Z
  carrot-actors send reports.build --at '2027-01-31 18:00' --timezone Europe/Berlin";

/// Background tasks on RabbitMQ, with every message's life in your SQL database. Without a command,
/// runs the service in the foreground; Ctrl+C stops it in order, a second Ctrl+C at once.
#[derive(Debug, Parser)]
#[command(name = "carrot-actors", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = false)]
pub(super) struct CommandLine {
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    #[command(subcommand)]
    pub(super) command: Option<CliCommand>,
}

/// The options of the service.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServiceArgs {
    /// The log file, or - for standard error alone [default: /var/log/carrot.log]
    #[arg(short, long, value_name = "FILE")]
    pub(super) logfile: Option<PathBuf>,
    /// The lowest level that is logged [default: DEBUG]
    #[arg(long, value_enum, ignore_case = true)]
    loglevel: Option<LevelArg>,
    /// Started by root: become this user once log file and pidfile are open
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// With --user: the primary group [default: the user's own]; the user's other groups are added
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<String>,
    /// Publish no schedules' messages; recorded messages are published all the same
    #[arg(long)]
    pub(super) no_scheduler: bool,
    /// Run what is queued now, then exit
    #[arg(long)]
    pub(super) testmode: bool,
}

impl ServiceArgs {
    /// The lowest level that is logged.
    pub(super) fn loglevel(&self) -> LogLevel {
        self.loglevel.map_or(LogLevel::Debug, |level| level.0)
    }

    /// These options with the defaults of a program that logs to the terminal alone, at that level if there is
    /// one.
    pub(super) fn with_terminal_log(&self, level: Option<LogLevel>) -> Self {
        let mut options = self.clone();
        if let Some(level) = level {
            options
                .logfile
                .get_or_insert_with(|| PathBuf::from(STDERR_NAME));
            options.loglevel.get_or_insert(LevelArg(level));
        }
        options
    }

    /// What is wrong with the options if one of them lacks another.
    pub(super) const fn missing_option(&self) -> Option<&'static str> {
        match (&self.user, &self.group) {
            (None, Some(_)) => {
                Some("--group goes with --user alone, which names the user to become")
            }
            _ => None,
        }
    }

    /// An option among these that only the service understands.
    pub(super) const fn service_only_option(&self) -> Option<&'static str> {
        if self.user.is_some() {
            Some("--user")
        } else if self.group.is_some() {
            Some("--group")
        } else if self.no_scheduler {
            Some("--no-scheduler")
        } else if self.testmode {
            Some("--testmode")
        } else {
            None
        }
    }

    /// These options, and those that stand before the command's name.
    pub(super) fn merged_with(self, before: Self) -> Self {
        Self {
            logfile: self.logfile.or(before.logfile),
            loglevel: self.loglevel.or(before.loglevel),
            no_scheduler: self.no_scheduler || before.no_scheduler,
            user: self.user.or(before.user),
            group: self.group.or(before.group),
            testmode: self.testmode || before.testmode,
        }
    }
}

/// The value of `--loglevel`.
#[derive(Debug, Clone, Copy)]
struct LevelArg(LogLevel);

impl ValueEnum for LevelArg {
    fn value_variants<'a>() -> &'a [Self] {
        const { &LEVELS }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

const LEVELS: [LevelArg; 5] = {
    let [debug, info, warning, error, critical] = LogLevel::ALL;
    [
        LevelArg(debug),
        LevelArg(info),
        LevelArg(warning),
        LevelArg(error),
        LevelArg(critical),
    ]
};

/// What to do instead of running the service.
#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Start, stop or restart the service in the background, or show its status
    #[command(after_help = DAEMON_HELP)]
    Daemon(DaemonArgs),
    /// Publish a message for a task, now or later, and print its uuid
    #[command(after_help = SEND_HELP)]
    Send(SendArgs),
    /// Show and change schedules
    Schedule(ScheduleArgs),
    /// Publish messages again under new uuids, and delete their old rows
    #[command(after_help = REQUEUE_HELP)]
    Requeue(RequeueArgs),
    /// Delete finished messages that are older than the configuration allows
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
    /// Create the tables, or add the missing columns to Django's
    Migrate,
    /// Check the configuration, the broker and the database
    Check,
}

/// The options of `daemon`.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArgs {
    /// What to do
    #[arg(value_enum)]
    pub(super) verb: Verb,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// The pidfile; stop, restart and status need the one that the service was started with
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PIDFILE)]
    pub(super) pidfile: PathBuf,
    /// stop, restart: SIGKILL, at once or after --timeout
    #[arg(long)]
    pub(super) hard: bool,
    /// stop, restart: how long running tasks may take, such as 30s or 5m [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// status: as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What `daemon` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    Status,
}

impl DaemonArgs {
    /// An option that this verb does not understand, and the verbs that do.
    pub(super) const fn inapplicable_option(&self) -> Option<(&'static str, &'static str)> {
        let stops = matches!(self.verb, Verb::Stop | Verb::Restart);
        if self.hard && !stops {
            Some(("--hard", "stop and restart"))
        } else if self.timeout.is_some() && !stops {
            Some(("--timeout", "stop and restart"))
        } else if self.json && !matches!(self.verb, Verb::Status) {
            Some(("--json", "status"))
        } else {
            None
        }
    }
}

/// The options of `send`.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// The task's name
    pub(super) task: String,
    /// The task's positional arguments, as strings
    #[arg(value_name = "ARG", conflicts_with = "args")]
    pub(super) texts: Vec<String>,
    /// The task's positional arguments, as a JSON array
    #[arg(long, value_name = "JSON")]
    pub(super) args: Option<String>,
    /// The task's named arguments, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) kwargs: Option<String>,
    /// The queue [default: the first one in the configuration]
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// 0 to 255, higher first
    #[arg(long, default_value_t = 0)]
    pub(super) priority: u8,
    /// Publish it after this time, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    pub(super) delay: Option<String>,
    /// Publish it at this time: with its offset, or local to --timezone
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// The time zone of --at, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "at")]
    pub(super) timezone: Option<String>,
}

/// The options of `requeue`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(super) struct RequeueArgs {
    /// Messages that are finished, or PUBLISHED and lost by the broker
    #[arg(value_name = "UUID", group = "which")]
    pub(super) uuids: Vec<String>,
    /// All FAILED messages
    #[arg(long, group = "which")]
    pub(super) failed: bool,
}

/// The options of `prune`.
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Print how many messages would be deleted, and delete none
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn options_of_the_service_need_no_command() {
        let args =
            CommandLine::try_parse_from(["carrot-actors", "--no-scheduler", "--loglevel", "info"]);
        let args = args.unwrap();
        assert!(args.service.no_scheduler && args.command.is_none());
        assert_eq!(args.service.loglevel(), LogLevel::Info);
    }

    #[test]
    fn options_of_the_daemon_stand_anywhere() {
        for line in [
            "daemon start --no-scheduler --logfile x -p y",
            "daemon --no-scheduler --logfile x -p y start",
            "--no-scheduler daemon -p y start --logfile x",
            "--logfile x daemon -p y --no-scheduler start",
        ] {
            let args =
                CommandLine::try_parse_from(["carrot-actors"].into_iter().chain(line.split(' ')));
            let args = args.unwrap();
            let Some(CliCommand::Daemon(daemon)) = args.command else {
                panic!("{line}");
            };
            let service = daemon.service.merged_with(args.service);
            assert_eq!(daemon.verb, Verb::Start);
            assert_eq!(daemon.pidfile, PathBuf::from("y"));
            assert_eq!(service.logfile, Some(PathBuf::from("x")));
            assert!(service.no_scheduler && !service.testmode);
        }
    }

    #[test]
    fn requeue_takes_uuids_or_failed_and_not_both() {
        let parse = |rest: &[&str]| {
            CommandLine::try_parse_from(["carrot-actors", "requeue"].iter().chain(rest))
        };
        assert!(parse(&["a", "b"]).is_ok() && parse(&["--failed"]).is_ok());
        assert!(parse(&[]).is_err() && parse(&["a", "--failed"]).is_err());
    }
}
