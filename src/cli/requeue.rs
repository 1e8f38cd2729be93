//! `carrot-actors requeue`.

use std::sync::Arc;

use super::args::RequeueArgs;
use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::{say, warn};
use crate::config::Config;
use crate::publish::Outbox;
use crate::store::{self, RecordedMessages, Requeue, Requeued, StoreError};

/// How often a step is tried that conflicts with another transaction.
const MOST_TRIES: usize = 5;

/// What becomes of the old message if the broker still has it: a claim finds no row, though the message says that
/// it had one.
const IF_BROKER_HAS_IT: &str = ": should the broker have it after all, it is not run but kept as CANCELLED, \
    unless another program than django-carrot or carrot-actors has published it";

pub(super) fn requeue(args: &RequeueArgs, config: Arc<Config>) -> Result<Exit, CommandFailure> {
    let store = store::open_for(&config)?;
    let mut session = store::session(store.as_ref())?;
    let mut requeuing = Requeuing {
        session: session.as_mut(),
        outbox: Outbox::new(config),
        exit: Exit::Ok,
        waiting: None,
    };
    if args.failed {
        requeuing.all_failed()?;
    } else {
        let requeued = requeuing
            .session
            .requeue(&Requeue::Keys(args.uuids.clone()))?;
        requeuing.publish_and_print(requeued)?;
    }
    if let Some(reason) = requeuing.waiting {
        warn(&format!(
            "not all are published yet: {reason}; a service publishes them as soon as it can"
        ));
    }
    Ok(requeuing.exit)
}

/// Requeues messages in steps.
struct Requeuing<'a> {
    session: &'a mut dyn store::RequeueStore,
    outbox: Outbox,
    exit: Exit,
    /// Why some messages are not published yet, if any are not.
    waiting: Option<String>,
}

impl Requeuing<'_> {
    /// Requeues all FAILED messages. Each step is committed and published before the next one: if this process is
    /// killed, it has requeued the messages that it printed, and can be run again for the others. Messages that
    /// fail meanwhile, new ones included, have ids after the last one and are left alone.
    fn all_failed(&mut self) -> Result<(), CommandFailure> {
        let Some(last) = self.session.last_failed_id()? else {
            return Ok(());
        };
        let mut after = Some(0);
        while let Some(id) = after {
            let requeued;
            (requeued, after) = self.requeue_next(id, last)?;
            self.publish_and_print(requeued)?;
        }
        Ok(())
    }

    fn requeue_next(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<(Vec<Requeued>, Option<i64>), StoreError> {
        let mut tries = 1..MOST_TRIES;
        loop {
            match self.session.requeue_failed(after, last) {
                Err(StoreError::Conflict(_)) if tries.next().is_some() => {}
                other => return other,
            }
        }
    }

    /// Prints what became of the messages, and publishes the new ones.
    fn publish_and_print(&mut self, requeued: Vec<Requeued>) -> Result<(), CommandFailure> {
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
                        warn(&format!("{old} was PUBLISHED{IF_BROKER_HAS_IT}"));
                    }
                }
                refused => {
                    warn(&refusal(refused));
                    self.exit = Exit::Partly;
                }
            }
        }
        // Don't wait again for a broker that is away.
        if self.waiting.is_some() {
            return Ok(());
        }
        let flushed = self.outbox.flush(self.session, recorded)?;
        for (key, reason) in flushed.failed {
            warn(&format!("message {key} is FAILED: {reason}"));
            self.exit = Exit::Partly;
        }
        self.waiting = flushed.waiting;
        Ok(())
    }
}

fn refusal(requeued: Requeued) -> String {
    match requeued {
        Requeued::Replaced { old, new, .. } => format!("{old} is {} now", new.key),
        Requeued::NotFinal { key, status } => {
            format!("{key} is not requeued: it is {status}, and still to be run or running")
        }
        Requeued::Undecodable(row) => format!("{} is not requeued: {}", row.key, row.reason),
        Requeued::Unknown(key) => format!("{key} is not requeued: there is no such message"),
    }
}
