//! A message's row, and how it is made from a message and read back into one.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use crate::message::python::LiteralError;
use crate::message::{
    Literal, Message, MessageRef, Object, Occurrence, Payload, json, python, wire,
};
use crate::names;
use crate::state::{End, Status};

/// A row to insert.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    /// `uuid`.
    pub key: String,
    /// `PENDING` when recorded before it is published, `PUBLISHED` or final when adopted.
    pub status: Status,
    /// The task's name.
    pub task: String,
    /// The repr of a Python tuple.
    pub task_args: Option<String>,
    /// The kwargs as JSON; of an unreadable message, its body.
    pub content: Option<String>,
    /// The queue.
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The priority.
    pub priority: u8,
    /// Why it is final, if it is.
    pub exception: Option<String>,
    /// When a PENDING one is the sweep's to publish, by the database's clock; `None`: when its
    /// recorder's time for that is over.
    pub due: Option<DateTime<Utc>>,
    /// What it is published for, if for a schedule.
    pub occurrence: Option<Occurrence>,
}

impl NewRow {
    /// The row of a message that is about to be published.
    #[must_use]
    pub fn pending<'a>(message: impl Into<MessageRef<'a>>) -> Self {
        let message = message.into();
        Self {
            key: message.key.to_owned(),
            status: Status::Pending,
            task: names::storable_name(message.task),
            task_args: Some(names::storable(python::repr_tuple(&message.arguments.args))),
            content: Some(message.arguments.kwargs.to_string()),
            queue: names::storable_name(message.queue),
            exchange: names::storable_name(message.exchange),
            routing_key: names::storable_name(message.routing_key),
            priority: message.priority,
            exception: None,
            due: None,
            occurrence: message.occurrence,
        }
    }

    /// The row of a message that is not to be published before `due`, by the database's clock.
    #[must_use]
    pub fn delayed(message: &Message, due: DateTime<Utc>) -> Self {
        Self {
            due: Some(due),
            ..Self::pending(message)
        }
    }

    /// The same row, for a message that the broker has already.
    #[must_use]
    pub fn published(self) -> Self {
        Self {
            status: Status::Published,
            ..self
        }
    }

    /// The same row, final for `reason`.
    #[must_use]
    pub fn ended(self, end: End, reason: String) -> Self {
        Self {
            status: end.status(),
            exception: Some(names::storable(reason)),
            ..self
        }
    }

    /// Whether this message, and no other, is read back from it.
    #[must_use]
    pub fn carries<'a>(&self, message: impl Into<MessageRef<'a>>) -> bool {
        let message = message.into();
        let columns = Columns {
            id: 0,
            key: self.key.clone(),
            task: self.task.clone(),
            task_args: self.task_args.clone(),
            content: self.content.clone(),
            queue: Some(self.queue.clone()),
            exchange: Some(self.exchange.clone()),
            routing_key: Some(self.routing_key.clone()),
            priority: self.priority.into(),
            occurrence: message.occurrence,
        };
        // The arguments are the same where they can be read, but for how a number is spelt. Names may have
        // been cut.
        columns.decode().is_ok_and(|read| {
            read.arguments.args.len() == message.arguments.args.len()
                && read.task == message.task
                && read.queue == message.queue
                && read.exchange == message.exchange
                && read.routing_key == message.routing_key
                && read.priority == message.priority
        })
    }

    /// Whether its arguments are in ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        let is_ascii = |text: &Option<String>| text.as_deref().is_none_or(str::is_ascii);
        is_ascii(&self.task_args) && is_ascii(&self.content)
    }

    /// The same row with its arguments in ASCII if they have characters beyond `last`.
    #[must_use]
    pub(super) fn within(&self, last: char) -> Cow<'_, Self> {
        let fits = |text: &Option<String>| {
            text.as_deref()
                .is_none_or(|text| text.chars().all(|c| c <= last))
        };
        if last == char::MAX || (fits(&self.task_args) && fits(&self.content)) {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            task_args: self.task_args.as_deref().map(python::ascii),
            content: self.content.as_deref().map(wire::ascii),
            ..self.clone()
        })
    }

    /// The same row without anything that a sender wrote but its key, for a database that refused
    /// the whole.
    #[must_use]
    pub fn bare(self) -> Self {
        let plain = |text: String| text.chars().filter(char::is_ascii).collect();
        Self {
            task: plain(self.task),
            queue: plain(self.queue),
            exchange: plain(self.exchange),
            routing_key: plain(self.routing_key),
            task_args: None,
            content: None,
            ..self
        }
    }
}

/// A row that no message can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecodableRow {
    /// Its id, by which it is found whatever its key is like.
    pub id: i64,
    /// Its key, for people.
    pub key: String,
    /// Why not.
    pub reason: String,
}

impl UndecodableRow {
    /// The messages, and apart from them the rows that none can be made from.
    pub(super) fn apart(rows: Vec<Result<Message, Self>>) -> (Vec<Message>, Vec<Self>) {
        let (mut messages, mut undecodable) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(message) => messages.push(message),
                Err(row) => undecodable.push(row),
            }
        }
        (messages, undecodable)
    }
}

/// The end of a run, to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The message's key.
    pub key: String,
    /// How it ended.
    pub end: End,
    /// RunStore that are known to have begun, this one included.
    pub attempts: u32,
    /// What the task returned.
    pub output: Option<String>,
    /// Why it failed, in one line.
    pub exception: Option<String>,
    /// Where it failed.
    pub traceback: Option<String>,
    /// What it logged.
    pub log: Option<String>,
}

