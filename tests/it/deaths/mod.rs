//! Processes and threads die at a chosen step or at random. No message is lost, and none is run again after
//! its end was recorded.

mod dead_threads;
mod frozen_services;
mod publishers;
mod random_kills;
mod services;
