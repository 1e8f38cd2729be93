//! Counts the deliveries of a set that the ledger has. Only requests to the ledger and its reports change the counts.

use crate::ledger::Settlement;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Claims that are requested and not answered.
    claiming: usize,
    /// Messages that the set has claimed, and that are not recorded as over or given back.
    runs: usize,
    /// Further deliveries of messages that are in flight in this or another set, and are settled with those.
    joined: usize,
}

impl InFlight {
    /// `count` claims were requested.
    pub(super) const fn asked(&mut self, count: usize) {
        self.claiming += count;
    }

    /// `count` of the requested claims have joined runs.
    pub(super) const fn joined(&mut self, count: usize) {
        self.claiming -= count;
        self.joined += count;
    }

    /// `count` of the requested claims were answered; `ours` of them succeeded.
    pub(super) const fn answered(&mut self, count: usize, ours: usize) {
        self.claiming -= count;
        self.runs += ours;
    }

    /// Runs have ended or go back, with the deliveries that joined them.
    pub(super) const fn settled(&mut self, settlement: &Settlement) {
        let runs = settlement.finished + settlement.released;
        self.runs -= runs;
        self.joined -= settlement.accept.len() + settlement.give_back.len() - runs;
    }

    pub(super) const fn runs(&self) -> usize {
        self.runs
    }

    /// How many messages are claimed, or are being claimed.
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
        let handles = |count| {
            (0..count)
                .map(|tag| DeliveryHandle { epoch: 1, tag })
                .collect()
        };
        Settlement {
            accept: handles(accept),
            give_back: handles(give_back),
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
        // A delivery that has joined a run of another set goes back with that run.
        flight.asked(1);
        flight.joined(1);
        flight.settled(&settlement(0, 3, 0, 2));
        assert!(flight.is_empty());
    }
}
