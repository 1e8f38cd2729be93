//! Messages that were sent together on a channel, and their confirmations.

use std::time::Instant;

use amiquip::{Confirm, ConfirmPayload};

use super::super::Confirmation;

/// Messages that were sent together, and the confirmations that have come for them.
pub(super) struct ConfirmWindow {
    /// When the messages were sent.
    pub(super) since: Instant,
    first_tag: u64,
    /// The index of each sent message among the messages, in the order of the tags.
    pub(super) sent: Vec<usize>,
    confirmed: usize,
    pub(super) outcomes: Vec<Option<Confirmation>>,
    /// All tags below this are confirmed; a multiple confirm covers the tags from here on.
    unconfirmed_from: u64,
}

impl ConfirmWindow {
    pub(super) fn new(first_tag: u64, messages: usize) -> Self {
        Self {
            since: Instant::now(),
            first_tag,
            sent: Vec::with_capacity(messages),
            confirmed: 0,
            outcomes: vec![None; messages],
            unconfirmed_from: first_tag,
        }
    }

    /// Whether the broker has answered for all sent messages.
    pub(super) fn is_complete(&self) -> bool {
        self.confirmed == self.sent.len()
    }

    /// The tags and indexes of the messages without an answer.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = (u64, usize)> {
        let sent = (self.first_tag..).zip(self.sent.iter().copied());
        sent.filter(|(_, index)| self.outcomes[*index].is_none())
    }

    /// Records `confirm` for the messages of this window that it covers.
    pub(super) fn take(&mut self, confirm: &Confirm) {
        let (payload, outcome) = match *confirm {
            Confirm::Ack(payload) => (payload, Confirmation::Confirmed),
            Confirm::Nack(payload) => (payload, Confirmation::Busy),
        };
        let ConfirmPayload {
            delivery_tag,
            multiple,
        } = payload;
        let from = if multiple {
            self.unconfirmed_from
        } else {
            delivery_tag
        };
        let end = self.first_tag + self.sent.len() as u64;
        for tag in from..end.min(delivery_tag + 1) {
            self.settle(tag, &outcome);
        }
        if multiple {
            self.unconfirmed_from = self.unconfirmed_from.max(delivery_tag + 1);
        }
    }

    fn settle(&mut self, tag: u64, outcome: &Confirmation) {
        let place = tag
            .checked_sub(self.first_tag)
            .and_then(|nth| self.sent.get(usize::try_from(nth).ok()?));
        if let Some(slot) = place.and_then(|index| self.outcomes.get_mut(*index))
            && slot.is_none()
        {
            *slot = Some(outcome.clone());
            self.confirmed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivery_tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack(ConfirmPayload {
            delivery_tag,
            multiple,
        })
    }

    #[test]
    fn single_and_multiple_confirms_in_any_order_settle_each_message_once() {
        let mut window = ConfirmWindow::new(11, 4);
        window.sent.extend(0..4);
        window.take(&ack(12, false));
        window.take(&ack(13, true));
        assert_eq!(window.confirmed, 3);
        window.take(&Confirm::Nack(ConfirmPayload {
            delivery_tag: 14,
            multiple: true,
        }));
        assert_eq!(window.confirmed, 4);
        assert_eq!(window.outcomes[2], Some(Confirmation::Confirmed));
        assert_eq!(window.outcomes[3], Some(Confirmation::Busy));
    }

    #[test]
    fn a_multiple_confirm_settles_only_the_messages_of_each_window() {
        let mut windows = [
            ConfirmWindow::new(1, 2),
            ConfirmWindow::new(3, 2),
            ConfirmWindow::new(5, 1),
        ];
        for window in &mut windows {
            window.sent.extend(0..window.outcomes.len());
        }
        windows
            .iter_mut()
            .for_each(|window| window.take(&ack(3, true)));
        let confirmed = windows.each_ref().map(|window| window.confirmed);
        assert_eq!(confirmed, [2, 1, 0]);
        windows
            .iter_mut()
            .for_each(|window| window.take(&ack(5, true)));
        let confirmed = windows.each_ref().map(|window| window.confirmed);
        assert_eq!(confirmed, [2, 2, 1]);
    }
}
