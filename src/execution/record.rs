//! Turns the verdict on an attempt into the change to the message's row, and writes django-carrot's first and last
//! log line.

use log::Level;
use serde_json::Value;

use super::attempt::Attempt;
use super::postponement::Postponement;
use super::verdict::{AttemptFailure, AttemptVerdict, FailureKind};
use crate::message::{Literal, python};
use crate::state::End;
use crate::store::Finish;
use crate::task::{TaskContext, TaskError};

/// The change that an attempt makes to its message's row.
#[derive(Debug)]
pub enum RowChange {
    /// The message is over.
    Finish(Finish),
    /// The message waits to be run again.
    PutOff(Postponement),
}

/// Writes the first line of a message's log.
pub(super) fn announce(context: &TaskContext) {
    let line = format_args!("Starting task {}", context.task);
    context.log.append(Level::Info, &line);
    log::info!("{line} ({})", context.uuid);
}

/// The change to the row that this verdict makes.
pub(super) fn change(
    attempt: &Attempt,
    context: &TaskContext,
    verdict: AttemptVerdict,
) -> RowChange {
    match verdict {
        AttemptVerdict::Completed(output) => {
            RowChange::Finish(completed(attempt, context, &output))
        }
        AttemptVerdict::Failed(failure) => RowChange::Finish(failed(attempt, context, failure)),
        AttemptVerdict::Again { postponed, .. } => RowChange::PutOff(postponed),
    }
}

/// The end of a message that is FAILED.
pub(super) fn failed(attempt: &Attempt, context: &TaskContext, failure: AttemptFailure) -> Finish {
    let AttemptFailure { kind, error } = failure;
    match kind {
        FailureKind::Error => failed_run(attempt, context, error),
        FailureKind::Crash => failed_unrun(attempt, attempt.prior_runs.crashes(), error.exception),
        FailureKind::Unrunnable => {
            failed_unrun(attempt, attempt.prior_runs.known(), error.exception)
        }
    }
}

impl RowChange {
    /// The message's end where nothing is run again, as in a test: a message that is put off is CANCELLED.
    pub(crate) fn into_end(self, attempt: &Attempt) -> Finish {
        match self {
            Self::Finish(finish) => finish,
            Self::PutOff(postponed) => Finish {
                exception: Some(postponed.reason),
                ..ended(attempt, End::Cancelled, attempt.prior_runs.known())
            },
        }
    }
}

fn completed(attempt: &Attempt, context: &TaskContext, output: &Value) -> Finish {
    let output = text(output);
    let shown = output.as_deref().unwrap_or("None");
    let line = format!(
        "Task {} completed successfully with response {shown}",
        context.task
    );
    context
        .log
        .append_last(Level::Info, &format_args!("{line}"));
    log::info!("{} ({})", one_line(&line), context.uuid);
    Finish {
        output,
        log: Some(context.log.text()),
        ..ended(attempt, End::Completed, attempt.begun())
    }
    .storable()
}

/// The end of a message whose run had begun, and counts.
fn failed_run(attempt: &Attempt, context: &TaskContext, error: TaskError) -> Finish {
    let line = format!("Task {} failed: {}", context.task, error.exception);
    context
        .log
        .append_last(Level::Error, &format_args!("{line}"));
    log::error!("{} ({})", one_line(&line), context.uuid);
    Finish {
        output: error.output,
        exception: Some(error.exception),
        traceback: error.traceback,
        log: Some(context.log.text()),
        ..ended(attempt, End::Failed, attempt.begun())
    }
    .storable()
}

fn failed_unrun(attempt: &Attempt, attempts: u32, reason: String) -> Finish {
    let key = attempt.key();
    log::error!("message {key} from queue {}: {reason}", attempt.queue);
    Finish {
        exception: Some(reason),
        ..ended(attempt, End::Failed, attempts)
    }
    .storable()
}

/// A message's end without output; `attempts` is the number of runs that have begun.
fn ended(attempt: &Attempt, end: End, attempts: u32) -> Finish {
    Finish {
        key: attempt.key().to_owned(),
        end,
        attempts,
        output: None,
        exception: None,
        traceback: None,
        log: None,
    }
}

/// The text of the column `output`: JSON for an object, Python's `str` for anything else, and nothing for null.
fn text(output: &Value) -> Option<String> {
    match output {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => Some(output.to_string()),
        other => Some(python::repr(&Literal::from(other.clone()))),
    }
}

/// The start of a text's first line, for the service's own log.
fn one_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(500)]
}
