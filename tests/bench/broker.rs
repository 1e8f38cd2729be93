//! RabbitMQ, used by the benchmark as another client.

use std::collections::BTreeMap;

use amiquip::{
    AmqpProperties, AmqpValue, Auth, Confirm, Connection, ConnectionOptions, ConnectionTuning,
    FieldTable, Publish, QueueDeclareOptions, QueueDeleteOptions,
};
use carrot_actors::config::ArgumentValue;

/// The body of messages whose task ignores it.
const BODY: &[u8] = br#"{"args": [1, "two"]}"#;

/// AMQP's `delivery_mode` for a message that survives the broker.
const PERSISTENT: u8 = 2;

/// The broker that `CARROT_TEST_AMQP` names.
pub struct Rabbit {
    /// Its URL, for the service.
    pub url: String,
    /// The version as the server reports it.
    pub version: String,
    /// The `x-max-priority` of the queues of the benchmark.
    pub priorities: Option<i32>,
}

impl Rabbit {
    pub fn find(priorities: Option<i32>) -> Self {
        let url = std::env::var("CARROT_TEST_AMQP").expect("run it with scripts/bench");
        let parsed = url.parse().expect("a URL");
        let publisher =
            carrot_actors::internals::broker::open(&parsed).and_then(|broker| broker.publisher());
        let version = publisher.expect("the broker").version();
        Self {
            url,
            version,
            priorities,
        }
    }

    /// A new connection of the benchmark.
    pub fn connect(&self) -> Connection {
        let url = url::Url::parse(&self.url).expect("a URL");
        let address = format!("127.0.0.1:{}", url.port().unwrap_or(5672));
        let stream = std::net::TcpStream::connect(address).expect("the broker");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let stream = mio::net::TcpStream::from_stream(stream).expect("a socket");
        let options = ConnectionOptions::<Auth>::default();
        Connection::insecure_open_stream(stream, options, ConnectionTuning::default())
            .expect("a connection")
    }

    /// The line in the service's configuration for such queues.
    pub fn queue_arguments(&self) -> String {
        let priorities = self.priorities;
        let inside =
            priorities.map_or_else(String::new, |most| format!("\"x-max-priority\" = {most}"));
        format!("queue_arguments = {{ {inside} }}\n")
    }

    /// The same in the crate's types.
    pub fn priority_argument(&self) -> BTreeMap<String, ArgumentValue> {
        let most = self.priorities.map(i64::from).map(ArgumentValue::Integer);
        most.map(|most| ("x-max-priority".to_owned(), most))
            .into_iter()
            .collect()
    }

    /// Declares the queue, calls `work`, and deletes the queue.
    pub fn with_queue<T>(&self, queue: &str, work: impl FnOnce() -> T) -> T {
        self.delete(queue);
        self.declare(queue);
        let result = work();
        self.delete(queue);
        result
    }

    fn declare(&self, queue: &str) {
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        let arguments = self
            .priorities
            .map(|most| ("x-max-priority".to_owned(), AmqpValue::LongInt(most)));
        let options = QueueDeclareOptions {
            durable: true,
            arguments: arguments.into_iter().collect(),
            ..QueueDeclareOptions::default()
        };
        channel.queue_declare(queue, options).expect("a queue");
    }

    fn delete(&self, queue: &str) {
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        channel
            .queue_delete(queue, QueueDeleteOptions::default())
            .expect("a delete");
        // The service has declared an exchange of the same name.
        channel.exchange_delete(queue, false).expect("a delete");
    }

    /// Publishes persistent messages to the queue, and waits for the confirms.
    pub fn fill(&self, queue: &str, task: &str, keys: &[String]) {
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        channel.enable_publisher_confirms().expect("confirms");
        let confirms = channel.listen_for_publisher_confirms().expect("confirms");
        for key in keys {
            let properties = properties(task, key).with_delivery_mode(PERSISTENT);
            let publish = Publish::with_properties(BODY, queue, properties);
            channel.basic_publish("", publish).expect("a publish");
        }
        let mut confirmed = 0;
        while confirmed < keys.len() as u64 {
            confirmed = match confirms.recv().expect("a confirm") {
                Confirm::Ack(ack) if ack.multiple => ack.delivery_tag,
                _ => confirmed + 1,
            };
        }
    }
}

/// The properties of a message as django-carrot sends it.
pub fn properties(task: &str, key: &str) -> AmqpProperties {
    let headers: FieldTable = [("type".to_owned(), AmqpValue::LongString(task.to_owned()))]
        .into_iter()
        .collect();
    AmqpProperties::default()
        .with_content_type("application/json".to_owned())
        .with_headers(headers)
        .with_priority(0)
        .with_message_id(key.to_owned())
        .with_type_("django-carrot message".to_owned())
}
