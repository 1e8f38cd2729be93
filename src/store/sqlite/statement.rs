//! Statements with many values.

use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;

use crate::store::sql::{Statement, ValueTable};

/// Binds the values to `sql` as JSON, so that the statement is the same for any number of values.
pub(super) fn statement<'a>(
    sql: &'a str,
    values: Option<&ValueTable<'_>>,
) -> Statement<'a, Sqlite> {
    let statement = Statement::new(sql);
    match values {
        Some(values) => statement.bind(AsExpression::<Text>::as_expression(values.json())),
        None => statement,
    }
}

/// The FROM item that reads `values` as `v`.
pub(super) fn source(values: &ValueTable<'_>) -> String {
    let cells: Vec<_> = (0..)
        .zip(values.columns())
        .map(|(nth, (name, _))| format!("e.value ->> {nth} AS {name}"))
        .collect();
    format!(
        "(SELECT e.key AS position, {} FROM json_each(?) e) AS v",
        cells.join(", ")
    )
}
