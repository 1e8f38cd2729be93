//! `[[queues]]`: the queues of a service, and how they are declared.

use std::collections::BTreeMap;

use super::argument::{ArgumentValue, read_arguments};
use super::broker_host::BrokerHost;
use super::exchange::ExchangeConfig;
use super::name::{MAX_NAME_BYTES, read_name};
use super::reader::{Entry, Section};

const DEFAULT_NAME: &str = "default";
const DEFAULT_CONCURRENCY: usize = 1;
const MAX_CONCURRENCY: i64 = 1000;
/// For each consumer, one message that runs and one that is ready when it ends.
const DEFAULT_PREFETCH_FACTOR: usize = 2;
/// How many more messages a service prefetches while tasks are short.
const SHORT_TASK_BURST: u16 = 1000;
/// AMQP's `basic.qos` has 16 bits for the prefetch count.
const MAX_PREFETCH: i64 = 65535;

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// The queue's name on the broker and in the database: 1 to 200 bytes.
    pub name: String,
    /// The queue's broker: the one that its key `host` names, or else the default broker.
    pub host: BrokerHost,
    /// How many tasks of the queue run at once in a service: 1 to 1000, 1 by default.
    pub concurrency: usize,
    /// How many messages to prefetch for each consumer: at least 1, and at most 65535 for all consumers of
    /// the queue together. `None`, the default: as many as the consumers can run while an outcome is recorded,
    /// see [`QueueConfig::prefetch`] and [`QueueConfig::burst`].
    pub prefetch_factor: Option<usize>,
    /// Whether the service consumes the queue or only publishes to it; true by default.
    pub consumable: bool,
    /// Whether the queue survives a restart of the broker; true by default.
    pub durable: bool,
    /// The arguments for declaring the queue. The default is `{"x-max-priority": 255}`, as in django-carrot.
    /// Arguments that are set replace the default entirely.
    pub queue_arguments: BTreeMap<String, ArgumentValue>,
    /// The exchange with the queue's name, to which django-carrot binds the queue.
    pub exchange: ExchangeConfig,
}

