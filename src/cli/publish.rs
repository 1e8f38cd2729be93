//! Publishes one message and prints the result: for `send` and `schedule run`.

use std::sync::Arc;

use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::{say, warn};
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
) -> Result<Exit, CommandFailure> {
    let recorded = Outbox::record(session, std::slice::from_ref(message))?;
    // Printed as soon as the message is recorded: a user who sees no uuid sends it again.
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
        return Err(CommandFailure::new(Exit::Data, reason));
    }
    if let Some(error) = flushed.waiting {
        warn(&format!(
            "the message is recorded, and not published yet: {error}; a service \
             publishes it as soon as the broker takes it"
        ));
    }
    Ok(Exit::Ok)
}
