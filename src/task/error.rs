//! Why a task failed.

use std::error::Error;

use serde_json::Value;

use super::Again;
use crate::state::Cause;

/// A task's output, or why it failed.
#[doc(hidden)]
pub type TaskResult = Result<Value, TaskError>;

/// Why a task failed, as it is stored in the message's row.
///
/// `?` makes it from everything that converts into a `Box<dyn Error + Send + Sync>`: the errors of libraries,
/// such a box itself, `anyhow::Error`, a text. The texts of the error's sources are appended. A task may also
/// return such an error type instead of this one.
///
/// ```
/// use carrot_actors::{App, Args, TaskError};
///
/// fn total(Args((text,)): Args<(String,)>) -> Result<f64, TaskError> {
///     let mut total = 0.0;
///     for number in text.split('+') {
///         total += number.trim().parse::<f64>()?;
///     }
///     if total.is_nan() {
///         return Err(TaskError::new("the total is no number"));
///     }
///     Ok(total)
/// }
///
/// fn lines(Args((path,)): Args<(String,)>) -> anyhow::Result<usize> {
///     use anyhow::Context;
///     let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
///     Ok(text.lines().count())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut app = App::new().task("total", total).task("lines", lines).test()?;
///
/// let outcome = app.run(app.task("total").args(["1 + one"]))?;
/// assert_eq!(outcome.result.unwrap_err().exception, "invalid float literal");
///
/// let outcome = app.run(app.task("lines").args(["/nowhere"]))?;
/// let exception = outcome.result.unwrap_err().exception;
/// assert_eq!(exception, "can't read /nowhere: No such file or directory (os error 2)");
/// # Ok(())
/// # }
/// ```
///
/// For an error that is not `Send`, `Sync` and `'static`, pass its text:
/// `.map_err(|error| TaskError::new(error.to_string()))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// One line for the row's `exception`.
    pub exception: String,
    /// Where the error happened, for the row's `traceback`.
    pub traceback: Option<String>,
    /// What the task produced before it failed, for the row's `output`.
    pub output: Option<String>,
    /// Set if this is not a failure: the message is handed back, to be run [`Again`].
    pub again: Option<Again>,
}

impl TaskError {
    /// A failure for `reason`.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            exception: reason.into(),
            traceback: None,
            output: None,
            again: None,
        }
    }

    /// The same error as a failure: the message is not run again.
    pub(crate) fn into_final(self) -> Self {
        Self {
            again: None,
            ..self
        }
    }

    /// A run that could not begin.
    pub(crate) fn not_started(cause: Cause, reason: String) -> Self {
        Self {
            again: Some(Again::with_cause(cause, reason.clone())),
            ..Self::new(reason)
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for TaskError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut exception = error.to_string();
        let mut cause = error.source();
        let mut again = None;
        while let Some(error) = cause
            && again.is_none()
        {
            again = Again::find_in(error);
            if again.is_none() {
                exception.push_str(": ");
                exception.push_str(&error.to_string());
                cause = error.source();
            }
        }
        Self {
            again,
            ..Self::new(exception)
        }
    }
}
