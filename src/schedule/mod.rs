//! The scheduler's work: which occurrences of `carrot_scheduledtask` are due, whichever host sees it
//! first, and their publishing.
//!
//! Two threads: one takes occurrences, each in the transaction that records its message and moves its
//! schedule on, and the other publishes them meanwhile. What is taken and not published within the lease
//! of the store, as after a death, the sweep publishes.
//!
//! Between two looks at the database it is known when the next one is worth while, and since when they go
//! on, which tells a late occurrence from a missed one; all else stands in the rows. It is worth while when
//! the earliest occurrence is due by the database's clock, and at least every second, in which one
//! statement asks two indexes for that and for schedules that are new or changed.

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

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use self::poll_history::Watch;
use self::poller::SchedulePoller;
use self::publisher::Publisher;
use crate::config::Config;
use crate::health::outage::Servers;
use crate::health::worker_thread::Stopper;
use crate::store::{BATCH_BYTES, Candidate, Database, OccurrenceStore, ReadySchedules, Store};

pub(crate) use self::declared::add_missing;
pub use self::declared::{Schedule, ScheduleError};
pub use self::policy::{first_run, why_not_running};
pub use crate::timetable::{Missed, Overlap};

/// So many batches may wait for the publisher; the sweep has what is beyond that.
const BATCHES: usize = 4;

/// What the scheduler needs of its service.
#[derive(Clone)]
pub struct Setup {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where queues are.
    pub config: Arc<Config>,
    /// How the servers are.
    pub(crate) servers: Arc<Servers>,
    /// Each thread has one: who has the other end sees when the last is gone.
    pub(crate) alive: Sender<()>,
}

/// Reckons the next occurrence of a schedule that has just been saved: it begins now, and not when a
/// service sees it. If it is not done here, a service does it.
pub(crate) fn plan_saved(session: &mut dyn OccurrenceStore, id: i64, was_active: bool) {
    let watch = if was_active {
        Watch::begun
    } else {
        Watch::of_idle
    };
    let plan = &mut |candidate: &Candidate| {
        let (advance, _) = decide::plan(candidate, &watch(candidate.now), BATCH_BYTES);
        advance
    };
    if let Err(error) = session.advance_schedules(ReadySchedules::Saved(id), 1, &[], plan) {
        log::debug!("the next run of schedule {id} is not reckoned yet: {error}");
    }
}

/// Starts the threads, which end when what is returned is dropped, and then say so: whether they died.
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
                let mut publisher = Publisher::new(&setup);
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
