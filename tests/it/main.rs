//! The service against a real RabbitMQ and PostgreSQL, as `scripts/services` starts them: one vhost
//! and one schema a test.

mod support;

mod captured;