impl Finish {
    /// The same end in a form that every database stores.
    #[must_use]
    pub fn storable(self) -> Self {
        Self {
            output: self.output.map(names::storable),
            exception: self.exception.map(names::storable),
            traceback: self.traceback.map(names::storable),
            log: self.log.map(names::storable),
            ..self
        }
    }

    /// What is left to say when the database refused the whole: that it did, in `reason`.
    #[must_use]
    pub fn refused(&self, reason: &str) -> Self {
        Self {
            key: self.key.clone(),
            end: End::Failed,
            attempts: self.attempts,
            output: None,
            exception: Some(format!(
                "the task ended as {}, but the database refused its record: {reason}",
                self.end.status()
            )),
            traceback: None,
            log: None,
        }
    }
}

/// The columns that a message is read from.
pub(super) struct Columns {
    pub(super) id: i64,
    pub(super) key: String,
    pub(super) task: String,
    pub(super) task_args: Option<String>,
    pub(super) content: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) priority: i64,
    pub(super) occurrence: Option<Occurrence>,
}

/// How a column of arguments is read.
type Read = fn(&str) -> Result<Vec<Literal>, LiteralError>;

impl Columns {
    /// The message that the row stands for.
    pub(super) fn decode(self) -> Result<Message, UndecodableRow> {
        self.decode_with(python::parse_tuple)
    }

    /// The same of a row whose arguments stand there as a schedule's do.
    pub(super) fn decode_schedule(self) -> Result<Message, UndecodableRow> {
        self.decode_with(python::parse_list)
    }

    fn decode_with(self, read: Read) -> Result<Message, UndecodableRow> {
        let undecodable = |reason: String| UndecodableRow {
            id: self.id,
            key: self.key.clone(),
            reason,
        };
        let args = read(self.task_args.as_deref().unwrap_or_default())
            .map_err(|error| undecodable(format!("task_args can't be read: {error}")))?;
        let kwargs = kwargs(self.content.as_deref())
            .map_err(|error| undecodable(format!("content can't be read: {error}")))?;
        // Django leaves queue or routing_key empty where one of them says it all.
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let routing_key = some(self.routing_key);
        let queue = some(self.queue)
            .or_else(|| routing_key.clone())
            .ok_or_else(|| undecodable("the row names neither queue nor routing key".to_owned()))?;
        Ok(Message {
            key: self.key,
            task: self.task,
            arguments: Payload { args, kwargs },
            routing_key: routing_key.unwrap_or_else(|| queue.clone()),
            queue,
            exchange: self.exchange.unwrap_or_default(),
            priority: u8::try_from(self.priority.clamp(0, u8::MAX.into())).unwrap_or(u8::MAX),
            occurrence: self.occurrence,
        })
    }
}

/// The kwargs in `content`: a JSON object, or what django-carrot writes where there are none: an
/// empty text, `null`, or the string `"{}"` with its quotes.
fn kwargs(content: Option<&str>) -> Result<Object, String> {
    let text = content.unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(Object::default());
    }
    match json::parse(text).map_err(|error| error.to_string())? {
        Literal::Object(kwargs) => Ok(kwargs),
        Literal::Null => Ok(Object::default()),
        Literal::Text(inner) if inner.trim() == "{}" || inner.trim().is_empty() => {
            Ok(Object::default())
        }
        _ => Err("it is JSON, but not an object".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns(task_args: &str, content: &str) -> Columns {
        Columns {
            id: 1,
            key: "k".into(),
            task: "t".into(),
            task_args: Some(task_args.into()),
            content: Some(content.into()),
            queue: None,
            exchange: None,
            routing_key: Some("default".into()),
            priority: 300,
            occurrence: None,
        }
    }

    #[test]
    fn a_row_that_django_wrote_becomes_the_message_it_stands_for() {
        let message = columns("('1', None)", "\"{}\"").decode().unwrap();
        assert_eq!(message.arguments.args, [json!("1"), json!(null)]);
        assert!(message.arguments.kwargs.is_empty());
        assert_eq!(message.queue, "default");
        assert_eq!(message.priority, 255);
    }

    #[test]
    fn a_row_carries_what_is_read_back_from_it() {
        let message = |body: &str| Message {
            key: "k".into(),
            ..Message::new("t", wire::decode(body.as_bytes()).unwrap(), "default")
        };
        let carries = |message: &Message| NewRow::pending(message).carries(message);
        for body in [
            "{}",
            r#"{"args": [1, 1E5, -0, -0.0, 2.50, 1e400, 123456789012345678901234567890, "\u017e\n'", null, true]}"#,
            r#"{"kwargs": {"a": {"b": [1e400, {}]}}}"#,
            r#"{"args": [{"a": 1.0}, [[]]]}"#,
        ] {
            assert!(carries(&message(body)), "{body}");
        }
        assert!(carries(&message(
            r#"{"args": ["a\u0000b"], "kwargs": {"\u0000": 1}}"#
        )));
        let long = "x".repeat(201);
        for task in [long.clone(), "a\0b".to_owned()] {
            let named = Message {
                task,
                ..message("{}")
            };
            assert!(!carries(&named));
        }
        let routed = Message {
            routing_key: long,
            ..message("{}")
        };
        assert!(!carries(&routed));
    }

    #[test]
    fn a_row_that_can_not_be_read_says_which_column_and_why() {
        let reason = |args, content| columns(args, content).decode().unwrap_err().reason;
        assert!(reason("(open(", "{}").starts_with("task_args can't be read"));
        assert!(reason("()", "[1]").starts_with("content can't be read: it is JSON, but"));
    }
}
