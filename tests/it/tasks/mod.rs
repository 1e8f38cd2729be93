//! What a task is: a Rust function or an external command, with its arguments, its output and its failures.

mod commands;
mod escaped_helpers;
mod functions;
mod numbers;
mod put_off;
