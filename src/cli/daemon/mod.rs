//! `carrot-actors daemon`.

mod background;
mod controller;
mod status;

use std::path::{Path, PathBuf};

use self::controller::Controller;
use super::args::{DaemonArgs, ServiceArgs, Verb};
use super::configuration::origin;
use super::exit::Exit;
use super::failure::{CommandFailure, usage};
use super::program::Program;
use super::run;
use crate::daemon::{set_umask, take_resumed};

pub(super) fn daemon(
    mut args: DaemonArgs,
    before: ServiceArgs,
    config: Option<&Path>,
    program: Program,
) -> Result<Exit, CommandFailure> {
    if let Some(resumed) = take_resumed() {
        // This is the daemon, which was started with these arguments; there is no controller.
        return background::run_again(&args.service.merged_with(before), program, resumed);
    }
    if let Some((option, verbs)) = args.inapplicable_option() {
        return usage(&format!("{option} goes with {verbs} alone"));
    }
    args.service = args.service.merged_with(before);
    args.service.missing_option().map_or(Ok(()), usage)?;
    if run::is_terminal(&run::logfile(&args.service)) {
        return usage("a daemon has no standard error: --logfile must be a file");
    }
    // The service runs in another directory.
    args.service.logfile = Some(absolute(&run::logfile(&args.service))?);
    let pidfile = absolute(&args.pidfile)?;
    let controller = Controller { args, pidfile };
    match controller.args.verb {
        Verb::Start => {
            set_umask();
            let origin = origin(config)?;
            controller.start(&origin, program)
        }
        Verb::Stop => controller.stop(),
        Verb::Restart => {
            set_umask();
            controller.restart(config, program)
        }
        Verb::Status => controller.status(),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CommandFailure> {
    std::path::absolute(path).map_err(|error| {
        let path = path.display();
        CommandFailure::new(
            Exit::NoInput,
            format!("the path {path} can't be made absolute: {error}"),
        )
    })
}
