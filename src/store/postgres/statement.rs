//! Statements of our own text that PostgreSQL parses once a connection: diesel's `sql_query` is parsed
//! and planned anew each time, which costs more than a small batch itself.

use std::marker::PhantomData;

use diesel::expression::AsExpression;
use diesel::expression::TypedExpressionType;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{SingleValue, SqlType};

/// A statement that returns rows of `ST`. Its text has a `?` for each value, in order.
pub(super) struct Statement<'a, ST> {
    sql: &'a str,
    binds: Vec<Box<dyn QueryFragment<Pg> + 'a>>,
    rows: PhantomData<ST>,
}

impl<'a, ST> Statement<'a, ST> {
    pub(super) const fn new(sql: &'a str) -> Self {
        Self {
            sql,
            binds: Vec::new(),
            rows: PhantomData,
        }
    }

    /// Binds the next `?` to `value`, of the SQL type `T`.
    pub(super) fn bind<T, V>(mut self, value: V) -> Self
    where
        T: SqlType + SingleValue + TypedExpressionType,
        V: AsExpression<T>,
        V::Expression: QueryFragment<Pg> + 'a,
    {
        self.binds.push(Box::new(value.as_expression()));
        self
    }
}

impl<ST> QueryFragment<Pg> for Statement<'_, ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
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

/// None of its own: it is remembered by its text.
impl<ST> QueryId for Statement<'_, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> Query for Statement<'_, ST> {
    type SqlType = ST;
}

impl<ST> RunQueryDsl<PgConnection> for Statement<'_, ST> {}
