//! A task's run with what is done around it. Whatever panics, the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::panics;
use crate::message::Arguments;
use crate::task::{Middleware, TaskContext, TaskError, TaskResult};

/// Runs `work` for a message: what it logs is kept, and a panic is an error.
fn guarded<T>(
    context: &TaskContext,
    work: impl FnOnce() -> Result<T, TaskError>,
) -> Result<T, TaskError> {
    let (ran, panic) =
        panics::watch(|| catch_unwind(AssertUnwindSafe(|| context.log.capture(work))));
    ran.unwrap_or_else(|payload| {
        panics::forget(payload);
        Err(panics::error(panic))
    })
}

/// Runs a task with all these around it.
pub(super) fn run(
    around: &[Arc<dyn Middleware>],
    context: &TaskContext,
    seen: &Arguments,
    task: impl FnOnce() -> TaskResult,
) -> TaskResult {
    let mut entered = 0;
    let mut refused = None;
    while let (Some(next), None) = (around.get(entered), &refused) {
        match guarded(context, || next.before(context, seen)) {
            Ok(()) => entered += 1,
            Err(error) => refused = Some(error),
        }
    }
    let outcome = match refused {
        None => guarded(context, task),
        Some(error) => Err(error),
    };
    for left in around[..entered].iter().rev() {
        hook(context, || left.after(context, seen, &outcome));
    }
    outcome
}

/// Lets all know that a message is FAILED.
pub(super) fn tell_failure(
    around: &[Arc<dyn Middleware>],
    context: &TaskContext,
    arguments: &Arguments,
    error: &TaskError,
) {
    for told in around {
        hook(context, || told.on_failure(context, arguments, error));
    }
}

/// What comes after a task changes nothing of its outcome.
fn hook(context: &TaskContext, work: impl FnOnce()) {
    let done = guarded(context, || {
        work();
        Ok(())
    });
    if let Err(panic) = done {
        log::error!(
            "after task {} ({}), a middleware {}",
            context.task,
            context.uuid,
            panic.exception
        );
    }
}
