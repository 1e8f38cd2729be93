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
use self::view::View;
use super::publish::publish;
use super::{Exit, Failure, say, warn};
use crate::config::Config;
use crate::names;
use crate::schedule;
use crate::store::{self, EditResult, ScheduleStore, Session, StoreError, WhichSchedules};

/// So often an edit begins anew because somebody else has changed the schedule meanwhile.
const EDITS: u32 = 10;

pub(super) fn schedule(args: &ScheduleArgs, config: Arc<Config>) -> Result<Exit, Failure> {
    let store = store::open_for(&config)?;
    let session = store::session(store.as_ref())?;
    let mut desk = Desk {
        session,
        config,
        json: args.json,
    };
    match &args.command {
        ScheduleCommand::List => desk.list(),
        ScheduleCommand::Show(which) => desk.show(&which.name),
        ScheduleCommand::Add(args) => desk.add(args),
        ScheduleCommand::Edit(args) => desk.edit(args),
        ScheduleCommand::Enable(which) => desk.activate(&which.name, true),
        ScheduleCommand::Disable(which) => desk.activate(&which.name, false),
        ScheduleCommand::Remove(which) => desk.remove(&which.name),
        ScheduleCommand::Run(which) => desk.run(&which.name),
    }
}

/// A connection, and how its answers are printed.
struct Desk {
    session: Box<dyn Session>,
    config: Arc<Config>,
    json: bool,
}

impl Desk {
    fn list(&mut self) -> Result<Exit, Failure> {
        let now = self.session.now()?;
        let rows = self.session.schedules(&WhichSchedules::All)?;
        let views: Vec<View> = rows.iter().map(|row| View::of(row, now)).collect();
        if self.json {
            let list: Vec<_> = views.iter().map(View::report).collect();
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

    fn show(&mut self, name: &str) -> Result<Exit, Failure> {
        let row = find::one(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        let view = View::of(&row, now);
        if self.json {
            say(&pretty(&view.report_with_runs())?)?;
        } else {
            for line in view.page() {
                say(&line)?;
            }
        }
        Ok(Exit::Ok)
    }

    fn add(&mut self, args: &AddArgs) -> Result<Exit, Failure> {
        let spec = spec::new(args, &self.config)?;
        let now = self.session.now()?;
        spec::check(&spec, now)?;
        let Some(id) = self.session.add_schedule(&spec)? else {
            return Err(taken(&args.name));
        };
        schedule::plan_saved(self.session.as_mut(), id, true);
        self.say_saved("added", id, now)
    }

    fn edit(&mut self, args: &EditArgs) -> Result<Exit, Failure> {
        let change = spec::Change::read(args)?;
        let row = find::one(self.session.as_mut(), &args.which.name)?;
        let (id, mut was) = (row.id, row.spec);
        let now = self.session.now()?;
        for _ in 0..EDITS {
            let to = change.applied_to(&was);
            if change.timetable() {
                spec::check_timetable(&to, now)?;
            }
            if change.message() {
                spec::check_message(id, &to)?;
            }
            match self.apart(|session| session.edit_schedule(id, &was, &to))? {
                EditResult::Saved => {
                    schedule::plan_saved(self.session.as_mut(), id, true);
                    return self.say_saved("saved", id, now);
                }
                EditResult::Changed => was = find::by_id(self.session.as_mut(), id)?.spec,
                EditResult::NameTaken => return Err(taken(to.name.as_deref().unwrap_or_default())),
                EditResult::Gone => return Err(find::gone(id)),
            }
        }
        Err(Failure::new(
            Exit::Unavailable,
            format!(
                "{} was changed by others all the time: nothing is saved",
                args.which.name
            ),
        ))
    }

    fn activate(&mut self, name: &str, active: bool) -> Result<Exit, Failure> {
        let row = find::one(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        if active {
            spec::check_readable(&row)?;
            spec::check(&row.spec, now)?;
        }
        if !self.apart(|session| session.activate_schedule(row.id, active))? {
            return Err(find::gone(row.id));
        }
        schedule::plan_saved(self.session.as_mut(), row.id, row.spec.active);
        let verb = if active { "enabled" } else { "disabled" };
        self.say_saved(verb, row.id, now)
    }

    fn remove(&mut self, name: &str) -> Result<Exit, Failure> {
        let row = find::one(self.session.as_mut(), name)?;
        let now = self.session.now()?;
        if !self.apart(|session| session.remove_schedule(row.id))? {
            return Err(find::gone(row.id));
        }
        if self.json {
            say(&pretty(&View::of(&row, now).report())?)?;
        } else {
            say(&format!("removed {}", row.title()))?;
        }
        Ok(Exit::Ok)
    }

    fn run(&mut self, name: &str) -> Result<Exit, Failure> {
        let row = find::one(self.session.as_mut(), name)?;
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

    /// Does something once more if it has met another transaction, as a service's that advances schedules.
    fn apart<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn ScheduleStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = self.session.as_mut();
        store::retry_conflicts(EDITS, || work(session))
    }

    /// Says what stands in the row now, and what will keep it from running.
    fn say_saved(&mut self, verb: &str, id: i64, now: DateTime<Utc>) -> Result<Exit, Failure> {
        let row = find::by_id(self.session.as_mut(), id)?;
        let view = View::of(&row, now);
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

fn taken(name: &str) -> Failure {
    let problem = format!(
        "there is a schedule {name:?} already: see it with `schedule show`, change it with `schedule edit`"
    );
    Failure::new(Exit::Data, problem)
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Software, error))
}
