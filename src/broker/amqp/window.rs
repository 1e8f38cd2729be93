//! What was sent together on a channel, and what the broker has confirmed of it.

use std::time::Instant;

use amiquip::{Confirm, ConfirmPayload};

use super::super::Confirmation;

/// Messages under way, and what is known of them.
pub(super) struct Window {
    /// When it was sent.
    pub(super) since: Instant,
    first_tag: u64,
    /// Of each message that was sent, in the order of the tags, its place among the messages.
    pub(super) sent: Vec<usize>,
    confirmed: usize,
    pub(super) outcomes: Vec<Option<Confirmation>>,
    /// Tags below are confirmed; a multiple confirm covers all from here.
    unconfirmed_from: u64,
}

impl Window {
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

    /// Whether the broker has said of all of them what became of them.
    pub(super) fn is_complete(&self) -> bool {
        self.confirmed == self.sent.len()
    }

    /// Those of which it has not, with their tags.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = (u64, usize)> {
        let sent = (self.first_tag..).zip(self.sent.iter().copied());
        sent.filter(|(_, index)| self.outcomes[*index].is_none())
    }

    /// Notes what the confirm says of these messages, if anything.
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
        let mut window = Window::new(11, 4);
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
    fn a_confirm_of_more_settles_of_each_window_what_is_its_own() {
        let mut windows = [Window::new(1, 2), Window::new(3, 2), Window::new(5, 1)];
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
