//! Schedules that are held back, and the log lines about schedules.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::schedule::decide::Note;
use crate::schedule::poll_history::PollHistory;

/// How long a schedule that can't be advanced is held back.
pub(super) const HOLD_BACK_FOR: Duration = Duration::from_secs(60);

/// A schedule that is held back because it could not be advanced.
pub(super) struct HeldSchedule {
    pub(super) until: Instant,
    pub(super) reason: String,
    /// The poll history when it was first held back; `None` once the schedule was released and not due.
    pub(super) before: Option<PollHistory>,
}

/// Holds a schedule back for [`HOLD_BACK_FOR`], and logs `line` unless it was held back for the same reason before.
pub(super) fn hold_back(
    held: &mut HashMap<i64, HeldSchedule>,
    id: i64,
    reason: &str,
    now: PollHistory,
    line: &str,
) {
    let was = held.remove(&id);
    if was.as_ref().is_none_or(|was| was.reason != reason) {
        log::error!("{line}");
    }
    let holding = HeldSchedule {
        until: Instant::now() + HOLD_BACK_FOR,
        reason: reason.to_owned(),
        before: was.and_then(|was| was.before).or(Some(now)),
    };
    held.insert(id, holding);
}

/// Forgets the histories of schedules that are no longer held back, when no schedule is due: their next occurrences
/// are like any other's.
pub(super) fn forget_released(held: &mut HashMap<i64, HeldSchedule>, now: Instant) {
    for held in held.values_mut().filter(|held| held.until <= now) {
        held.before = None;
    }
}

/// Logs the note of an advanced schedule. That a message holds it back for long is logged once for each message.
pub(super) fn log_note(
    logged_overlaps: &mut HashMap<i64, String>,
    id: i64,
    title: &str,
    note: Option<&Note>,
) {
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
            let is_logged = logged_overlaps.get(&id) == Some(&message.key);
            if !*is_long {
                log::info!("schedule {title} {note}");
            } else if !is_logged {
                log::warn!("schedule {title} {note}");
                logged_overlaps.insert(id, message.key.clone());
            }
            return;
        }
        None => {}
    }
    logged_overlaps.remove(&id);
}
