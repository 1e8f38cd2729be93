//! Statements that the database parses once a connection: it parses and plans diesel's `sql_query` at each use, which
//! costs more than a small batch itself.

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;

/// A statement whose rows load by the names of their columns. Its text has a `?` for each bound value, in order.
pub(in crate::store) struct Statement<'a, DB: Backend> {
    sql: &'a str,
    binds: Vec<Box<dyn QueryFragment<DB> + 'a>>,
}

impl<'a, DB: Backend> Statement<'a, DB> {
    pub(in crate::store) const fn new(sql: &'a str) -> Self {
        Self {
            sql,
            binds: Vec::new(),
        }
    }

    /// Binds the next `?`.
    pub(in crate::store) fn bind(mut self, value: impl QueryFragment<DB> + 'a) -> Self {
        self.binds.push(Box::new(value));
        self
    }
}

impl<DB: Backend> QueryFragment<DB> for Statement<'_, DB> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut binds = self.binds.iter();
        for (nth, text) in self.sql.split('?').enumerate() {
            if nth > 0
                && let Some(bind) = binds.next()
            {
                bind.walk_ast(out.reborrow())?;
            }
            out.push_sql(text);
        }
        Ok(())
    }
}

/// Has no static id: diesel caches the statement by its text.
impl<DB: Backend> QueryId for Statement<'_, DB> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> Query for Statement<'_, DB> {
    type SqlType = Untyped;
}

impl<DB: Backend, C> RunQueryDsl<C> for Statement<'_, DB> {}
