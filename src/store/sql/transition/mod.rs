//! What [`transition`](crate::state::transition()) says, as the statements have it: of the row `m`, and of the value `v`
//! that comes with an event.

pub(super) mod cache;

use std::cmp::Reverse;
use std::rc::Rc;

use diesel::QueryResult;

use self::cache::CacheKey;
use super::engine::{ALWAYS_TRUE, Engine, MessageUpdate, assignments};
use super::guards::{OWNER_IS_DEAD, is_in, is_not_in, joined, literal};
use super::values::ValueTable;
use crate::state::{Column, End, Event, RequiredOwner, RowCondition, Status, Transition, Value};
use crate::store::WorkerId;

/// What a statement has that a transition leaves open. What is missing makes a statement that no database runs.
#[derive(Clone, Copy, Default)]
pub(super) struct EventTerms<'a> {
    /// The worker that the event comes from.
    pub(super) us: Option<WorkerId>,
    /// [`Value::Then`].
    pub(super) then: Option<&'a str>,
    /// The condition that the message has waited for the same cause before.
    pub(super) same_cause: Option<&'a str>,
    /// The condition that it has done so for too long.
    pub(super) too_long: Option<&'a str>,
}

/// Stands for a term that is missing.
const MISSING: &str = "missing_term";

impl EventTerms<'_> {
    /// Those of an event that comes from a worker.
    pub(super) fn of(worker: WorkerId) -> Self {
        Self {
            us: Some(worker),
            ..Self::default()
        }
    }

    fn us(&self) -> String {
        self.us
            .map_or_else(|| MISSING.to_owned(), |worker| worker.0.to_string())
    }

    fn then(&self) -> &str {
        self.then.unwrap_or(MISSING)
    }

    fn same_cause(&self) -> &str {
        self.same_cause.unwrap_or(MISSING)
    }

    fn holds(&self, exception: RowCondition) -> &str {
        match exception {
            RowCondition::CopyIsLost => "m.due_time IS NOT NULL",
            RowCondition::WaitedTooLong => self.too_long.unwrap_or(MISSING),
        }
    }
}

/// An event's guard and assignments.
pub(super) struct EventSql {
    /// The guard, of the message's row alone.
    pub(super) guard: String,
    /// What is asked of workers beside that.
    pub(super) lookup_guard: String,
    /// Columns and what they are set to, in the order of [`COLUMNS`].
    pub(super) set: Vec<(&'static str, String)>,
}

impl EventSql {
    pub(super) fn of<E: Engine>(event: Event, terms: &EventTerms<'_>) -> Self {
        let cases = Cases::of(event);
        let instead = event.instead();
        let instead = instead.map(|(exception, event)| (exception, Cases::of(event)));
        let set = COLUMNS.iter().filter_map(|(column, name)| {
            let to = cases.assigned::<E>(*column, name, terms);
            let to = match &instead {
                None => to,
                Some((exception, instead)) => {
                    let instead = instead.assigned::<E>(*column, name, terms);
                    unless(name, to, terms.holds(*exception), instead)
                }
            };
            Some((*name, to?))
        });
        let set = set.collect();
        let (guard, lookup_guard) = cases.guard(terms);
        Self {
            guard,
            lookup_guard,
            set,
        }
    }

    /// That of an event that comes from a worker, without other terms.
    pub(super) fn by<E: Engine>(event: Event, worker: WorkerId) -> Rc<Self> {
        let make = || Self::of::<E>(event, &EventTerms::of(worker));
        cache::once::<E>(CacheKey::By(event, worker), make)
    }

    /// The same for messages of which nothing is noted that they wait for: it sets no text then.
    pub(super) fn where_nothing_is_noted(&self) -> Self {
        let notes = ["put_off_since", "put_off_reason"];
        let set = self.set.iter().filter(|(name, _)| !notes.contains(name));
        Self {
            guard: format!("{} AND m.put_off_since IS NULL", self.guard),
            lookup_guard: self.lookup_guard.clone(),
            set: set.cloned().collect(),
        }
    }

    /// The ends of runs, whatever they are: each value `v` has its `status`.
    pub(super) fn of_ends<E: Engine>(worker: WorkerId) -> Rc<Self> {
        cache::once::<E>(CacheKey::Ends(worker), || Self::make_ends::<E>(worker))
    }

