//! The life cycle of a service: how its actors start, work at the same time, stop and are started again.

mod concurrency;
mod consumer_deaths;
mod hard_stop;
mod start;
mod stop;
mod stress;

use std::fs;

use crate::support::{Running, World, eventually};

/// Two queues, and a task `gated` that runs until the test writes the file `go`.
const TWO_QUEUES: &str = r#"
[[queues]]
name = "one"
concurrency = 2
prefetch_factor = 10
[[queues]]
name = "two"
concurrency = 1
prefetch_factor = 10
[tasks.gated]
command = ["sh", "-c", "touch started.$$; until test -e go; do sleep 0.02; done"]
[tasks.noop]
command = ["true"]
"#;

impl World {
    /// Waits until `count` gated commands have begun.
    #[track_caller]
    fn await_begun(&self, count: usize) {
        let begun = || {
            let names = fs::read_dir(self.directory()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("started.")).count()
        };
        eventually(&format!("{count} commands have begun"), || begun() == count);
    }

    /// Lets the gated commands end.
    fn go(&self) {
        fs::write(self.directory().join("go"), "").unwrap();
    }

    /// Runs what is queued in test mode.
    #[track_caller]
    fn run_the_rest(&self) {
        let (code, _, err) = self.run(&["--testmode", "--logfile", "rest.log"]);
        assert_eq!(code, 0, "{err}");
    }
}

impl Running {
    /// The position of `text` in the log.
    #[track_caller]
    fn position(&self, text: &str) -> usize {
        let log = self.log();
        log.find(text)
            .unwrap_or_else(|| panic!("no {text:?} in the log:\n{log}"))
    }
}
