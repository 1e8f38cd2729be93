//! The stock `carrot-actors`: runs commands from its configuration as tasks.

use std::process::ExitCode;

use carrot_actors::App;

fn main() -> ExitCode {
    App::new().run()
}
