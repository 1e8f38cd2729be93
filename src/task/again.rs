//! A task that hands its message back.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::state::Cause;

/// The task hands its message back: it is run again, and this run does not count as one. For a task that
/// sees that the service [is stopping](crate::TaskContext::is_cancelled) and can't come to an end soon:
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
/// // In a test such an outcome can be told from a failure.
/// let busy = || Err::<(), _>(Again::new("not now"));
/// let mut app = app.task("busy", busy).test()?;
/// let outcome = app.run(app.task("busy"))?;
/// assert!(outcome.result.unwrap_err().again.is_some());
/// # Ok(())
/// # }
/// ```
///
/// While the service stops, the message is published again at once, for whoever takes it next. Otherwise that
/// waits a second, then two, and so on up to half a minute, for as long as its task hands it back; nothing
/// but the task ends that. The message is PENDING meanwhile, its attempts are as before the run, and
/// [`on_failure`](crate::App::on_failure) does not hear of it.
///
/// It is an error like any other, and passes through `?`, also into an `anyhow::Result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again(AgainMarker);

/// What it is known by where it passes as another error, as in an `anyhow::Error`: it is its own cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgainMarker {
    reason: Cow<'static, str>,
    cause: Cause,
}

impl Again {
    /// For `reason`, which the log and the message's row have.
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

    /// The one whose mark this is.
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
    fn it_is_known_by_whatever_way_it_comes() {
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
