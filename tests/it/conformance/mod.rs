//! One suite for every broker and one for every store: what the rest of the service relies on.

mod broker;
mod store;
