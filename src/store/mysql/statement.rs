//! Statements with many values.

use diesel::expression::AsExpression;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Text;

use super::properties::ServerProperties;
use crate::store::BATCH_BYTES;
use crate::store::sql::{Statement, ValueColumn, ValueTable};

/// The most bytes that a statement has apart from its values.
const STATEMENT_BYTES: usize = 16 * 1024;

/// Binds the values to `sql` as JSON, so that the statement is the same for any number of values. The server would
/// close the connection on a statement of more than `most_bytes`, so this refuses it.
pub(super) fn statement<'a>(
    sql: &'a str,
    values: Option<&ValueTable<'_>>,
    most_bytes: impl FnOnce(usize) -> QueryResult<usize>,
) -> QueryResult<Statement<'a, Mysql>> {
    let statement = Statement::new(sql);
    let Some(values) = values else {
        return Ok(statement);
    };
    let json = values.json();
    let most_bytes = most_bytes(json.len())?;
    if json.len() + STATEMENT_BYTES > most_bytes {
        return Err(Error::QueryBuilderError(
            format!(
                "{} bytes are more than the server's max_allowed_packet ({most_bytes}) takes",
                json.len(),
            )
            .into(),
        ));
    }
    Ok(statement.bind(AsExpression::<Text>::as_expression(json)))
}

/// How many bytes of values a statement to a server may have.
pub(super) fn most_bytes(properties: &ServerProperties) -> usize {
    BATCH_BYTES.min(properties.most_bytes.saturating_sub(STATEMENT_BYTES))
}

/// The FROM item that reads `values` as `v`; `kind` is the type of a text column.
pub(super) fn source<'a>(
    values: &ValueTable<'_>,
    kind: impl Fn(&'static str) -> &'a str,
) -> String {
    let columns = (0..).zip(values.columns()).map(|(nth, (name, column))| {
        let kind = match column {
            ValueColumn::Integer(_) => "bigint",
            ValueColumn::Text(_) => kind(name),
        };
        format!("{name} {kind} PATH '$[{nth}]'")
    });
    format!(
        "JSON_TABLE(?, '$[*]' COLUMNS (position FOR ORDINALITY, {})) AS v",
        columns.collect::<Vec<_>>().join(", ")
    )
}
