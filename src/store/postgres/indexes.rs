//! The indexes of PostgreSQL.

use crate::state::Status;
use crate::store::sql::Index;

const MESSAGES: &str = "carrot_messagelog";
const SCHEDULES: &str = "carrot_scheduledtask";

/// Most are partial: they hold unfinished messages and not the history.
pub(super) const INDEXES: &[Index] = &[
    // Not unique, because Django's tables are not, and Django's late inserts must succeed.
    Index::new(MESSAGES, "carrot_messagelog_uuid", "uuid"),
    Index::new(MESSAGES, "carrot_messagelog_adopted_uuid", "adopted_uuid")
        .unique()
        .only("adopted_uuid IS NOT NULL"),
    // For the sweep.
    Index::new(MESSAGES, "carrot_messagelog_pending", "due_time").only_status(Status::Pending),
    Index::new(MESSAGES, "carrot_messagelog_in_progress", "owner").only_status(Status::InProgress),
    // For the embedded broker: the waiting messages of a queue, in their order.
    Index::new(
        MESSAGES,
        "carrot_messagelog_waiting",
        "routing_key, priority DESC, id",
    )
    .only_status(Status::Published)
    .for_embedded_broker(),
    // At most one message for an occurrence.
    Index::new(
        MESSAGES,
        "carrot_messagelog_occurrence",
        "schedule_id, planned_time",
    )
    .unique()
    .only("schedule_id IS NOT NULL"),
    // The unplanned schedules, of which there are mostly none.
    Index::new(SCHEDULES, "carrot_scheduledtask_unplanned", "id").only(
        "active AND planned_for IS DISTINCT FROM (interval_type || ' ' \
            || CAST(interval_count AS text) || ' ' || COALESCE(time_zone, '') || ' ' || COALESCE(cron, ''))",
    ),
    // The next due schedules.
    Index::new(SCHEDULES, "carrot_scheduledtask_next_run", "next_run")
        .only("active AND next_run IS NOT NULL"),
];
