//! The states that tasks share: one value of each type, made when the service starts.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::config::Config;

type SharedState = Arc<dyn Any + Send + Sync>;
type StateResult = Result<SharedState, Box<dyn Error + Send + Sync>>;
type StateFactory = Arc<dyn Fn(&Arc<Config>) -> StateResult + Send + Sync>;

/// The type of a state that a [`FromMessage`](super::FromMessage) needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    id: TypeId,
    name: &'static str,
}

impl Need {
    /// The need for a state of type `T`.
    #[must_use]
    pub fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }

    /// The error text for when the app has no such state.
    pub(crate) fn missing_message(&self) -> String {
        format!(
            "there is no state of the type {}: give it to the app with `state`",
            self.name
        )
    }
}

/// Why the states of a service could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A task needs a state that the app was not given.
    #[error("task {task:?}: {reason}")]
    Missing {
        /// The task's name.
        task: String,
        /// Which state is missing.
        reason: String,
    },
    /// The app was given two states of one type.
    #[error("there are two states of the type {0}: make one of them a type of its own")]
    Duplicate(&'static str),
    /// The function that makes a state failed.
    #[error("the state {name} could not be made: {source}")]
    Failed {
        /// The state's type.
        name: &'static str,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The functions that make the states, in the order in which they were added.
#[derive(Clone, Default)]
pub(super) struct StateFactories(Vec<(Need, StateFactory)>);

/// The states of a service, by type.
#[derive(Clone, Default)]
pub(crate) struct States(HashMap<TypeId, SharedState>);

impl StateFactories {
    pub(super) fn add<T: Send + Sync + 'static, E: Into<Box<dyn Error + Send + Sync>>>(
        &mut self,
        make: impl Fn(&Arc<Config>) -> Result<T, E> + Send + Sync + 'static,
    ) {
        let maker = move |config: &Arc<Config>| {
            let made = make(config).map_err(Into::into)?;
            Ok(Arc::new(made) as SharedState)
        };
        self.0.push((Need::of::<T>(), Arc::new(maker)));
    }

    pub(super) fn share<T: Send + Sync + 'static>(&mut self, shared: Arc<T>) {
        let shared: SharedState = shared;
        let maker = move |_: &Arc<Config>| Ok(Arc::clone(&shared));
        self.0.push((Need::of::<T>(), Arc::new(maker)));
    }

    /// Checks that no type is there twice, and that each type that a task needs is there.
    pub(super) fn check<'a>(
        &self,
        needs: impl Iterator<Item = (&'a String, &'a Need)>,
    ) -> Result<(), StateError> {
        for (nth, (need, _)) in self.0.iter().enumerate() {
            if self.0[..nth].iter().any(|(other, _)| other == need) {
                return Err(StateError::Duplicate(need.name));
            }
        }
        for (task, need) in needs {
            if !self.0.iter().any(|(made, _)| made == need) {
                return Err(StateError::Missing {
                    task: task.clone(),
                    reason: need.missing_message(),
                });
            }
        }
        Ok(())
    }

    /// Makes all states, in the order in which they were added.
    pub(super) fn make(&self, config: &Arc<Config>) -> Result<States, StateError> {
        let make = |(need, make): &(Need, StateFactory)| match make(config) {
            Ok(made) => Ok((need.id, made)),
            Err(source) => Err(StateError::Failed {
                name: need.name,
                source,
            }),
        };
        self.0
            .iter()
            .map(make)
            .collect::<Result<_, _>>()
            .map(States)
    }
}

impl States {
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let shared = self.0.get(&TypeId::of::<T>())?;
        Arc::clone(shared).downcast().ok()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.0.len())
    }
}
