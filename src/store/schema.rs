//! The columns that ordinary queries name. The statements of the hot path are their own text.

diesel::table! {
    carrot_messagelog (id) {
        id -> Integer,
        status -> Text,
        exchange -> Nullable<Text>,
        queue -> Nullable<Text>,
        routing_key -> Nullable<Text>,
        uuid -> Text,
        priority -> Integer,
        task -> Text,
        task_args -> Nullable<Text>,
        content -> Nullable<Text>,
        exception -> Nullable<Text>,
        owner -> Nullable<BigInt>,
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
