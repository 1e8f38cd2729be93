//! How long a run that can't begin is put off before its message is FAILED.

use std::time::Duration;

use crate::config::{Config, UnknownTasks};
use crate::state::Cause;

/// A shortage of files, processes or memory lasts some minutes.
const RESOURCES: Duration = Duration::from_mins(10);

/// A program is replaced in a moment.
const PROGRAM: Duration = Duration::from_secs(10);

/// A deployment reaches its last host in some minutes.
const UNKNOWN_TASK: Duration = Duration::from_mins(15);

/// How long runs are put off, by cause. With `None` their messages are FAILED at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOffLimits {
    resources: Option<Duration>,
    program: Option<Duration>,
    unknown_task: Option<Duration>,
}

impl PutOffLimits {
    /// No run is put off.
    pub const NONE: Self = Self {
        resources: None,
        program: None,
        unknown_task: None,
    };

    /// The limits of a service. One that runs until its queues are empty does not wait for a new program or an
    /// unknown task, which only an operator can bring.
    #[must_use]
    pub fn of(config: &Config, until_idle: bool) -> Self {
        let waits = config.unknown_tasks == UnknownTasks::Wait;
        Self {
            resources: Some(given("resources").unwrap_or(RESOURCES)),
            program: (!until_idle).then(|| given("program").unwrap_or(PROGRAM)),
            unknown_task: (waits && !until_idle).then(|| given("unknown").unwrap_or(UNKNOWN_TASK)),
        }
    }

    /// The limit for a cause. A task may hand its message back without limit.
    pub(super) const fn limit_for(self, cause: Cause) -> Option<Duration> {
        match cause {
            Cause::Resources => self.resources,
            Cause::Program => self.program,
            Cause::UnknownTask => self.unknown_task,
            Cause::HandedBack => None,
        }
    }
}

#[cfg(not(feature = "failpoints"))]
const fn given(_name: &str) -> Option<Duration> {
    None
}

/// A limit set by a test, in seconds: `CARROT_PATIENCE="unknown=2; resources=3"`.
#[cfg(feature = "failpoints")]
pub(super) fn given(name: &str) -> Option<Duration> {
    let all = std::env::var("CARROT_PATIENCE").ok()?;
    let of_name = |entry: &str| {
        let (key, seconds) = entry.trim().split_once('=')?;
        (key == name).then(|| seconds.parse().ok())?
    };
    all.split(';').find_map(of_name).map(Duration::from_secs)
}
