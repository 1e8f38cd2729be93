//! What django-carrot sent and wrote, captured from it while it ran.

use serde_json::Value;

/// The messages that it published, with their properties.
pub fn messages() -> Vec<Value> {
    parse(include_str!("../../fixtures/django-carrot/messages.json"))
}

/// Its rows of those messages.
pub fn message_rows() -> Vec<Value> {
    parse(include_str!(
        "../../fixtures/django-carrot/messagelog_rows.json"
    ))
}

/// Its rows of schedules.
pub fn schedule_rows() -> Vec<Value> {
    parse(include_str!(
        "../../fixtures/django-carrot/scheduledtask_rows.json"
    ))
}

fn parse(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}
