//! The deliveries that the ledger has of a set, counted by what the set asks and the ledger answers, and by
//! nothing else.

use crate::ledger::Settlement;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Asked for and not answered.
    claiming: usize,
    /// Ours to run, and not recorded as over or given back.
    runs: usize,
    /// Further ones of messages that are in hand here or in another set, which are settled with those.
    joined: usize,
}

impl InFlight {
    /// So many are asked for.
    pub(super) const fn asked(&mut self, count: usize) {
        self.claiming += count;
    }

    /// So many of those have joined a run.
    pub(super) const fn joined(&mut self, count: usize) {
        self.claiming -= count;
        self.joined += count;
    }

    /// Of so many others it is known what became of them; some are ours to run.
    pub(super) const fn answered(&mut self, count: usize, ours: usize) {
        self.claiming -= count;
        self.runs += ours;
    }

    /// Some are over, or go back.
    pub(super) const fn settled(&mut self, settlement: &Settlement) {
        let runs = settlement.finished + settlement.released;
        self.runs -= runs;
        self.joined -= settlement.accept.len() + settlement.give_back.len() - runs;
    }

    pub(super) const fn runs(&self) -> usize {
        self.runs
    }

    /// How many are claimed, or are about to be.
    pub(super) const fn claimed(&self) -> usize {
        self.claiming + self.runs
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.claimed() == 0 && self.joined == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::DeliveryHandle;

    fn settlement(accept: u64, give_back: u64, finished: usize, released: usize) -> Settlement {
        let receipts = |count| {
            (0..count)
                .map(|tag| DeliveryHandle { epoch: 1, tag })
                .collect()
        };
        Settlement {
            accept: receipts(accept),
            give_back: receipts(give_back),
            finished,
            released,
            ..Settlement::default()
        }
    }

    #[test]
    fn each_delivery_is_counted_until_it_is_settled() {
        let mut flight = InFlight::default();
        flight.asked(6);
        flight.joined(1);
        flight.answered(5, 3);
        assert_eq!((flight.runs(), flight.claimed()), (3, 3));
        flight.settled(&settlement(2, 0, 1, 0));
        assert_eq!((flight.runs(), flight.joined), (2, 0));
        // One that has joined the run of another set goes back with that.
        flight.asked(1);
        flight.joined(1);
        flight.settled(&settlement(0, 3, 0, 2));
        assert!(flight.is_empty());
    }
}
