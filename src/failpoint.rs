//! Places where a test stops the process, so that each death of the design is died on purpose.
//!
//! `CARROT_FAILPOINTS="ledger.before-commit=kill; publish.recorded=kill@3"` makes the process kill
//! itself (as `kill -9` would) at the named place, the third time it comes by it; `panic` panics
//! there instead, and `hang` never goes on. With `panic@3+` it does so from the third time on. Without the feature `failpoints` a call is nothing at all.

/// Does what `CARROT_FAILPOINTS` says of the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) const fn hit(_name: &str) {}

/// Has the process that this one executes instead of itself stop at the places that are left.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn pass_on_to(_next: &mut std::process::Command) {}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{hit, pass_on_to};

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::process::Command;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        action: String,
        passes_left: u32,
        /// Whether it stays after the first time.
        stays: bool,
    }

    static ARMED: LazyLock<Mutex<HashMap<String, Armed>>> = LazyLock::new(|| {
        let spec = std::env::var("CARROT_FAILPOINTS").unwrap_or_default();
        Mutex::new(spec.split(';').filter_map(parse).collect())
    });

    fn parse(entry: &str) -> Option<(String, Armed)> {
        let (name, action) = entry.trim().split_once('=')?;
        let (action, nth) = action.split_once('@').unwrap_or((action, "1"));
        let (nth, stays) = nth
            .strip_suffix('+')
            .map_or((nth, false), |nth| (nth, true));
        let armed = Armed {
            action: action.to_owned(),
            passes_left: nth.parse().unwrap_or(1),
            stays,
        };
        Some((name.to_owned(), armed))
    }

    /// Does what `CARROT_FAILPOINTS` says of the place `name`.
    pub(crate) fn hit(name: &str) {
        let action = {
            let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(point) = armed.get_mut(name) else {
                return;
            };
            point.passes_left = point.passes_left.saturating_sub(1);
            if point.passes_left > 0 {
                return;
            }
            let action = point.action.clone();
            if !point.stays {
                armed.remove(name);
            }
            action
        };
        match action.as_str() {
            "panic" => panic!("failpoint {name}"),
            "kill" => die(),
            "hang" => loop {
                std::thread::park();
            },
            other => log::error!("failpoint {name}: unknown action {other:?}"),
        }
    }

    /// Has the process that this one executes instead of itself stop at the places that are left.
    pub(crate) fn pass_on_to(next: &mut Command) {
        let armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |(name, point): (&String, &Armed)| {
            let stays = if point.stays { "+" } else { "" };
            format!(
                "{name}={}@{}{stays}",
                point.action,
                point.passes_left.max(1)
            )
        };
        let left: Vec<String> = armed.iter().map(entry).collect();
        next.env("CARROT_FAILPOINTS", left.join("; "));
    }

    fn die() -> ! {
        loop {
            if let Err(error) = kill_process(getpid(), Signal::KILL) {
                log::error!("could not kill the process: {error}");
            }
        }
    }
}
