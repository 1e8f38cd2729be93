//! The tables: creating them, adopting Django's, reading rows that others wrote, deleting old rows.

mod adoption;
mod migration;
mod pruning;
mod unreadable;
