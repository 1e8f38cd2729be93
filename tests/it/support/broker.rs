//! RabbitMQ, used by the test as another client.

use amiquip::{
    AmqpProperties, AmqpValue, Auth, Connection, ConnectionOptions, ConnectionTuning, FieldTable,
    Publish, QueueDeclareOptions,
};
use serde_json::Value;

use super::world::World;
use super::{Proxy, eventually, server};

/// A message with exactly these properties; nothing is added.
#[derive(Clone, Default)]
pub struct Raw {
    pub properties: AmqpProperties,
    pub body: Vec<u8>,
    pub routing_key: String,
}

impl Raw {
    /// One of the captured messages, with its properties.
    pub fn captured(message: &Value) -> Self {
        let properties = &message["properties"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            properties: AmqpProperties::default()
                .with_content_type(text(&properties["content_type"]))
                .with_headers(headers(&text(&properties["headers"]["type"])))
                .with_priority(u8::try_from(properties["priority"].as_u64().unwrap()).unwrap())
                .with_message_id(text(&properties["message_id"]))
                .with_type_(text(&properties["type"])),
            body: text(&message["body"]).into_bytes(),
            routing_key: text(&message["routing_key"]),
        }
    }

    /// A message of a publisher that sets only the header `type` and the body.
    pub fn foreign(task: &str, id: Option<&str>, body: impl Into<Vec<u8>>) -> Self {
        let mut properties = AmqpProperties::default().with_headers(headers(task));
        if let Some(id) = id {
            properties = properties.with_message_id(id.to_owned());
        }
        Self {
            properties,
            body: body.into(),
            routing_key: "default".to_owned(),
        }
    }

    /// A message as django-carrot sends it.
    pub fn django(task: &str, id: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut raw = Self::foreign(task, Some(id), body);
        raw.properties = raw
            .properties
            .with_type_("django-carrot message".to_owned());
        raw
    }
}

/// `count` new uuids.
fn uuids(count: usize) -> Vec<String> {
    let uuid = |_| uuid::Uuid::new_v4().to_string();
    (0..count).map(uuid).collect()
}

fn headers(task: &str) -> FieldTable {
    let value = AmqpValue::LongString(task.to_owned());
    [("type".to_owned(), value)].into_iter().collect()
}

/// The priorities of the queues in most tests.
pub const PRIORITIES: i32 = 10;

/// The configuration with [`PRIORITIES`] for queues without arguments.
pub fn with_few_priorities(config: &str) -> String {
    if config.contains("queue_arguments") {
        return config.to_owned();
    }
    let arguments = format!("[[queues]]\nqueue_arguments = {{ x-max-priority = {PRIORITIES} }}");
    config.replace("[[queues]]", &arguments)
}

impl World {
    /// A new connection to the test's vhost.
    pub fn amqp(&self) -> Connection {
        let url = url::Url::parse(&server("CARROT_TEST_AMQP")).unwrap();
        let address = format!("127.0.0.1:{}", url.port().unwrap());
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = mio::net::TcpStream::from_stream(stream).unwrap();
        let options = ConnectionOptions::<Auth>::default().virtual_host(self.name.as_str());
        Connection::insecure_open_stream(stream, options, ConnectionTuning::default()).unwrap()
    }

    /// Declares a queue as django-carrot's consumers do, but with fewer priorities: RabbitMQ takes a second
    /// to declare 255.
    pub fn declare_queue(&self, queue: &str) {
        self.declare_queue_with(queue, PRIORITIES);
    }

    /// The same with this number of priorities.
    pub fn declare_queue_with(&self, queue: &str, priorities: i32) {
        if self.is_embedded() {
            return;
        }
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        let arguments = [("x-max-priority".to_owned(), AmqpValue::LongInt(priorities))];
        let options = QueueDeclareOptions {
            durable: true,
            arguments: arguments.into_iter().collect(),
            ..QueueDeclareOptions::default()
        };
        channel.queue_declare(queue, options).unwrap();
        drop(channel);
        connection.close().unwrap();
    }

    /// Publishes messages through the default exchange, and waits for the confirms.
    pub fn publish(&self, messages: &[Raw]) {
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        channel.enable_publisher_confirms().unwrap();
        let confirms = channel.listen_for_publisher_confirms().unwrap();
        for message in messages {
            let publish = Publish::with_properties(
                &message.body,
                message.routing_key.as_str(),
                message.properties.clone(),
            );
            channel.basic_publish("", publish).unwrap();
        }
        let mut confirmed = 0;
        while confirmed < messages.len() as u64 {
            confirmed = match confirms.recv().unwrap() {
                amiquip::Confirm::Ack(ack) | amiquip::Confirm::Nack(ack) if ack.multiple => {
                    ack.delivery_tag
                }
                _ => confirmed + 1,
            };
        }
        drop(channel);
        connection.close().unwrap();
    }

