//! Captures the message and the backtrace of a task's panic, which is an outcome and is not printed.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use crate::task::TaskError;

/// A captured panic.
pub(super) struct Panic {
    message: String,
    backtrace: String,
}

thread_local! {
    /// The outer `Some` while panics of this thread are captured, the inner one once it has panicked.
    static CAPTURED: RefCell<Option<Option<Panic>>> = const { RefCell::new(None) };
}

/// Installs a panic hook that captures the panics of threads inside [`capture`]. The previous hook gets all others.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !capture_panic(info) {
                before(info);
            }
        }));
    });
}

fn capture_panic(info: &PanicHookInfo<'_>) -> bool {
    CAPTURED.with_borrow_mut(|watched| match watched {
        None => false,
        Some(panic) => {
            let place = info.location().map(|place| format!(" at {place}"));
            *panic = Some(Panic {
                message: format!(
                    "panicked{}: {}",
                    place.unwrap_or_default(),
                    info.payload_as_str().unwrap_or("(no message)")
                ),
                backtrace: Backtrace::force_capture().to_string(),
            });
            true
        }
    })
}

/// Runs `work` and returns its result and the panic that was captured in it. Calls may be nested.
pub(super) fn capture<R>(work: impl FnOnce() -> R) -> (R, Option<Panic>) {
    let outside = CAPTURED.replace(Some(None));
    let result = work();
    (result, CAPTURED.replace(outside).flatten())
}

/// The error that a panicked task or middleware ends with.
pub(super) fn into_error(panic: Option<Panic>) -> TaskError {
    match panic {
        Some(panic) => TaskError {
            traceback: Some(format!("{}\n{}", panic.message, panic.backtrace)),
            ..TaskError::new(panic.message)
        },
        None => TaskError::new("panicked"),
    }
}

/// Drops a panic's payload if that is safe, and otherwise leaks it: a panic in its drop would end the consumer.
pub(super) fn discard_payload(payload: Box<dyn Any + Send>) {
    if payload.is::<String>() || payload.is::<&'static str>() {
        drop(payload);
    } else {
        std::mem::forget(payload);
    }
}
