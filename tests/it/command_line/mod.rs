//! The commands that operators and scripts type: their output, their exit codes and their refusals. The
//! `daemon` commands have tests of their own in `daemon`.

mod check;
mod passwords;
mod schedule;
mod send_and_requeue;
mod service;
