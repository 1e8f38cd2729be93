//! Who may do what with the tables.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::names;

/// What a service's role needs that does not own the tables.
const NEEDED: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON carrot_messagelog, \
    carrot_scheduledtask, carrot_worker; GRANT USAGE ON SEQUENCE carrot_messagelog_id_seq, \
    carrot_scheduledtask_id_seq, carrot_worker_id_seq; GRANT SELECT ON __diesel_schema_migrations";

/// Tables that only others may change: the first, and whose it is.
const OTHERS: &str = "SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner, \
        current_user::text AS me \
    FROM pg_class c \
    WHERE c.oid IN (to_regclass('carrot_messagelog'), to_regclass('carrot_scheduledtask'), \
            to_regclass('carrot_worker'), to_regclass('__diesel_schema_migrations')) \
        AND NOT pg_has_role(c.relowner, 'USAGE') \
    ORDER BY c.relname LIMIT 1";

/// The schema that takes no new tables of ours.
const CLOSED: &str = "SELECT current_schema()::text AS name, pg_get_userbyid(n.nspowner)::text AS owner, \
        current_user::text AS me \
    FROM pg_namespace n \
    WHERE n.nspname = current_schema() AND NOT has_schema_privilege(n.oid, 'CREATE')";

#[derive(QueryableByName)]
struct Owned {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Text)]
    me: String,
}

/// Why this role may not migrate, and what to do. Found out before anything is made that would be in
/// the way of the role that may.
pub(super) fn obstacle(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    let program = names::program();
    let mut only = |sql: &str| {
        let found: QueryResult<Owned> = diesel::sql_query(sql).get_result(connection);
        found.optional()
    };
    if let Some(Owned { name, owner, me }) = only(OTHERS)? {
        return Ok(Some(format!(
            "the table {name} belongs to the role {owner}, and {me} may not add to it: run \
             `{program} migrate` with a database_url of {owner}, or let {me} act for it first \
             (GRANT {owner} TO {me})"
        )));
    }
    let closed = only(CLOSED)?.map(|Owned { name, owner, me }| {
        format!(
            "{me} may not create tables in the schema {name}: run `{program} migrate` with a \
             database_url of {owner}, or let {me} do so first (GRANT CREATE ON SCHEMA {name} TO {me})"
        )
    });
    Ok(closed)
}

/// `error`, and what to do where it says that a right is missing.
pub(super) fn explain(error: String) -> String {
    if error.contains("permission denied for") {
        format!("{error}; a service's role needs: {NEEDED}")
    } else {
        error
    }
}
