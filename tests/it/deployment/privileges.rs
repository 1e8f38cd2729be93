//! `--user` and `--group`: root starts a service that runs as another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, geteuid};

use super::has;
use crate::support::{Database, Running, World, eventually, outcome};

const WHO: &str = r#"
[[queues]]
name = "default"
[tasks.who]
command = ["sh", "-c", "id -u; id -g; id -G"]
"#;

/// A user that exists on every machine and has no rights.
const USER: &str = "nobody";

/// Whether the tests run as root, which alone can become another user; prints that a test is skipped
/// otherwise.
fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become somebody else");
    }
    root
}

/// The output of `id` with these arguments.
fn id(arguments: &[&str]) -> String {
    let (code, out, err) = outcome(Command::new("id").args(arguments));
    assert_eq!(code, 0, "{err}");
    out.trim().to_owned()
}

fn sorted(groups: &str) -> Vec<&str> {
    let mut groups: Vec<&str> = groups.split_whitespace().collect();
    groups.sort_unstable();
    groups
}

/// A user of this machine who is in several groups, if there is one.
fn user_in_several_groups() -> Option<String> {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let members = groups.lines().filter_map(|line| line.rsplit(':').next());
    let mut users = members.flat_map(|members| members.split(','));
    let is_such = |user: &&str| !user.is_empty() && sorted(&id(&["-G", user])).len() > 1;
    users.find(is_such).map(str::to_owned)
}

/// The words of a field of the process's `/proc/…/status`.
fn status(service: &Running, field: &str) -> Vec<String> {
    let pid = service.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let (_, value) = lines.find(|(name, _)| *name == field).unwrap();
    value.split_whitespace().map(str::to_owned).collect()
}

/// A world whose directory every user may enter.
fn open_world(config: &str) -> World {
    let world = World::new(config);
    fs::set_permissions(world.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    world
}

#[track_caller]
fn assert_runs_as(service: &Running, user: &str, group: &str, groups: &str) {
    assert_eq!(status(service, "Uid"), [user; 4]);
    assert_eq!(status(service, "Gid"), [group; 4]);
    let of_service = status(service, "Groups").join(" ");
    assert_eq!(sorted(&of_service), sorted(groups));
    assert_eq!(status(service, "CapEff"), ["0000000000000000"]);
}

#[test]
fn root_starts_a_service_and_its_tasks_as_a_user_with_all_its_groups() {
    if !is_root() {
        return;
    }
    let user = user_in_several_groups().unwrap_or_else(|| USER.to_owned());
    let world = open_world(WHO);
    let mut service = world.start(&["--user", &user]);
    let (uid, gid) = (id(&["-u", &user]), id(&["-g", &user]));
    let groups = id(&["-G", &user]);
    assert_runs_as(&service, &uid, &gid, &groups);

    let uuid = world.send(&["who"]);
    let output = world.ended(&uuid)["output"].as_str().unwrap().to_owned();
    let said: Vec<&str> = output.lines().collect();
    assert_eq!(said[..2], [&uid, &gid]);
    assert_eq!(sorted(said[2]), sorted(&groups));

    let log = fs::metadata(&service.log).unwrap();
    assert_eq!((log.uid().to_string(), log.gid().to_string()), (uid, gid));
    assert_eq!(service.terminate(), 0);
}

#[test]
fn the_group_can_be_chosen_and_both_can_be_numbers() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let mut service = world.start(&["--user", "4242", "--group", "2424"]);
    assert_runs_as(&service, "4242", "2424", "2424");
    assert_eq!(service.terminate(), 0);

    let daemon = id(&["-g", "daemon"]);
    let mut service = world.start(&["--user", USER, "--group", "daemon"]);
    let uid = id(&["-u", USER]);
    assert_eq!(status(&service, "Uid"), [uid.as_str(); 4]);
    assert_eq!(status(&service, "Gid"), [daemon.as_str(); 4]);
    assert_eq!(service.terminate(), 0);
}

#[test]
fn the_user_reopens_the_log_where_it_can_and_else_goes_on_in_the_old_file() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let mut service = world.start(&["--user", USER]);
    // Rotate as `logrotate` does with `create`, in a directory that root owns.
    let moved = service.log.with_extension("log.1");
    fs::rename(&service.log, &moved).unwrap();
    fs::copy(&moved, &service.log).unwrap();
    fs::write(&service.log, "").unwrap();
    let (uid, gid) = (id(&["-u", USER]), id(&["-g", USER]));
    let owner = (uid.parse().ok(), gid.parse().ok());
    std::os::unix::fs::chown(&service.log, owner.0, owner.1).unwrap();
    service.signal(Signal::HUP);
    service.await_log("the log file was opened anew");

    // Without `create`, the user can't create the file.
    fs::rename(&service.log, &moved).unwrap();
    service.signal(Signal::HUP);
    let log = || fs::read_to_string(&moved).unwrap();
    eventually("the old log says why the file can't be opened", || {
        log().contains("can't be opened anew")
    });
    assert_eq!(service.terminate(), 0);
    assert!(log().contains("all consumers have stopped"));
}

