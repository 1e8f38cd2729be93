//! Limits in bytes, beside those in rows, of what one statement writes and one step reads: a server limits the length
//! of a statement, and all rows that are read are in memory at once.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::engine::Engine;
use crate::store::{BATCH_BYTES, NewRow};

/// Rows whose texts have at most this many bytes fit one statement: JSON makes at most six bytes of one.
const SURELY_FITS: usize = BATCH_BYTES / 8;

/// The bytes of a row beside its texts.
const ROW_BYTES: usize = 100;

/// Selects, as `bytes`, the size of the arguments of the message `m`.
pub(super) fn message_size_sql<E: Engine>() -> String {
    let bytes = |column| format!("COALESCE({}, 0)", E::byte_length(column));
    let sum = format!("{} + {}", bytes("m.task_args"), bytes("m.content"));
    format!("CAST({sum} AS {}) AS bytes", E::BIGINT)
}

/// The id and size of a message to read.
#[derive(QueryableByName)]
pub(super) struct SizedRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// The ids of the first rows, as many as fit [`BATCH_BYTES`], at least one.
pub(super) fn ids_within_limit(rows: &[SizedRow]) -> Vec<i64> {
    let mut bytes = 0;
    let fits = |row: &&SizedRow| {
        bytes += usize::try_from(row.bytes).unwrap_or(0);
        bytes <= BATCH_BYTES
    };
    let count = rows.iter().take_while(fits).count().max(1);
    rows.iter().take(count).map(|row| row.id).collect()
}

/// Whether one statement surely can insert the rows.
pub(super) fn fits_one_statement<'r>(rows: impl IntoIterator<Item = &'r NewRow>) -> bool {
    rows.into_iter()
        .flat_map(texts)
        .map(str::len)
        .sum::<usize>()
        <= SURELY_FITS
}

/// How many of the first rows one statement of `most_bytes` can insert, at least one.
pub(super) fn count_within_limit<'r>(
    rows: impl IntoIterator<Item = &'r NewRow>,
    most_bytes: usize,
) -> usize {
    let mut bytes = 0;
    let fits = |row: &&NewRow| {
        bytes += ROW_BYTES + texts(row).into_iter().map(json_length).sum::<usize>();
        bytes <= most_bytes
    };
    rows.into_iter().take_while(fits).count().max(1)
}

fn texts(row: &NewRow) -> [&str; 8] {
    [
        &row.key,
        &row.task,
        row.task_args.as_deref().unwrap_or_default(),
        row.content.as_deref().unwrap_or_default(),
        &row.queue,
        &row.exchange,
        &row.routing_key,
        row.exception.as_deref().unwrap_or_default(),
    ]
}

/// The length in bytes of a text in JSON.
fn json_length(text: &str) -> usize {
    let extra = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        ..b' ' => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(extra).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Payload};

    fn row(content: String) -> NewRow {
        NewRow {
            content: Some(content),
            ..NewRow::pending(&Message::new("t", Payload::default(), "q"))
        }
    }

    #[test]
    fn as_many_rows_as_fit_in_json_are_inserted_at_once_and_at_least_one() {
        let rows = |text: &str| vec![row(text.repeat(1 << 20)); 17];
        assert_eq!(count_within_limit(&rows("x"), BATCH_BYTES), 3);
        assert_eq!(count_within_limit(&rows("\""), BATCH_BYTES), 1);
        assert_eq!(count_within_limit(&rows("\u{1}"), BATCH_BYTES), 1);
        assert_eq!(count_within_limit(&rows("x"), 100), 1);
        assert!(!fits_one_statement(&rows("x")));
        assert!(fits_one_statement(&vec![row(String::new()); 1000]));
    }

    #[test]
    fn as_many_messages_as_fit_are_read_at_once_and_at_least_one() {
        let sized = |bytes: i64| (0..20).map(|id| SizedRow { id, bytes }).collect::<Vec<_>>();
        assert_eq!(ids_within_limit(&sized(1 << 20)), [0, 1, 2, 3]);
        assert_eq!(ids_within_limit(&sized(1 << 30)), [0]);
        assert_eq!(ids_within_limit(&sized(0)).len(), 20);
        assert!(ids_within_limit(&[]).is_empty());
    }
}
