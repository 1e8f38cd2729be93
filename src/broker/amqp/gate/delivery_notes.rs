//! What the gate has seen and amiquip can't report: original message ids, mended addresses, and why the connection
//! was ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::fault::ProtocolFault;
use super::mend::{ContentHeader, UnreadableHeaders};

/// What the gate has mended in a delivery, and what is wrong with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct DeliveryNote {
    /// The original message id, if it is not UTF-8.
    pub(in super::super) message_id: Option<Vec<u8>>,
    /// Whether the exchange or the routing key was mended.
    pub(in super::super) address_mended: bool,
    /// Why the headers can't be read completely.
    fault: Option<UnreadableHeaders>,
}

impl DeliveryNote {
    /// `None` for a delivery without anything to note.
    pub(super) fn of(header: ContentHeader, address_mended: bool) -> Option<Self> {
        let note = Self {
            message_id: header.message_id,
            address_mended,
            fault: header.fault,
        };
        (note != Self::default()).then_some(note)
    }

    /// Why the message must not be run.
    pub(in super::super) fn fault(&self) -> Option<String> {
        self.fault.map(|fault| fault.to_string())
    }
}

/// The notes on one connection, shared by its gate and the receiver of its deliveries. The gate notes a delivery
/// before it lets the bytes through.
#[derive(Debug, Default)]
pub(in super::super) struct GateNotes {
    /// How many notes there are. Most connections never have any, which is seen without a lock.
    count: AtomicUsize,
    notes: Mutex<HashMap<(u16, u64), DeliveryNote>>,
    fault: OnceLock<ProtocolFault>,
}

impl GateNotes {
    /// Takes the note on a received delivery, if there is one.
    pub(in super::super) fn take(&self, channel: u16, tag: u64) -> Option<DeliveryNote> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut notes = self.lock();
        let note = notes.remove(&(channel, tag));
        self.count.store(notes.len(), Ordering::Release);
        note
    }

    /// Why the gate has ended the connection, if it has.
    pub(in super::super) fn fault(&self) -> Option<String> {
        self.fault.get().map(ToString::to_string)
    }

    pub(super) fn put(&self, channel: u16, tag: u64, note: DeliveryNote) {
        let mut notes = self.lock();
        notes.insert((channel, tag), note);
        self.count.store(notes.len(), Ordering::Release);
    }

    pub(super) fn set_fault(&self, fault: &ProtocolFault) {
        self.fault.get_or_init(|| fault.clone());
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<(u16, u64), DeliveryNote>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