#[test]
fn a_daemon_s_files_are_the_user_s_and_root_still_controls_it() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let own = ["--pidfile", "daemon.pid", "--logfile", "daemon.log"];
    let daemon = |arguments: &[&str]| world.run(&[&["daemon"], arguments, &own].concat());
    let owner = |name: &str| fs::metadata(world.directory().join(name)).unwrap().uid();
    let uid: u32 = id(&["-u", USER]).parse().unwrap();

    for verb in ["start", "restart", "restart"] {
        let (code, out, err) = daemon(&[verb, "--user", USER]);
        assert_eq!(
            (code, err.as_str()),
            (0, ""),
            "{out}{}",
            world.read("daemon.log")
        );
        for name in ["daemon.log", "daemon.pid", "daemon.pid.sock"] {
            assert_eq!(owner(name), uid, "{name}");
        }
        let uuid = world.send(&["who"]);
        let output = world.ended(&uuid)["output"].as_str().unwrap().to_owned();
        assert_eq!(output.lines().next(), Some(uid.to_string().as_str()));
        let (code, out, err) = daemon(&["status"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(
            out.contains("Since ") && !out.contains("No more is known"),
            "{out}"
        );
    }

    let (code, _, err) = daemon(&["stop"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(daemon(&["status"]).0, 3);
    let (code, _, err) = daemon(&["start", "--user", "no-such-user"]);
    assert_eq!(code, 67, "{err}");
    assert_eq!(daemon(&["status"]).0, 3);
}

/// Fails unless root's start with this log file is refused for this reason: the file must not be given to the
/// user.
#[track_caller]
fn assert_log_refused(world: &World, log: &str, why: &str) {
    let (code, _, err) = world.run(&["--user", USER, "--logfile", log]);
    assert_eq!(code, 73, "{err}");
    assert!(err.contains(log) && err.contains(why), "{err}");
}

#[test]
fn root_gives_away_no_file_that_the_user_has_put_in_the_log_s_place() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let precious = world.directory().join("precious");
    fs::write(&precious, "root's").unwrap();
    let place = |name: &str| world.directory().join(name);

    symlink(&precious, place("link.log")).unwrap();
    assert_log_refused(&world, "link.log", "symbolic link");
    symlink(place("not-there"), place("dangling.log")).unwrap();
    assert_log_refused(&world, "dangling.log", "symbolic link");
    fs::hard_link(&precious, place("hard.log")).unwrap();
    assert_log_refused(&world, "hard.log", "another name");
    fs::write(place("other.log"), "").unwrap();
    std::os::unix::fs::chown(place("other.log"), Some(4343), None).unwrap();
    assert_log_refused(&world, "other.log", "another user's");

    let is_root_s = |path: &Path| fs::metadata(path).unwrap().uid() == 0;
    assert!(is_root_s(&precious) && !place("not-there").exists());
    assert_eq!(world.read("precious"), "root's");
}

#[test]
fn root_gives_away_no_file_that_the_user_has_put_in_the_pidfile_s_place() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let place = |name: &str| world.directory().join(name);
    // The file looks like a pidfile: it holds a number.
    fs::write(place("precious"), "42\n").unwrap();
    fs::hard_link(place("precious"), place("hard.pid")).unwrap();
    fs::write(place("other.pid"), "").unwrap();
    std::os::unix::fs::chown(place("other.pid"), Some(4343), None).unwrap();
    for (pidfile, why) in [
        ("hard.pid", "another name"),
        ("other.pid", "another user's"),
    ] {
        let (code, _, err) = world.run(&[
            "daemon",
            "start",
            "-p",
            pidfile,
            "-l",
            "daemon.log",
            "--user",
            USER,
        ]);
        assert_eq!(code, 72, "{err}");
        assert!(err.contains(pidfile) && err.contains(why), "{err}");
    }
    assert_eq!(world.read("precious"), "42\n");
    assert_eq!(fs::metadata(place("precious")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(place("other.pid")).unwrap().uid(), 4343);
}

#[test]
fn a_user_empties_the_pidfile_in_root_s_folder_and_the_next_start_takes_it_over() {
    if !is_root() {
        return;
    }
    let world = open_world(WHO);
    let own = ["--pidfile", "daemon.pid", "--logfile", "daemon.log"];
    let daemon = |arguments: &[&str]| world.run(&[&["daemon"], arguments, &own].concat());
    for _ in 0..2 {
        let (code, _, err) = daemon(&["start", "--user", USER]);
        assert_eq!((code, err.as_str()), (0, ""));
        let pid = world.read("daemon.pid").trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        eventually("the daemon ends", || daemon(&["status"]).0 == 3);
        assert_eq!(world.read("daemon.pid"), "");
        assert!(world.directory().join("daemon.pid.sock").exists());
    }
}

#[test]
fn a_user_or_group_that_is_not_there_exits_67_and_is_named() {
    let world = World::without_tables(WHO);
    for (arguments, wrong) in [
        (&["--user", "no-such-user"][..], "no-such-user"),
        (
            &["--user", "root", "--group", "no-such-group"],
            "no-such-group",
        ),
        (&["--user", "4294967000"], "4294967000"),
    ] {
        let (code, _, err) = world.run(&[arguments, &["--logfile", "carrot.log"]].concat());
        assert_eq!(code, 67, "{err}");
        assert!(err.contains(wrong), "{err}");
        assert!(!world.directory().join("carrot.log").exists());
    }
    let (code, _, err) = world.run(&["--group", "root"]);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("--user"), "{err}");
    // The options may stand in any order, before or after the command.
    let (code, _, err) = world.run(&[
        "--user",
        "root",
        "daemon",
        "start",
        "--group",
        "no-such-group",
        "-p",
        "daemon.pid",
    ]);
    assert_eq!(code, 67, "{err}");
}

#[test]
fn a_command_that_can_not_become_another_user_says_so() {
    let world = World::without_tables_on(Database::Sqlite, WHO);
    let (code, _, err) = world.run(&["--user", USER, "migrate"]);
    assert_eq!(code, 64);
    assert!(
        err.contains("--user is for the service and for `daemon`"),
        "{err}"
    );
    assert!(!world.directory().join("carrot.db").exists());
}

#[test]
fn only_root_can_become_another_user() {
    let world = open_world(WHO);
    let mut command = world.command(&["--user", "daemon", "--logfile", "carrot.log"]);
    if geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 4242);
    }
    let (code, _, err) = outcome(&mut command);
    assert_eq!(code, 77, "{err}");
    assert!(err.contains("only root") && err.contains("daemon"), "{err}");
}

