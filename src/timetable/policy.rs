//! Policies for occurrences that were missed, or that overlap with the one before. Rows store their names.

use std::fmt;
use std::str::FromStr;

/// What happens to occurrences that were missed: because no service was running, or because the schedule was
/// not active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// One message is published for all missed occurrences.
    RunOnce,
    /// A message is published for each of the last 100 missed occurrences.
    RunAll,
    /// No message is published for missed occurrences.
    Skip,
}

/// What happens to an occurrence that is due while the message of the previous one is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is published anyway.
    Allow,
    /// It is not published.
    Skip,
}

impl Missed {
    /// The name that rows store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunOnce => "run_once",
            Self::RunAll => "run_all",
            Self::Skip => "skip",
        }
    }
}

impl Overlap {
    /// The name that rows store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Missed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RunOnce, Self::RunAll, Self::Skip]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("missed is {text:?}, not run_once, run_all or skip"))
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Allow, Self::Skip]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("overlap is {text:?}, not allow or skip"))
    }
}
