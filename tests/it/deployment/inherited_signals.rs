//! A service that was started with signals ignored and blocked handles its own signals, and does not pass
//! that state to its commands.
#![expect(
    unsafe_code,
    reason = "what a process is start_with_signals_ignored with is set between fork and exec"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use rustix::process::Signal;

use crate::support::{Database, Running, World, outcome, text};

const CONFIG: &str = "[[queues]]\nname = 'default'\n\
     [tasks.signals]\ncommand = ['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status']\n\
     [tasks.noop]\ncommand = ['true']\n";

fn world() -> World {
    World::embedded_on(Database::Sqlite, CONFIG)
}

/// Makes the command start with all signals blocked, and ignored where possible.
fn ignore_and_block_signals(command: &mut Command) -> &mut Command {
    let ignore_and_block_signals = || {
        // SAFETY: as below.
        unsafe {
            for signal in 1..=31 {
                libc::signal(signal, libc::SIG_IGN);
            }
            let mut all = MaybeUninit::uninit();
            libc::sigfillset(all.as_mut_ptr());
            match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    };
    // SAFETY: it makes only system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(ignore_and_block_signals) }
}

/// Makes the command start with SIGCHLD ignored, as a parent does that does not wait for its children.
fn ignore_children(command: &mut Command) -> &mut Command {
    let ignore = || {
        // SAFETY: as below.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: it makes one system call, which is allowed between fork and exec.
    unsafe { command.pre_exec(ignore) }
}

#[track_caller]
fn assert_commands_have_no_signal_ignored_or_blocked(world: &World) {
    let row = world.ended(&world.send(&["signals"]));
    assert_eq!(row["status"], "COMPLETED", "{row}");
    let lines: Vec<&str> = text(&row, "output").lines().collect();
    let none = "0000000000000000";
    assert_eq!(
        lines,
        [format!("SigBlk:\t{none}"), format!("SigIgn:\t{none}")]
    );
}

fn start_with_signals_ignored(world: &World, mut command: Command) -> Running {
    ignore_and_block_signals(&mut command);
    let running = world.spawn(command);
    running.await_log("consuming queue");
    running
}

#[test]
fn commands_succeed_though_sigchld_was_ignored() {
    let world = world();
    let uuid = world.send(&["noop"]);
    let mut command = world.command(&["--testmode", "--logfile", "carrot.log"]);
    let (code, _, err) = outcome(ignore_children(&mut command));
    assert_eq!(code, 0, "{err}");
    let row = world.find(&uuid).unwrap();
    assert_eq!(row["status"], "COMPLETED", "{row}");
}

#[test]
fn a_service_handles_signals_that_were_ignored_and_blocked_and_its_commands_can_too() {
    let world = world();
    let mut service = start_with_signals_ignored(&world, world.command(&[]));
    assert_commands_have_no_signal_ignored_or_blocked(&world);
    std::fs::rename(&service.log, world.directory().join("rotated")).unwrap();
    service.signal(Signal::HUP);
    service.await_log("log");
    assert_eq!(service.terminate(), 0);

    let mut service = start_with_signals_ignored(&world, world.command(&[]));
    service.signal(Signal::INT);
    assert_eq!(service.wait(), 0);
}

#[test]
fn a_daemon_handles_signals_that_were_ignored_and_blocked() {
    let world = world();
    let daemon = |verb| {
        let options = ["--pidfile", "daemon.pid", "--logfile", "daemon.log"];
        world.command(&[&["daemon", verb], &options[..]].concat())
    };
    let (code, _, err) = outcome(ignore_and_block_signals(&mut daemon("start")));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_commands_have_no_signal_ignored_or_blocked(&world);
    let (code, _, err) = outcome(&mut daemon("stop"));
    assert_eq!((code, err.as_str()), (0, ""));
}
