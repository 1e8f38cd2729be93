//! `carrot-actors prune`.

use super::args::PruneArgs;
use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::say;
use crate::config::{self, Config};
use crate::maintenance::prune::{self, PrunedCounts};
use crate::store;

pub(super) fn prune(args: &PruneArgs, config: &Config) -> Result<Exit, CommandFailure> {
    let history = config
        .history
        .as_ref()
        .ok_or_else(|| CommandFailure::new(Exit::Config, no_history(config)))?;
    let store = store::open_for(config)?;
    let mut session = store::session(store.as_ref())?;
    let mut counts = PrunedCounts::default();
    let ended = prune::prune_all(session.as_mut(), history, !args.dry_run, &mut counts);
    let verb = if args.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    // Printed also after an error: what is deleted stays deleted.
    for (status, age) in history.ages() {
        let (count, age) = (counts.of(status), config::format_duration(age));
        say(&format!(
            "{verb} {count} {status} messages older than {age}"
        ))?;
    }
    ended?;
    Ok(Exit::Ok)
}

fn no_history(config: &Config) -> String {
    let file = config.file.as_ref().map_or_else(
        || "a configuration file, such as ./carrot.toml".to_owned(),
        |file| file.display().to_string(),
    );
    format!(
        "no history is configured, so all messages are kept: say how old those that are over may grow, \
         under [history] in {file}, as completed = \"7d\" and failed = \"90d\""
    )
}
