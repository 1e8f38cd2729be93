//! Taking turns, first come, first served, which a mutex does not promise.
//!
//! `parking_lot::FairMutex` is fair only to the threads in its queue. A thread spins before it joins the queue, and
//! a later one can overtake it meanwhile; and a test can't see that a thread waits.

use std::sync::{Condvar, Mutex, PoisonError};

/// Lets one thread at a time have its turn, in the order in which they ask for it.
#[derive(Default)]
pub(super) struct Turns {
    tickets: Mutex<Tickets>,
    turn_changed: Condvar,
}

#[derive(Default)]
struct Tickets {
    /// The next ticket to give out.
    next: u64,
    /// The ticket whose turn it is.
    serving: u64,
}

/// A thread's turn, which ends when this is dropped.
pub(super) struct TurnGuard<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn.
    #[must_use]
    pub(super) fn take(&self) -> TurnGuard<'_> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = tickets.next;
        tickets.next += 1;
        while tickets.serving != mine {
            tickets = self
                .turn_changed
                .wait(tickets)
                .unwrap_or_else(PoisonError::into_inner);
        }
        TurnGuard(self)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let mut tickets = self
            .0
            .tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tickets.serving += 1;
        self.0.turn_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::sync::{Arc, Mutex};
    use std::thread;

    #[test]
    fn threads_have_their_turns_in_the_order_in_which_they_asked() {
        let turns = Arc::new(Turns::default());
        let served = Arc::new(Mutex::new(Vec::new()));
        let first = turns.take();
        let threads: Vec<_> = (1..5)
            .map(|nth| {
                let (turns, served) = (Arc::clone(&turns), Arc::clone(&served));
                let thread = thread::spawn({
                    let turns = Arc::clone(&turns);
                    move || {
                        let _turn = turns.take();
                        served.lock().unwrap().push(nth);
                    }
                });
                while turns.tickets.lock().unwrap().next <= nth {
                    thread::yield_now();
                }
                thread
            })
            .collect();
        drop(first);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*served.lock().unwrap(), [1, 2, 3, 4]);
    }
}
