//! The stock `carrot-actors`: runs commands from its configuration as tasks.

use std::process::ExitCode;

fn main() -> ExitCode {
    carrot_actors::cli::main(carrot_actors::task::Registry::new())
}