    /// Declares the queue, and publishes `count` messages to it with their rows, as django-carrot does; their
    /// uuids.
    pub fn enqueue(&self, queue: &str, task: &str, count: usize) -> Vec<String> {
        self.declare_queue(queue);
        self.post(queue, task, count)
    }

    /// The same in a queue that exists.
    pub fn post(&self, queue: &str, task: &str, count: usize) -> Vec<String> {
        let uuids = uuids(count);
        self.insert_published(queue, task, &uuids);
        if self.is_embedded() {
            return uuids;
        }
        let message = |uuid: &String| Raw {
            routing_key: queue.to_owned(),
            ..Raw::django(task, uuid, "{}")
        };
        self.publish(&uuids.iter().map(message).collect::<Vec<_>>());
        uuids
    }

    /// How many messages are ready in the queue.
    pub fn ready(&self, queue: &str) -> u32 {
        if self.is_embedded() {
            let waiting = self.rows(&format!(
                "SELECT uuid FROM carrot_messagelog WHERE status = 'PUBLISHED' \
                 AND routing_key = '{queue}' \
                 AND (owner IS NULL OR owner NOT IN (SELECT id FROM carrot_worker))"
            ));
            return u32::try_from(waiting.len()).unwrap();
        }
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        let declared = channel.queue_declare_passive(queue).unwrap();
        declared.declared_message_count().unwrap()
    }

    /// Waits until `count` messages are ready in the queue.
    #[track_caller]
    pub fn await_ready(&self, queue: &str, count: u32) {
        eventually(&format!("{count} messages are ready in {queue}"), || {
            self.ready(queue) == count
        });
    }

    /// Deletes the queue.
    pub fn delete_queue(&self, queue: &str) {
        let path = format!("/api/queues/{}/{queue}", self.name);
        Self::rabbitmq_api("DELETE", &path, None);
    }

    /// Starts a proxy to RabbitMQ. Commands and services of this world connect to it from now on.
    pub fn proxy_broker(&mut self) -> Proxy {
        let proxy = Proxy::start();
        self.broker_url = proxy.url(&self.broker_url);
        proxy
    }

    /// Removes one message from the queue.
    pub fn take(&self, queue: &str) -> Option<amiquip::Delivery> {
        let mut connection = self.amqp();
        let channel = connection.open_channel(None).unwrap();
        channel
            .basic_get(queue, true)
            .unwrap()
            .map(|get| get.delivery)
    }

    /// Calls RabbitMQ's management API; `path` begins with `/api/`.
    pub fn rabbitmq_api(method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let base = server("CARROT_TEST_RABBITMQ_API");
        let url = url::Url::parse(&base).unwrap();
        let plain = format!("http://127.0.0.1:{}{path}", url.port().unwrap());
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(plain)
            .header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
            .header("content-type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .unwrap();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut response = agent.run(request).unwrap();
        let status = response.status();
        // What the test deletes may be gone already.
        let is_done = status.is_success() || (method == "DELETE" && status == 404);
        assert!(is_done, "{method} {path}: {status}");
        let text = response.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).ok()
    }

    /// Closes every connection of this test's vhost that the management API lists; how many. It lists a
    /// connection only a moment after it was opened.
    pub fn cut_connections(&self) -> usize {
        let listed = self.listed_connections();
        for name in &listed {
            let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
            let path = format!("/api/connections/{}", encoded.replace('+', "%20"));
            Self::rabbitmq_api("DELETE", &path, None);
        }
        listed.len()
    }

    /// Waits until the management API lists that many connections of this test's vhost.
    #[track_caller]
    pub fn await_listed_connections(&self, least: usize) {
        eventually("the management API lists the connections", || {
            self.listed_connections().len() >= least
        });
    }

    /// The names of the connections of this test's vhost that the management API lists.
    fn listed_connections(&self) -> Vec<String> {
        let connections = Self::rabbitmq_api("GET", "/api/connections", None).unwrap();
        let connections = connections.as_array().unwrap().iter();
        connections
            .filter(|connection| connection["vhost"] == self.name.as_str())
            .map(|connection| connection["name"].as_str().unwrap().to_owned())
            .collect()
    }
}
