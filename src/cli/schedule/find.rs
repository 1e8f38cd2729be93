//! Finds a schedule by its name or id.

use crate::cli::exit::Exit;
use crate::cli::failure::CommandFailure;
use crate::store::{ScheduleRow, ScheduleStore, WhichSchedules};
use crate::suggest;

/// How many names an error lists at most.
const MOST_NAMES: usize = 10;

/// The schedule with that name, or else with that id.
pub(super) fn by_name_or_id(
    session: &mut dyn ScheduleStore,
    name: &str,
) -> Result<ScheduleRow, CommandFailure> {
    let mut rows = session.schedules(&WhichSchedules::Name(name))?;
    if rows.len() > 1 {
        let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
        return Err(CommandFailure::new(
            Exit::Data,
            format!(
                "{} schedules are called {name:?}: say which one by its id, {}",
                rows.len(),
                ids.join(" or ")
            ),
        ));
    }
    if rows.is_empty()
        && let Ok(id) = name.parse()
    {
        rows = session.schedules(&WhichSchedules::Id(id))?;
    }
    match rows.pop() {
        Some(row) => Ok(row),
        None => {
            let all = session.schedules(&WhichSchedules::All)?;
            Err(unknown(name, &all))
        }
    }
}

/// The schedule with that id, which existed a moment ago.
pub(super) fn by_id(
    session: &mut dyn ScheduleStore,
    id: i64,
) -> Result<ScheduleRow, CommandFailure> {
    let mut rows = session.schedules(&WhichSchedules::Id(id))?;
    rows.pop().ok_or_else(|| removed_meanwhile(id))
}

pub(super) fn removed_meanwhile(id: i64) -> CommandFailure {
    let problem = format!("schedule {id} was removed just now by somebody else");
    CommandFailure::new(Exit::Data, problem)
}

fn unknown(name: &str, all: &[ScheduleRow]) -> CommandFailure {
    let names = || all.iter().filter_map(|row| row.spec.name.as_deref());
    let mut near = suggest::near(name, names());
    near.truncate(3);
    let quoted = |names: Vec<&str>| {
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        quoted
    };
    let hint = if !near.is_empty() {
        format!("did you mean {}?", quoted(near).join(" or "))
    } else if all.is_empty() {
        "there is none yet".to_owned()
    } else {
        let listed = quoted(names().take(MOST_NAMES).collect()).join(", ");
        let more = all.len().saturating_sub(MOST_NAMES);
        match more {
            0 => format!("there are {listed}"),
            more => format!("there are {listed} and {more} more"),
        }
    };
    CommandFailure::new(Exit::Data, format!("there is no schedule {name:?}; {hint}"))
}
