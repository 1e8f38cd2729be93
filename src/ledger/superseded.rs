//! What comes of a run that was given up while another of its message is in hand: it changes nothing.
//!
//! To the database both are this worker's, so that the fence in its statements can't tell them apart.

use super::Request;
use super::in_flight::RunsInFlight;
use crate::store::PutOffResult;

/// The request without what comes too late, if anything is left. Whoever waits for an answer gets it.
pub(super) fn fenced(in_hand: &RunsInFlight, request: Request) -> Option<Request> {
    match request {
        Request::Finish { run, finish, .. } if in_hand.is_replaced(&finish.key, run) => {
            log::warn!(
                "message {}: a run that was given up has ended while another is under way here; that \
                 one's end counts",
                finish.key
            );
            None
        }
        Request::Begin { run, begin, reply } if in_hand.is_replaced(&begin.key, run) => {
            // Who does not wait any more needs no answer.
            reply.send(false).unwrap_or_default();
            None
        }
        Request::PutOff {
            run,
            put_off,
            reply,
            ..
        } if in_hand.is_replaced(&put_off.row.key, run) => {
            reply.send(PutOffResult::Taken).unwrap_or_default();
            None
        }
        Request::Release { mut releases } => {
            releases.retain(|(run, key)| !in_hand.is_replaced(key, *run));
            (!releases.is_empty()).then_some(Request::Release { releases })
        }
        Request::Republish { mut republishes } => {
            republishes.retain(|(run, republish)| !in_hand.is_replaced(&republish.key, *run));
            (!republishes.is_empty()).then_some(Request::Republish { republishes })
        }
        other => Some(other),
    }
}
