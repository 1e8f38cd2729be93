//! Reads the configuration for a command.

use std::path::Path;
use std::sync::Arc;

use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::warn;
use crate::config::{Config, Defaults, Environment, Origin};

/// Reads the configuration, and prints its warnings.
pub(super) fn load_and_warn(
    file: Option<&Path>,
    defaults: &Defaults,
) -> Result<Arc<Config>, CommandFailure> {
    read_and_warn(&origin(file)?, defaults)
}

pub(super) fn read_and_warn(
    origin: &Origin,
    defaults: &Defaults,
) -> Result<Arc<Config>, CommandFailure> {
    let config = read(origin, defaults)?;
    for warning in &config.warnings {
        warn(&warning.to_string());
    }
    Ok(config)
}

pub(super) fn load(
    file: Option<&Path>,
    defaults: &Defaults,
) -> Result<Arc<Config>, CommandFailure> {
    read(&origin(file)?, defaults)
}

/// Where the configuration is read from.
pub(super) fn origin(file: Option<&Path>) -> Result<Origin, CommandFailure> {
    let directory = std::env::current_dir().map_err(|error| {
        CommandFailure::new(
            Exit::NoInput,
            format!("the current directory is gone: {error}"),
        )
    })?;
    Origin::find(file, &Environment::from_process(), &directory)
        .map_err(|error| CommandFailure::new(Exit::Config, error))
}

pub(super) fn read(origin: &Origin, defaults: &Defaults) -> Result<Arc<Config>, CommandFailure> {
    Config::of_origin(origin, defaults, &Environment::from_process())
        .map(Arc::new)
        .map_err(|error| CommandFailure::new(Exit::Config, error))
}
