//! Statements with many values, on our connections and on those of others.

use diesel::expression::AsExpression;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::Text;

use super::properties::ServerProperties;
use crate::store::BATCH_BYTES;
use crate::store::sql::{Statement, ValueColumn, ValueTable};

/// What a statement's bytes are beside its values, at most.
const STATEMENT_BYTES: usize = 16 * 1024;

/// `sql` with the values bound, as JSON: however many there are, it is the same statement. A server that
/// takes no more than `most_bytes` would close the connection over a longer one.
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

/// How many bytes of values a statement to that server has at most.
pub(super) fn most_bytes(properties: &ServerProperties) -> usize {
    BATCH_BYTES.min(properties.most_bytes.saturating_sub(STATEMENT_BYTES))
}

/// What follows FROM to read `values` as `v`, where texts are of these types.
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
