//! What the tests, the benchmark, `scripts/manual.rs` and links in the documentation use of modules that are not public.
//! Anything here may change with any version.

/// The seam to the broker.
pub mod broker {
    pub use crate::broker::{
        Broker, BrokerError, BrokerEvent, BrokerPublisher, CONFIRM_TIMEOUT, Confirmation,
        DeliveryHandle, Envelope, SentBatch, SubscriptionCommand, embedded, open,
    };
}

/// The command line.
pub mod cli {
    pub use crate::cli::{command, main};
}

/// The JSON of arguments.
pub mod json {
    pub use crate::message::json::parse;
}

/// Logging.
pub mod logging {
    pub use crate::logging::start;
}

/// Shared names.
pub mod names {
    pub use crate::names::new_key;
}

/// Publishing of messages to the broker.
pub mod publish {
    pub use crate::publish::Outbox;
}

/// A service.
pub mod service {
    pub use crate::service::{Ended, Service, ServiceError, Signal};
}

/// The states of a message.
pub mod state {
    pub use crate::state::{Cause, End, Status};
}

/// The seam to the database.
pub mod store {
    pub use crate::store::{
        Advance, Batch, BatchResult, Begin, BrokerCopy, Candidate, Claim, ClaimRequest, EditResult,
        FactStore, Finish, FinishResult, NewRow, OccurrenceStore, OutboxStore, PUBLISH_LEASE,
        PruneRange, Pruned, PutOff, PutOffDue, PutOffResult, REDELIVERY_GRACE, ReadySchedules,
        RecoveryStore, Republish, Requeue, RequeueStore, Requeued, RetentionStore, RunStore,
        ScheduleRow, ScheduleSpec, ScheduleStore, Session, Store, Tables, TestSession,
        UndecodableRow, WhichSchedules, WorkerId, WorkerProcess, WorkerStore, connect_for_tests,
        open, open_for,
    };
}

/// When a schedule fires.
pub mod timetable {
    pub use crate::timetable::{Timetable, TimetableError, zone};
}

/// The status of a service.
pub mod service_status {
    pub use crate::health::service_status::ServiceStatus;
}

/// The database as the embedded broker's queues.
pub mod embedded_queue {
    pub use crate::service::embedded_queue::EmbeddedQueue;
}

/// Messages on the wire.
pub mod wire {
    pub use crate::message::wire::{decode, encode};
}
