//! What the gate has seen and amiquip can't say: true message ids, mended addresses, and why the
//! connection was ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::fault::ProtocolFault;
use super::mend::{ContentHeader, UnreadableHeaders};

/// What is odd about a delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct DeliveryNote {
    /// The message id as it was, if it is not UTF-8.
    pub(in super::super) message_id: Option<Vec<u8>>,
    /// The exchange or the routing key is not what it was.
    pub(in super::super) address_mended: bool,
    /// Why its headers can't be read to their end.
    fault: Option<UnreadableHeaders>,
}

impl DeliveryNote {
    /// `None` for a delivery like any other.
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

/// Of one connection, shared by its gate and whoever receives its deliveries. What is odd about a
/// delivery is noted before its bytes are let through.
#[derive(Debug, Default)]
pub(in super::super) struct GateNotes {
    /// Most connections never have any: that is seen without a lock.
    count: AtomicUsize,
    odd: Mutex<HashMap<(u16, u64), DeliveryNote>>,
    fault: OnceLock<ProtocolFault>,
}

impl GateNotes {
    /// What is odd about the delivery with that tag on that channel, which has been received.
    pub(in super::super) fn take(&self, channel: u16, tag: u64) -> Option<DeliveryNote> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut odd = self.odd();
        let note = odd.remove(&(channel, tag));
        self.count.store(odd.len(), Ordering::Release);
        note
    }

    /// Why the gate has ended the connection, if it has.
    pub(in super::super) fn fault(&self) -> Option<String> {
        self.fault.get().map(ToString::to_string)
    }

    pub(super) fn put(&self, channel: u16, tag: u64, note: DeliveryNote) {
        let mut odd = self.odd();
        odd.insert((channel, tag), note);
        self.count.store(odd.len(), Ordering::Release);
    }

    pub(super) fn ended(&self, fault: &ProtocolFault) {
        self.fault.get_or_init(|| fault.clone());
    }

    /// Nobody panics under this lock.
    fn odd(&self) -> MutexGuard<'_, HashMap<(u16, u64), DeliveryNote>> {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
