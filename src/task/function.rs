//! Sync and async functions as tasks: their arguments are taken from the message.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::LocalSet;

use super::states::Need;
use super::{FromMessage, Runner, TaskContext, TaskError, TaskResult};
use crate::message::{Arguments, Literal, Payload};

/// Runs each message by calling a function on the thread of the run.
pub(super) struct FunctionRunner<F>(F);

impl<F> FunctionRunner<F>
where
    F: Fn(&TaskContext, Arguments) -> TaskResult + Send + Sync + 'static,
{
    pub(super) fn runner(call: F) -> Arc<dyn Runner> {
        Arc::new(Self(call))
    }
}

impl<F> Runner for FunctionRunner<F>
where
    F: Fn(&TaskContext, Arguments) -> TaskResult + Send + Sync,
{
    fn check(&self, payload: &Payload) -> Result<(), TaskError> {
        payload.check().map_err(TaskError::from)
    }

    fn run(&self, context: &TaskContext, payload: &Payload) -> TaskResult {
        (self.0)(context, payload.into())
    }
}

/// Runs the future that `call` makes on this thread, so the future need not be `Send`. The thread must have
/// entered the tasks' runtime. What the future starts by `spawn_local` ends with it.
pub(super) fn block_on_local<F: Future>(call: impl FnOnce() -> F) -> F::Output {
    let local = LocalSet::new();
    let future = {
        let _entered = local.enter();
        call()
    };
    Handle::current().block_on(local.run_until(future))
}

/// A function that can be a task. It has up to eight parameters, each taken [from the message](FromMessage),
/// and returns `Result<impl Serialize, impl Into<TaskError>>` or a future of that.
///
/// `Kind` tells sync from async functions; the compiler infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a task",
    label = "not a function that can be a task",
    note = "its arguments must be what a message has: `Args<_>`, `Kwargs<_>`, `State<_>`, `TaskContext`, …",
    note = "it must return `Result<impl Serialize, impl Into<TaskError>>`, or a future of that",
    note = "an error is `Into<TaskError>` if it is `Into<Box<dyn Error + Send + Sync>>`"
)]
pub trait Task<Kind>: Send + Sync + 'static {
    /// Converts the function into the form in which it is registered.
    #[doc(hidden)]
    fn into_function(self) -> TaskFunction;
}

/// A function's runner, and the states that its parameters need.
#[doc(hidden)]
pub struct TaskFunction {
    pub(super) runner: Arc<dyn Runner>,
    pub(super) needs: Vec<Need>,
}

impl TaskFunction {
    fn new(call: impl Fn(&TaskContext, Arguments) -> TaskResult + Send + Sync + 'static) -> Self {
        Self {
            runner: FunctionRunner::runner(call),
            needs: Vec::new(),
        }
    }
}

/// What a task's function returns.
#[doc(hidden)]
pub trait TaskOutput<Kind>: Sized {
    fn into_function(call: impl TaskCall<Self>) -> TaskFunction;
}

/// A function, with its arguments taken from the message.
#[doc(hidden)]
pub trait TaskCall<R>:
    Fn(&TaskContext, &Arguments) -> Result<R, TaskError> + Send + Sync + 'static
{
}

impl<R, F> TaskCall<R> for F where
    F: Fn(&TaskContext, &Arguments) -> Result<R, TaskError> + Send + Sync + 'static
{
}

/// The `Kind` of sync functions.
#[doc(hidden)]
pub enum SyncFunction {}

/// The `Kind` of functions that return a future.
#[doc(hidden)]
pub enum AsyncFunction {}

impl<T: Serialize, E: Into<TaskError>> TaskOutput<SyncFunction> for Result<T, E> {
    fn into_function(call: impl TaskCall<Self>) -> TaskFunction {
        TaskFunction::new(move |context, arguments| output(call(context, &arguments)?))
    }
}

impl<F, T, E> TaskOutput<AsyncFunction> for F
where
    F: Future<Output = Result<T, E>> + 'static,
    T: Serialize,
    E: Into<TaskError>,
{
    fn into_function(call: impl TaskCall<Self>) -> TaskFunction {
        TaskFunction::new(move |context, arguments| {
            block_on_local(|| {
                let called = call(context, &arguments);
                async move { output(called?.await) }
            })
        })
    }
}

fn output<T: Serialize, E: Into<TaskError>>(returned: Result<T, E>) -> TaskResult {
    let output = returned.map_err(Into::into)?;
    serde_json::to_value(&output)
        // As in arguments, a whole number that fits neither i64 nor u64 becomes the nearest f64.
        .or_else(|_| Literal::of(&output).map(Value::from))
        .map_err(|error| TaskError::new(format!("the output can't be written as JSON: {error}")))
}

/// Implements [`Task`] for functions with these parameters.
macro_rules! impl_task {
    ($($argument:ident),*) => {
        impl<F, R, Kind, $($argument),*> Task<(Kind, $($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Send + Sync + 'static,
            R: TaskOutput<Kind>,
            $($argument: FromMessage,)*
        {
            fn into_function(self) -> TaskFunction {
                #[expect(clippy::allow_attributes, reason = "some have no arguments")]
                #[allow(unused_variables)]
                let call = move |context: &TaskContext, arguments: &Arguments| {
                    Ok(self($($argument::from_message(context, arguments)?),*))
                };
                let needs: [Option<Need>; _] = [$($argument::need()),*];
                TaskFunction {
                    needs: needs.into_iter().flatten().collect(),
                    ..R::into_function(call)
                }
            }
        }
    };
}

impl_task!();
impl_task!(A);
impl_task!(A, B);
impl_task!(A, B, C);
impl_task!(A, B, C, D);
impl_task!(A, B, C, D, E);
impl_task!(A, B, C, D, E, G);
impl_task!(A, B, C, D, E, G, H);
impl_task!(A, B, C, D, E, G, H, I);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_that_is_no_json_value_is_the_one_next_to_it() {
        let of = |number: u128| output::<_, TaskError>(Ok((number, "a"))).unwrap();
        assert_eq!(of(7), json!([7, "a"]));
        assert_eq!(of(1 << 100), json!([2_f64.powi(100), "a"]));
        let keyless = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = output::<_, TaskError>(Ok(keyless)).unwrap_err();
        assert!(error.exception.contains("key must be a string"));
    }
}
