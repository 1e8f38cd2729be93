//! The indexes of MySQL and MariaDB.

use crate::store::sql::Index;

const MESSAGES: &str = "carrot_messagelog";
const SCHEDULES: &str = "carrot_scheduledtask";

pub(super) const INDEXES: &[Index] = &[
    // Not unique: Django's tables do not promise it, and its late inserts must work.
    Index::new(MESSAGES, "carrot_messagelog_uuid", "uuid"),
    // NULL is not unique.
    Index::new(MESSAGES, "carrot_messagelog_adopted_uuid", "adopted_uuid").unique(),
    // What the sweep reads.
    Index::new(MESSAGES, "carrot_messagelog_pending", "status, due_time"),
    Index::new(MESSAGES, "carrot_messagelog_in_progress", "status, owner"),
    // What the embedded broker reads: the messages that wait in a queue, in their order. (MariaDB before
    // 10.8 has no descending indexes, and sorts.)
    Index::new(
        MESSAGES,
        "carrot_messagelog_waiting",
        "status, routing_key, priority DESC, id",
    )
    .for_embedded_broker(),
    // One message an occurrence. NULL is not unique.
    Index::new(
        MESSAGES,
        "carrot_messagelog_occurrence",
        "schedule_id, planned_time",
    )
    .unique(),
    // What is to be reckoned, and what is due next.
    Index::new(
        SCHEDULES,
        "carrot_scheduledtask_next_run",
        "active, is_planned, next_run",
    ),
];
