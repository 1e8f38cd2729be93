//! Options and arguments that several commands share.

use super::exit::Exit;
use super::failure::CommandFailure;
use crate::config::Config;
use crate::message::{Literal, Object, json};
use crate::names;

/// `--queue`, or the first queue of the configuration.
pub(super) fn queue(given: Option<&String>, config: &Config) -> String {
    given
        .cloned()
        .or_else(|| config.queues.first().map(|queue| queue.name.clone()))
        .unwrap_or_default()
}

/// Refuses a name that the database's columns can't hold; `what` is the option or argument that gave it.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), CommandFailure> {
    let length = name.chars().count();
    if length == 0 || length > names::COLUMN_CHARS || name.contains('\0') {
        let expected = format!(
            "{what} must be a name of 1 to {} characters",
            names::COLUMN_CHARS
        );
        return Err(CommandFailure::new(Exit::Data, expected));
    }
    Ok(())
}

/// A task's positional arguments, from `--args` or from strings.
pub(super) fn positional(
    json: Option<&str>,
    texts: &[String],
) -> Result<Vec<Literal>, CommandFailure> {
    let Some(json) = json else {
        return Ok(texts.iter().cloned().map(Literal::Text).collect());
    };
    let found = match json::parse(json) {
        Ok(Literal::List(args)) => return Ok(args),
        Ok(other) => format!("it is {}", other.kind()),
        Err(error) => error.to_string(),
    };
    let expected = format!("--args must be a JSON array, such as '[1, \"two\"]': {found}");
    Err(CommandFailure::new(Exit::Data, expected))
}

/// A task's named arguments, from `--kwargs`.
pub(super) fn named(json: Option<&str>) -> Result<Object, CommandFailure> {
    let Some(json) = json else {
        return Ok(Object::default());
    };
    let found = match json::parse(json) {
        Ok(Literal::Object(kwargs)) => return Ok(kwargs),
        Ok(other) => format!("it is {}", other.kind()),
        Err(error) => error.to_string(),
    };
    let expected = format!("--kwargs must be a JSON object, such as '{{\"size\": 3}}': {found}");
    Err(CommandFailure::new(Exit::Data, expected))
}
