//! Why a task failed.

use std::error::Error;

/// Why a task failed, as it is recorded. Made from any error with `?`, its causes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// One line for the row's `exception`.
    pub exception: String,
    /// Where it happened, for the row's `traceback`.
    pub traceback: Option<String>,
    /// What the task had to show all the same, for the row's `output`.
    pub output: Option<String>,
}

impl TaskError {
    /// A failure for `reason`.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            exception: reason.into(),
            traceback: None,
            output: None,
        }
    }
}

impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut exception = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            exception.push_str(": ");
            exception.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(exception)
    }
}
