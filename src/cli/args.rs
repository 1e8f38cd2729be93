//! What the user typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};

use super::schedule::ScheduleArgs;
use crate::logging::LogLevel;

/// django-carrot's.
const DEFAULT_PIDFILE: &str = "/var/run/carrot.pid";

/// The log file's name that stands for standard error.
pub(super) const TERMINAL: &str = "-";

const EXIT_CODES: &str = "\
Exit codes:
   0  done; a service: stopped in order
   1  done in part; standard error says what was not
 3-9  of `daemon`: see `daemon --help`
  64  the command line is wrong
  65  what was given can't be: arguments that are not JSON, a time or a timetable that there is none of,
      a schedule that is not there
  66  the current directory can't be read
  67  there is no such user or group
  69  the broker or the database is away or refuses us, or what the tasks share can't be made
  70  the system refused something, a daemon died during its start, or a part of the service died that can't
      be begun anew alone: what was running is run again, by the next service (a daemon is the next itself)
  72  the pidfile can't be used
  73  the log file given with --logfile, or a daemon's, can't be written
  74  standard output can't be written
  75  stopped hard: running tasks were left for redelivery
  77  the service is another user's, or only root can become the user of --user
  78  the configuration is wrong, the database is not migrated, or the program has set a logger

Signals to the service: SIGTERM and SIGINT stop it in order, a second one at once; SIGHUP opens its log
file anew.

Configuration: --config FILE, else $CARROT_CONFIG, else ./carrot.toml, else /etc/carrot/carrot.toml.
CARROT_DEFAULT_BROKER and CARROT_DATABASE_URL (or DATABASE_URL) override the file.";

const DAEMON: &str = "\
start    returns when the service consumes, or waits for a broker or database that is away, and says
         which. The service runs in /; paths in options are the current directory's
stop     SIGTERM, once: tasks that are running finish, as long as they take or shutdown_grace allows
         --timeout TIME           then give up (exit code 8); it goes on stopping
         --timeout TIME --hard    then SIGKILL
         --hard                   SIGKILL at once: running tasks end, and are run again
restart  checks the configuration, stops the service if it runs, and starts it
status   running or not; to its owner also since when, what it does and what it waits for; --json

A daemon that loses a part that can't be begun anew alone starts again by itself, as the same process; status
says so.

They know only what `start` has started: a service of systemd's is asked and stopped with systemctl.

Exit codes:
   0  done; status: it is running
   1  status: it died and left its pidfile
   3  status: it is not running
   4  status: that can't be told, since the pidfile can't be used
   7  stop: it was not running
   8  stop, restart: it is still stopping after --timeout; start: it is still stopping, and nothing was
      started
   9  start: it is running already
  72  the pidfile, or the control socket beside it (FILE.sock), can't be used
  73  the log file can't be written
  77  stop, restart: the service is another user's
  78  the configuration is wrong, the database is not migrated, or the program has set a logger
Others as in `carrot-actors --help`.";

const PRUNING: &str = "\
How old is too old stands in the configuration, for each state; a state that is not named is kept:

  [history]
  completed = \"7d\"
  failed = \"90d\"
  # cancelled and expired as well

Messages that are not over are never deleted. A service with a history does the same by itself, once \
an hour, or as `every` has it; this does it now, in small transactions with pauses, beside whatever is running, and can \
be stopped at any time.";

const REQUEUING: &str = "\
A new message has a new uuid, and its old one is gone. --failed takes what is FAILED; by its uuid any message \
that is over can be named, and one that is PUBLISHED but that its broker has lost, as a queue that was \
purged. If the broker still has that one, a service keeps it as CANCELLED; it is run only if another program than \
django-carrot or carrot-actors has published it. What waits for its broker \
(PENDING) or runs is left alone.";

const DELAYING: &str = "\
With --delay or --at the message is recorded now, and a service publishes it when its time has come by the \
database's clock, whether or not the broker is there now, and whatever is restarted meanwhile:

  carrot-actors send reports.build --delay 30s
  carrot-actors send reports.build --at 2027-01-31T18:00:00Z
  carrot-actors send reports.build --at '2027-01-31 18:00' --timezone Europe/Berlin";

/// Background tasks on RabbitMQ, with every message's life in your SQL database. Without a command,
/// runs the service in the foreground; Ctrl+C stops it in order, a second Ctrl+C at once.
#[derive(Debug, Parser)]
#[command(name = "carrot-actors", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = false)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// The options of the service.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServiceArgs {
    /// The log file, or - for standard error alone [default: /var/log/carrot.log]
    #[arg(short, long, value_name = "FILE")]
    pub(super) logfile: Option<PathBuf>,
    /// How much is logged [default: DEBUG]
    #[arg(long, value_enum, ignore_case = true)]
    loglevel: Option<Level>,
    /// Started by root: become this user once log file and pidfile are open
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// The group to be in [default: the user's own]; the user's other groups are added
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<String>,
    /// Run no scheduled tasks; messages that were recorded are published all the same
    #[arg(long)]
    pub(super) no_scheduler: bool,
    /// Run what is queued now, then exit
    #[arg(long)]
    pub(super) testmode: bool,
}

