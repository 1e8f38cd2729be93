//! Who may do what with the tables.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::names;

/// The rights that the role of a service needs if it does not own the tables.
const NEEDED_GRANTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON carrot_messagelog, \
    carrot_scheduledtask, carrot_worker; GRANT USAGE ON SEQUENCE carrot_messagelog_id_seq, \
    carrot_scheduledtask_id_seq, carrot_worker_id_seq; GRANT SELECT ON __diesel_schema_migrations";

/// Selects the first of the tables that this role may not alter, and its owner.
const FOREIGN_TABLE: &str = "SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner, \
        current_user::text AS me \
    FROM pg_class c \
    WHERE c.oid IN (to_regclass('carrot_messagelog'), to_regclass('carrot_scheduledtask'), \
            to_regclass('carrot_worker'), to_regclass('__diesel_schema_migrations')) \
        AND NOT pg_has_role(c.relowner, 'USAGE') \
    ORDER BY c.relname LIMIT 1";

/// Selects the current schema, and its owner, if this role may not create tables in it.
const CLOSED_SCHEMA: &str = "SELECT current_schema()::text AS name, pg_get_userbyid(n.nspowner)::text AS owner, \
        current_user::text AS me \
    FROM pg_namespace n \
    WHERE n.nspname = current_schema() AND NOT has_schema_privilege(n.oid, 'CREATE')";

#[derive(QueryableByName)]
struct OwnedObject {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Text)]
    me: String,
}

/// Why this role may not migrate, and what to do. Checked first, since tables that this role creates would be in
/// the way of the role that may migrate.
pub(super) fn obstacle(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    let program = names::program();
    let mut only = |sql: &str| {
        let found: QueryResult<OwnedObject> = diesel::sql_query(sql).get_result(connection);
        found.optional()
    };
    if let Some(OwnedObject { name, owner, me }) = only(FOREIGN_TABLE)? {
        return Ok(Some(format!(
            "the table {name} belongs to the role {owner}, and {me} may not add to it: run \
             `{program} migrate` with a database_url of {owner}, or let {me} act for it first \
             (GRANT {owner} TO {me})"
        )));
    }
    let closed = only(CLOSED_SCHEMA)?.map(|OwnedObject { name, owner, me }| {
        format!(
            "{me} may not create tables in the schema {name}: run `{program} migrate` with a \
             database_url of {owner}, or let {me} do so first (GRANT CREATE ON SCHEMA {name} TO {me})"
        )
    });
    Ok(closed)
}

/// Adds to an error about a missing right what to do.
pub(super) fn explain(error: String) -> String {
    if error.contains("permission denied for") {
        format!("{error}; a service's role needs: {NEEDED_GRANTS}")
    } else {
        error
    }
}
