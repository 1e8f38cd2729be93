//! What an operator's machine does to the service: containers, inherited signals, TLS, log rotation,
//! privileges, systemd and init scripts.

mod container_init;
mod inherited_signals;
mod init_script;
mod install;
mod log_rotation;
mod notify;
mod privileges;
#[cfg(feature = "tls")]
mod tls;
mod unit;

use std::process::Command;

use crate::support::outcome;

/// Whether the program is installed; prints that a test is skipped if it is not.
fn has(program: &str) -> bool {
    let (code, ..) = outcome(Command::new("sh").args(["-c", "command -v \"$0\"", program]));
    if code != 0 {
        eprintln!("skipped: there is no {program} here");
    }
    code == 0
}
