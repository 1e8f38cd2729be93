//! The indexes of MySQL and MariaDB.

use crate::store::sql::Index;

const MESSAGES: &str = "carrot_messagelog";
const SCHEDULES: &str = "carrot_scheduledtask";

pub(super) const INDEXES: &[Index] = &[
    // Not unique, because Django's tables are not, and Django's late inserts must succeed.
    Index::new(MESSAGES, "carrot_messagelog_uuid", "uuid"),
    // Any number of rows may be NULL.
    Index::new(MESSAGES, "carrot_messagelog_adopted_uuid", "adopted_uuid").unique(),
    // For the sweep.
    Index::new(MESSAGES, "carrot_messagelog_pending", "status, due_time"),
    Index::new(MESSAGES, "carrot_messagelog_in_progress", "status, owner"),
    // For the embedded broker: the waiting messages of a queue, in their order. (MariaDB before 10.8 has no
    // descending indexes, and sorts.)
    Index::new(
        MESSAGES,
        "carrot_messagelog_waiting",
        "status, routing_key, priority DESC, id",
    )
    .for_embedded_broker(),
    // At most one message for an occurrence. Any number of rows may be NULL.
    Index::new(
        MESSAGES,
        "carrot_messagelog_occurrence",
        "schedule_id, planned_time",
    )
    .unique(),
    // The unplanned schedules, and the next due ones.
    Index::new(
        SCHEDULES,
        "carrot_scheduledtask_next_run",
        "active, is_planned, next_run",
    ),
];
