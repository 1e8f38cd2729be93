//! Statements with many values, on our connections and on those of others.

use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;

use crate::store::sql::{Statement, ValueTable};

/// `sql` with the values bound, as JSON: however many there are, it is the same statement.
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

/// What follows FROM to read `values` as `v`.
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
