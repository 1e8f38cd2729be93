//! A task that counts the runs of each message in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use carrot_actors::task::Registry;
use serde_json::Value;

/// How many times each message was run.
#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<HashMap<String, usize>>>);

impl Runs {
    /// Tasks of a service: `count` counts its run, and then does `work`.
    pub fn registry(&self, work: impl Fn() + Send + Sync + 'static) -> Registry {
        let runs = self.clone();
        let mut registry = Registry::new();
        registry
            .register("count", move |context, _| {
                let uuid = context.uuid.clone();
                *runs.0.lock().unwrap().entry(uuid).or_default() += 1;
                work();
                Ok(Value::Null)
            })
            .unwrap();
        registry
    }

    /// How many messages were run.
    pub fn messages(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How many runs there were.
    pub fn total(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    /// Whether the message was run.
    pub fn contains(&self, uuid: &str) -> bool {
        self.0.lock().unwrap().contains_key(uuid)
    }

    /// Fails unless each of these messages was run once.
    #[track_caller]
    pub fn assert_once_each(&self, uuids: &[String]) {
        let runs = self.0.lock().unwrap();
        for uuid in uuids {
            assert_eq!(runs.get(uuid), Some(&1), "runs of {uuid}");
        }
    }
}
