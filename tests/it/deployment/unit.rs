//! The systemd unit.

use std::process::Command;

use super::has;
use crate::support::outcome;

const UNIT: &str = include_str!("../../../scripts/systemd/carrot-actors.service");

/// Runs `systemd-analyze` on the unit with the binary of these tests.
fn analyze(arguments: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("carrot-actors.service");
    let binary = env!("CARGO_BIN_EXE_carrot-actors");
    std::fs::write(&unit, UNIT.replace("/usr/bin/carrot-actors", binary)).unwrap();
    let mut command = Command::new("systemd-analyze");
    let (code, out, err) = outcome(command.args(arguments).arg(&unit));
    (code, out + &err)
}

#[test]
fn systemd_finds_no_fault_in_it() {
    if !has("systemd-analyze") {
        return;
    }
    // The man page need not be installed.
    let (code, said) = analyze(&["verify", "--man=no"]);
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn its_exposure_does_not_grow() {
    if !has("systemd-analyze") {
        return;
    }
    // The threshold is in tenths: an exposure of 4.5 out of 10.
    let (code, said) = analyze(&["security", "--offline=true", "--threshold=45"]);
    if said.contains("unrecognized option") {
        eprintln!("skipped: this systemd-analyze knows no --offline");
        return;
    }
    assert_eq!(code, 0, "{said}");
}
