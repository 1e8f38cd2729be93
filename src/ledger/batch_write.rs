//! Writes one batch to the database.

use super::bisect;
use crate::store::{Batch, BatchResult, Claim, RunStore, StoreError, WorkerId, liveness};

/// Writes the batch, `bisecting` it if the database has refused the whole.
pub(super) fn try_write(
    session: &mut dyn RunStore,
    owner: WorkerId,
    namespace: &str,
    batch: &Batch,
    bisecting: bool,
) -> Result<BatchResult, StoreError> {
    let mut result = if bisecting {
        bisect::write(session, owner, batch)?
    } else {
        session.write(owner, batch)?
    };
    claim_from_dead_workers(session, owner, namespace, batch, &mut result)?;
    Ok(result)
}

/// Claims the messages of workers of this host whose processes are gone at once, without waiting for their
/// heartbeats to expire.
fn claim_from_dead_workers(
    session: &mut dyn RunStore,
    owner: WorkerId,
    namespace: &str,
    batch: &Batch,
    result: &mut BatchResult,
) -> Result<(), StoreError> {
    let owned: Vec<usize> = (0..result.claims.len())
        .filter(|index| matches!(result.claims[*index], Claim::Owned(_)))
        .collect();
    if owned.is_empty() || liveness::remove_dead_workers(session, namespace)? == 0 {
        return Ok(());
    }
    let again = Batch {
        claims: owned
            .iter()
            .map(|index| batch.claims[*index].clone())
            .collect(),
        ..Batch::default()
    };
    let verdicts = session.write(owner, &again)?.claims;
    for (index, verdict) in owned.into_iter().zip(verdicts) {
        result.claims[index] = verdict;
    }
    Ok(())
}
