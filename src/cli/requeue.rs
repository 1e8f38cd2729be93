//! `carrot-actors requeue`.

use std::sync::Arc;

use super::args::RequeueArgs;
use super::{Exit, Failure, say, warn};
use crate::config::Config;
use crate::message::Message;
use crate::publish::Door;
use crate::store::{self, Requeue, Requeued};

/// What the claim does with a message without a row, which says that it had one.
const IF_IT_COMES: &str = ": should the broker have it after all, it is not run but kept as CANCELLED, \
    unless another program than django-carrot or carrot-actors has published it";

pub(super) fn requeue(args: &RequeueArgs, config: Arc<Config>) -> Result<Exit, Failure> {
    let which = if args.failed {
        Requeue::Failed
    } else {
        Requeue::Keys(args.uuids.clone())
    };
    let store = store::open_for(&config)?;
    let mut session = store::session(store.as_ref())?;
    let mut exit = Exit::Ok;
    let mut messages: Vec<Message> = Vec::new();
    for requeued in session.requeue(&which)? {
        match requeued {
            Requeued::As {
                old,
                was_published,
                new,
            } => {
                say(&format!("{old} -> {}", new.key))?;
                if was_published {
                    warn(&format!("{old} was PUBLISHED{IF_IT_COMES}"));
                }
                messages.push(*new);
            }
            refused => {
                warn(&why_not(refused));
                exit = Exit::Partly;
            }
        }
    }
    let flushed = Door::new(config).flush(session.as_mut(), &messages)?;
    for (key, reason) in flushed.failed {
        warn(&format!("message {key} is FAILED: {reason}"));
        exit = Exit::Partly;
    }
    if let Some(error) = flushed.waiting {
        warn(&format!(
            "not all are published yet: {error}; a service publishes them as soon as the \
             broker is back"
        ));
    }
    Ok(exit)
}

fn why_not(requeued: Requeued) -> String {
    match requeued {
        Requeued::As { old, new, .. } => format!("{old} is {} now", new.key),
        Requeued::NotFinal { key, status } => {
            format!("{key} is not requeued: it is {status}, and still to be run or running")
        }
        Requeued::Undecodable(row) => format!("{} is not requeued: {}", row.key, row.reason),
        Requeued::Unknown(key) => format!("{key} is not requeued: there is no such message"),
    }
}
