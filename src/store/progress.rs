//! The progress of a migration.

/// One report of a migration while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationProgress<'a> {
    /// This step was run.
    Step(&'a str),
    /// This index was built.
    Index(&'a str),
    /// For people: what takes long, how far it is, and whom it waits for.
    Note(&'a str),
}

/// Receives the reports of a migration.
pub type MigrationReporter<'a> = dyn FnMut(MigrationProgress<'_>) + 'a;
