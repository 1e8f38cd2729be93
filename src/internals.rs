//! The one door by which the tests and the benchmark reach rooms that are no part of the public interface. What
//! is here may change with any version. It has what they name, and the constants that the documentation of
//! that links to.

/// The seam to the broker.
pub mod broker {
    pub use crate::broker::{
        Broker, BrokerError, BrokerEvent, BrokerPublisher, CONFIRM_TIMEOUT, Confirmation,
        DeliveryHandle, Envelope, SentBatch, SubscriptionCommand, embedded, open,
    };
}

/// JSON, as arguments have it.
pub mod json {
    pub use crate::message::json::parse;
}

/// Where log lines go.
pub mod logging {
    pub use crate::logging::start;
}

/// Shared names.
pub mod names {
    pub use crate::names::new_key;
}

/// The one door to the broker for messages.
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
        Advance, Batch, BatchResult, Begin, BrokerCopy, Candidate, Claim, ClaimRequest, Edited,
        FactStore, Finish, Finished, NewRow, OccurrenceStore, OutboxStore, PUBLISH_LEASE, Pruned,
        PutBack, PutOff, PutOffDue, REDELIVERY_GRACE, Ready, RecoveryStore, Republish, Requeue,
        RequeueStore, Requeued, RetentionStore, RunStore, ScheduleRow, ScheduleSpec, ScheduleStore,
        Session, Store, Stretch, Tables, TestSession, UndecodableRow, WhichSchedules, WorkerId,
        WorkerProcess, WorkerStore, connect_for_tests, open, open_for,
    };
}

/// When a schedule fires.
pub mod timetable {
    pub use crate::timetable::{Timetable, TimetableError, zone};
}

/// How a service is.
pub mod service_status {
    pub use crate::health::service_status::ServiceStatus;
}

/// What the embedded broker needs of the store.
pub mod embedded_queue {
    pub use crate::service::embedded_queue::EmbeddedQueue;
}

/// Messages on the wire.
pub mod wire {
    pub use crate::message::wire::{decode, encode};
}
