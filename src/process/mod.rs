//! The process itself: its user, its limits, and what it does as process 1 of a container.

pub(crate) mod init;
pub(crate) mod limits;
pub(crate) mod privileges;
