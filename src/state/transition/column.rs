//! The columns that events change, and their new values.

/// A column that events change, beside the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The task, its arguments, and where they are published to.
    Message,
    /// How many attempts are known to have begun.
    Attempts,
    /// Whether the message may have made a worker die.
    CrashSuspect,
    /// `PENDING`: when the message is published again, unless the broker confirms it before. `IN_PROGRESS`: since
    /// when the broker has no copy of the message, if it has none.
    Due,
    /// The worker that has the message.
    Owner,
    /// What the task returned.
    Output,
    /// Why the message failed.
    Exception,
    /// Where the task failed.
    Traceback,
    /// What the task logged.
    Log,
    /// When the message was `COMPLETED`.
    CompletionTime,
    /// When the message was `FAILED`.
    FailureTime,
    /// Since when the message has waited for the present cause: its run is put off, or the broker refuses it.
    PutOffSince,
    /// That cause, as a text.
    PutOffReason,
}

/// The new value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// The database's time.
    Now,
    /// The worker that the event comes from.
    Worker,
    /// True.
    True,
    /// The value that comes with the event.
    Given,
    /// True if the column or the event says so.
    KeptOrGiven,
    /// The time that comes with the event.
    EventTime,
    /// The column's time, or else the time that comes with the event.
    KeptElseEventTime,
    /// The column's time if the message has waited for the same cause before, or else the database's time.
    KeptIfSameElseNow,
    /// NULL if the message has waited for the same cause before, or else unchanged.
    NullIfSame,
}

/// A column and its new value.
pub type ColumnChange = (Column, Value);
