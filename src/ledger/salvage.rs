//! A batch that the database refuses: the one bad row must not hold up the rest.

use crate::state::End;
use crate::store::{Batch, BatchResult, PutBack, Runs, StoreError, WorkerId};

/// Writes the batch in halves until the bad row is alone, and that one in a form that says that it
/// was refused.
///
/// # Errors
/// When the database is away; or refuses even that form, so that it is not the row's fault.
pub(super) fn write(
    session: &mut dyn Runs,
    owner: WorkerId,
    batch: &Batch,
) -> Result<BatchResult, StoreError> {
    let refusal = match session.write(owner, batch) {
        Err(
            StoreError::Refused(refusal)
            | StoreError::Unclear(refusal)
            | StoreError::Unreadable(refusal),
        ) => refusal,
        other => return other,
    };
    if size(batch) == 1 {
        if !batch.put_offs.is_empty() {
            log::debug!("the database does not take the row of a message: {refusal}");
            return Ok(BatchResult {
                put_back: vec![PutBack::Refused],
                ..BatchResult::default()
            });
        }
        let reduced = reduced(batch, &refusal);
        log::error!("the database refuses the record of a message: {refusal}");
        return session.write(owner, &reduced);
    }
    let (first, second) = split(batch);
    let mut result = write(session, owner, &first)?;
    let rest = write(session, owner, &second)?;
    result.finished.extend(rest.finished);
    result.put_back.extend(rest.put_back);
    result.begun.extend(rest.begun);
    result.claims.extend(rest.claims);
    result.looked.extend(rest.looked);
    Ok(result)
}

const fn size(batch: &Batch) -> usize {
    batch.finishes.len()
        + batch.put_offs.len()
        + batch.releases.len()
        + batch.republishes.len()
        + batch.begins.len()
        + batch.claims.len()
        + batch.looks.len()
}

/// The batch in two halves; one after the other, their results are the batch's.
fn split(batch: &Batch) -> (Batch, Batch) {
    let mut left = size(batch) / 2;
    let mut first = Batch::default();
    let mut second = Batch::default();
    share(
        &batch.finishes,
        &mut left,
        &mut first.finishes,
        &mut second.finishes,
    );
    share(
        &batch.put_offs,
        &mut left,
        &mut first.put_offs,
        &mut second.put_offs,
    );
    share(
        &batch.releases,
        &mut left,
        &mut first.releases,
        &mut second.releases,
    );
    share(
        &batch.republishes,
        &mut left,
        &mut first.republishes,
        &mut second.republishes,
    );
    share(
        &batch.begins,
        &mut left,
        &mut first.begins,
        &mut second.begins,
    );
    share(
        &batch.claims,
        &mut left,
        &mut first.claims,
        &mut second.claims,
    );
    share(&batch.looks, &mut left, &mut first.looks, &mut second.looks);
    (first, second)
}

fn share<T: Clone>(all: &[T], left: &mut usize, first: &mut Vec<T>, second: &mut Vec<T>) {
    let (head, tail) = all.split_at(all.len().min(*left));
    *left -= head.len();
    first.extend_from_slice(head);
    second.extend_from_slice(tail);
}

/// The one record in it without what a sender or a task wrote, FAILED with the reason.
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
            .map(|row| row.bare().ended(End::Failed, reason));
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Begin, ClaimRequest};

    #[test]
    fn two_halves_are_the_whole_in_its_order() {
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
        let (first, second) = split(&batch);
        assert_eq!((size(&first), size(&second)), (2, 3));
        assert_eq!(first.releases, ["a"]);
        assert_eq!(first.begins[0].key, "b");
        let (first, second) = split(&second);
        assert_eq!(
            (first.claims.len(), second.claims[0].key.as_str()),
            (1, "d")
        );
    }
}
