//! Prints lines on standard output and standard error.

use std::io::Write;

use super::exit::Exit;
use super::failure::CommandFailure;
use crate::names;

/// Prints a line on standard output.
pub(super) fn say(line: &str) -> Result<(), CommandFailure> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| CommandFailure::new(Exit::Io, error))
}

/// Prints a line on standard error, if that is still open, with the program's name as it was typed.
pub(super) fn warn(line: &str) {
    writeln!(std::io::stderr(), "{}: {line}", names::program()).unwrap_or_default();
}
