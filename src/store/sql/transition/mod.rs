//! Renders [`transition`](crate::state::transition()) as SQL. In the texts, `m` is the message's row and `v` the value
//! that comes with the event.

pub(super) mod cache;

use std::cmp::Reverse;

use diesel::QueryResult;

use super::engine::{ALWAYS_TRUE, Engine, MessageUpdate, assignments};
use super::guards::{OWNER_IS_DEAD, is_in, is_not_in, joined, status_literal};
use super::values::ValueTable;
use crate::state::{Column, End, Event, RequiredOwner, RowCondition, Status, Transition, Value};
use crate::store::WorkerId;

/// The terms of a statement that a transition leaves open. A term that an event needs and does not get makes a
/// statement that every database refuses.
#[derive(Clone, Copy, Default)]
pub(super) struct EventTerms<'a> {
    /// The worker that the event comes from.
    pub(super) worker: Option<WorkerId>,
    /// [`Value::EventTime`].
    pub(super) time: Option<&'a str>,
    /// The condition that the row names the same cause of waiting as the event.
    pub(super) same_cause: Option<&'a str>,
    /// The condition that the message has waited too long for that cause.
    pub(super) too_long: Option<&'a str>,
}

/// Stands in place of a term that was not given.
const MISSING_TERM: &str = "missing_term";

impl EventTerms<'_> {
    /// The terms of an event that comes from a worker.
    pub(super) fn of(worker: WorkerId) -> Self {
        Self {
            worker: Some(worker),
            ..Self::default()
        }
    }

    fn worker(&self) -> String {
        self.worker
            .map_or_else(|| MISSING_TERM.to_owned(), |worker| worker.0.to_string())
    }

    fn time(&self) -> &str {
        self.time.unwrap_or(MISSING_TERM)
    }

    fn same_cause(&self) -> &str {
        self.same_cause.unwrap_or(MISSING_TERM)
    }

    fn condition(&self, condition: RowCondition) -> &str {
        match condition {
            RowCondition::CopyIsLost => "m.due_time IS NOT NULL",
            RowCondition::WaitedTooLong => self.too_long.unwrap_or(MISSING_TERM),
        }
    }
}

