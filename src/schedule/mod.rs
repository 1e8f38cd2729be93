//! The scheduler: it publishes the due occurrences of `carrot_scheduledtask`, whichever host sees them first.
//!
//! It has two threads. The poller advances due schedules: one transaction records their messages and their next
//! occurrences. The publisher meanwhile publishes these messages. The sweep publishes messages that are not
//! published within the store's lease, such as after a crash.
//!
//! The poller keeps only its poll history, which tells a late occurrence from a missed one; everything else is in
//! the rows. It polls when the earliest occurrence is due by the database's clock, and at least every second. A poll
//! is one statement, which reads two indexes: for the next occurrence, and for new or changed schedules.

mod catch_up;
mod clock;
mod decide;
mod declared;
mod due;
mod policy;
mod poll_history;
mod poller;
mod publisher;
mod scheduling_batch;
mod setup;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::bounded;

use self::poll_history::PollHistory;
use self::poller::SchedulePoller;
use self::publisher::OccurrencePublisher;
use crate::health::worker_thread::Stopper;
use crate::store::{BATCH_BYTES, Candidate, Database, OccurrenceStore, ReadySchedules};

pub(crate) use self::declared::add_missing;
pub use self::declared::{Schedule, ScheduleError};
pub use self::policy::{first_run, why_not_running};
pub use self::setup::Setup;
pub use crate::timetable::{Missed, Overlap};

/// How many batches may wait for the publisher; the sweep publishes further ones.
const BATCHES: usize = 4;

/// Computes the next occurrence of a schedule that has just been saved, so that the schedule begins now and not when
/// a service sees it. If this fails, a service does it.
pub(crate) fn plan_saved(session: &mut dyn OccurrenceStore, id: i64, was_active: bool) {
    let history = if was_active {
        PollHistory::started
    } else {
        PollHistory::started_inactive
    };
    let plan = &mut |candidate: &Candidate| {
        let (advance, _) = decide::plan(candidate, &history(candidate.now), BATCH_BYTES);
        advance
    };
    if let Err(error) = session.advance_schedules(ReadySchedules::Saved(id), 1, &[], plan) {
        log::debug!("the next run of schedule {id} is not computed yet: {error}");
    }
}

/// Starts the threads, which end when the returned stopper is dropped, and then call `ended` with whether they
/// died.
///
/// # Errors
/// When the system has no thread left.
pub(crate) fn start(
    setup: Setup,
    ended: impl FnOnce(bool) + Send + 'static,
) -> io::Result<Stopper> {
    let (stopper, stop) = Stopper::new();
    thread::Builder::new()
        .name("scheduler".to_owned())
        .spawn(move || {
            let lived = catch_unwind(AssertUnwindSafe(|| {
                let (batches, waiting) = bounded(BATCHES);
                let mut publisher = OccurrencePublisher::new(&setup);
                let publishing = thread::Builder::new()
                    .name("scheduler-publisher".to_owned())
                    .spawn(move || publisher.run(&waiting));
                let publishing = match publishing {
                    Ok(publishing) => publishing,
                    Err(error) => {
                        log::error!("no thread for the scheduler: {error}");
                        return false;
                    }
                };
                let store = Arc::clone(&setup.store);
                let mut database = Database::of(store, &setup.servers, "the scheduler");
                SchedulePoller::new(batches).run(&mut database, &stop);
                publishing.join().is_ok()
            }));
            ended(!lived.unwrap_or(false));
            drop(setup.alive);
        })?;
    Ok(stopper)
}
