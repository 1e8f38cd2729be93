//! The columns that ordinary queries name. The statements of the hot path are their own text.

diesel::table! {
    carrot_scheduledtask (id) {
        id -> Integer,
        active -> Bool,
    }
}

diesel::table! {
    carrot_worker (id) {
        id -> BigInt,
        host -> Text,
        namespace -> Text,
        pid -> Integer,
        process_start -> BigInt,
        heartbeat -> Timestamptz,
    }
}
