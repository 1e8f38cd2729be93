//! For how long a run that can't begin is put off before its message is FAILED.

use std::time::Duration;

use crate::config::{Config, UnknownTasks};
use crate::state::Cause;

/// A machine that is short of files, processes or memory is so for some minutes.
const RESOURCES: Duration = Duration::from_mins(10);

/// A program is replaced in a moment.
const PROGRAM: Duration = Duration::from_secs(10);

/// A deployment reaches its last host in some minutes.
const UNKNOWN_TASK: Duration = Duration::from_mins(15);

/// For how long runs are put off, by the cause; `None`: their messages are FAILED at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOffLimits {
    resources: Option<Duration>,
    program: Option<Duration>,
    unknown_task: Option<Duration>,
}

impl PutOffLimits {
    /// Nothing is put off.
    pub const NONE: Self = Self {
        resources: None,
        program: None,
        unknown_task: None,
    };

    /// That of a service. One that ends when its queues are empty does not wait for what only somebody
    /// else can bring.
    #[must_use]
    pub fn of(config: &Config, until_idle: bool) -> Self {
        let waits = config.unknown_tasks == UnknownTasks::Wait;
        Self {
            resources: Some(given("resources").unwrap_or(RESOURCES)),
            program: (!until_idle).then(|| given("program").unwrap_or(PROGRAM)),
            unknown_task: (waits && !until_idle).then(|| given("unknown").unwrap_or(UNKNOWN_TASK)),
        }
    }

    /// What holds for a cause; a task may hand its message back without end.
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

/// What a test sets: `CARROT_PATIENCE="unknown=2; resources=3"`, in seconds.
#[cfg(feature = "failpoints")]
pub(super) fn given(name: &str) -> Option<Duration> {
    let all = std::env::var("CARROT_PATIENCE").ok()?;
    let of_name = |entry: &str| {
        let (key, seconds) = entry.trim().split_once('=')?;
        (key == name).then(|| seconds.parse().ok())?
    };
    all.split(';').find_map(of_name).map(Duration::from_secs)
}
