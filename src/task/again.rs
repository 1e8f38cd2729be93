//! A task that hands its message back.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::state::Cause;

/// An error by which a task hands its message back: the message is run again, and this run does not count as
/// an attempt. Use it in a task that notices that the service
/// [is stopping](crate::TaskContext::is_cancelled) and can't finish soon:
///
/// ```
/// use carrot_actors::{Again, App, Args, TaskContext, TaskError};
///
/// fn import(Args((rows,)): Args<(Vec<String>,)>, context: TaskContext) -> Result<usize, TaskError> {
///     for row in &rows {
///         if context.is_cancelled() {
///             return Err(Again::new("half imported").into());
///         }
///         // … import the row, unless an earlier run has done so
///     }
///     Ok(rows.len())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # async fn _is_an_error() -> anyhow::Result<()> { Err(Again::new("not now"))? }
/// let app = App::new().task("import", import);
///
/// // A test can tell such an outcome from a failure.
/// let busy = || Err::<(), _>(Again::new("not now"));
/// let mut app = app.task("busy", busy).test()?;
/// let outcome = app.run(app.task("busy"))?;
/// assert!(outcome.result.unwrap_err().again.is_some());
/// # Ok(())
/// # }
/// ```
///
/// While the service stops, the message is published again at once, for any service to take. Otherwise it
/// is published after a backoff that starts at one second and doubles up to 30 seconds. There is no limit:
/// this goes on for as long as the task hands the message back. Meanwhile the message is PENDING, its
/// number of attempts is unchanged, and [`on_failure`](crate::App::on_failure) is not called.
///
/// `?` converts it like any other error, also into an `anyhow::Result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again(AgainMarker);

/// The source of [`Again`]: it identifies an [`Again`] that was converted into another error, such as an
/// `anyhow::Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgainMarker {
    reason: Cow<'static, str>,
    cause: Cause,
}

impl Again {
    /// Hands the message back for `reason`, which is logged and stored in the message's row.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::with_cause(Cause::HandedBack, reason)
    }

    pub(super) fn with_cause(cause: Cause, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self(AgainMarker { reason, cause })
    }

    pub(crate) const fn cause(&self) -> Cause {
        self.0.cause
    }

    /// The [`Again`] whose source this error is.
    pub(super) fn find_in(error: &(dyn Error + 'static)) -> Option<Self> {
        error.downcast_ref::<AgainMarker>().cloned().map(Self)
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AgainMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Again {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Error for AgainMarker {}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::task::TaskError;

    #[test]
    fn it_is_found_in_every_error_that_was_made_from_it() {
        let plain = TaskError::from(Again::new("not now"));
        assert_eq!(plain.exception, "not now");
        assert_eq!(plain.again, Some(Again::new("not now")));

        let bare = || -> anyhow::Result<()> { Err(Again::new("not now"))? };
        assert_eq!(TaskError::from(bare().unwrap_err()), plain);

        let within = bare().context("row 7").context("the import").unwrap_err();
        let within = TaskError::from(within);
        assert_eq!(within.exception, "the import: row 7: not now");
        assert_eq!(within.again, plain.again);

        let boxed: Box<dyn Error + Send + Sync> = Box::new(Again::new("not now"));
        assert_eq!(TaskError::from(boxed), plain);
        assert_eq!(TaskError::from("not now").again, None);
    }
}
