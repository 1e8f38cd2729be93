//! Which deliveries of a channel are still to be settled, and with how few acks.

use std::collections::VecDeque;

/// The deliveries of one channel in the order of their tags, which RabbitMQ counts from 1. They may
/// come in another order, where several consumers share the channel.
pub(super) struct Unsettled<D> {
    /// The tag of the first entry.
    first: u64,
    entries: VecDeque<Entry<D>>,
}

enum Entry<D> {
    /// It has not come yet.
    Expected,
    /// It has come.
    Held { delivery: D, accepted: bool },
    /// The broker was told.
    Told,
}

/// What to tell the broker of a batch of accepted deliveries.
pub(super) struct Acks<D> {
    /// All up to this one, with one multiple ack.
    pub(super) up_to: Option<D>,
    /// And these one by one: something before them is still running.
    pub(super) singly: Vec<D>,
}

impl<D> Unsettled<D> {
    pub(super) const fn new() -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
        }
    }

    /// A delivery that has come.
    pub(super) fn push(&mut self, tag: u64, delivery: D) {
        let place = tag.checked_sub(self.first).map(usize::try_from);
        let Some(Ok(place)) = place else {
            debug_assert!(false, "tag {tag} has come before");
            return;
        };
        while self.entries.len() <= place {
            self.entries.push_back(Entry::Expected);
        }
        self.entries[place] = Entry::Held {
            delivery,
            accepted: false,
        };
    }

    /// Accepts deliveries; unknown tags are passed over.
    pub(super) fn accept(&mut self, tags: &[u64]) -> Acks<D> {
        for tag in tags {
            if let Some(Entry::Held { accepted, .. }) = self.entry(*tag) {
                *accepted = true;
            }
        }
        let mut up_to = None;
        while let Some(Entry::Held { accepted: true, .. } | Entry::Told) = self.entries.front() {
            self.first += 1;
            if let Some(Entry::Held { delivery, .. }) = self.entries.pop_front() {
                up_to = Some(delivery);
            }
        }
        let singly = tags.iter().filter_map(|tag| self.take(*tag)).collect();
        Acks { up_to, singly }
    }

    /// Takes a delivery out, to be told the broker by itself.
    pub(super) fn take(&mut self, tag: u64) -> Option<D> {
        let entry = self.entry(tag)?;
        match std::mem::replace(entry, Entry::Told) {
            Entry::Held { delivery, .. } => Some(delivery),
            other => {
                *entry = other;
                None
            }
        }
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Entry<D>> {
        let index = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(tags: u64) -> Unsettled<u64> {
        let mut unsettled = Unsettled::new();
        (1..=tags).for_each(|tag| unsettled.push(tag, tag));
        unsettled
    }

    fn acks(unsettled: &mut Unsettled<u64>, tags: &[u64]) -> (Option<u64>, Vec<u64>) {
        let acks = unsettled.accept(tags);
        (acks.up_to, acks.singly)
    }

    #[test]
    fn a_run_from_the_front_is_one_ack() {
        assert_eq!(acks(&mut with(5), &[3, 1, 2]), (Some(3), vec![]));
    }

    #[test]
    fn what_lies_behind_a_running_message_is_acknowledged_by_itself_and_once() {
        let mut unsettled = with(5);
        assert_eq!(acks(&mut unsettled, &[2, 4]), (None, vec![2, 4]));
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        assert_eq!(acks(&mut unsettled, &[5]), (None, vec![5]));
        assert_eq!(acks(&mut unsettled, &[3]), (Some(3), vec![]));
        assert_eq!(acks(&mut unsettled, &[3, 9]), (None, vec![]));
        unsettled.push(6, 6);
        assert_eq!(acks(&mut unsettled, &[6]), (Some(6), vec![]));
    }

    #[test]
    fn what_was_given_back_is_not_acknowledged() {
        let mut unsettled = with(3);
        assert_eq!(unsettled.take(2), Some(2));
        assert_eq!(unsettled.take(2), None);
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        assert_eq!(acks(&mut unsettled, &[2, 3]), (Some(3), vec![]));
    }

    #[test]
    fn a_delivery_that_has_not_come_is_never_acknowledged_by_one_behind_it() {
        let mut unsettled = Unsettled::new();
        unsettled.push(2, 2);
        unsettled.push(3, 3);
        assert_eq!(acks(&mut unsettled, &[2]), (None, vec![2]));
        unsettled.push(1, 1);
        assert_eq!(acks(&mut unsettled, &[3]), (None, vec![3]));
        assert_eq!(acks(&mut unsettled, &[1]), (Some(1), vec![]));
        unsettled.push(5, 5);
        assert_eq!(acks(&mut unsettled, &[5]), (None, vec![5]));
        unsettled.push(4, 4);
        assert_eq!(acks(&mut unsettled, &[4]), (Some(4), vec![]));
    }
}
