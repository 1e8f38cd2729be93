//! Failpoints: named places where a test can kill the process, so that tests cover each death that the design
//! names.
//!
//! With `CARROT_FAILPOINTS="ledger.before-commit=kill; publish.recorded=kill@3"` the process kills itself (as
//! `kill -9` would) when it first reaches `ledger.before-commit`, or reaches `publish.recorded` for the third
//! time. The action `panic` panics instead, and `hang` blocks for ever. `panic@3+` acts from the third time on.
//! Without the feature `failpoints` these functions do nothing.

/// Performs the action that `CARROT_FAILPOINTS` sets for the failpoint `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) const fn hit(_name: &str) {}

/// Passes the failpoints that are still armed on to the program that this process is about to execute.
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
        /// Whether it stays armed after its action.
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

    /// Performs the action that `CARROT_FAILPOINTS` sets for the failpoint `name`.
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
            "kill" => kill_this_process(),
            "hang" => loop {
                std::thread::park();
            },
            other => log::error!("failpoint {name}: unknown action {other:?}"),
        }
    }

    /// Passes the failpoints that are still armed on to the program that this process is about to execute.
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

    fn kill_this_process() -> ! {
        loop {
            if let Err(error) = kill_process(getpid(), Signal::KILL) {
                log::error!("could not kill the process: {error}");
            }
        }
    }
}
