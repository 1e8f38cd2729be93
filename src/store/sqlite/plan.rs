//! SQLite's query plans for updates.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::engine::update_text;
use super::file::SqliteFile;
use super::statement::statement;
use crate::state::Status;
use crate::store::Tables;
use crate::store::sql::{ALWAYS_TRUE, Connector, Engine, MessageUpdate, ValueTable};

#[derive(QueryableByName)]
struct PlanStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// An update finds its messages by their keys, even if the planner's statistics are from a moment when the partial
/// indexes were empty.
#[test]
fn messages_are_found_by_their_keys_whatever_the_statistics_say() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/carrot.db", directory.path().display());
    let file = SqliteFile::new(&url.parse().unwrap());
    file.migrate(Tables::WithQueues, &mut |_| {}).unwrap();
    let mut engine = file.open().unwrap();
    let finished = format!(
        "INSERT INTO carrot_messagelog (status, uuid, priority, task, queue, exchange, \
             routing_key, publish_time) \
         SELECT '{}', key, 0, 'noop', 'q', '', 'q', CURRENT_TIMESTAMP \
             FROM json_each('[' || substr(replace(hex(zeroblob(500)), '0', ',0'), 2) || ']')",
        Status::Completed
    );
    engine
        .execute_unprepared(&format!("{finished}; ANALYZE"))
        .unwrap();
    for state in [Status::Pending, Status::Published, Status::InProgress] {
        for and in [ALWAYS_TRUE, "m.owner = 1"] {
            let update = MessageUpdate {
                values: ValueTable::keys(["1", "2"]),
                set: &[("owner", "1".to_owned())],
                guard: &format!("m.status = '{state}'"),
                lookup_guard: and,
            };
            let sql = format!("EXPLAIN QUERY PLAN {}", update_text(&update));
            let plan: Vec<PlanStep> = statement(&sql, Some(&update.values))
                .load(&mut engine.connection)
                .unwrap();
            let plan: Vec<&str> = plan.iter().map(|step| step.detail.as_str()).collect();
            let by_key = "SEARCH m USING INDEX carrot_messagelog_uuid (uuid=?)";
            assert!(
                plan[0].starts_with("SCAN e") && plan[1] == by_key,
                "{state}, {and}: {plan:?}"
            );
        }
    }
}