    fn make_ends<E: Engine>(worker: WorkerId) -> Self {
        let terms = EventTerms::of(worker);
        let ends = Cases::of_ends();
        let set = COLUMNS.iter().filter_map(|(column, name)| {
            let to = match column {
                None => Some("v.status".to_owned()),
                some => ends.assigned::<E>(*some, name, &terms),
            };
            Some((*name, to?))
        });
        let set = set.collect();
        let (guard, lookup_guard) = Cases::of(Event::Finish(End::Completed)).guard(&terms);
        Self {
            guard,
            lookup_guard,
            set,
        }
    }

    /// The same for messages with these keys, and what comes with the event for each.
    pub(super) fn of_keys<'a>(&'a self, values: ValueTable<'a>) -> MessageUpdate<'a> {
        MessageUpdate {
            values,
            set: &self.set,
            guard: &self.guard,
            lookup_guard: &self.lookup_guard,
        }
    }

    /// The same for messages with these ids, without the guard: they are locked, and it was asked before.
    pub(super) fn of_locked(
        &self,
        engine: &mut impl Engine,
        ids: impl IntoIterator<Item = i64>,
    ) -> QueryResult<()> {
        engine.execute_unprepared(&format!(
            "UPDATE carrot_messagelog AS m SET {} WHERE m.id IN ({})",
            assignments("", &self.set),
            joined(ids)
        ))
    }

    /// The whole guard.
    pub(super) fn full_guard(&self) -> String {
        match self.lookup_guard.as_str() {
            ALWAYS_TRUE => self.guard.clone(),
            and => format!("{} AND {and}", self.guard),
        }
    }
}

/// The columns that events change; without a [`Column`] it is the status. Those that the values of others are made
/// of come after these: MySQL sets one after the other.
const COLUMNS: &[(Option<Column>, &str)] = &[
    (Some(Column::Message), "task"),
    (Some(Column::Message), "task_args"),
    (Some(Column::Message), "content"),
    (Some(Column::Message), "queue"),
    (Some(Column::Message), "exchange"),
    (Some(Column::Message), "routing_key"),
    (Some(Column::Message), "priority"),
    (Some(Column::Attempts), "attempts"),
    (Some(Column::CrashSuspect), "suspect"),
    (Some(Column::Owner), "owner"),
    (Some(Column::Output), "output"),
    (Some(Column::Exception), "exception"),
    (Some(Column::Traceback), "traceback"),
    (Some(Column::Log), "log"),
    (Some(Column::CompletionTime), "completion_time"),
    (Some(Column::FailureTime), "failure_time"),
    (Some(Column::Due), "due_time"),
    (None, "status"),
    (Some(Column::PutOffSince), "put_off_since"),
    (Some(Column::PutOffReason), "put_off_reason"),
];

/// The name of the column that has the time at which a message came to that state, if one has.
pub(super) fn end_time(status: Status) -> Option<&'static str> {
    let end_time = status.end_time()?;
    let mut columns = COLUMNS.iter();
    let column = columns.find(|(column, _)| *column == Some(end_time))?;
    Some(column.1)
}

/// What happens, by a status.
struct Cases {
    /// Where that stands.
    status: &'static str,
    cases: Vec<(Status, Transition)>,
}

impl Cases {
    /// By the status that a message has.
    fn of(event: Event) -> Self {
        Self {
            status: "m.status",
            cases: event.transitions().collect(),
        }
    }

    /// By the one that it gets at its end; from whichever it comes, the same happens.
    fn of_ends() -> Self {
        let cases = End::ALL.into_iter().filter_map(|end| {
            let (_, transition) = Event::Finish(end).transitions().next()?;
            Some((end.status(), transition))
        });
        Self {
            status: "v.status",
            cases: cases.collect(),
        }
    }

    /// What is asked of the row alone, and what is asked of workers beside that.
    fn guard(&self, terms: &EventTerms<'_>) -> (String, String) {
        let states = self.cases.iter().map(|(status, _)| *status);
        let mut given = vec![is_in(self.status, states)];
        let mut and = Vec::new();
        let holders = self.cases.iter();
        let holders = grouped(holders.map(|(status, transition)| (transition.owner, *status)));
        for (holder, states) in &holders {
            let mut alternatives = holds(*holder, terms);
            if alternatives.is_empty() {
                continue;
            }
            if holders.len() > 1 {
                alternatives.insert(0, is_not_in(self.status, states.iter().copied()));
            }
            let clause = match alternatives.as_slice() {
                [only] => only.clone(),
                several => format!("({})", several.join(" OR ")),
            };
            match holder.may_be_dead() {
                true => and.push(clause),
                false => given.push(clause),
            }
        }
        let and = match and.is_empty() {
            true => ALWAYS_TRUE.to_owned(),
            false => and.join(" AND "),
        };
        (given.join(" AND "), and)
    }

