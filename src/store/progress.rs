//! What a migration says of itself while it runs.

/// What a migration has done, or is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationProgress<'a> {
    /// This step was run.
    Step(&'a str),
    /// This index was built.
    Index(&'a str),
    /// For people: what takes its time, how far it is, and whom it waits for.
    Note(&'a str),
}

/// Who is told of it.
pub type MigrationReporter<'a> = dyn FnMut(MigrationProgress<'_>) + 'a;
