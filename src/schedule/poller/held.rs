//! ScheduleStore that are held back, and what is said of schedules.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::schedule::decide::Note;
use crate::schedule::poll_history::Watch;

/// A schedule that can't be advanced is held back for so long.
pub(super) const HOLD: Duration = Duration::from_secs(60);

/// A schedule that can't be advanced.
pub(super) struct Held {
    pub(super) until: Instant,
    pub(super) reason: String,
    /// How it was when it was first held back, and for as long as it has been active since.
    pub(super) before: Option<Watch>,
}

/// Holds a schedule back for a while. That is said once.
pub(super) fn hold(held: &mut HashMap<i64, Held>, id: i64, reason: &str, now: Watch, line: &str) {
    let was = held.remove(&id);
    if was.as_ref().is_none_or(|was| was.reason != reason) {
        log::error!("{line}");
    }
    let holding = Held {
        until: Instant::now() + HOLD,
        reason: reason.to_owned(),
        before: was.and_then(|was| was.before).or(Some(now)),
    };
    held.insert(id, holding);
}

/// Of those that are not held back any more, and not due: what comes from now on is as any other's.
pub(super) fn forget_those_free(held: &mut HashMap<i64, Held>, now: Instant) {
    for held in held.values_mut().filter(|held| held.until <= now) {
        held.before = None;
    }
}

/// Says what is to be said of a schedule: that it is held back for long, once for each message.
pub(super) fn say(said: &mut HashMap<i64, String>, id: i64, title: &str, note: Option<&Note>) {
    match note {
        Some(note @ (Note::Refused(_) | Note::HeldBack(_) | Note::CannotRecord(_))) => {
            log::error!("schedule {title} {note}")
        }
        Some(
            note @ (Note::Missed { .. } | Note::Accepted | Note::Rewritten(_) | Note::Lost(_)),
        ) => {
            log::warn!("schedule {title} {note}")
        }
        Some(
            note @ Note::Overlaps {
                message, is_long, ..
            },
        ) => {
            let is_said = said.get(&id) == Some(&message.key);
            if !*is_long {
                log::info!("schedule {title} {note}");
            } else if !is_said {
                log::warn!("schedule {title} {note}");
                said.insert(id, message.key.clone());
            }
            return;
        }
        None => {}
    }
    said.remove(&id);
}
