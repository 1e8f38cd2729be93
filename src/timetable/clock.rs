//! Converts wall times into moments, also around changes of the clocks.
//!
//! A *wall time* is what the clocks of a zone show. A cron line says at which wall times it fires. At a *clock
//! change* the clocks are put forward, which skips some wall times (a gap), or back, which repeats some (a fold).

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// Longer than any gap or fold. The longest ones, of a day, were at the date line.
const WINDOW: TimeDelta = TimeDelta::hours(26);

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// A change of a zone's clocks.
struct ClockChange {
    /// The first moment (in UTC) with the new offset.
    at: NaiveDateTime,
    /// By how much the clocks are put forward; negative if they are put back.
    by: TimeDelta,
}

/// The first moment later than `after` at which a cron line fires. `wall` returns the line's first wall time at
/// or after its argument. `by_elapsed_time` says how the line treats clock changes (see [`super`]).
///
/// Each iteration of the loop searches up to the next clock change, or skips a period in which the line does
/// not fire.
pub(super) fn next_after(
    zone: Tz,
    by_elapsed_time: bool,
    after: DateTime<Utc>,
    wall: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>,
) -> Option<DateTime<Utc>> {
    let second = DateTime::from_timestamp(after.timestamp(), 0)?;
    let mut at = second.naive_utc().checked_add_signed(SECOND)?;
    let by_clock = |from: NaiveDateTime, offset| wall(from + offset).map(|wall| wall - offset);
    // Whether the line has a wall time in the gap.
    let skips = |change: &ClockChange, offset| {
        !by_elapsed_time
            && by_clock(change.at, offset).is_some_and(|next| next < change.at + change.by)
    };
    if let Some(change) = last_change(zone, at).filter(|change| change.at == at)
        && skips(&change, offset(zone, at) - change.by)
    {
        return Some(at.and_utc());
    }
    loop {
        let offset = offset(zone, at);
        let mut next = match last_change(zone, at) {
            // In a fold, skip the repeated wall times: the line has fired at them.
            Some(change) if !by_elapsed_time => by_clock(at.max(change.at - change.by), offset),
            // After a gap, for as long as the gap was, the line also fires by the old offset.
            Some(change) if change.by > TimeDelta::zero() => {
                let this = by_clock(at, offset);
                let before = by_clock(at, offset - change.by)
                    .filter(|&moment| moment < change.at + change.by);
                before
                    .filter(|before| this.is_none_or(|this| *before < this))
                    .or(this)
            }
            _ => by_clock(at, offset),
        };
        if let Some(change) = next_change(zone, at) {
            next = next.filter(|&moment| moment < change.at);
            if next.is_none() {
                if skips(&change, offset) {
                    return Some(change.at.and_utc());
                }
                at = change.at;
                continue;
            }
        }
        let moment = next?;
        if moment - at <= WINDOW {
            return Some(moment.and_utc());
        }
        // The clocks may change before that moment: look again from shortly before it.
        at = moment - WINDOW;
    }
}

/// The moment at which the clocks show `wall`. If they show it twice, the first one; if a gap skips it, the moment
/// of the change.
pub(super) fn wall_to_utc(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment.to_utc()),
        // In a gap: by the old offset, `wall` would be after the change.
        LocalResult::None => {
            let around = wall.checked_sub_signed(WINDOW)?;
            let change = find_change(zone, around, wall.checked_add_signed(WINDOW)?)?;
            Some(change.at.and_utc())
        }
    }
}

fn offset(zone: Tz, at: NaiveDateTime) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at).fix();
    TimeDelta::seconds(offset.local_minus_utc().into())
}

/// The latest change at or before `at`, within the window.
fn last_change(zone: Tz, at: NaiveDateTime) -> Option<ClockChange> {
    find_change(zone, at - WINDOW, at)
}

/// The next change after `at`, within the window.
fn next_change(zone: Tz, at: NaiveDateTime) -> Option<ClockChange> {
    find_change(zone, at, at + WINDOW)
}

/// The change later than `from` and not later than `to`.
fn find_change(zone: Tz, from: NaiveDateTime, to: NaiveDateTime) -> Option<ClockChange> {
    let before = offset(zone, from);
    let after = offset(zone, to);
    if before == after {
        return None;
    }
    let (mut from, mut to) = (from, to);
    while to - from > SECOND {
        let middle = from + TimeDelta::seconds((to - from).num_seconds() / 2);
        if offset(zone, middle) == before {
            from = middle;
        } else {
            to = middle;
        }
    }
    Some(ClockChange {
        at: to,
        by: offset(zone, to) - before,
    })
}
