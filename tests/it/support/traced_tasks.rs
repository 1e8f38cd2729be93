//! Tasks that note each of their runs, and the checks of these notes.

use std::collections::HashMap;
use std::fs;

use super::process::Running;
use super::world::World;
use super::{eventually, milliseconds};

/// The file in the test's directory where runs are noted: one line each, with the message's uuid and the time
/// in milliseconds.
pub const RUNS: &str = "runs";

/// The beginning of each task's script: note the run.
const NOTE: &str =
    r#"read -r m; u=${m#*'"uuid":"'}; u=${u%%'"'*}; echo "$u $(date +%s%3N)" >> runs; "#;

/// Wait until the test releases all tasks, or those of this service.
const WAIT: &str = "while [ ! -e go ] && [ ! -e go-$PPID ]; do sleep 0.02; done; echo $PPID";

/// A configuration of one queue and these tasks, each of which notes its runs:
/// - `note` ends at once, `hold` when the test releases it; both print the pid of their service;
/// - `family` is `hold` with a child process; it writes both pids to the file `family`;
/// - `killer` kills its service.
pub fn traced_config(settings: &str, concurrency: usize) -> String {
    let queue = format!("[[queues]]\nname = 'default'\nconcurrency = {concurrency}\n");
    format!("{settings}\n{queue}{}", traced_tasks())
}

/// The configuration of these tasks alone.
pub fn traced_tasks() -> String {
    [
        traced_task("note", "echo $PPID"),
        traced_task("hold", WAIT),
        traced_task(
            "family",
            &format!("sleep 600 & echo $$ $! >> family; {WAIT}"),
        ),
        traced_task("killer", "kill -9 $PPID"),
    ]
    .concat()
}

/// The configuration of a task that notes its runs before it does what `script` says.
pub fn traced_task(name: &str, script: &str) -> String {
    format!("[tasks.{name}]\ncommand = ['sh', '-c', '''{NOTE}{script}''']\n")
}

impl World {
    /// When each run of the message began, in milliseconds since 1970.
    pub fn runs(&self, uuid: &str) -> Vec<i64> {
        self.all_runs().remove(uuid).unwrap_or_default()
    }

    /// The same for every message that was run.
    pub fn all_runs(&self) -> HashMap<String, Vec<i64>> {
        let mut runs = HashMap::<_, Vec<i64>>::new();
        for line in self.read(RUNS).lines() {
            let (uuid, time) = line.split_once(' ').unwrap();
            let times = runs.entry(uuid.to_owned()).or_default();
            times.push(time.parse().unwrap());
        }
        runs
    }

    /// Fails unless each message that was run was run once.
    #[track_caller]
    pub fn assert_each_ran_once(&self) {
        let runs = self.all_runs();
        assert!(runs.values().all(|runs| runs.len() == 1), "{runs:?}");
    }

    /// Waits until `count` runs of the message have begun.
    #[track_caller]
    pub fn await_runs(&self, uuid: &str, count: usize) {
        eventually(&format!("run {count} of {uuid}"), || {
            self.runs(uuid).len() >= count
        });
    }

    /// Releases the tasks of all services.
    pub fn release_tasks(&self) {
        fs::write(self.directory().join("go"), "").unwrap();
    }

    /// Releases the tasks of one service.
    pub fn release_tasks_of(&self, service: &Running) {
        let file = format!("go-{}", service.pid().as_raw_nonzero());
        fs::write(self.directory().join(file), "").unwrap();
    }

    /// Runs `send`, which is killed at a failpoint after it has recorded the message; the message's uuid.
    #[track_caller]
    pub fn send_and_die(&self, task: &str, failpoint: &str) -> String {
        let status = self
            .command(&["send", task])
            .env("CARROT_FAILPOINTS", format!("{failpoint}=kill"))
            .status()
            .unwrap();
        assert_eq!(super::exit_code(status), -9);
        let rows = self.rows("SELECT uuid FROM carrot_messagelog WHERE status = 'PENDING'");
        assert_eq!(rows.len(), 1);
        rows[0]["uuid"].as_str().unwrap().to_owned()
    }

    /// Waits until each message is COMPLETED, stops the services in order, and checks every message: it has
    /// one row, it was run, no run began after its end was recorded, and no copy is left to deliver. Returns
    /// how many second copies the services have left in the queue; another service consumes these.
    #[track_caller]
    pub fn assert_all_well(&self, services: Vec<Running>, uuids: &[impl AsRef<str>]) -> u32 {
        for uuid in uuids {
            let row = self.ended(uuid.as_ref());
            assert_eq!(row["status"], "COMPLETED", "{row}");
        }
        for mut service in services {
            assert_eq!(service.terminate(), 0);
        }
        let copies = self.ready("default");
        let (code, _, err) = self.run(&["--testmode", "--logfile", "last.log"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(self.ready("default"), 0, "messages are left in the queue");
        let ends = self
            .rows("SELECT uuid, completion_time FROM carrot_messagelog WHERE status = 'COMPLETED'");
        assert_eq!(ends.len(), uuids.len());
        for end in ends {
            let runs = self.runs(end["uuid"].as_str().unwrap());
            let completed = milliseconds(&end, "completion_time");
            assert!(!runs.is_empty(), "{end} was never run");
            assert!(
                runs.iter().all(|began| *began <= completed),
                "{end} was run after its end: {runs:?}"
            );
        }
        copies
    }
}
