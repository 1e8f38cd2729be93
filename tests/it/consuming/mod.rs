//! From the delivery of a message to the row that records its end.

mod amqp_bytes;
mod deleted_queue;
mod delivery_limits;
mod django_carrot;
mod embedded_broker;
mod end_to_end;
mod late_rows;
mod lost_channels;
mod message_and_row;
mod missing_rows;
mod without_id;
