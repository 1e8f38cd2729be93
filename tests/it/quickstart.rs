//! The README's first command and the other examples, as a reader types them: in an empty directory, as an
//! ordinary user without a home to speak of, and without any server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::support::{Spawned, eventually, outcome};

const README: &str = include_str!("../../README.md");

/// What the README's first commands begin with.
const RUNS: &str = "cargo run --example ";

/// On every system, and nobody's whose files matter.
const NOBODY: u32 = 65_534;

/// A command of the README: the example, and what it is told.
struct Typed {
    example: &'static str,
    arguments: Vec<&'static str>,
}

/// The commands of the README's first section; the first one of all is among them.
fn typed() -> Vec<Typed> {
    let first = README.split("```sh\n").nth(1).unwrap().lines().next();
    assert!(first.unwrap().starts_with(RUNS), "{first:?} comes first");
    let commands = README.lines().filter_map(|line| line.strip_prefix(RUNS));
    let split = |command: &'static str| {
        let mut words = command.split_whitespace();
        Typed {
            example: words.next().unwrap(),
            arguments: words.collect(),
        }
    };
    commands.map(split).collect()
}

/// What the README says is seen then: the messages of its log lines, up to their uuids.
fn promised() -> Vec<&'static str> {
    let shown = README.split("```text\n").nth(1).unwrap();
    let lines = shown.split("```").next().unwrap().lines();
    let messages = lines.filter_map(|line| line.split_once(":: "));
    let messages = messages.map(|(_, message)| message.split(" (").next().unwrap());
    messages.collect()
}

/// An example as `cargo run` builds it: with the default features.
pub(crate) fn built(example: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let examples = BUILT.get_or_init(|| {
        let directory = env!("CARGO_MANIFEST_DIR");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--examples"]);
        let (code, _, err) = outcome(cargo.current_dir(directory));
        assert_eq!(code, 0, "{err}");
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let target = Path::new(directory).join(target);
        target.join("debug/examples")
    });
    examples.join(example)
}

/// A reader: an empty directory, and an empty home.
struct Reader {
    place: TempDir,
}

