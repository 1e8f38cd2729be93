//! What becomes of occurrences that come late, or too soon. Each policy has the name that stands in rows.

use std::fmt;
use std::str::FromStr;

/// What becomes of the occurrences that nobody looked for, or that came while the schedule was not
/// active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// One message stands for all.
    RunOnce,
    /// Each has its message, of the last 100.
    RunAll,
    /// None has one.
    Skip,
}

/// What becomes of an occurrence that is due while the message of the one before is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is published all the same.
    Allow,
    /// It is not.
    Skip,
}

impl Missed {
    /// What the row says.
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
    /// What the row says.
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
