//! `scripts/install` into a folder: which files it installs, at the first and the second time, and which it
//! removes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::outcome;

/// A folder to install into.
struct Root {
    directory: TempDir,
    manual: TempDir,
}

impl Root {
    fn new() -> Self {
        let manual = TempDir::new().unwrap();
        for name in ["carrot-actors.1", "carrot-actors-send.1", "_carrot-actors"] {
            fs::write(manual.path().join(name), name).unwrap();
        }
        for shell in ["bash", "fish"] {
            fs::write(manual.path().join(format!("carrot-actors.{shell}")), shell).unwrap();
        }
        let directory = TempDir::with_prefix("a root ").unwrap();
        Self { directory, manual }
    }

    /// Runs the script with the prefix `/opt/carrot`; its output.
    #[track_caller]
    fn run(&self, action: &str) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install"));
        command.arg("--destdir").arg(self.directory.path());
        command.arg("--manual").arg(self.manual.path());
        command.args(["--binary", env!("CARGO_BIN_EXE_carrot-actors")]);
        let (code, out, err) = outcome(command.args(["--prefix", "/opt/carrot", action]));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        out
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// All files in the folder.
    fn files(&self) -> Vec<PathBuf> {
        fn below(directory: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, files);
                } else {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        below(self.directory.path(), &mut files);
        files
    }
}

#[test]
fn it_installs_everything_by_its_prefix_and_a_second_time_changes_nothing() {
    let root = Root::new();
    root.run("install");
    let installed = root.path("opt/carrot/bin/carrot-actors");
    let (code, version, _) = outcome(Command::new(&installed).arg("--version"));
    assert_eq!(code, 0);
    assert!(version.starts_with("carrot-actors "), "{version}");
    for path in [
        "opt/carrot/share/man/man1/carrot-actors-send.1",
        "opt/carrot/share/bash-completion/completions/carrot-actors",
        "etc/default/carrot-actors",
        "etc/logrotate.d/carrot-actors",
        "etc/carrot/carrot.toml",
    ] {
        assert!(root.path(path).is_file(), "{path}");
    }
    assert!(root.path("var/lib/carrot").is_dir() && root.path("var/log/carrot").is_dir());
    let unit = root.read("etc/systemd/system/carrot-actors.service");
    assert!(
        unit.contains("ExecStart=/opt/carrot/bin/carrot-actors "),
        "{unit}"
    );
    let script = root.read("etc/init.d/carrot-actors");
    assert!(
        script.contains("DAEMON=/opt/carrot/bin/carrot-actors\n"),
        "{script}"
    );

    let files = root.files().len();
    let said = root.run("install");
    assert_eq!(said.matches("unchanged ").count(), files, "{said}");
    assert!(
        !said.contains("installed ") && !said.contains("created "),
        "{said}"
    );
}

#[test]
fn changed_settings_are_kept_until_a_purge_and_messages_for_ever() {
    let root = Root::new();
    root.run("install");
    fs::write(root.path("etc/carrot/carrot.toml"), "# mine").unwrap();
    fs::write(root.path("var/lib/carrot/carrot.db"), "messages").unwrap();
    fs::write(root.path("var/log/carrot/carrot.log"), "lines").unwrap();
    let rule = root.path("etc/logrotate.d/carrot-actors");
    fs::write(&rule, "# mine").unwrap();
    fs::write(root.path("etc/logrotate.d/carrot-actors.new"), "old").unwrap();
    let said = root.run("install");
    assert!(said.contains("carrot.toml, which was changed"), "{said}");
    assert_eq!(root.read("etc/carrot/carrot.toml"), "# mine");
    assert!(
        root.read("etc/carrot/carrot.toml.dpkg-dist")
            .contains("[[queues]]")
    );
    // logrotate reads every file in that folder except names like this one.
    let rules = fs::read_dir(rule.parent().unwrap()).unwrap();
    let mut rules: Vec<_> = rules.map(|rule| rule.unwrap().file_name()).collect();
    rules.sort();
    assert_eq!(rules, ["carrot-actors", "carrot-actors.dpkg-dist"]);
    fs::remove_file(&rule).unwrap();

    root.run("uninstall");
    assert_eq!(root.read("etc/carrot/carrot.toml"), "# mine");
    assert_eq!(root.files().len(), 3, "{:?}", root.files());

    let said = root.run("purge");
    assert!(said.contains("which holds messages"), "{said}");
    assert_eq!(root.files(), [root.path("var/lib/carrot/carrot.db")]);
    // A second purge does nothing.
    root.run("purge");
}

#[test]
fn the_shipped_settings_are_valid() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/config/carrot.toml");
    let directory = TempDir::new().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_carrot-actors"));
    check
        .args(["check", "--config", shipped])
        .env("CARROT_DEFAULT_BROKER", "amqp://guest:guest@127.0.0.1:1/")
        .env(
            "CARROT_DATABASE_URL",
            format!("sqlite://{}/carrot.db", directory.path().display()),
        );
    let (code, out, err) = outcome(&mut check);
    // Only the broker is away.
    assert_eq!(code, 69, "{out}{err}");
}