/// An event as SQL: its guards and assignments.
pub(super) struct EventSql {
    /// The condition on the message's row alone.
    pub(super) guard: String,
    /// The condition that looks up workers.
    pub(super) lookup_guard: String,
    /// Columns and their new values, in the order of [`COLUMNS`].
    pub(super) set: Vec<(&'static str, String)>,
}

impl EventSql {
    pub(super) fn new<E: Engine>(event: Event, terms: &EventTerms<'_>) -> Self {
        let cases = StatusCases::of(event);
        let instead = event.instead();
        let instead = instead.map(|(condition, event)| (condition, StatusCases::of(event)));
        let set = COLUMNS.iter().filter_map(|(column, name)| {
            let to = cases.assignment::<E>(*column, name, terms);
            let to = match &instead {
                None => to,
                Some((condition, instead)) => {
                    let instead = instead.assignment::<E>(*column, name, terms);
                    case_when(name, to, terms.condition(*condition), instead)
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

    /// The same event for messages without a put-off or refusal in their rows: it then sets no text.
    pub(super) fn without_put_off(&self) -> Self {
        let put_off_columns = ["put_off_since", "put_off_reason"];
        let is_kept = |(name, _): &&(&str, String)| !put_off_columns.contains(name);
        let set = self.set.iter().filter(is_kept);
        Self {
            guard: format!("{} AND m.put_off_since IS NULL", self.guard),
            lookup_guard: self.lookup_guard.clone(),
            set: set.cloned().collect(),
        }
    }

    /// The ends of a worker's runs, of all kinds: each value `v` has the `status` of its end.
    fn ends<E: Engine>(worker: WorkerId) -> Self {
        let terms = EventTerms::of(worker);
        let ends = StatusCases::of_ends();
        let set = COLUMNS.iter().filter_map(|(column, name)| {
            let to = match column {
                None => Some("v.status".to_owned()),
                some => ends.assignment::<E>(*some, name, &terms),
            };
            Some((*name, to?))
        });
        let set = set.collect();
        let (guard, lookup_guard) = StatusCases::of(Event::Finish(End::Completed)).guard(&terms);
        Self {
            guard,
            lookup_guard,
            set,
        }
    }

    /// The update of the messages with the keys in `values`, which also hold what comes with the event.
    pub(super) fn for_keys<'a>(&'a self, values: ValueTable<'a>) -> MessageUpdate<'a> {
        MessageUpdate {
            values,
            set: &self.set,
            guard: &self.guard,
            lookup_guard: &self.lookup_guard,
        }
    }

    /// Updates the messages with these ids without checking the guards: the caller has locked the rows and checked
    /// them.
    pub(super) fn execute_on_locked(
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

    /// Both guards as one condition.
    pub(super) fn full_guard(&self) -> String {
        match self.lookup_guard.as_str() {
            ALWAYS_TRUE => self.guard.clone(),
            and => format!("{} AND {and}", self.guard),
        }
    }
}

/// The columns that events change, `None` for the status. A column that another column's new value is computed from
/// comes after that other column: MySQL assigns one column after the other.
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

/// The name of the column that records when a message entered this state, if there is one.
pub(super) fn end_time(status: Status) -> Option<&'static str> {
    let end_time = status.end_time()?;
    let mut columns = COLUMNS.iter();
    let column = columns.find(|(column, _)| *column == Some(end_time))?;
    Some(column.1)
}

/// An event's transitions by status.
struct StatusCases {
    /// The SQL of the status.
    status: &'static str,
    cases: Vec<(Status, Transition)>,
}

impl StatusCases {
    /// By the status that a message has before the event.
    fn of(event: Event) -> Self {
        Self {
            status: "m.status",
            cases: event.transitions().collect(),
        }
    }

    /// By the status that a run's end gives a message: an end does the same from every status before it.
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

    /// The condition on the row alone, and the condition that looks up workers.
    fn guard(&self, terms: &EventTerms<'_>) -> (String, String) {
        let states = self.cases.iter().map(|(status, _)| *status);
        let mut row_clauses = vec![is_in(self.status, states)];
        let mut lookup_clauses = Vec::new();
        let owners = self.cases.iter();
        let owners = group_by_key(owners.map(|(status, transition)| (transition.owner, *status)));
        for (owner, states) in &owners {
            let mut alternatives = owner_conditions(*owner, terms);
            if alternatives.is_empty() {
                continue;
            }
            if owners.len() > 1 {
                alternatives.insert(0, is_not_in(self.status, states.iter().copied()));
            }
            let clause = match alternatives.as_slice() {
                [only] => only.clone(),
                several => format!("({})", several.join(" OR ")),
            };
            match owner.may_be_dead() {
                true => lookup_clauses.push(clause),
                false => row_clauses.push(clause),
            }
        }
        let lookup_guard = match lookup_clauses.is_empty() {
            true => ALWAYS_TRUE.to_owned(),
            false => lookup_clauses.join(" AND "),
        };
        (row_clauses.join(" AND "), lookup_guard)
    }

    /// The column's new value, if the event changes the column.
    fn assignment<E: Engine>(
        &self,
        column: Option<Column>,
        name: &str,
        terms: &EventTerms<'_>,
    ) -> Option<String> {
        let Some(column) = column else {
            let mut cases = self.cases.iter();
            let change = cases.find(|(status, transition)| *status != transition.to);
            return change.map(|(_, transition)| status_literal(transition.to));
        };
        let mut values = self.cases.iter();
        if values.all(|(_, transition)| transition.value(column).is_none()) {
            return None;
        }
        let values = self.cases.iter();
        let values = values.map(|(status, transition)| (transition.value(column), *status));
        let mut values = group_by_key(values);
        values.sort_by_key(|(_, states)| Reverse(states.len()));
        let to = |value: Option<Value>| match value {
            None => format!("m.{name}"),
            Some(value) => value_sql::<E>(value, name, terms),
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

/// A column's new value, if it changes, where rows that meet `condition` get the value `instead`.
fn case_when(
    name: &str,
    to: Option<String>,
    condition: &str,
    instead: Option<String>,
) -> Option<String> {
    if to == instead {
        return to;
    }
    let or_unchanged = |to: Option<String>| to.unwrap_or_else(|| format!("m.{name}"));
    let (to, instead) = (or_unchanged(to), or_unchanged(instead));
    Some(format!(
        "CASE WHEN {condition} THEN {instead} ELSE {to} END"
    ))
}

/// Conditions of which one must hold; none if any owner will do.
fn owner_conditions(owner: RequiredOwner, terms: &EventTerms<'_>) -> Vec<String> {
    let nobody = || "m.owner IS NULL".to_owned();
    let worker = || format!("m.owner = {}", terms.worker());
    let dead = || OWNER_IS_DEAD.to_owned();
    match owner {
        RequiredOwner::Anyone => vec![],
        RequiredOwner::Nobody => vec![nobody()],
        RequiredOwner::Worker => vec![worker()],
        RequiredOwner::WorkerOrNobody => vec![nobody(), worker()],
        RequiredOwner::WorkerNobodyOrDead => vec![nobody(), worker(), dead()],
        RequiredOwner::NobodyOrDead => vec![nobody(), dead()],
        RequiredOwner::Dead => vec![format!("m.owner IS NOT NULL AND {OWNER_IS_DEAD}")],
    }
}

fn value_sql<E: Engine>(value: Value, name: &str, terms: &EventTerms<'_>) -> String {
    // The value's column has another name than the row's: `mysql::traits` replaces characters that the table can't
    // store in texts of that name, which are for people alone.
    let given = match name {
        "put_off_reason" => "reason",
        same => same,
    };
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Now => E::NOW.to_owned(),
        Value::Worker => terms.worker(),
        Value::True => "true".to_owned(),
        Value::Given => format!("v.{given}"),
        Value::KeptOrGiven => format!("(m.{name} OR v.{given} = 1)"),
        Value::EventTime => terms.time().to_owned(),
        Value::KeptElseEventTime => format!("COALESCE(m.{name}, {})", terms.time()),
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

/// Groups items by key, in the order in which the keys first appear.
fn group_by_key<K: PartialEq, T>(items: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
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
