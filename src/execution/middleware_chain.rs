//! Runs a task inside its middlewares. A panic in one of them does not stop the others.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::panics;
use crate::message::Arguments;
use crate::task::{Middleware, Next, TaskContext, TaskError, TaskResult};

/// Runs `work` for a message, captures what it logs, and turns a panic into an error.
fn guarded<T>(context: &TaskContext, work: impl FnOnce() -> T) -> Result<T, TaskError> {
    let (ran, panic) =
        panics::capture(|| catch_unwind(AssertUnwindSafe(|| context.log.capture(work))));
    ran.map_err(|payload| {
        panics::discard_payload(payload);
        panics::into_error(panic)
    })
}

/// Runs a task inside these middlewares, the first outermost.
pub(super) fn run(
    middlewares: &[Arc<dyn Middleware>],
    context: &TaskContext,
    seen: &Arguments,
    task: impl FnOnce() -> TaskResult,
) -> TaskResult {
    match middlewares.split_first() {
        None => guarded(context, task).flatten(),
        Some((outermost, inner)) => wrap(outermost.as_ref(), context, seen, || {
            run(inner, context, seen, task)
        }),
    }
}

/// Runs `inside` within one middleware.
fn wrap(
    middleware: &dyn Middleware,
    context: &TaskContext,
    seen: &Arguments,
    inside: impl FnOnce() -> TaskResult,
) -> TaskResult {
    // The outcome of `inside` stands even if the middleware panics afterwards.
    let ended = Cell::new(None);
    let next = Next::new(|| {
        let outcome = inside();
        ended.set(Some(outcome.clone()));
        outcome
    });
    match guarded(context, || middleware.around(context, seen, next)) {
        Ok(outcome) => outcome,
        Err(panic) => match ended.take() {
            None => Err(panic),
            Some(outcome) => {
                log_panic(context, &panic);
                outcome
            }
        },
    }
}

/// Tells all middlewares that a message is FAILED.
pub(super) fn notify_failure(
    middlewares: &[Arc<dyn Middleware>],
    context: &TaskContext,
    arguments: &Arguments,
    error: &TaskError,
) {
    for middleware in middlewares {
        let told = guarded(context, || middleware.on_failure(context, arguments, error));
        if let Err(panic) = told {
            log_panic(context, &panic);
        }
    }
}

/// Logs the panic of a middleware that does not change the outcome.
fn log_panic(context: &TaskContext, panic: &TaskError) {
    context.log.capture(|| {
        log::error!(
            "after task {} ({}), a middleware {}",
            context.task,
            context.uuid,
            panic.exception
        );
    });
}
