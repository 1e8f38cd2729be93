//! `carrot-actors schedule`.

mod args;
mod find;
mod spec;
mod view;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

pub(super) use self::args::ScheduleArgs;
use self::args::{AddArgs, EditArgs, ScheduleCommand};
use self::view::ScheduleView;
use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::{say, warn};
use super::publish::publish;
use crate::config::Config;
use crate::names;
use crate::schedule;
use crate::store::{self, EditResult, ScheduleStore, Session, StoreError, WhichSchedules};

/// How often an edit is tried that conflicts with another one.
const MOST_TRIES: u32 = 10;

pub(super) fn schedule(args: &ScheduleArgs, config: Arc<Config>) -> Result<Exit, CommandFailure> {
    let store = store::open_for(&config)?;
    let session = store::session(store.as_ref())?;
    let mut editor = ScheduleEditor {
        session,
        config,
        json: args.json,
    };
    match &args.command {
        ScheduleCommand::List => editor.list(),
        ScheduleCommand::Show(which) => editor.show(&which.name),
        ScheduleCommand::Add(args) => editor.add(args),
        ScheduleCommand::Edit(args) => editor.edit(args),
        ScheduleCommand::Enable(which) => editor.activate(&which.name, true),
        ScheduleCommand::Disable(which) => editor.activate(&which.name, false),
        ScheduleCommand::Remove(which) => editor.remove(&which.name),
        ScheduleCommand::Run(which) => editor.run(&which.name),
    }
}

/// Carries out the commands of `schedule` on one connection.
struct ScheduleEditor {
    session: Box<dyn Session>,
    config: Arc<Config>,
    json: bool,
}

impl ScheduleEditor {
    fn list(&mut self) -> Result<Exit, CommandFailure> {
        let now = self.session.now()?;
        let rows = self.session.schedules(&WhichSchedules::All)?;
        let views: Vec<ScheduleView> = rows.iter().map(|row| ScheduleView::new(row, now)).collect();
        if self.json {
            let list: Vec<_> = views.iter().map(ScheduleView::report).collect();
            say(&pretty(&list)?)?;
        } else if views.is_empty() {
            say(&format!(
                "there are no schedules yet; add one: {} schedule add NAME TASK --every 5m",
                names::program()
            ))?;
        } else {
            for line in view::table(&views) {
                say(&line)?;
            }
        }
        Ok(Exit::Ok)
    }

    fn show(&mut self, name: &str) -> Result<Exit, CommandFailure> {
        let row = find::by_name_or_id(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        let view = ScheduleView::new(&row, now);
        if self.json {
            say(&pretty(&view.report_with_runs())?)?;
        } else {
            for line in view.page() {
                say(&line)?;
            }
        }
        Ok(Exit::Ok)
    }

    fn add(&mut self, args: &AddArgs) -> Result<Exit, CommandFailure> {
        let spec = spec::new(args, &self.config)?;
        let now = self.session.now()?;
        spec::check(&spec, now)?;
        let Some(id) = self.session.add_schedule(&spec)? else {
            return Err(name_taken(&args.name));
        };
        schedule::plan_saved(self.session.as_mut(), id, true);
        self.say_saved("added", id, now)
    }

    fn edit(&mut self, args: &EditArgs) -> Result<Exit, CommandFailure> {
        let change = spec::ScheduleChange::read(args)?;
        let row = find::by_name_or_id(self.session.as_mut(), &args.schedule.name)?;
        let (id, mut was) = (row.id, row.spec);
        let now = self.session.now()?;
        for _ in 0..MOST_TRIES {
            let to = change.applied_to(&was);
            if change.changes_timetable() {
                spec::check_timetable(&to, now)?;
            }
            if change.changes_message() {
                spec::check_message(id, &to)?;
            }
            match self.retry_conflicts(|session| session.edit_schedule(id, &was, &to))? {
                EditResult::Saved => {
                    schedule::plan_saved(self.session.as_mut(), id, true);
                    return self.say_saved("saved", id, now);
                }
                EditResult::Changed => was = find::by_id(self.session.as_mut(), id)?.spec,
                EditResult::NameTaken => {
                    return Err(name_taken(to.name.as_deref().unwrap_or_default()));
                }
                EditResult::Gone => return Err(find::removed_meanwhile(id)),
            }
        }
        Err(CommandFailure::new(
            Exit::Unavailable,
            format!(
                "{} was changed by others at each try: nothing is saved",
                args.schedule.name
            ),
        ))
    }

    fn activate(&mut self, name: &str, active: bool) -> Result<Exit, CommandFailure> {
        let row = find::by_name_or_id(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        if active {
            spec::check_readable(&row)?;
            spec::check(&row.spec, now)?;
        }
        if !self.retry_conflicts(|session| session.activate_schedule(row.id, active))? {
            return Err(find::removed_meanwhile(row.id));
        }
        schedule::plan_saved(self.session.as_mut(), row.id, row.spec.active);
        let verb = if active { "enabled" } else { "disabled" };
        self.say_saved(verb, row.id, now)
    }

    fn remove(&mut self, name: &str) -> Result<Exit, CommandFailure> {
        let row = find::by_name_or_id(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        if !self.retry_conflicts(|session| session.remove_schedule(row.id))? {
            return Err(find::removed_meanwhile(row.id));
        }
        if self.json {
            say(&pretty(&ScheduleView::new(&row, now).report())?)?;
        } else {
            say(&format!("removed {}", row.title()))?;
        }
        Ok(Exit::Ok)
    }

    fn run(&mut self, name: &str) -> Result<Exit, CommandFailure> {
        let row = find::by_name_or_id(self.session.as_mut(), name)?;
        spec::check_readable(&row)?;
        let message = spec::check_message(row.id, &row.spec)?;
        let line = if self.json {
            json!({ "uuid": message.key }).to_string()
        } else {
            message.key.clone()
        };
        let config = Arc::clone(&self.config);
        publish(&message, self.session.as_mut(), config, &line)
    }

    /// Repeats `work` if it conflicts with another transaction, such as a service's that advances schedules.
    fn retry_conflicts<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn ScheduleStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = self.session.as_mut();
        store::retry_conflicts(MOST_TRIES, || work(session))
    }

    /// Prints the saved schedule, and a warning if it will not run.
    fn say_saved(
        &mut self,
        verb: &str,
        id: i64,
        now: DateTime<Utc>,
    ) -> Result<Exit, CommandFailure> {
        let row = find::by_id(self.session.as_mut(), id)?;
        let view = ScheduleView::new(&row, now);
        if self.json {
            say(&pretty(&view.report())?)?;
        } else {
            say(&format!("{verb} {}", view.line()))?;
        }
        if let Some(problem) = view.problem() {
            warn(&format!("it will not run: {problem}"));
        }
        Ok(Exit::Ok)
    }
}

fn name_taken(name: &str) -> CommandFailure {
    let problem = format!(
        "there is a schedule {name:?} already: see it with `schedule show`, change it with `schedule edit`"
    );
    CommandFailure::new(Exit::Data, problem)
}

fn pretty(value: &impl Serialize) -> Result<String, CommandFailure> {
    serde_json::to_string_pretty(value).map_err(|error| CommandFailure::new(Exit::Software, error))
}
