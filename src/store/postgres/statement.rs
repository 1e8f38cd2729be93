//! Statements with many values.

use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use crate::store::sql::{Statement, ValueColumn, ValueTable};

/// The channel on which the services on the same table are notified of due messages.
pub(super) const CHANNEL: &str = "'carrot_' || to_regclass('carrot_messagelog')::oid";

/// `sql` with the values bound, an array for each column.
pub(super) fn statement<'a>(sql: &'a str, values: Option<&'a ValueTable<'a>>) -> Statement<'a, Pg> {
    let columns = values.map(ValueTable::columns).unwrap_or_default();
    columns
        .iter()
        .fold(Statement::new(sql), |statement, (_, column)| match column {
            ValueColumn::Text(texts) => statement.bind(
                AsExpression::<Array<Nullable<Text>>>::as_expression(texts.as_slice()),
            ),
            ValueColumn::Integer(integers) => statement.bind(
                AsExpression::<Array<BigInt>>::as_expression(integers.as_slice()),
            ),
        })
}

/// The FROM item that reads `values` as `v`.
pub(super) fn source(values: &ValueTable<'_>) -> String {
    let names: Vec<_> = values.columns().iter().map(|(name, _)| *name).collect();
    format!(
        "unnest({}) WITH ORDINALITY AS v({}, position)",
        vec!["?"; names.len()].join(", "),
        names.join(", ")
    )
}
