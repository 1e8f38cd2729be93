//! Pidfiles that hold or are something else, and pids of other processes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::fs::{Mode, chmod};
use rustix::process::{Pid, geteuid};

use crate::support::{lives, outcome};

use super::{Daemon, code, kill};

/// A process that has nothing to do with the service.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    /// A process that has this file open.
    fn reading(file: File) -> Self {
        let mut sleep = Command::new("sleep");
        Self(sleep.arg("1000").stdin(file).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Daemon {
    fn pidfile(&self) -> PathBuf {
        self.directory().join("daemon.pid")
    }

    /// Fails unless every `daemon` command refuses the pidfile for this reason, and leaves it as it is.
    #[track_caller]
    fn assert_refused(&self, why: &str) {
        for (verb, code) in [
            ("start", code::PIDFILE),
            ("stop", code::PIDFILE),
            ("restart", code::PIDFILE),
            ("status", code::UNKNOWN),
        ] {
            let (found, out, err) = self.daemon(&[verb]);
            assert_eq!(found, code, "{verb}: {out}{err}");
            assert!(
                err.contains(why) && err.contains("--pidfile"),
                "{verb}: {err}"
            );
        }
    }
}

#[test]
fn it_holds_a_number_that_all_may_read_and_only_the_owner_may_use_its_socket() {
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    assert_eq!(
        daemon.read("daemon.pid"),
        format!("{}\n", pid.as_raw_nonzero())
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(daemon.pidfile()), 0o644);
    assert_eq!(mode(daemon.directory().join("daemon.pid.sock")), 0o600);
    daemon.down();
}

#[test]
fn the_caller_s_umask_makes_no_difference() {
    let daemon = Daemon::lonely();
    for (umask, verb) in [(0o077, "start"), (0, "restart")] {
        let mut command = daemon.controller(&[verb]);
        let set = move || {
            rustix::process::umask(Mode::from_raw_mode(umask));
            Ok(())
        };
        #[expect(unsafe_code, reason = "a system call, and nothing else")]
        // SAFETY: umask(2) can be called between fork and exec.
        unsafe {
            command.pre_exec(set);
        }
        let (code, out, err) = outcome(&mut command);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let mode = |name: &str| fs::metadata(daemon.directory().join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("daemon.pid"), mode("daemon.log")), (0o644, 0o644));
        daemon.down();
        fs::remove_file(daemon.directory().join("daemon.log")).unwrap();
    }
}

#[test]
fn a_link_is_not_followed() {
    let daemon = Daemon::lonely();
    daemon.write("precious", "text");
    symlink("precious", daemon.pidfile()).unwrap();
    daemon.assert_refused("is a symbolic link, and is not followed");
    assert_eq!(daemon.read("precious"), "text");
    fs::remove_file(daemon.directory().join("precious")).unwrap();
    daemon.assert_refused("is a symbolic link, and is not followed");
    assert!(!daemon.directory().join("precious").exists());
}

#[test]
fn a_directory_is_refused() {
    let daemon = Daemon::lonely();
    fs::create_dir(daemon.pidfile()).unwrap();
    daemon.assert_refused("is a directory, not a file");
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let daemon = Daemon::lonely();
    let made = Command::new("mkfifo")
        .arg(daemon.pidfile())
        .status()
        .unwrap();
    assert!(made.success());
    daemon.assert_refused("is a pipe, not a file");
}

#[test]
fn a_file_that_holds_something_else_is_left_alone() {
    let daemon = Daemon::lonely();
    for garbage in [
        "text\n",
        "12 34\n",
        "-1\n",
        "0\n",
        "+7\n",
        "\n",
        "99999999999\n",
        "\u{fffd}",
        "1\n2\n",
    ] {
        daemon.write("daemon.pid", garbage);
        daemon.assert_refused("holds something else than a pid, and is left alone");
        assert_eq!(daemon.read("daemon.pid"), garbage);
    }
    fs::write(daemon.pidfile(), b"\xff\xfe").unwrap();
    daemon.assert_refused("holds something else than a pid");
}

#[test]
fn an_empty_file_means_that_no_service_runs() {
    let daemon = Daemon::lonely();
    daemon.write("daemon.pid", "");
    assert_eq!(daemon.daemon(&["status"]).0, code::STOPPED);
    assert_eq!(daemon.daemon(&["stop"]).0, code::NOT_RUNNING);
    daemon.up();
    daemon.down();
}

#[test]
fn a_stale_file_whose_pid_was_reused_is_taken_over() {
    let daemon = Daemon::lonely();
    let bystander = Bystander::new();
    let stale = format!("{}\n", bystander.pid().as_raw_nonzero());
    daemon.write("daemon.pid", &stale);
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!(code, code::DEAD);
    assert!(out.starts_with("Service is NOT running\n"), "{out}");
    for arguments in [&["stop"][..], &["stop", "--hard"]] {
        daemon.write("daemon.pid", &stale);
        assert_eq!(daemon.daemon(arguments).0, code::NOT_RUNNING);
        assert!(lives(bystander.pid()));
    }
    daemon.write("daemon.pid", &stale);
    assert_ne!(daemon.up(), bystander.pid());
    daemon.down();
    assert!(lives(bystander.pid()));
}

#[test]
fn a_lock_alone_does_not_make_the_process_in_the_file_a_service() {
    let daemon = Daemon::lonely();
    daemon.write("daemon.pid", "");
    let bystander = Bystander::reading(File::open(daemon.pidfile()).unwrap());
    let named = format!("{}\n", bystander.pid().as_raw_nonzero());
    daemon.write("daemon.pid", &named);
    let lock = File::open(daemon.pidfile()).unwrap();
    lock.try_lock().unwrap();
    let mut stop = daemon.begin(&["stop", "--hard"]);
    let (code, out, _) = daemon.daemon(&["status"]);
    assert_eq!((code, out.as_str()), (code::UNKNOWN, ""));
    let (code, _, err) = stop.wait();
    assert_eq!(code, code::PIDFILE);
    assert!(
        err.contains("is locked by a process that it does not name"),
        "{err}"
    );
    assert!(lives(bystander.pid()));
}

#[test]
fn after_a_kill_the_next_start_takes_everything_over() {
    let daemon = Daemon::lonely();
    for _ in 0..3 {
        let pid = daemon.up();
        kill(pid);
        assert_eq!(daemon.pid(), pid, "the killed service has left its pidfile");
        assert!(daemon.directory().join("daemon.pid.sock").exists());
    }
    daemon.up();
    assert_eq!(daemon.status()["state"], "waiting");
    daemon.down();
}

#[test]
fn a_path_that_is_too_long_for_a_socket_works() {
    let daemon = Daemon::lonely();
    let folder = "f".repeat(120);
    fs::create_dir(daemon.directory().join(&folder)).unwrap();
    let pidfile = format!("{folder}/x.pid");
    let run = |verb: &str| {
        let command = ["daemon", verb, "-p", &pidfile, "-l", "daemon.log"];
        daemon.run(&command)
    };
    assert_eq!(run("start").0, 0);
    let (code, out, _) = run("status");
    assert_eq!(code, 0);
    assert!(out.contains("It waits: the broker"), "{out}");
    assert_eq!(run("stop").0, 0);

    let pidfile = format!("{}.pid", "n".repeat(120));
    let (code, _, err) = daemon.run(&["daemon", "start", "-p", &pidfile, "-l", "daemon.log"]);
    assert_eq!(code, code::PIDFILE);
    assert!(err.contains("its name is longer than "), "{err}");
    assert_eq!(daemon.read(&pidfile), "");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let daemon = Daemon::lonely();
    daemon.write("daemon.pid.sock", "precious");
    let (code, _, err) = daemon.daemon(&["start"]);
    assert_eq!(code, code::PIDFILE);
    assert!(err.contains("daemon.pid.sock can't be made: "), "{err}");
    assert_eq!(daemon.read("daemon.pid.sock"), "precious");
    assert!(!daemon.pidfile().exists());
}

const NOBODY: u32 = 65534;

impl Daemon {
    /// The `daemon` command of a user who owns the folder and to whom the modes of files apply.
    fn as_user(&self, arguments: &[&str]) -> Command {
        if !geteuid().is_root() {
            return self.controller(arguments);
        }
        let command = self.as_nobody(arguments);
        for file in fs::read_dir(self.directory()).unwrap() {
            lchown(file.unwrap().path(), Some(NOBODY), None).unwrap();
        }
        chown(self.directory(), Some(NOBODY), None).unwrap();
        command
    }

    /// The `daemon` command as nobody. Only root can run it.
    fn as_nobody(&self, arguments: &[&str]) -> Command {
        let controller = self.controller(arguments);
        let built = Path::new(controller.get_program());
        let may_pass = |folder: &Path| fs::metadata(folder).unwrap().mode() & 0o1 != 0;
        let program = if built.ancestors().skip(1).all(may_pass) {
            built.to_owned()
        } else {
            // The binary may be in a folder that nobody may not enter, such as root's home.
            let copy = self.directory().join("program");
            if !copy.exists() {
                // Another process copies it: a file that a child of another test has inherited while it was
                // open for writing can't be executed.
                let copied = Command::new("cp").args([built, &copy]).status().unwrap();
                assert!(copied.success());
            }
            copy
        };
        let mut command = self.command_of(program, &[]);
        command.args(controller.get_args()).uid(NOBODY).gid(NOBODY);
        command
    }

    fn mode(&self, mode: u32) {
        chmod(self.directory(), Mode::from_raw_mode(mode)).unwrap();
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error_with_a_remedy() {
    let daemon = Daemon::lonely();
    daemon.mode(0o555);
    let (code, _, err) = outcome(&mut daemon.as_user(&["start"]));
    assert_eq!(code, code::PIDFILE);
    assert!(
        err.contains("daemon.pid can't be opened: Permission denied"),
        "{err}"
    );
    assert!(err.contains("in a folder that you may write to"), "{err}");
    daemon.mode(0o755);
}

#[test]
fn a_folder_that_is_taken_away_leaves_the_file_empty() {
    let daemon = Daemon::lonely();
    let (code, _, err) = outcome(&mut daemon.as_user(&["start"]));
    assert_eq!(code, 0, "{err}");
    daemon.mode(0o555);
    let (code, out, err) = outcome(&mut daemon.as_user(&["restart"]));
    assert_eq!(code, code::PIDFILE, "{out}");
    assert!(
        err.contains("can't be written to") && err.contains("nothing was stopped"),
        "{err}"
    );
    assert_eq!(outcome(&mut daemon.as_user(&["status"])).0, 0);
    let (code, _, err) = outcome(&mut daemon.as_user(&["stop"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read_to_string(daemon.pidfile()).unwrap(), "");
    let (code, out, _) = outcome(&mut daemon.as_user(&["status"]));
    assert_eq!(code, code::STOPPED, "{out}");
    daemon.mode(0o755);
    let (code, _, err) = outcome(&mut daemon.as_user(&["start"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(outcome(&mut daemon.as_user(&["stop"])).0, 0);
}

#[test]
fn another_users_service_is_seen_and_not_stopped() {
    if !geteuid().is_root() {
        return;
    }
    let daemon = Daemon::lonely();
    let pid = daemon.up();
    daemon.mode(0o755);
    let (code, out, _) = outcome(&mut daemon.as_nobody(&["status"]));
    assert_eq!(code, 0);
    assert!(out.starts_with(&format!(
        "Service is running. PID: {}\n",
        pid.as_raw_nonzero()
    )));
    assert!(
        out.contains("No more is known: its control socket"),
        "{out}"
    );
    for arguments in [&["stop"][..], &["stop", "--hard"]] {
        let (code, _, err) = outcome(&mut daemon.as_nobody(arguments));
        assert_eq!(code, 77, "{err}");
        assert!(err.contains("it is another user's"), "{err}");
    }
    assert!(lives(pid));
    daemon.down();
}

#[test]
fn a_process_that_may_not_be_inspected_is_recognised_by_its_socket() {
    if !geteuid().is_root() {
        return;
    }
    let daemon = Daemon::lonely();
    let (code, _, err) = outcome(&mut daemon.as_user(&["start"]));
    assert_eq!(code, 0, "{err}");
    let pid = daemon.pid();
    // Without CAP_SYS_PTRACE, as in a container, root may not look into the processes of other users.
    let run = |verb: &str| {
        let controller = daemon.controller(&[verb]);
        let mut weak = daemon.command_of("setpriv", &["--bounding-set=-sys_ptrace"]);
        outcome(
            weak.arg(controller.get_program())
                .args(controller.get_args()),
        )
    };
    let looks = format!("stat -L /proc/{}/fd/*", pid.as_raw_nonzero());
    let mut weak = daemon.command_of(
        "setpriv",
        &["--bounding-set=-sys_ptrace", "sh", "-c", &looks],
    );
    assert_ne!(
        outcome(&mut weak).0,
        0,
        "root may look into the process here"
    );
    let (code, out, err) = run("status");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("\nIt waits: "), "{out}");
    assert_eq!(run("stop").0, 0);
    assert!(!lives(pid));
}
