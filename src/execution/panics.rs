//! A task's panic is an outcome: its message and backtrace are kept, not printed.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

/// What is known of a panic.
pub(super) struct Panic {
    pub(super) message: String,
    pub(super) backtrace: String,
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

/// Runs `work` and returns beside its result what is known of the panic in it.
pub(super) fn watch<R>(work: impl FnOnce() -> R) -> (R, Option<Panic>) {
    WATCHED.set(Some(None));
    let result = work();
    (result, WATCHED.take().flatten())
}
