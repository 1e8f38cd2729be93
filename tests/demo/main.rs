//! Plays the Django project of `scripts/demo`: creates django-carrot's tables, and publishes the messages
//! that were captured from it, with their rows.
#![expect(clippy::print_stdout, reason = "it says what it did")]

use std::error::Error;

use amiquip::{
    AmqpProperties, AmqpValue, Auth, Connection, ConnectionOptions, ConnectionTuning, Publish,
    QueueDeclareOptions,
};
use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use serde_json::Value;

const MESSAGES: &str = include_str!("../fixtures/django-carrot/messages.json");
const ROWS: &str = include_str!("../fixtures/django-carrot/messagelog_rows.json");
const SCHEMA: &str = include_str!("../fixtures/django-carrot/schema.postgresql.sql");

const QUEUE: &str = "default";

const COLUMNS: &str = "status, exchange, queue, routing_key, uuid, priority, task, task_args, content, \
    publish_time";

fn main() -> Result<(), Box<dyn Error>> {
    record(&std::env::var("CARROT_DATABASE_URL")?)?;
    let published = publish(&std::env::var("CARROT_DEFAULT_BROKER")?)?;
    println!("published {published} messages as django-carrot does, with their rows");
    Ok(())
}

/// Creates the tables as Django's migrations do, with the captured rows.
fn record(url: &str) -> Result<(), Box<dyn Error>> {
    let mut connection = PgConnection::establish(url)?;
    connection.batch_execute("DROP SCHEMA IF EXISTS demo CASCADE; CREATE SCHEMA demo")?;
    connection.batch_execute(&SCHEMA.replace("public.", "demo."))?;
    connection.batch_execute(&format!(
        "SET search_path = demo; INSERT INTO carrot_messagelog ({COLUMNS}) SELECT {COLUMNS} \
         FROM json_populate_recordset(NULL::carrot_messagelog, '{}')",
        ROWS.replace('\'', "''")
    ))?;
    Ok(())
}

fn publish(url: &str) -> Result<usize, Box<dyn Error>> {
    let url = url::Url::parse(url)?;
    let address = format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port().unwrap_or(5672)
    );
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    let stream = mio::net::TcpStream::from_stream(stream)?;
    let options = ConnectionOptions::<Auth>::default();
    let mut connection =
        Connection::insecure_open_stream(stream, options, ConnectionTuning::default())?;
    let channel = connection.open_channel(None)?;
    let arguments = [("x-max-priority".to_owned(), AmqpValue::LongInt(255))];
    let declare = QueueDeclareOptions {
        durable: true,
        arguments: arguments.into_iter().collect(),
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(QUEUE, declare)?.purge()?;
    let messages: Vec<Value> = serde_json::from_str(MESSAGES)?;
    for message in &messages {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let properties = &message["properties"];
        let task = AmqpValue::LongString(text(&properties["headers"]["type"]));
        let sent = AmqpProperties::default()
            .with_content_type(text(&properties["content_type"]))
            .with_headers([("type".to_owned(), task)].into_iter().collect())
            .with_priority(u8::try_from(
                properties["priority"].as_u64().unwrap_or_default(),
            )?)
            .with_message_id(text(&properties["message_id"]))
            .with_type_(text(&properties["type"]));
        let body = text(&message["body"]);
        let publish =
            Publish::with_properties(body.as_bytes(), text(&message["routing_key"]), sent);
        channel.basic_publish("", publish)?;
    }
    drop(channel);
    connection.close()?;
    Ok(messages.len())
}
