//! The declarations of a consumer, in django-carrot's order: exchange, queue, binding.

use amiquip::{
    AmqpValue, Channel, Error, ExchangeDeclareOptions, ExchangeType, FieldTable,
    QueueDeclareOptions,
};

use crate::config::{ArgumentValue, ExchangeKind, QueueConfig};
use std::collections::BTreeMap;

/// Declares the exchange, the queue and the binding; returns how many messages are ready in the queue.
pub(super) fn declare(channel: &Channel, queue: &QueueConfig) -> amiquip::Result<u32> {
    let exchange = &queue.exchange;
    channel.exchange_declare(
        exchange_type(exchange.kind),
        queue.name.as_str(),
        ExchangeDeclareOptions {
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: table(&exchange.arguments),
        },
    )?;
    let declared = channel.queue_declare(
        queue.name.as_str(),
        QueueDeclareOptions {
            durable: queue.durable,
            arguments: table(&queue.queue_arguments),
            ..QueueDeclareOptions::default()
        },
    )?;
    channel.queue_bind(
        queue.name.as_str(),
        queue.name.as_str(),
        queue.name.as_str(),
        FieldTable::new(),
    )?;
    Ok(declared.declared_message_count().unwrap_or_default())
}

/// What to tell the user when RabbitMQ refuses a declaration. RabbitMQ's text names the queue, the
/// argument and both values.
pub(super) fn refusal(queue: &QueueConfig, error: &Error) -> Option<String> {
    let Error::ServerClosedChannel { code, message, .. } = error else {
        return None;
    };
    let remedy = if *code == 406 {
        "set `durable`, `queue_arguments` and `exchange_arguments` of the queue as the broker has it, \
         or delete it there"
    } else {
        "give the user the permission to configure, write and read it"
    };
    Some(format!(
        "RabbitMQ refuses the declaration of queue {:?}: {code} {message}; {remedy}",
        queue.name
    ))
}

const fn exchange_type(kind: ExchangeKind) -> ExchangeType {
    match kind {
        ExchangeKind::Direct => ExchangeType::Direct,
        ExchangeKind::Fanout => ExchangeType::Fanout,
        ExchangeKind::Topic => ExchangeType::Topic,
        ExchangeKind::Headers => ExchangeType::Headers,
    }
}

fn table(arguments: &BTreeMap<String, ArgumentValue>) -> FieldTable {
    arguments
        .iter()
        .map(|(key, argument)| (key.clone(), value(argument)))
        .collect()
}

fn value(argument: &ArgumentValue) -> AmqpValue {
    match argument {
        ArgumentValue::Bool(value) => AmqpValue::Boolean(*value),
        ArgumentValue::Integer(value) => {
            i32::try_from(*value).map_or(AmqpValue::LongLongInt(*value), AmqpValue::LongInt)
        }
        ArgumentValue::Float(value) => AmqpValue::Double(*value),
        ArgumentValue::String(value) => AmqpValue::LongString(value.clone()),
        ArgumentValue::List(values) => {
            AmqpValue::FieldArray(values.iter().map(self::value).collect())
        }
        ArgumentValue::Table(values) => AmqpValue::FieldTable(table(values)),
    }
}
