//! `carrot-actors requeue`.

use std::sync::Arc;

use super::args::RequeueArgs;
use super::{Exit, Failure, say, warn};
use crate::config::Config;
use crate::publish::Outbox;
use crate::store::{self, RecordedMessages, Requeue, Requeued, StoreError};

/// A step that met another transaction is tried so often.
const TRIES: usize = 5;

/// What the claim does with a message without a row, which says that it had one.
const IF_IT_COMES: &str = ": should the broker have it after all, it is not run but kept as CANCELLED, \
    unless another program than django-carrot or carrot-actors has published it";

pub(super) fn requeue(args: &RequeueArgs, config: Arc<Config>) -> Result<Exit, Failure> {
    let store = store::open_for(&config)?;
    let mut session = store::session(store.as_ref())?;
    let mut requeuing = Requeuing {
        session: session.as_mut(),
        door: Outbox::new(config),
        exit: Exit::Ok,
        waiting: None,
    };
    if args.failed {
        requeuing.all_failed()?;
    } else {
        let requeued = requeuing
            .session
            .requeue(&Requeue::Keys(args.uuids.clone()))?;
        requeuing.see_to(requeued)?;
    }
    if let Some(reason) = requeuing.waiting {
        warn(&format!(
            "not all are published yet: {reason}; a service publishes them as soon as it can"
        ));
    }
    Ok(requeuing.exit)
}

/// What is requeued, some at a time.
struct Requeuing<'a> {
    session: &'a mut dyn store::RequeueStore,
    door: Outbox,
    exit: Exit,
    /// Why some wait, if any do.
    waiting: Option<String>,
}

impl Requeuing<'_> {
    /// Each step is committed and published before the next: who is killed has requeued what was said, and runs
    /// it again for the others. What fails meanwhile, of the new ones too, is beyond the last.
    fn all_failed(&mut self) -> Result<(), Failure> {
        let Some(last) = self.session.last_failed_id()? else {
            return Ok(());
        };
        let mut after = Some(0);
        while let Some(id) = after {
            let requeued;
            (requeued, after) = self.next_failed(id, last)?;
            self.see_to(requeued)?;
        }
        Ok(())
    }

    fn next_failed(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<(Vec<Requeued>, Option<i64>), StoreError> {
        let mut tries = 1..TRIES;
        loop {
            match self.session.requeue_failed(after, last) {
                Err(StoreError::Conflict(_)) if tries.next().is_some() => {}
                other => return other,
            }
        }
    }

    /// Says what became of messages, and publishes the new ones.
    fn see_to(&mut self, requeued: Vec<Requeued>) -> Result<(), Failure> {
        let recorded = RecordedMessages::of_requeued(&requeued);
        for requeued in requeued {
            match requeued {
                Requeued::Replaced {
                    old,
                    was_published,
                    new,
                } => {
                    say(&format!("{old} -> {}", new.key))?;
                    if was_published {
                        warn(&format!("{old} was PUBLISHED{IF_IT_COMES}"));
                    }
                }
                refused => {
                    warn(&why_not(refused));
                    self.exit = Exit::Partly;
                }
            }
        }
        // A broker that took nothing is not waited for again.
        if self.waiting.is_some() {
            return Ok(());
        }
        let flushed = self.door.flush(self.session, recorded)?;
        for (key, reason) in flushed.failed {
            warn(&format!("message {key} is FAILED: {reason}"));
            self.exit = Exit::Partly;
        }
        self.waiting = flushed.waiting;
        Ok(())
    }
}

fn why_not(requeued: Requeued) -> String {
    match requeued {
        Requeued::Replaced { old, new, .. } => format!("{old} is {} now", new.key),
        Requeued::NotFinal { key, status } => {
            format!("{key} is not requeued: it is {status}, and still to be run or running")
        }
        Requeued::Undecodable(row) => format!("{} is not requeued: {}", row.key, row.reason),
        Requeued::Unknown(key) => format!("{key} is not requeued: there is no such message"),
    }
}
