//! From what a task did to the end that is recorded, with django-carrot's first and last log line.

use std::any::Any;

use log::Level;
use serde_json::Value;

use super::panics::Panic;
use super::{Attempt, TaskContext, TaskError, TaskResult};
use crate::message::{Literal, python};
use crate::state::End;
use crate::store::Finish;

/// The first line of a message's log.
pub(super) fn announce(context: &TaskContext) {
    let line = format_args!("Starting task {}", context.task);
    context.log.append(Level::Info, &line);
    log::info!("{line} ({})", context.uuid);
}

/// The end of a run, the `attempts`th that is counted.
pub(super) fn finish(context: &TaskContext, attempts: u32, outcome: &TaskResult) -> Finish {
    let finish = match outcome {
        Ok(output) => completed(context, attempts, output),
        Err(error) => failed(context, attempts, error.clone()),
    };
    finish.storable()
}

fn completed(context: &TaskContext, attempts: u32, output: &Value) -> Finish {
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
        key: context.uuid.clone(),
        end: End::Completed,
        attempts,
        output,
        exception: None,
        traceback: None,
        log: Some(context.log.text()),
    }
}

fn failed(context: &TaskContext, attempts: u32, error: TaskError) -> Finish {
    let line = format!("Task {} failed: {}", context.task, error.exception);
    context
        .log
        .append_last(Level::Error, &format_args!("{line}"));
    log::error!("{} ({})", one_line(&line), context.uuid);
    Finish {
        key: context.uuid.clone(),
        end: End::Failed,
        attempts,
        output: error.output,
        exception: Some(error.exception),
        traceback: error.traceback,
        log: Some(context.log.text()),
    }
}

/// The end of a message that could not be run.
pub(super) fn failed_unrun(attempt: &Attempt, attempts: u32, reason: String) -> Finish {
    let key = attempt.key();
    log::error!("message {key} from queue {}: {reason}", attempt.queue);
    Finish {
        key: key.to_owned(),
        end: End::Failed,
        attempts,
        output: None,
        exception: Some(reason),
        traceback: None,
        log: None,
    }
    .storable()
}

pub(super) fn panicked(panic: Option<Panic>) -> TaskError {
    match panic {
        Some(panic) => TaskError {
            traceback: Some(format!("{}\n{}", panic.message, panic.backtrace)),
            ..TaskError::new(panic.message)
        },
        None => TaskError::new("panicked"),
    }
}

/// A payload's own drop may panic, which would end the consumer: it is leaked where it could.
pub(super) fn forget(payload: Box<dyn Any + Send>) {
    if payload.is::<String>() || payload.is::<&'static str>() {
        drop(payload);
    } else {
        std::mem::forget(payload);
    }
}

/// What stands in `output`: JSON for an object, and for anything else what Python's `str` makes of
/// it; nothing for null.
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
