//! How fast the path is: no-op tasks tracked to COMPLETED, beside raw consume and ack of the same
//! client library in the same run. Run by `scripts/bench`; prints medians and their ratio.
//!
//! `BENCH_MESSAGES` (40 000), `BENCH_ROUNDS` (3), `BENCH_CONCURRENCY` (4), `BENCH_PREFETCH_FACTOR`
//! (the default, 25), `BENCH_HISTORY` (200 000 finished rows).
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark stops at its first fault, and prints"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use amiquip::{
    AmqpProperties, AmqpValue, Auth, Confirm, Connection, ConnectionOptions, ConnectionTuning,
    ConsumerMessage, ConsumerOptions, FieldTable, Publish, QueueDeclareOptions,
};
use carrot_actors::config::{Config, Environment};
use carrot_actors::logging::{self, LogLevel};
use carrot_actors::service::{Service, Signal};
use carrot_actors::task::Registry;
use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde_json::Value;

/// Acknowledged with one ack, in the raw loop.
const ACK_EVERY: u64 = 100;

fn main() {
    logging::start(LogLevel::Warning, None);
    let bench = Bench::prepare();
    let mut raw = Vec::new();
    let mut tracked = Vec::new();
    for round in 0..bench.rounds {
        raw.push(bench.raw(round));
        tracked.push(bench.tracked(round));
    }
    let (raw, tracked) = (median(raw), median(tracked));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!(
        "cores {cores}, messages {}, rounds {}",
        bench.messages, bench.rounds
    );
    println!("raw consume + ack:      {raw:8.0} messages/s");
    println!(
        "tracked to COMPLETED:   {tracked:8.0} tasks/s ({:.0} % of raw)",
        100.0 * tracked / raw
    );
    bench.clean_up();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

struct Bench {
    name: String,
    messages: usize,
    rounds: usize,
    amqp: String,
    database: String,
}

impl Bench {
    fn prepare() -> Self {
        let name = format!("bench{}", std::process::id());
        let server = |variable| std::env::var(variable).expect("run it with scripts/bench");
        let bench = Self {
            messages: setting("BENCH_MESSAGES", 40_000),
            rounds: setting("BENCH_ROUNDS", 3),
            amqp: server("CARROT_TEST_AMQP"),
            database: format!(
                "{}?options=-csearch_path%3D{name}",
                server("CARROT_TEST_POSTGRES")
            ),
            name,
        };
        bench.sql(&format!("CREATE SCHEMA {}", bench.name));
        let url = bench.database.parse().expect("a URL");
        let store = carrot_actors::store::open(&url).expect("a database");
        store.migrate().expect("tables");
        let history = setting("BENCH_HISTORY", 200_000);
        bench.sql(&format!(
            "INSERT INTO carrot_messagelog (status, uuid, priority, task, task_args, content, queue, log, \
                 publish_time, completion_time) \
             SELECT 'COMPLETED', gen_random_uuid(), 0, 'noop', '()', '{{}}', 'default', repeat('x', 200), \
                 now(), now() FROM generate_series(1, {history}); ANALYZE carrot_messagelog"
        ));
        bench
    }

    fn sql(&self, statements: &str) {
        let mut connection = PgConnection::establish(&self.database).expect("the database");
        connection
            .batch_execute(statements)
            .expect("the statements");
    }

    fn clean_up(&self) {
        self.sql(&format!("DROP SCHEMA {} CASCADE", self.name));
    }

    fn connect(&self) -> Connection {
        let url = url::Url::parse(&self.amqp).expect("a URL");
        let address = format!("127.0.0.1:{}", url.port().unwrap_or(5672));
        let stream = std::net::TcpStream::connect(address).expect("the broker");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let stream = mio::net::TcpStream::from_stream(stream).expect("a socket");
        let options = ConnectionOptions::<Auth>::default();
        Connection::insecure_open_stream(stream, options, ConnectionTuning::default())
            .expect("a connection")
    }

    /// A queue with messages in it, as django-carrot sends them, and their rows.
    fn fill(&self, queue: &str, rows: bool) {
        let keys: Vec<String> = (0..self.messages)
            .map(|_| carrot_actors::names::new_key())
            .collect();
        if rows {
            for keys in keys.chunks(5_000) {
                self.sql(&format!(
                    "INSERT INTO carrot_messagelog (status, uuid, priority, task, task_args, content, \
                         queue, exchange, routing_key, publish_time) \
                     SELECT 'PUBLISHED', key, 0, 'noop', '(1, ''two'')', '{{}}', '{queue}', '', \
                         '{queue}', now() FROM unnest(ARRAY['{}']) AS key",
                    keys.join("','")
                ));
            }
        }
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        let arguments = [("x-max-priority".to_owned(), AmqpValue::LongInt(10))];
        let options = QueueDeclareOptions {
            durable: true,
            arguments: arguments.into_iter().collect(),
            ..QueueDeclareOptions::default()
        };
        channel.queue_declare(queue, options).expect("a queue");
        channel.enable_publisher_confirms().expect("confirms");
        let confirms = channel.listen_for_publisher_confirms().expect("confirms");
        for key in &keys {
            let headers: FieldTable =
                [("type".to_owned(), AmqpValue::LongString("noop".to_owned()))]
                    .into_iter()
                    .collect();
            let properties = AmqpProperties::default()
                .with_headers(headers)
                .with_delivery_mode(2)
                .with_message_id(key.clone())
                .with_type_("django-carrot message".to_owned());
            let body = br#"{"args": [1, "two"]}"#;
            let publish = Publish::with_properties(body, queue, properties);
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

    /// Messages a second that amiquip consumes and acknowledges by the hundred.
    fn raw(&self, round: usize) -> f64 {
        let queue = format!("{}-raw-{round}", self.name);
        self.fill(&queue, false);
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        channel.qos(0, 1000, false).expect("a prefetch");
        let started = Instant::now();
        let consumer = channel
            .basic_consume(queue.as_str(), ConsumerOptions::default())
            .expect("a consumer");
        let mut seen = 0;
        for message in consumer.receiver() {
            let ConsumerMessage::Delivery(delivery) = message else {
                panic!("the consumer ended");
            };
            seen += 1;
            if seen % ACK_EVERY == 0 || seen == self.messages as u64 {
                delivery.ack_multiple(&channel).expect("an ack");
            }
            if seen == self.messages as u64 {
                break;
            }
        }
        let rate = self.messages as f64 / started.elapsed().as_secs_f64();
        consumer.cancel().expect("a cancel");
        channel
            .queue_delete(queue, amiquip::QueueDeleteOptions::default())
            .expect("a delete");
        rate
    }

    /// Tasks a second from the queue to their COMPLETED rows.
    fn tracked(&self, round: usize) -> f64 {
        let queue = format!("{}-tracked-{round}", self.name);
        self.fill(&queue, true);
        let directory = tempfile::tempdir().expect("a directory");
        let config = format!(
            "default_broker = {:?}\ndatabase_url = {:?}\n[[queues]]\nname = {queue:?}\nconcurrency = {}\n\
             prefetch_factor = {}\nqueue_arguments = {{ \"x-max-priority\" = 10 }}\n",
            self.amqp,
            self.database,
            setting("BENCH_CONCURRENCY", 4),
            setting("BENCH_PREFETCH_FACTOR", 25),
        );
        std::fs::write(directory.path().join("carrot.toml"), config).expect("a file");
        let none: [(&str, &str); 0] = [];
        let environment = Environment::from_pairs(none);
        let config = Config::load(None, &environment, directory.path()).expect("a configuration");
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let mut registry = Registry::new();
        registry
            .register("noop", move |_, _| {
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(Value::Null)
            })
            .expect("a name");
        let service = Service {
            config: Arc::new(config),
            registry,
            scheduler: false,
            until_idle: false,
            announce: Arc::new(|_| {}),
            logs: String::new(),
        };
        let (signals, receiver) = crossbeam_channel::unbounded();
        let thread = thread::spawn(move || service.run(&receiver));
        while ran.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        let started = Instant::now();
        while ran.load(Ordering::Relaxed) < self.messages {
            thread::sleep(Duration::from_micros(200));
        }
        self.await_completed(&queue);
        let rate = self.messages as f64 / started.elapsed().as_secs_f64();
        signals.send(Signal::Stop).expect("a running service");
        thread.join().expect("no panic").expect("a good end");
        self.delete(&queue);
        rate
    }

    fn await_completed(&self, queue: &str) {
        let mut connection = PgConnection::establish(&self.database).expect("the database");
        let sql = format!(
            "SELECT count(*) AS count FROM carrot_messagelog WHERE queue = '{queue}' AND status <> 'COMPLETED'"
        );
        loop {
            let left: Count = diesel::sql_query(&sql)
                .get_result(&mut connection)
                .expect("a count");
            if left.count == 0 {
                return;
            }
        }
    }

    fn delete(&self, queue: &str) {
        let mut connection = self.connect();
        let channel = connection.open_channel(None).expect("a channel");
        channel
            .queue_delete(queue, amiquip::QueueDeleteOptions::default())
            .expect("a delete");
        channel.exchange_delete(queue, false).expect("a delete");
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}
