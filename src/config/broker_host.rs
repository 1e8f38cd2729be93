//! `default_broker`, and a queue's `host`: where messages wait.

use std::fmt;
use std::str::FromStr;

use super::broker_url::{BrokerUrl, BrokerUrlError, EXPECTED, config_message};
use super::reader::Entry;

/// The name of the embedded broker in the configuration.
const EMBEDDED: &str = "embedded";

/// Where a queue's messages wait: `default_broker`, or a queue's `host`.
///
/// `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum BrokerHost {
    /// The embedded broker: messages wait in the database, where their rows are anyway, without RabbitMQ.
    Embedded,
    /// A virtual host of RabbitMQ.
    RabbitMq(BrokerUrl),
}

impl BrokerHost {
    /// Reads `default_broker` or a queue's `host`.
    pub(super) fn read(entry: Entry<'_>) -> Option<Self> {
        let entry = entry.confidential();
        if entry.value().is_table() {
            return BrokerUrl::read(&entry).map(Self::RabbitMq);
        }
        let parsed = entry.string(EXPECTED)?.parse();
        parsed
            .map_err(|error: BrokerUrlError| entry.fault(config_message(error)))
            .ok()
    }

    /// The URL, if this is RabbitMQ.
    #[must_use]
    pub const fn rabbitmq(&self) -> Option<&BrokerUrl> {
        match self {
            Self::Embedded => None,
            Self::RabbitMq(url) => Some(url),
        }
    }
}

impl FromStr for BrokerHost {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().eq_ignore_ascii_case(EMBEDDED) {
            return Ok(Self::Embedded);
        }
        text.parse().map(Self::RabbitMq)
    }
}

impl From<BrokerUrl> for BrokerHost {
    fn from(url: BrokerUrl) -> Self {
        Self::RabbitMq(url)
    }
}

impl Default for BrokerHost {
    /// `amqp://guest:guest@localhost:5672/`
    fn default() -> Self {
        Self::RabbitMq(BrokerUrl::default())
    }
}

impl fmt::Display for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str(EMBEDDED),
            Self::RabbitMq(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for BrokerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::BrokerHost;

    #[test]
    fn a_host_is_embedded_or_a_url() {
        assert_eq!(" embedded\n".parse(), Ok(BrokerHost::Embedded));
        let url: BrokerHost = "amqp://u:hunter2@h".parse().unwrap();
        assert_eq!(url.rabbitmq().unwrap().host, "h");
        assert_eq!(format!("{url} {url:?}").matches("hunter2").count(), 0);
        assert!("embeded".parse::<BrokerHost>().is_err());
        assert!("embedded://".parse::<BrokerHost>().is_err());
    }
}
