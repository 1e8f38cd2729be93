//! Lets a publisher wake the consumers of its process.
//!
//! The registry is global to the process, so publishers and consumers need no reference to each other. A consumer
//! may be woken for nothing, for example by a queue of the same name in another database: it polls once and waits
//! again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

static LISTENERS: Mutex<Vec<(String, Sender<()>)>> = Mutex::new(Vec::new());

fn listeners() -> MutexGuard<'static, Vec<(String, Sender<()>)>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a listener that receives a signal when there are messages for the queue, until it is dropped.
pub(super) fn listen(queue: &str) -> Receiver<()> {
    // One signal is enough: it says that there are messages, not how many.
    let (sender, receiver) = bounded(1);
    // Waking removes dropped listeners: a consumer that has lost its connection registers again.
    wake(queue);
    listeners().push((queue.to_owned(), sender));
    receiver
}

/// Wakes the consumers of the queue, and removes dropped listeners.
pub(super) fn wake(queue: &str) {
    listeners().retain(|(name, sender)| {
        name != queue || sender.try_send(()) != Err(TrySendError::Disconnected(()))
    });
}

#[cfg(test)]
mod tests {
    use super::{listen, wake};

    #[test]
    fn waking_a_queue_wakes_all_its_listeners_and_no_others() {
        let [first, second, other] = ["wake-a", "wake-a", "wake-b"].map(listen);
        wake("wake-a");
        wake("wake-a");
        assert_eq!(
            [&first, &second, &other].map(|woken| woken.len()),
            [1, 1, 0]
        );
        drop(first);
        wake("wake-a");
        second.try_recv().unwrap();
        assert!(second.try_recv().is_err());
        (0..5).map(|_| listen("wake-c")).for_each(drop);
        let left = super::listeners();
        assert!(left.iter().filter(|(name, _)| name == "wake-c").count() <= 1);
    }
}