    /// What the column is set to, if it changes.
    fn assigned<E: Engine>(
        &self,
        column: Option<Column>,
        name: &str,
        terms: &EventTerms<'_>,
    ) -> Option<String> {
        let Some(column) = column else {
            let mut cases = self.cases.iter();
            let change = cases.find(|(status, transition)| *status != transition.to);
            return change.map(|(_, transition)| literal(transition.to));
        };
        let mut values = self.cases.iter();
        if values.all(|(_, transition)| transition.value(column).is_none()) {
            return None;
        }
        let values = self.cases.iter();
        let values = values.map(|(status, transition)| (transition.value(column), *status));
        let mut values = grouped(values);
        values.sort_by_key(|(_, states)| Reverse(states.len()));
        let to = |value: Option<Value>| match value {
            None => format!("m.{name}"),
            Some(value) => expression::<E>(value, name, terms),
        };
        let ((most, _), others) = values.split_first()?;
        if others.is_empty() {
            return Some(to(*most));
        }
        let arms = others.iter().map(|(value, states)| {
            let is_one = is_in(self.status, states.iter().copied());
            format!("WHEN {is_one} THEN {}", to(*value))
        });
        let arms: Vec<String> = arms.collect();
        Some(format!("CASE {} ELSE {} END", arms.join(" "), to(*most)))
    }
}

/// What a column is set to, if it changes, where something else happens to messages of which `exception` holds.
fn unless(
    name: &str,
    to: Option<String>,
    exception: &str,
    instead: Option<String>,
) -> Option<String> {
    if to == instead {
        return to;
    }
    let or_kept = |to: Option<String>| to.unwrap_or_else(|| format!("m.{name}"));
    let (to, instead) = (or_kept(to), or_kept(instead));
    Some(format!(
        "CASE WHEN {exception} THEN {instead} ELSE {to} END"
    ))
}

/// Conditions of which one must hold, if any is asked.
fn holds(holder: RequiredOwner, terms: &EventTerms<'_>) -> Vec<String> {
    let nobody = || "m.owner IS NULL".to_owned();
    let us = || format!("m.owner = {}", terms.us());
    let dead = || OWNER_IS_DEAD.to_owned();
    match holder {
        RequiredOwner::Anyone => vec![],
        RequiredOwner::Nobody => vec![nobody()],
        RequiredOwner::Worker => vec![us()],
        RequiredOwner::WorkerOrNobody => vec![nobody(), us()],
        RequiredOwner::WorkerNobodyOrDead => vec![nobody(), us(), dead()],
        RequiredOwner::NobodyOrDead => vec![nobody(), dead()],
        RequiredOwner::Dead => vec![format!("m.owner IS NOT NULL AND {OWNER_IS_DEAD}")],
    }
}

fn expression<E: Engine>(value: Value, name: &str, terms: &EventTerms<'_>) -> String {
    // Of a text that is only for people, characters that a table has not are replaced; see `mysql::traits`.
    let given = match name {
        "put_off_reason" => "reason",
        same => same,
    };
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Now => E::NOW.to_owned(),
        Value::Worker => terms.us(),
        Value::True => "true".to_owned(),
        Value::Given => format!("v.{given}"),
        Value::KeptOrGiven => format!("(m.{name} OR v.{given} = 1)"),
        Value::Then => terms.then().to_owned(),
        Value::KeptElseThen => format!("COALESCE(m.{name}, {})", terms.then()),
        Value::KeptIfSameElseNow => {
            let same_cause = terms.same_cause();
            format!("CASE WHEN {same_cause} THEN m.{name} ELSE {} END", E::NOW)
        }
        Value::NullIfSame => {
            let same_cause = terms.same_cause();
            format!("CASE WHEN {same_cause} THEN NULL ELSE m.{name} END")
        }
    }
}

/// What has the same key, together, in the order of their first ones.
fn grouped<K: PartialEq, T>(items: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in items {
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