impl ServiceArgs {
    /// How much is logged.
    pub(super) fn loglevel(&self) -> LogLevel {
        self.loglevel.map_or(LogLevel::Debug, |level| level.0)
    }

    /// These, where the service is to log to the terminal alone, and so much, unless they say otherwise.
    pub(super) fn over_terminal(&self, level: Option<LogLevel>) -> Self {
        let mut these = self.clone();
        if let Some(level) = level {
            these.logfile.get_or_insert_with(|| PathBuf::from(TERMINAL));
            these.loglevel.get_or_insert(Level(level));
        }
        these
    }

    /// What they lack together.
    pub(super) const fn fault(&self) -> Option<&'static str> {
        match (&self.user, &self.group) {
            (None, Some(_)) => {
                Some("--group goes with --user alone, which names the user to become")
            }
            _ => None,
        }
    }

    /// The option of these that says what no other command but the service does.
    pub(super) const fn misplaced(&self) -> Option<&'static str> {
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

    /// These, and what stands before the command's name.
    pub(super) fn and(self, before: Self) -> Self {
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

/// A level as it is typed.
#[derive(Debug, Clone, Copy)]
struct Level(LogLevel);

impl ValueEnum for Level {
    fn value_variants<'a>() -> &'a [Self] {
        const { &LEVELS }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

const LEVELS: [Level; 5] = {
    let [debug, info, warning, error, critical] = LogLevel::ALL;
    [
        Level(debug),
        Level(info),
        Level(warning),
        Level(error),
        Level(critical),
    ]
};

/// What to do instead of running the service.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start, stop or restart the service in the background, or say how it is
    #[command(after_help = DAEMON)]
    Daemon(DaemonArgs),
    /// Publish a message for a task, now or later, and print its uuid
    #[command(after_help = DELAYING)]
    Send(SendArgs),
    /// See and change what is published by the clock
    Schedule(ScheduleArgs),
    /// Publish messages again under new uuids, and delete their old rows
    #[command(after_help = REQUEUING)]
    Requeue(RequeueArgs),
    /// Delete messages that are over and have grown too old
    #[command(after_help = PRUNING)]
    Prune(PruneArgs),
    /// Create the tables, or add what is missing to Django's
    Migrate,
    /// Check the configuration, the broker and the database
    Check,
}

/// What to do with the service in the background.
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
    /// The option that the verb has no use for, and the verbs that have.
    pub(super) const fn useless_option(&self) -> Option<(&'static str, &'static str)> {
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

/// What to send.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// The task's name
    pub(super) task: String,
    /// Its positional arguments, as text
    #[arg(value_name = "ARG", conflicts_with = "args")]
    pub(super) texts: Vec<String>,
    /// Its positional arguments, as a JSON array
    #[arg(long, value_name = "JSON")]
    pub(super) args: Option<String>,
    /// Its named arguments, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) kwargs: Option<String>,
    /// The queue [default: the first of the configuration]
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// 0 to 255, higher first
    #[arg(long, default_value_t = 0)]
    pub(super) priority: u8,
    /// Publish it so much later, as 30s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    pub(super) delay: Option<String>,
    /// Publish it then: a time with its offset, or a local one of --timezone
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// The time zone of --at, as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "at")]
    pub(super) timezone: Option<String>,
}

/// What to requeue.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(super) struct RequeueArgs {
    /// Messages that are over, or PUBLISHED and lost by the broker
    #[arg(value_name = "UUID", group = "which")]
    pub(super) uuids: Vec<String>,
    /// All that FAILED
    #[arg(long, group = "which")]
    pub(super) failed: bool,
}

/// How to prune.
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Say how many would be deleted, and delete none
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_of_the_service_need_no_command() {
        let args = Args::try_parse_from(["carrot-actors", "--no-scheduler", "--loglevel", "info"]);
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
            let args = Args::try_parse_from(["carrot-actors"].into_iter().chain(line.split(' ')));
            let args = args.unwrap();
            let Some(Command::Daemon(daemon)) = args.command else {
                panic!("{line}");
            };
            let service = daemon.service.and(args.service);
            assert_eq!(daemon.verb, Verb::Start);
            assert_eq!(daemon.pidfile, PathBuf::from("y"));
            assert_eq!(service.logfile, Some(PathBuf::from("x")));
            assert!(service.no_scheduler && !service.testmode);
        }
    }

    #[test]
    fn requeue_takes_uuids_or_failed_and_not_both() {
        let parse =
            |rest: &[&str]| Args::try_parse_from(["carrot-actors", "requeue"].iter().chain(rest));
        assert!(parse(&["a", "b"]).is_ok() && parse(&["--failed"]).is_ok());
        assert!(parse(&[]).is_err() && parse(&["a", "--failed"]).is_err());
    }
}
