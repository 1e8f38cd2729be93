//! Taking turns, first come, first served: what a mutex does not promise.
//!
//! `parking_lot::FairMutex` promises it of those who stand in its queue. Who comes first spins before it does so,
//! and can be passed by a later one; and nobody can see that it waits, as a test must.

use std::sync::{Condvar, Mutex, PoisonError};

/// What only one thread may do at a time.
#[derive(Default)]
pub(super) struct Turns {
    tickets: Mutex<Tickets>,
    called: Condvar,
}

#[derive(Default)]
struct Tickets {
    /// The next to be given out.
    next: u64,
    /// The one whose turn it is.
    serving: u64,
}

/// A thread's turn; over when dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn.
    #[must_use]
    pub(super) fn take(&self) -> Turn<'_> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = tickets.next;
        tickets.next += 1;
        while tickets.serving != mine {
            tickets = self
                .called
                .wait(tickets)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut tickets = self
            .0
            .tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tickets.serving += 1;
        self.0.called.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::sync::{Arc, Mutex};
    use std::thread;

    #[test]
    fn those_who_wait_are_served_in_the_order_in_which_they_came() {
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
