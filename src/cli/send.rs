//! `carrot-actors send`.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::args::SendArgs;
use super::{Exit, Failure, say, warn};
use crate::config::Config;
use crate::message::{Arguments, Message};
use crate::names;
use crate::publish::Door;
use crate::service;

pub(super) fn send(args: &SendArgs, config: Arc<Config>) -> Result<Exit, Failure> {
    let message = message(args, &config)?;
    let store = service::store(&config)?;
    let mut session = service::session(store.as_ref())?;
    let messages = std::slice::from_ref(&message);
    Door::record(session.as_mut(), messages)?;
    // Said as soon as it is true: who is told nothing sends it again.
    say(&message.key)?;
    let flushed = match Door::new(config).flush(session.as_mut(), messages) {
        Ok(flushed) => flushed,
        Err(error) => {
            warn(&format!(
                "carrot-actors: the message is recorded, and a service publishes it unless that has \
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
            "carrot-actors: the message is recorded, and not published yet: {error}; a service \
             publishes it as soon as the broker is back"
        ));
    }
    Ok(Exit::Ok)
}

fn message(args: &SendArgs, config: &Config) -> Result<Message, Failure> {
    let queue = args
        .queue
        .clone()
        .or_else(|| config.queues.first().map(|queue| queue.name.clone()))
        .unwrap_or_default();
    for (what, name) in [("TASK", &args.task), ("--queue", &queue)] {
        let length = name.chars().count();
        if length == 0 || length > names::COLUMN_CHARS || name.contains('\0') {
            let expected = format!(
                "{what} must be a name of 1 to {} characters",
                names::COLUMN_CHARS
            );
            return Err(Failure::new(Exit::Data, expected));
        }
    }
    let arguments = Arguments {
        args: positional(args)?,
        kwargs: named(args)?,
    };
    Ok(Message {
        priority: args.priority,
        ..Message::new(&args.task, arguments, queue)
    })
}

fn positional(args: &SendArgs) -> Result<Vec<Value>, Failure> {
    let Some(json) = &args.args else {
        return Ok(args.texts.iter().cloned().map(Value::String).collect());
    };
    serde_json::from_str(json).map_err(|error| {
        let expected = format!("--args must be a JSON array, such as '[1, \"two\"]': {error}");
        Failure::new(Exit::Data, expected)
    })
}

fn named(args: &SendArgs) -> Result<Map<String, Value>, Failure> {
    let Some(json) = &args.kwargs else {
        return Ok(Map::new());
    };
    serde_json::from_str(json).map_err(|error| {
        let expected =
            format!("--kwargs must be a JSON object, such as '{{\"size\": 3}}': {error}");
        Failure::new(Exit::Data, expected)
    })
}
