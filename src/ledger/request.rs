//! What the ledger's handles ask of its thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::listener::LedgerListener;
use crate::broker::Envelope;
use crate::store::{Begin, ClaimRequest, Finish, PutOff, PutOffResult, Republish};
use crate::task::RunId;

pub(super) enum LedgerRequest {
    Claim(ClaimGroup),
    Begin {
        run: RunId,
        begin: Begin,
        reply: Sender<bool>,
    },
    Finish {
        run: RunId,
        finish: Finish,
        ran: Duration,
    },
    PutOff {
        run: RunId,
        put_off: Box<PutOff>,
        ran: Duration,
        reply: Sender<PutOffResult>,
    },
    /// Forget a run whose message another worker owns now.
    Abandon {
        run: RunId,
        key: String,
    },
    Release {
        releases: Vec<(RunId, String)>,
    },
    Republish {
        republishes: Vec<(RunId, Republish)>,
    },
    LookUpRows {
        keys: Vec<String>,
        listener: Arc<dyn LedgerListener>,
    },
    /// Reply, to show that the thread is alive.
    Probe {
        reply: Sender<()>,
    },
}

/// The claims that a set sent in one request.
pub(super) struct ClaimGroup {
    pub(super) claims: VecDeque<(Envelope, ClaimRequest)>,
    pub(super) queue: Arc<str>,
    pub(super) requested_at: Instant,
    pub(super) listener: Arc<dyn LedgerListener>,
}
