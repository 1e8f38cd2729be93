//! SQLite's file can't be written.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use super::trial::{SHORT, Trial, while_the_database_is_away};
use crate::support::{Backend, Database, World, cases, outcome, traced_config};

cases! { on sqlite, embedded_sqlite:
    the_service_survives_another_process_that_writes_for_longer_than_it_waits,
    the_service_survives_a_full_disk,
}

/// The small disk, and the broker to use, for the ignored test that runs on it.
const DISK: &str = "CARROT_TEST_SMALL_DISK";
const EMBEDDED: &str = "CARROT_TEST_EMBEDDED";

/// Mounts a disk of 16 MiB at the first argument, in its own mount namespace, and runs the other arguments.
const WITH_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@""#;

fn begin(world: World) -> Trial {
    let services = vec![world.start(&[])];
    Trial::begin(world, services, "the database")
}

fn the_service_survives_another_process_that_writes_for_longer_than_it_waits(backend: Backend) {
    let mut trial = begin(backend.world(&traced_config("", 4)));
    trial.send_during(while_the_database_is_away(), |trial| {
        let mut other = trial.world.client();
        other.execute("BEGIN IMMEDIATE");
        trial.await_away();
        trial.idle_for(SHORT);
        other.execute("COMMIT");
    });
    trial.assert_survived();
}

/// Without rights, a process can mount a disk in its own mount namespace, but one of its threads can't. So
/// the test runs itself again there.
fn the_service_survives_a_full_disk(backend: Backend) {
    let disk = tempfile::TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "sh", "-c", WITH_A_SMALL_DISK])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .args(["outages::sqlite::on_a_small_disk", "--exact", "--ignored"])
        .arg("--nocapture")
        .env(DISK, disk.path())
        .env(EMBEDDED, backend.is_embedded.to_string());
    let (code, out, err) = outcome(&mut command);
    assert!(code == 0 && out.contains("1 passed"), "{out}{err}");
}

#[test]
#[ignore = "run by the_service_survives_a_full_disk"]
fn on_a_small_disk() {
    let disk = PathBuf::from(std::env::var(DISK).unwrap());
    let backend = Backend {
        database: Database::Sqlite,
        is_embedded: std::env::var(EMBEDDED).unwrap() == "true",
    };
    let mut world = backend.world(&traced_config("", 4));
    world.database_url = format!("sqlite://{}", disk.join("carrot.db").display());
    let mut trial = begin(world);
    trial.send_during(while_the_database_is_away(), |trial| {
        let filler = fill(&disk);
        trial.await_away();
        trial.services[0].await_log("disk is full");
        trial.idle_for(SHORT);
        fs::remove_file(filler).unwrap();
    });
    trial.assert_survived();
}

/// Fills the disk; the file that fills it.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut filler = File::create(&path).unwrap();
    let written = loop {
        if let Err(error) = filler.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(written.kind(), ErrorKind::StorageFull);
    path
}