#[test]
fn a_database_file_that_the_user_can_not_write_exits_78_and_says_who_it_is() {
    if !is_root() {
        return;
    }
    let world = World::on(Database::Sqlite, WHO);
    fs::set_permissions(world.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    let arguments = ["--user", USER, "--logfile", "carrot.log"];
    let (code, _, err) = world.run(&arguments);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("carrot.db") && err.contains(USER), "{err}");
    // Without a file, the reason names the directory.
    fs::remove_file(world.directory().join("carrot.db")).unwrap();
    let (code, _, err) = world.run(&arguments);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("directory") && err.contains(USER), "{err}");
}

/// Runs `check` as that user, in the test's directory.
fn check_as_user(world: &World) -> (i32, String) {
    let mut check = Command::new("setpriv");
    check
        .args(["--reuid", USER, "--clear-groups"])
        .args([env!("CARGO_BIN_EXE_carrot-actors"), "check"])
        .current_dir(world.directory())
        .env_remove("CARROT_CONFIG")
        .env("CARROT_DEFAULT_BROKER", "amqp://guest:guest@127.0.0.1:1/")
        .env("CARROT_DATABASE_URL", "sqlite:///nonexistent/carrot.db");
    let (code, out, err) = outcome(&mut check);
    (code, out + &err)
}

#[test]
fn a_configuration_in_a_directory_that_the_user_may_not_enter_is_ignored() {
    if !is_root() || !has("setpriv") {
        return;
    }
    let world = World::without_tables_on(Database::Sqlite, WHO);
    let set = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    let (directory, file) = (world.directory(), world.directory().join("carrot.toml"));
    set(directory, 0o700).unwrap();
    set(&file, 0o600).unwrap();
    let named = file.display().to_string();
    let (_, said) = check_as_user(&world);
    assert!(!said.contains(&named), "{said}");
    // A configuration file that the user sees and can't read is an error.
    set(directory, 0o755).unwrap();
    let (code, said) = check_as_user(&world);
    assert_eq!(code, 78);
    let denied = format!("{named}: Permission denied");
    assert!(said.contains(&denied), "{said}");
}
