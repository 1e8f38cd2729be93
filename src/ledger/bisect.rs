//! Writes a batch that the database refuses: the one bad record must not hold up the rest.

use crate::retry::BatchSize;
use crate::state::End;
use crate::store::{Batch, BatchResult, PutOffResult, RunStore, StoreError, WorkerId};

/// Writes the batch in ever smaller portions until the bad record is alone, and writes that one in a reduced form,
/// with the refusal as the reason.
///
/// # Errors
/// When the database is away, or refuses even the reduced form, so that the record is not at fault.
pub(super) fn write(
    session: &mut dyn RunStore,
    owner: WorkerId,
    batch: &Batch,
) -> Result<BatchResult, StoreError> {
    let mut batch_size = BatchSize::new(size(batch));
    let mut result = BatchResult::default();
    let mut rest = batch.clone();
    while size(&rest) > 0 {
        let part = first(&rest, batch_size.get());
        let written = match session.write(owner, &part) {
            Err(StoreError::Refused(_) | StoreError::Unclear(_) | StoreError::Unreadable(_))
                if size(&part) > 1 =>
            {
                batch_size.halve(size(&part));
                continue;
            }
            Err(
                StoreError::Refused(refusal)
                | StoreError::Unclear(refusal)
                | StoreError::Unreadable(refusal),
            ) => write_refused_record(session, owner, &part, &refusal)?,
            other => other?,
        };
        batch_size.grow();
        join(&mut result, written);
        rest = without_first(rest, size(&part));
    }
    Ok(result)
}

/// Writes the reduced form of a record that the database refuses. A put-off has none, and is answered
/// [`PutOffResult::Refused`].
fn write_refused_record(
    session: &mut dyn RunStore,
    owner: WorkerId,
    batch: &Batch,
    refusal: &str,
) -> Result<BatchResult, StoreError> {
    if !batch.put_offs.is_empty() {
        log::debug!("the database refuses the row of a message that is put off: {refusal}");
        return Ok(BatchResult {
            put_offs: vec![PutOffResult::Refused],
            ..BatchResult::default()
        });
    }
    log::error!("the database refuses the record of a message: {refusal}");
    session.write(owner, &reduced(batch, refusal))
}

/// Appends the results of `rest` to those of `result`.
fn join(result: &mut BatchResult, rest: BatchResult) {
    result.finished.extend(rest.finished);
    result.put_offs.extend(rest.put_offs);
    result.begun.extend(rest.begun);
    result.claims.extend(rest.claims);
    result.with_row.extend(rest.with_row);
}

const fn size(batch: &Batch) -> usize {
    batch.finishes.len()
        + batch.put_offs.len()
        + batch.releases.len()
        + batch.republishes.len()
        + batch.begins.len()
        + batch.claims.len()
        + batch.row_checks.len()
}

/// The batch's first `count` records.
fn first(batch: &Batch, mut count: usize) -> Batch {
    let count = &mut count;
    Batch {
        finishes: head(&batch.finishes, count),
        put_offs: head(&batch.put_offs, count),
        releases: head(&batch.releases, count),
        republishes: head(&batch.republishes, count),
        begins: head(&batch.begins, count),
        claims: head(&batch.claims, count),
        row_checks: head(&batch.row_checks, count),
    }
}

/// The batch without its first `count` records.
fn without_first(batch: Batch, mut count: usize) -> Batch {
    let count = &mut count;
    Batch {
        finishes: tail(batch.finishes, count),
        put_offs: tail(batch.put_offs, count),
        releases: tail(batch.releases, count),
        republishes: tail(batch.republishes, count),
        begins: tail(batch.begins, count),
        claims: tail(batch.claims, count),
        row_checks: tail(batch.row_checks, count),
    }
}

fn head<T: Clone>(all: &[T], count: &mut usize) -> Vec<T> {
    let head = &all[..all.len().min(*count)];
    *count -= head.len();
    head.to_vec()
}

fn tail<T>(mut all: Vec<T>, count: &mut usize) -> Vec<T> {
    let tail = all.split_off(all.len().min(*count));
    *count -= all.len();
    tail
}

/// The batch's one record as FAILED with the reason, and without what a sender or a task wrote.
fn reduced(batch: &Batch, refusal: &str) -> Batch {
    let mut reduced = batch.clone();
    for finish in &mut reduced.finishes {
        *finish = finish.refused(refusal);
    }
    for claim in &mut reduced.claims {
        let reason = format!("the database refused the message's row: {refusal}");
        claim.adopt = claim
            .adopt
            .take()
            .map(|row| row.stripped().ended(End::Failed, reason));
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Begin, ClaimRequest};

    #[test]
    fn two_parts_are_the_whole_in_its_order() {
        let claim = |key: &str| ClaimRequest {
            key: key.to_owned(),
            adopt: None,
        };
        let batch = Batch {
            releases: vec!["a".into()],
            begins: vec![Begin {
                key: "b".into(),
                attempts: 1,
            }],
            claims: vec![claim("c"), claim("d"), claim("e")],
            ..Batch::default()
        };
        let (head, tail) = (first(&batch, 2), without_first(batch, 2));
        assert_eq!((size(&head), size(&tail)), (2, 3));
        assert_eq!(head.releases, ["a"]);
        assert_eq!(head.begins[0].key, "b");
        let (head, tail) = (first(&tail, 1), without_first(tail, 1));
        assert_eq!((head.claims.len(), tail.claims[0].key.as_str()), (1, "d"));
        assert_eq!(size(&first(&tail, 10)), 2);
    }
}
