//! A message that is being put together.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Client, Delivery, PublishError, Receipt};
use crate::message::{Arguments, Message};
use crate::names;

/// A message that is being put together, by [`Client::task`].
#[derive(Clone)]
#[must_use = "a message goes nowhere until it is published"]
pub struct Draft {
    client: Client,
    task: String,
    arguments: Arguments,
    queue: Option<String>,
    priority: u8,
    /// The first thing that was wrong.
    fault: Option<String>,
}

impl Draft {
    pub(super) fn new(client: Client, task: String) -> Self {
        Self {
            client,
            task,
            arguments: Arguments::default(),
            queue: None,
            priority: 0,
            fault: None,
        }
    }

    /// With these positional arguments: a tuple, a list, or anything else that serialises to a JSON
    /// array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match serde_json::to_value(args) {
            Ok(Value::Array(args)) => self.arguments.args = args,
            Ok(Value::Null) => self.arguments.args = Vec::new(),
            Ok(other) => self.is_wrong(format!(
                "args must be a tuple or a list, such as `(1, \"two\")` or `(1,)`: {other:.100}"
            )),
            Err(error) => self.is_wrong(format!("args can't be written as JSON: {error}")),
        }
        self
    }

    /// With these named arguments: a struct, a map, or anything else that serialises to a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match serde_json::to_value(kwargs) {
            Ok(Value::Object(kwargs)) => self.arguments.kwargs = kwargs,
            Ok(Value::Null) => self.arguments.kwargs = Map::new(),
            Ok(other) => self.is_wrong(format!("kwargs must be a struct or a map: {other:.100}")),
            Err(error) => self.is_wrong(format!("kwargs can't be written as JSON: {error}")),
        }
        self
    }

    /// For this queue. Without, it is the first of the configuration.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this priority: 0 (the default) to 255, higher first, as far as the queue has them.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Records the message, and sends it to the broker. Waits for both; if the broker is away, the
    /// receipt says so, and a service will publish it.
    ///
    /// # Errors
    /// When it is not recorded, or can't be published at all.
    pub fn publish(self) -> Result<Receipt, PublishError> {
        let client = self.client.clone();
        only(client.publish(vec![self.into_message()?])?)
    }

    /// [`Draft::publish`] for async code, on any runtime. A future that is dropped may have published
    /// the message.
    ///
    /// # Errors
    /// The same.
    pub async fn publish_async(self) -> Result<Receipt, PublishError> {
        let client = self.client.clone();
        only(client.publish_async(vec![self.into_message()?]).await?)
    }

    fn is_wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    pub(super) fn into_message(self) -> Result<Message, PublishError> {
        let queue = self.queue.unwrap_or_else(|| self.client.default_queue());
        let misnamed = [("a task", &self.task), ("a queue", &queue)]
            .into_iter()
            .find(|(_, name)| !is_name(name))
            .map(|(what, name)| {
                let most = names::COLUMN_CHARS;
                format!("the name of {what} must have 1 to {most} characters, not {name:?}")
            });
        if let Some(reason) = self.fault.or(misnamed) {
            return Err(PublishError::Unfit {
                task: self.task,
                reason,
            });
        }
        Ok(Message {
            priority: self.priority,
            ..Message::new(self.task, self.arguments, queue)
        })
    }
}

fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=names::COLUMN_CHARS).contains(&length) && !name.contains('\0')
}

/// The receipt of the only message.
fn only(receipts: Vec<Receipt>) -> Result<Receipt, PublishError> {
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
        let message = draft.priority(7).into_message().unwrap();
        assert_eq!(message.arguments.args, [json!(1), json!("a")]);
        assert_eq!(Value::Object(message.arguments.kwargs), json!({"x": [2]}));
        assert_eq!((message.queue.as_str(), message.priority), ("default", 7));
        let bare = client()
            .task("t")
            .args(())
            .queue("q")
            .into_message()
            .unwrap();
        assert_eq!(bare.arguments, Arguments::default());
        assert_eq!(bare.routing_key, "q");
    }

    #[test]
    fn what_can_be_no_message_is_refused_with_the_reason() {
        let why = |draft: Draft| draft.into_message().unwrap_err().to_string();
        let client = client();
        assert!(why(client.task("t").args("text")).contains("args must be a tuple"));
        assert!(why(client.task("t").kwargs((1, 2))).contains("kwargs must be a struct"));
        assert!(why(client.task("")).contains("the name of a task must have 1 to 200"));
        assert!(why(client.task("t").queue("q\0")).contains("the name of a queue"));
        let uneven = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(why(client.task("t").args([1]).kwargs(uneven)).contains("key must be a string"));
    }
}
