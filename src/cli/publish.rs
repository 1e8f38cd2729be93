//! Publishing one message, with what its user is told of that: for `send` and for `schedule run`.

use std::sync::Arc;

use super::{Exit, Failure, say, warn};
use crate::config::Config;
use crate::message::Message;
use crate::publish::Outbox;
use crate::store::OutboxStore;

/// Records a message, prints `line` as soon as that is done, and publishes it.
pub(super) fn publish(
    message: &Message,
    session: &mut dyn OutboxStore,
    config: Arc<Config>,
    line: &str,
) -> Result<Exit, Failure> {
    let recorded = Outbox::record(session, std::slice::from_ref(message))?;
    // Said as soon as it is true: who is told nothing sends it again.
    say(line)?;
    let flushed = match Outbox::new(config).flush(session, recorded) {
        Ok(flushed) => flushed,
        Err(error) => {
            warn(&format!(
                "the message is recorded, and a service publishes it unless that has \
                 happened already: {error}"
            ));
            return Ok(Exit::Ok);
        }
    };
    if let Some((_, reason)) = flushed.failed.first() {
        let reason = format!("message {} is FAILED: {reason}", message.key);
        return Err(Failure::new(Exit::Data, reason));
    }
    if let Some(error) = flushed.waiting {
        warn(&format!(
            "the message is recorded, and not published yet: {error}; a service \
             publishes it as soon as the broker takes it"
        ));
    }
    Ok(Exit::Ok)
}