impl QueueConfig {
    /// A queue with this name and broker, and the defaults for everything else.
    pub fn new(name: impl Into<String>, host: impl Into<BrokerHost>) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            concurrency: DEFAULT_CONCURRENCY,
            prefetch_factor: None,
            consumable: true,
            durable: true,
            queue_arguments: BTreeMap::from([(
                "x-max-priority".to_owned(),
                ArgumentValue::Integer(255),
            )]),
            exchange: ExchangeConfig::default(),
        }
    }

    /// The basic prefetch count of all consumers together: how many unacknowledged messages the broker delivers,
    /// however long their tasks take. It is `concurrency × prefetch_factor`; the default factor is 2, or 1 if
    /// the queue [counts redeliveries](Self::counts_returns).
    #[must_use]
    pub fn prefetch(&self) -> u16 {
        self.prefetch_if(self.counts_returns())
    }

    /// As [`QueueConfig::prefetch`], for a caller that knows whether the queue counts redeliveries: the broker's
    /// own settings may make it do so without an argument of the queue. The default factor is then 1, so that no
    /// more messages are delivered than run.
    #[must_use]
    pub fn prefetch_if(&self, counts_returns: bool) -> u16 {
        let ready = if counts_returns {
            1
        } else {
            DEFAULT_PREFETCH_FACTOR
        };
        let factor = self.prefetch_factor.unwrap_or(ready);
        u16::try_from(self.concurrency.saturating_mul(factor)).unwrap_or(u16::MAX)
    }

    /// Whether the queue, by its arguments, counts how often a message is returned and drops it after too many
    /// returns, as quorum queues do. The service then avoids returning messages.
    #[must_use]
    pub fn counts_returns(&self) -> bool {
        let is_other_than_classic = |kind: &ArgumentValue| !matches!(kind, ArgumentValue::String(kind) if kind.eq_ignore_ascii_case("classic"));
        let arguments = &self.queue_arguments;
        self.host != BrokerHost::Embedded
            && (arguments.contains_key("x-delivery-limit")
                || arguments
                    .get("x-queue-type")
                    .is_some_and(is_other_than_classic))
    }

    /// Whether RabbitMQ delivers the queue's messages to only one consumer at a time (`x-single-active-consumer`),
    /// and to no other consumer of the same connection.
    #[must_use]
    pub fn has_a_single_active_consumer(&self) -> bool {
        let argument = self.queue_arguments.get("x-single-active-consumer");
        argument == Some(&ArgumentValue::Bool(true))
    }

    /// How many messages may be prefetched in addition to [`QueueConfig::prefetch`] while tasks are short. It is 0 if
    /// `prefetch_factor` is set, and for queues that [count redeliveries](Self::counts_returns).
    #[must_use]
    pub fn burst(&self) -> u16 {
        if self.prefetch_factor.is_some() || self.counts_returns() {
            0
        } else {
            SHORT_TASK_BURST
        }
    }

    /// The queues if the file names none.
    pub(super) fn defaults(host: &BrokerHost) -> Vec<Self> {
        vec![Self::new(DEFAULT_NAME, host.clone())]
    }

    /// Reads `queues`, a list with at least one queue.
    pub(super) fn read_all(entry: &Entry<'_>, default_host: &BrokerHost) -> Option<Vec<Self>> {
        let items = entry.items("a list of tables, each under [[queues]]")?;
        if items.is_empty() {
            entry.fault("must have at least one queue; leave it out for one named \"default\"");
        }
        let mut queues: Vec<Self> = Vec::new();
        for item in &items {
            let Some(queue) = Self::read(item, default_host) else {
                continue;
            };
            if queues.iter().any(|other| other.name == queue.name) {
                item.fault(format!(
                    "must not have the name {:?} of another queue",
                    queue.name
                ));
            }
            queues.push(queue);
        }
        Some(queues)
    }

    /// Reads one queue. Returns `None` if its name is unusable. Keys with other faults keep their default.
    fn read(entry: &Entry<'_>, default_host: &BrokerHost) -> Option<Self> {
        let mut section = entry.section("a table, under [[queues]]")?;
        let what = format!("the queue's name, a string of 1 to {MAX_NAME_BYTES} bytes");
        let name = section
            .require("name", &what)
            .and_then(|entry| read_name(&entry, entry.string(&what)?));
        let host = section.get("host").and_then(BrokerHost::read);
        let mut queue = Self::new(
            name.unwrap_or_default(),
            host.unwrap_or_else(|| default_host.clone()),
        );
        queue.read_consumers(&mut section);
        queue.read_declaration(&mut section);
        section.finish();
        name.map(|_| queue)
    }

    fn read_consumers(&mut self, section: &mut Section<'_>) {
        let concurrency = section
            .get("concurrency")
            .and_then(|entry| entry.whole(1..=MAX_CONCURRENCY));
        self.concurrency = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        if let Some(entry) = section.get("prefetch_factor") {
            let factor = entry.whole(1..=MAX_PREFETCH);
            self.prefetch_factor = factor;
            self.check_prefetch(&entry);
        }
        let consumable = section.get("consumable").and_then(|entry| entry.boolean());
        self.consumable = consumable.unwrap_or(true);
    }

    fn check_prefetch(&self, entry: &Entry<'_>) {
        let factor = self.prefetch_factor.unwrap_or(DEFAULT_PREFETCH_FACTOR);
        let product = self.concurrency.saturating_mul(factor);
        if u16::try_from(product).is_err() {
            entry.fault(format!(
                "must be at most {} with concurrency = {}, since AMQP prefetches at most {MAX_PREFETCH}",
                usize::from(u16::MAX) / self.concurrency,
                self.concurrency
            ));
        }
    }

    fn read_declaration(&mut self, section: &mut Section<'_>) {
        let durable = section.get("durable").and_then(|entry| entry.boolean());
        self.durable = durable.unwrap_or(true);
        if let Some(arguments) = section
            .get("queue_arguments")
            .and_then(|entry| read_arguments(&entry))
        {
            self.queue_arguments = arguments;
        }
        let exchange = section
            .get("exchange_arguments")
            .and_then(|entry| ExchangeConfig::read(&entry));
        self.exchange = exchange.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::{ArgumentValue, BrokerHost, QueueConfig};
    use crate::config::exchange::ExchangeKind;
    use crate::config::fault::Faults;
    use crate::config::reader::Section;

    fn read(text: &str) -> Result<Vec<QueueConfig>, String> {
        let table: toml::Table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::root(&table, &faults);
        let entry = section.get("queues").unwrap();
        let queues = QueueConfig::read_all(&entry, &BrokerHost::default()).unwrap_or_default();
        faults
            .into_result(queues, None)
            .map_err(|error| error.to_string())
    }

    fn fault(text: &str) -> String {
        read(text).expect_err(text)
    }

    #[test]
    fn a_bare_queue_has_the_defaults_of_django_carrot() {
        let queues = read("[[queues]]\nname = 'q'").unwrap();
        assert_eq!(queues, [QueueConfig::new("q", BrokerHost::default())]);
        let queue = &queues[0];
        assert_eq!(
            (
                queue.concurrency,
                queue.prefetch(),
                queue.consumable,
                queue.durable
            ),
            (1, 2, true, true)
        );
        assert_eq!(queue.burst(), 1000);
        assert_eq!(
            queue.queue_arguments["x-max-priority"],
            ArgumentValue::Integer(255)
        );
        assert_eq!(
            (queue.exchange.kind, queue.exchange.durable),
            (ExchangeKind::Direct, false)
        );
    }

    #[test]
    fn everything_that_can_be_set_is_read() {
        let text = r#"
            [[queues]]
            name = "q"
            host = { host = "h", name = "v", password = "p", secure = true }
            concurrency = 4
            prefetch_factor = 2
            consumable = false
            durable = false
            queue_arguments = { x-queue-type = "quorum", x-list = [1, true, 1.5], x-table = { a = "b" } }
            exchange_arguments = { exchange_type = "topic", durable = true, arguments = { alternate-exchange = "x" } }
        "#;
        let queue = &read(text).unwrap()[0];
        assert_eq!(queue.burst(), 0);
        assert_eq!(queue.host.to_string(), "amqps://guest:***@h:5671/v");
        assert_eq!(
            (queue.prefetch(), queue.consumable, queue.durable),
            (8, false, false)
        );
        assert_eq!(queue.queue_arguments.len(), 3);
        assert_eq!(
            queue.queue_arguments["x-queue-type"],
            ArgumentValue::String("quorum".into())
        );
        let list = [
            ArgumentValue::Integer(1),
            ArgumentValue::Bool(true),
            ArgumentValue::Float(1.5),
        ];
        assert_eq!(
            queue.queue_arguments["x-list"],
            ArgumentValue::List(list.into())
        );
        assert!(
            matches!(&queue.queue_arguments["x-table"], ArgumentValue::Table(table) if table.len() == 1)
        );
        assert_eq!(
            (queue.exchange.kind, queue.exchange.durable),
            (ExchangeKind::Topic, true)
        );
        assert_eq!(queue.exchange.arguments.len(), 1);
    }

    #[test]
    fn empty_arguments_replace_the_default_ones() {
        let queues = read("[[queues]]\nname = 'q'\nqueue_arguments = {}").unwrap();
        assert!(queues[0].queue_arguments.is_empty());
    }

    #[test]
    fn the_prefetch_of_all_consumers_fits_16_bits() {
        let text = "[[queues]]\nname = 'q'\nconcurrency = 1000\nprefetch_factor = ";
        assert_eq!(read(&format!("{text}65")).unwrap()[0].prefetch(), 65000);
        let told = fault(&format!("{text}66"));
        assert!(
            told.contains("queues[0].prefetch_factor: must be at most 65 with concurrency = 1000"),
            "{told}"
        );
        assert!(fault(&format!("{text}{}", i64::MAX)).contains("from 1 to 65535, not"));
    }

    #[test]
    fn a_queue_that_counts_deliveries_prefetches_only_what_runs() {
        for argument in ["x-queue-type = 'quorum'", "x-delivery-limit = 5"] {
            let text = format!("[[queues]]\nname = 'q'\nqueue_arguments = {{ {argument} }}");
            let queue = &read(&text).unwrap()[0];
            assert_eq!((queue.burst(), queue.prefetch()), (0, 1), "{argument}");
            let queue = &read(&format!("{text}\nprefetch_factor = 3")).unwrap()[0];
            assert_eq!((queue.burst(), queue.prefetch()), (0, 3), "{argument}");
            let queue = &read(&format!("{text}\nhost = 'embedded'")).unwrap()[0];
            assert_eq!((queue.burst(), queue.prefetch()), (1000, 2), "{argument}");
        }
        let classic = "[[queues]]\nname = 'q'\nqueue_arguments = { x-queue-type = 'classic' }";
        assert_eq!(read(classic).unwrap()[0].prefetch(), 2);
    }

    #[test]
    fn names_are_present_short_and_unique() {
        assert!(fault("[[queues]]").contains("queues[0].name: is missing"));
        assert!(
            fault("[[queues]]\nname = ''")
                .contains("queues[0].name: must have a name of 1 to 200 bytes, not 0")
        );
        let long = format!("[[queues]]\nname = '{}'", "q".repeat(201));
        assert!(fault(&long).contains("not 201"));
        let twice = fault("[[queues]]\nname = 'q'\n[[queues]]\nname = 'q'");
        assert!(
            twice.contains("queues[1]: must not have the name \"q\" of another queue"),
            "{twice}"
        );
    }

    #[test]
    fn queues_must_be_a_list_with_a_queue() {
        assert!(fault("queues = []").contains("queues: must have at least one queue"));
        assert!(
            fault("[queues]\nname = 'q'")
                .contains("queues: must be a list of tables, each under [[queues]], not a table")
        );
        assert!(fault("queues = ['q']").contains("queues[0]: must be a table"));
    }

    #[test]
    fn a_fault_inside_arguments_is_found() {
        let text = "[[queues]]\nname = 'q'\nqueue_arguments = { a = [1, 2020-01-01], '' = 2 }\nexchange_arguments = { exchange_type = 'x', kind = 1 }";
        let told = fault(text);
        assert!(
            told.contains("queues[0].queue_arguments.a[1]: must be a string, number"),
            "{told}"
        );
        assert!(
            told.contains("queues[0].queue_arguments.\"\": must have a name"),
            "{told}"
        );
        assert!(
            told.contains("queues[0].exchange_arguments.exchange_type: must be \"direct\""),
            "{told}"
        );
        assert!(
            told.contains("queues[0].exchange_arguments.kind: is not a known key"),
            "{told}"
        );
    }
}