impl Reader {
    fn new(example: &str) -> Self {
        let place = TempDir::new().unwrap();
        let reader = Self { place };
        fs::set_permissions(reader.place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for directory in [reader.directory(), reader.home()] {
            fs::create_dir(&directory).unwrap();
            if geteuid().is_root() {
                chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        // Where it was built the user may not enter. Another process copies it: what this one has open
        // for writing could be open in another test's child as well, and so not be run.
        let (code, _, err) = outcome(Command::new("cp").arg(built(example)).arg(reader.program()));
        assert_eq!(code, 0, "{err}");
        reader
    }

    fn program(&self) -> PathBuf {
        self.place.path().join("program")
    }

    fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("directory")
    }

    /// The command, typed: by nobody, with no network but a loopback of its own, where that can be had.
    fn types(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<String> = Vec::new();
        if geteuid().is_root() {
            if has_networks() {
                words.extend(["unshare", "--net"].map(str::to_owned));
            }
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            words.extend([
                "setpriv".to_owned(),
                user,
                group,
                "--clear-groups".to_owned(),
            ]);
        }
        words.push(self.program().to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .current_dir(self.directory())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    fn starts(&self, typed: &Typed) -> Spawned {
        Spawned::new(&mut self.types(&typed.arguments))
    }

    /// So many rows of `schedule list` name the task.
    fn schedules(&self, task: &str) -> usize {
        let (code, out, err) = outcome(&mut self.types(&["schedule", "list"]));
        assert_eq!(code, 0, "{err}");
        out.lines().filter(|line| line.contains(task)).count()
    }
}

fn has_networks() -> bool {
    let (code, ..) = outcome(Command::new("unshare").args(["--net", "true"]));
    if code != 0 {
        eprintln!("with this machine's network: it does not let its root have another");
    }
    code == 0
}

#[track_caller]
fn awaits(service: &Spawned, text: &str, times: usize) {
    eventually(&format!("{times} times {text:?}"), || {
        (service.errors().matches(text).count() >= times).then_some(())
    });
}

/// Ctrl+C; what it has logged, in which nothing is amiss.
#[track_caller]
fn interrupts(mut service: Spawned) -> String {
    kill_process(service.pid(), Signal::INT).unwrap();
    let (code, _, log) = service.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.ends_with("INFO:: stopped in order\n"), "{log}");
    let is_calm = !["WARNING::", "ERROR::"]
        .iter()
        .any(|level| log.contains(level));
    assert!(is_calm, "{log}");
    log
}

#[test]
fn the_readmes_first_command_shows_a_service_at_work() {
    let [first, second, ..] = &typed()[..] else {
        panic!("the README has no two commands");
    };
    assert!(first.arguments.is_empty());
    assert_eq!(first.example, second.example);
    let reader = Reader::new(typed()[0].example);

    let service = reader.starts(first);
    awaits(&service, "In a second terminal: cargo run", 1);
    awaits(&service, "consuming queue default", 1);
    let (code, out, err) = outcome(&mut reader.types(&second.arguments));
    assert_eq!((code, err.as_str()), (0, ""));
    awaits(&service, &format!("Hello Ada! ({})", out.trim()), 1);
    // By the schedule, again and again.
    awaits(&service, "Task tick completed", 2);
    awaits(
        &service,
        "Task sum completed successfully with response 6",
        2,
    );
    assert_eq!(reader.schedules("tick"), 1);
    let log = interrupts(service);
    assert!(log.contains("added the schedule tick"), "{log}");
    let promised = promised();
    assert!(promised.len() > 2, "{promised:?}");
    for line in promised {
        assert!(log.contains(line), "{line:?} in {log}");
    }

    let again = reader.starts(first);
    awaits(&again, "Task tick completed", 1);
    let log = interrupts(again);
    assert!(!log.contains("the schedule tick"), "{log}");
    assert_eq!(reader.schedules("tick"), 1);
    // What its user has changed stays.
    prints(&reader, &["schedule", "edit", "tick", "--every", "1h"]);
    let log = prints(&reader, &["--testmode"]);
    assert!(
        log.contains("the schedule tick stays as it is in the"),
        "{log}"
    );
    assert_eq!(reader.schedules("every 1 hour"), 1);

    let left = fs::read_dir(reader.directory()).unwrap();
    let is_its_own = |name: &str| name.starts_with("quickstart.db");
    for file in left {
        let name = file.unwrap().file_name();
        assert!(is_its_own(name.to_str().unwrap()), "{name:?}");
    }
    assert_eq!(fs::read_dir(reader.home()).unwrap().count(), 0);
}

#[test]
fn where_nothing_can_be_written_the_first_command_says_what_to_do() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can make a directory that its user can't write");
    }
    let reader = Reader::new(typed()[0].example);
    chown(reader.directory(), Some(0), Some(0)).unwrap();
    for arguments in [&[][..], &["send", "greet", "Ada"]] {
        let (code, _, err) = outcome(&mut reader.types(arguments));
        assert_eq!(code, 78, "{err}");
        assert!(
            err.contains("quickstart.db can't be written by user"),
            "{err}"
        );
        assert!(
            err.contains("give it to that user, or set another"),
            "{err}"
        );
    }
}

/// What it prints; its exit code is 0.
#[track_caller]
fn prints(reader: &Reader, arguments: &[&str]) -> String {
    let (code, out, err) = outcome(&mut reader.types(arguments));
    assert_eq!(code, 0, "{arguments:?}: {err}");
    format!("{out}{err}")
}

#[test]
fn the_other_examples_run_too() {
    prints(&Reader::new("testing"), &[]);
    let told = prints(&Reader::new("transactions"), &[]);
    assert!(
        told.contains("committed: Ok(String(\"Hello Ada\"))"),
        "{told}"
    );
    assert!(told.ends_with("and nobody is greeted\n"), "{told}");

    let service = Reader::new("service");
    for message in [
        &[
            "pages.fetch",
            "https://a/",
            "--kwargs",
            "{\"retries\": 2, \"tenant\": \"Ada\"}",
        ][..],
        &["pages.fetch", "http://b/"],
        &["pages.fetch", "https://c/", "--kwargs", "{\"tenant\": 5}"],
        &["pages.crawl", "https://d/"],
    ] {
        prints(&service, &[&["send"], message].concat());
    }
    let log = prints(&service, &["--testmode"]);
    for line in [
        "for Ada, attempt 1",
        "pages.fetch made {\"url\":\"https://a/\",\"tries\":3,\"nth\":1}",
        "page somebody: pages.fetch: http is not safe enough",
        "page somebody: pages.fetch: 5 is no tenant",
        "Task pages.crawl completed successfully with response 1",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
}
