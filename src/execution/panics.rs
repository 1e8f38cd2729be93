//! A task's panic is an outcome: its message and backtrace are kept, not printed.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use crate::task::TaskError;

/// What is known of a panic.
pub(super) struct Panic {
    message: String,
    backtrace: String,
}

thread_local! {
    /// `Some` while a task runs on this thread; then what its panic left.
    static WATCHED: RefCell<Option<Option<Panic>>> = const { RefCell::new(None) };
}

/// Makes panics of watched threads known to [`watch`]; all others go where they went.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !keep(info) {
                before(info);
            }
        }));
    });
}

fn keep(info: &PanicHookInfo<'_>) -> bool {
    WATCHED.with_borrow_mut(|watched| match watched {
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

/// RunStore `work` and returns beside its result what is known of the panic in it. `work` may do the same inside.
pub(super) fn watch<R>(work: impl FnOnce() -> R) -> (R, Option<Panic>) {
    let outside = WATCHED.replace(Some(None));
    let result = work();
    (result, WATCHED.replace(outside).flatten())
}

/// A panic as the error of whoever has panicked.
pub(super) fn into_error(panic: Option<Panic>) -> TaskError {
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
