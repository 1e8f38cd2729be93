//! A message that is being built.

use std::time::Duration;

use serde::Serialize;

use super::Client;
use super::error::PublishError;
use super::ready_message::{self, ReadyMessage};
use super::receipt::{Delivery, Receipt};
use crate::message::{Literal, Message, Object, Payload};
use crate::names;
use crate::store::MOST_DELAY;
use crate::store::transaction::{Connection, RecordError};

/// A message that is being built. [`Client::task`] starts one.
#[derive(Clone)]
#[must_use = "a message goes nowhere until it is published"]
pub struct Draft {
    client: Client,
    task: String,
    arguments: Payload,
    queue: Option<String>,
    priority: u8,
    delay: Option<Duration>,
    /// The first fault that was found.
    fault: Option<String>,
}

impl Draft {
    pub(super) fn new(client: Client, task: String) -> Self {
        Self {
            client,
            task,
            arguments: Payload::default(),
            queue: None,
            priority: 0,
            delay: None,
            fault: None,
        }
    }

    /// Sets the positional arguments: a tuple, a list, or anything else that serialises to a JSON array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match Literal::of(args) {
            Ok(Literal::List(args)) => self.arguments.args = args,
            Ok(Literal::Null) => self.arguments.args = Vec::new(),
            Ok(other) => self.set_fault(format!(
                "args must be a tuple or a list, such as `(1, \"two\")` or `(1,)`: {other:.100}"
            )),
            Err(error) => self.set_fault(format!("args can't be written as JSON: {error}")),
        }
        self
    }

    /// Sets the named arguments: a struct, a map, or anything else that serialises to a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match Literal::of(kwargs) {
            Ok(Literal::Object(kwargs)) => self.arguments.kwargs = kwargs,
            Ok(Literal::Null) => self.arguments.kwargs = Object::default(),
            Ok(other) => self.set_fault(format!("kwargs must be a struct or a map: {other:.100}")),
            Err(error) => self.set_fault(format!("kwargs can't be written as JSON: {error}")),
        }
        self
    }

    /// Sets the queue. The default is the first queue of the configuration.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Sets the priority: 0 (the default) to 255, higher first, as far as the queue supports priorities.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Delays the message by this time, on the database's clock. The message waits in the database, and a service
    /// publishes it when it is due.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Records the message in the caller's transaction. If the transaction commits, a service publishes the
    /// message. See [`transaction`](crate::transaction). Returns the message's uuid.
    ///
    /// # Errors
    /// When the draft is not a valid message, or the database refuses it.
    pub fn record(self, connection: &mut impl Connection) -> Result<String, RecordError> {
        let ready = self
            .ready()
            .map_err(|(task, reason)| RecordError::Unfit { task, reason })?;
        let uuids = ready_message::record(connection, &[ready])?;
        Ok(uuids.into_iter().collect())
    }

    /// Records the message and publishes it. Waits for the database and the broker. If the broker is away, the
    /// receipt says so, and a service will publish the message.
    ///
    /// # Errors
    /// When the message is not recorded, or can never be published.
    pub fn publish(self) -> Result<Receipt, PublishError> {
        let client = self.client.clone();
        only_receipt(client.publish(vec![self.into_ready()?])?)
    }

    /// [`Draft::publish`] for async code, on any runtime. If the future is dropped, the message may be published
    /// all the same.
    ///
    /// # Errors
    /// As [`Draft::publish`].
    pub async fn publish_async(self) -> Result<Receipt, PublishError> {
        let client = self.client.clone();
        only_receipt(client.publish_async(vec![self.into_ready()?]).await?)
    }

    fn set_fault(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    pub(super) fn into_ready(self) -> Result<ReadyMessage, PublishError> {
        self.ready()
            .map_err(|(task, reason)| PublishError::Unfit { task, reason })
    }

    /// The complete message, or the task's name and why the draft is not a valid message.
    pub(super) fn ready(self) -> Result<ReadyMessage, (String, String)> {
        let queue = self.queue.unwrap_or_else(|| self.client.default_queue());
        let misnamed = [("a task", &self.task), ("a queue", &queue)]
            .into_iter()
            .find(|(_, name)| !is_name(name))
            .map(|(what, name)| {
                let most = names::COLUMN_CHARS;
                format!("the name of {what} must have 1 to {most} characters, not {name:?}")
            });
        let too_late = self.delay.filter(|delay| *delay > MOST_DELAY);
        let too_late = too_late.map(|_| "a delay must be at most a hundred years".to_owned());
        if let Some(reason) = self.fault.or(misnamed).or(too_late) {
            return Err((self.task, reason));
        }
        let message = Message::new(self.task, self.arguments, queue);
        Ok(ReadyMessage {
            message: Message {
                priority: self.priority,
                ..message
            },
            delay: self.delay,
        })
    }
}

fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=names::COLUMN_CHARS).contains(&length) && !name.contains('\0')
}

/// The receipt of the only message. A failed message is an error.
fn only_receipt(receipts: Vec<Receipt>) -> Result<Receipt, PublishError> {
    let receipt = receipts.into_iter().next().ok_or(PublishError::Ended)?;
    match receipt.state {
        Delivery::Failed(reason) => Err(PublishError::Failed {
            uuid: receipt.uuid,
            reason,
        }),
        _ => Ok(receipt),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::config::{Config, Environment};

    fn client() -> Client {
        let directory = std::path::Path::new("/nonexistent");
        let config = Config::load(None, &Environment::default(), directory).unwrap();
        Client::lazy(Arc::new(config))
    }

    #[test]
    fn a_message_has_what_it_was_given() {
        let draft = client().task("t").args((1, "a")).kwargs(json!({"x": [2]}));
        let message = draft.priority(7).into_ready().unwrap().message;
        assert_eq!(message.arguments.args, [json!(1), json!("a")]);
        assert_eq!(message.arguments.kwargs.to_string(), r#"{"x":[2]}"#);
        assert_eq!((message.queue.as_str(), message.priority), ("default", 7));
        let bare = client()
            .task("t")
            .args(())
            .queue("q")
            .into_ready()
            .unwrap()
            .message;
        assert_eq!(bare.arguments, Payload::default());
        assert_eq!(bare.routing_key, "q");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let draft = client().task("t").args((u128::MAX, 0.1_f32, 1e300));
        let args = draft.into_ready().unwrap().message.arguments.args;
        let written = Literal::List(args).to_string();
        assert_eq!(written, format!("[{},0.1,1e+300]", u128::MAX));
    }

    #[test]
    fn an_invalid_draft_is_refused_with_the_reason() {
        let why = |draft: Draft| draft.into_ready().err().unwrap().to_string();
        let client = client();
        assert!(why(client.task("t").args("text")).contains("args must be a tuple"));
        assert!(why(client.task("t").kwargs((1, 2))).contains("kwargs must be a struct"));
        assert!(why(client.task("")).contains("the name of a task must have 1 to 200"));
        assert!(why(client.task("t").queue("q\0")).contains("the name of a queue"));
        let uneven = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(why(client.task("t").args([1]).kwargs(uneven)).contains("key must be a string"));
    }
}
