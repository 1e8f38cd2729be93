//! `exchange_arguments`: how the exchange of a queue is declared.

use std::collections::BTreeMap;

use super::argument::{ArgumentValue, read_arguments};
use super::reader::Entry;

/// `exchange_arguments`: the options for declaring a queue's exchange. The keys are named as in django-carrot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExchangeConfig {
    /// The exchange's type (`exchange_type`), direct by default.
    pub kind: ExchangeKind,
    /// Whether the exchange survives a restart of the broker; false by default.
    pub durable: bool,
    /// Whether the broker deletes the exchange with its last binding; false by default.
    pub auto_delete: bool,
    /// Whether publishers can't publish to the exchange; false by default.
    pub internal: bool,
    /// The arguments of AMQP's `exchange.declare`; none by default.
    pub arguments: BTreeMap<String, ArgumentValue>,
}

/// The exchange types of AMQP 0-9-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExchangeKind {
    /// Routes by the routing key.
    #[default]
    Direct,
    /// Routes to all bound queues.
    Fanout,
    /// Routes by patterns of the routing key.
    Topic,
    /// Routes by the headers.
    Headers,
}

impl ExchangeKind {
    const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    /// The type's name in AMQP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    fn read(entry: &Entry<'_>) -> Option<Self> {
        let named = |kind: &Self| entry.value().as_str() == Some(kind.name());
        let found = Self::ALL.into_iter().find(named);
        if found.is_none() {
            entry.mismatch("\"direct\", \"fanout\", \"topic\" or \"headers\"");
        }
        found
    }
}

impl ExchangeConfig {
    pub(super) fn read(entry: &Entry<'_>) -> Option<Self> {
        let mut section = entry
            .section("a table of exchange_type, durable, auto_delete, internal and arguments")?;
        let kind = section
            .get("exchange_type")
            .and_then(|entry| ExchangeKind::read(&entry));
        let mut flag = |key| {
            section
                .get(key)
                .and_then(|entry| entry.boolean())
                .unwrap_or(false)
        };
        let (durable, auto_delete, internal) =
            (flag("durable"), flag("auto_delete"), flag("internal"));
        let arguments = section
            .get("arguments")
            .and_then(|entry| read_arguments(&entry));
        section.finish();
        Some(Self {
            kind: kind.unwrap_or_default(),
            durable,
            auto_delete,
            internal,
            arguments: arguments.unwrap_or_default(),
        })
    }
}
