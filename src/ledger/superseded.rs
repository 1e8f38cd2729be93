//! Discards the requests of a run that was given up while another run of its message is in flight.
//!
//! Both runs belong to this worker, so the fence in the database's statements can't tell them apart.

use super::in_flight::RunsInFlight;
use super::request::LedgerRequest;
use crate::store::PutOffResult;

/// The request without the superseded runs, if anything is left. Whoever waits for an answer gets one.
pub(super) fn without_superseded(
    in_flight_runs: &RunsInFlight,
    request: LedgerRequest,
) -> Option<LedgerRequest> {
    match request {
        LedgerRequest::Finish { run, finish, .. }
            if in_flight_runs.has_successor(&finish.key, run) =>
        {
            log::warn!(
                "message {}: a run that was given up has ended while another run of the message is in \
                 flight; only the end of that other run counts",
                finish.key
            );
            None
        }
        LedgerRequest::Begin { run, begin, reply }
            if in_flight_runs.has_successor(&begin.key, run) =>
        {
            // A consumer that has stopped waiting needs no answer.
            reply.send(false).unwrap_or_default();
            None
        }
        LedgerRequest::PutOff {
            run,
            put_off,
            reply,
            ..
        } if in_flight_runs.has_successor(&put_off.row.key, run) => {
            reply.send(PutOffResult::Taken).unwrap_or_default();
            None
        }
        LedgerRequest::Release { mut releases } => {
            releases.retain(|(run, key)| !in_flight_runs.has_successor(key, *run));
            (!releases.is_empty()).then_some(LedgerRequest::Release { releases })
        }
        LedgerRequest::Republish { mut republishes } => {
            republishes
                .retain(|(run, republish)| !in_flight_runs.has_successor(&republish.key, *run));
            (!republishes.is_empty()).then_some(LedgerRequest::Republish { republishes })
        }
        other => Some(other),
    }
}
