//! The commands of a daemon end when it is killed, also where a seccomp filter refuses `close_range`, as
//! those do that are older than that call.

use nix::libc;

use super::{Daemon, kill};
use crate::support::{await_end, outcome, refuse};

#[test]
fn without_close_range_a_killed_daemon_takes_its_commands_along_and_can_be_started_at_once() {
    for error in [libc::EPERM, libc::ENOSYS] {
        let daemon = Daemon::new();
        let mut start = daemon.controller(&["start"]);
        let (code, out, err) = outcome(refuse(&mut start, libc::SYS_close_range, error));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        daemon.enqueue("one", "endless", 1);
        let pids = daemon.endless();
        assert_eq!(pids.len(), 2);
        kill(daemon.pid());
        let (code, out, err) = daemon.daemon(&["start"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        for pid in pids {
            await_end(pid);
        }
    }
}
