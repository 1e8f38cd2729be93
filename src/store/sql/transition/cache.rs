//! Changes that every message goes through, made once a thread: making one takes some microseconds, which a lone
//! message would wait for at each step.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::super::engine::Engine;
use super::EventSql;
use crate::state::Event;
use crate::store::WorkerId;

/// What a change is made of, beside the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::store::sql) enum CacheKey {
    /// An event that comes from a worker, without other terms.
    By(Event, WorkerId),
    /// The ends of a worker's runs.
    Ends(WorkerId),
    /// The broker's confirmation, and whether only of messages of which nothing is noted.
    Confirmed { nothing_noted: bool },
}

/// More than one process has: a worker that the database does not know any more gets another id.
const MOST: usize = 64;

thread_local! {
    static CHANGES: RefCell<HashMap<(TypeId, CacheKey), Rc<EventSql>>> = RefCell::default();
}

/// The change, which `make` makes if this thread has not had it yet.
pub(in crate::store::sql) fn once<E: Engine>(
    made: CacheKey,
    make: impl FnOnce() -> EventSql,
) -> Rc<EventSql> {
    let key = (TypeId::of::<E>(), made);
    let known = CHANGES.with_borrow(|changes| changes.get(&key).cloned());
    known.unwrap_or_else(|| {
        let change = Rc::new(make());
        CHANGES.with_borrow_mut(|changes| {
            if changes.len() >= MOST {
                changes.clear();
            }
            changes.insert(key, Rc::clone(&change));
        });
        change
    })
}
