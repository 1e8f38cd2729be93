//! What the gate has seen and amiquip can't say: true message ids, mended addresses, and why the
//! connection was ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::fault::Fault;
use super::mend::{Header, Unreadable};

/// What is odd about a delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Oddity {
    /// The message id as it was, if it is not UTF-8.
    pub(in super::super) message_id: Option<Vec<u8>>,
    /// The exchange or the routing key is not what it was.
    pub(in super::super) address_mended: bool,
    /// Why its headers can't be read to their end.
    fault: Option<Unreadable>,
}

impl Oddity {
    /// `None` for a delivery like any other.
    pub(super) fn of(header: Header, address_mended: bool) -> Option<Self> {
        let oddity = Self {
            message_id: header.message_id,
            address_mended,
            fault: header.fault,
        };
        (oddity != Self::default()).then_some(oddity)
    }

    /// Why the message must not be run.
    pub(in super::super) fn fault(&self) -> Option<String> {
        self.fault.map(|fault| fault.to_string())
    }
}

/// Of one connection, shared by its gate and whoever receives its deliveries. What is odd about a
/// delivery is noted before its bytes are let through.
#[derive(Debug, Default)]
pub(in super::super) struct Notes {
    /// Most connections never have any: that is seen without a lock.
    count: AtomicUsize,
    odd: Mutex<HashMap<(u16, u64), Oddity>>,
    fault: OnceLock<Fault>,
}

impl Notes {
    /// What is odd about the delivery with that tag on that channel, which has been received.
    pub(in super::super) fn take(&self, channel: u16, tag: u64) -> Option<Oddity> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut odd = self.odd();
        let oddity = odd.remove(&(channel, tag));
        self.count.store(odd.len(), Ordering::Release);
        oddity
    }

    /// Why the gate has ended the connection, if it has.
    pub(in super::super) fn fault(&self) -> Option<String> {
        self.fault.get().map(ToString::to_string)
    }

    pub(super) fn put(&self, channel: u16, tag: u64, oddity: Oddity) {
        let mut odd = self.odd();
        odd.insert((channel, tag), oddity);
        self.count.store(odd.len(), Ordering::Release);
    }

    pub(super) fn ended(&self, fault: &Fault) {
        self.fault.get_or_init(|| fault.clone());
    }

    /// Nobody panics under this lock.
    fn odd(&self) -> MutexGuard<'_, HashMap<(u16, u64), Oddity>> {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
