//! The rendered events that every message goes through, cached per thread: rendering one takes some microseconds, by
//! which it would delay a lone message at each step.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::super::engine::Engine;
use super::{EventSql, EventTerms};
use crate::state::Event;
use crate::store::WorkerId;

/// What identifies a rendered event, beside the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum CacheKey {
    /// An event that comes from a worker and needs no other term.
    ByWorker(Event, WorkerId),
    /// The ends of a worker's runs.
    Ends(WorkerId),
    /// The broker's confirmation; `never_put_off` restricts it to messages that no row says were put off or refused.
    Confirmed { never_put_off: bool },
}

/// More entries than one process needs: only a worker whose row was deleted gets another id.
const MAX_ENTRIES: usize = 64;

thread_local! {
    static CACHE: RefCell<HashMap<(TypeId, CacheKey), Rc<EventSql>>> = RefCell::default();
}

/// An event that comes from a worker and needs no other term.
pub(in crate::store::sql) fn by_worker<E: Engine>(event: Event, worker: WorkerId) -> Rc<EventSql> {
    cached::<E>(CacheKey::ByWorker(event, worker), || {
        EventSql::new::<E>(event, &EventTerms::of(worker))
    })
}

/// The ends of a worker's runs; see [`EventSql::ends`].
pub(in crate::store::sql) fn ends<E: Engine>(worker: WorkerId) -> Rc<EventSql> {
    cached::<E>(CacheKey::Ends(worker), || EventSql::ends::<E>(worker))
}

/// The broker's confirmation, which `render` renders if this thread has not rendered it yet.
pub(in crate::store::sql) fn confirmed<E: Engine>(
    never_put_off: bool,
    render: impl FnOnce() -> EventSql,
) -> Rc<EventSql> {
    cached::<E>(CacheKey::Confirmed { never_put_off }, render)
}

fn cached<E: Engine>(key: CacheKey, render: impl FnOnce() -> EventSql) -> Rc<EventSql> {
    let key = (TypeId::of::<E>(), key);
    let known = CACHE.with_borrow(|cache| cache.get(&key).cloned());
    known.unwrap_or_else(|| {
        let sql = Rc::new(render());
        CACHE.with_borrow_mut(|cache| {
            if cache.len() >= MAX_ENTRIES {
                cache.clear();
            }
            cache.insert(key, Rc::clone(&sql));
        });
        sql
    })
}
