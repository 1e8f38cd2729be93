//! The process: its user, its limits, and its duties as process 1 of a container.

pub(crate) mod init;
pub(crate) mod limits;
pub(crate) mod privileges;
