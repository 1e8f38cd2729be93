//! Lines of text that a database composes for people.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::sql::Engine;

/// A row with one line of text.
#[derive(QueryableByName)]
struct ReportLine {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The lines that `sql` selects as `line`.
pub(super) fn load_lines(engine: &mut impl Engine, sql: &str) -> QueryResult<Vec<String>> {
    let rows: Vec<ReportLine> = engine.load_unprepared(sql)?;
    Ok(rows.into_iter().map(|row| row.line).collect())
}

/// The lines that `sql` selects as `line`, joined into one text.
pub(super) fn load_report(engine: &mut impl Engine, sql: &str) -> QueryResult<String> {
    Ok(load_lines(engine, sql)?.join("; "))
}
