//! What middleware may do around a task, and what a panic in it does.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use carrot_actors::message::Arguments;
use carrot_actors::testing::Outcome;
use carrot_actors::{Again, App, Args, Middleware, Next, TaskContext, TaskError};
use serde_json::{Value, json};
use tokio::task::yield_now;

/// A middleware that is a function.
struct Around<F>(F);

impl<F> Middleware for Around<F>
where
    F: Fn(&TaskContext, Next<'_>) -> Result<Value, TaskError> + Send + Sync + 'static,
{
    fn around(
        &self,
        context: &TaskContext,
        _: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        (self.0)(context, next)
    }
}

/// Gives closures the lifetimes that the trait needs.
fn around<F>(middleware: F) -> Around<F>
where
    F: Fn(&TaskContext, Next<'_>) -> Result<Value, TaskError> + Send + Sync + 'static,
{
    Around(middleware)
}

fn halved(Args((n,)): Args<(u32,)>) -> Result<u32, TaskError> {
    match n {
        0 => Err(Again::new("nothing to halve yet").into()),
        n if n % 2 == 1 => Err(TaskError::new("odd")),
        n => Ok(n / 2),
    }
}

/// The outcomes of `halve` for these numbers, in an app with this middleware.
fn outcomes<const N: usize>(app: App, numbers: [u32; N]) -> [Outcome; N] {
    let mut app = app.task("halve", halved).test().unwrap();
    numbers.map(|number| app.run(app.task("halve").args((number,))).unwrap())
}

fn exception(outcome: &Outcome) -> &str {
    &outcome.result.as_ref().unwrap_err().exception
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A guard that counts while it is held.
struct Held;

impl Held {
    fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[test]
fn a_guard_is_held_around_sync_and_async_tasks() {
    let holds = || {
        around(|_, next| {
            let _held = Held::new();
            next.run()
        })
    };
    let mut app = App::new()
        .middleware(holds())
        .middleware(holds())
        .task("sync", || Ok::<_, TaskError>(DEPTH.get()))
        .task("async", || async {
            let before = DEPTH.get();
            yield_now().await;
            Ok::<_, TaskError>([before, DEPTH.get()])
        })
        .task("panics", || -> Result<(), TaskError> { panic!("no way") })
        .test()
        .unwrap();
    let outcome = app.run(app.task("sync")).unwrap();
    assert_eq!(outcome.result.unwrap(), 2);
    let outcome = app.run(app.task("async")).unwrap();
    assert_eq!(outcome.result.unwrap(), json!([2, 2]));
    let outcome = app.run(app.task("panics")).unwrap();
    assert!(exception(&outcome).contains("no way"));
    assert_eq!(DEPTH.get(), 0);
}

#[test]
fn the_result_of_the_middleware_is_the_outcome() {
    let failures = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&failures);
    let app = App::new()
        .on_failure(move |_, _, _| {
            told.fetch_add(1, Ordering::Relaxed);
        })
        .middleware(around(|_, next| match next.run() {
            Ok(output) if output == 21 => Err(TaskError::new("no such answer")),
            Ok(output) if output == 50 => Err(Again::new("ask later").into()),
            Err(error) if error.exception == "odd" => Ok(json!("none")),
            outcome => outcome,
        }));
    let [kept, failed, mended, put_off, again] = outcomes(app, [4, 42, 7, 100, 0]);
    assert_eq!(kept.result.unwrap(), 2);
    assert_eq!(exception(&failed), "no such answer");
    assert_eq!(mended.result.unwrap(), "none");
    for (outcome, reason) in [(put_off, "ask later"), (again, "nothing to halve yet")] {
        let again = outcome.result.unwrap_err().again;
        assert_eq!(again, Some(Again::new(reason)));
    }
    assert_eq!(failures.load(Ordering::Relaxed), 1);
}

#[test]
fn a_task_is_not_called_unless_its_middleware_does() {
    let refuses = around(|context, next| match context.attempt {
        0 => next.run(),
        _ => Ok(json!("from elsewhere")),
    });
    let outer = around(|_, next| {
        let outcome = next.run();
        log::info!("it was {outcome:?}");
        outcome
    });
    let [odd] = outcomes(App::new().middleware(outer).middleware(refuses), [7]);
    assert_eq!(odd.result.unwrap(), "from elsewhere");
    assert!(
        odd.log
            .contains("INFO:: it was Ok(String(\"from elsewhere\"))")
    );
}

#[test]
fn a_panic_before_the_task_is_a_failure_that_outer_middleware_sees() {
    let seen = around(|_, next| {
        let outcome = next.run();
        log::info!("failed: {}", outcome.is_err());
        outcome
    });
    let panics = around(|_, _| panic!("not in the mood"));
    let [even] = outcomes(App::new().middleware(seen).middleware(panics), [2]);
    let error = even.result.unwrap_err();
    assert!(error.exception.contains("not in the mood"), "{error:?}");
    assert!(error.traceback.is_some());
    assert!(even.log.contains("failed: true"), "{}", even.log);
}

#[test]
fn a_panic_after_the_task_changes_nothing_of_its_outcome_and_is_logged() {
    let panics = |name: &'static str| {
        around(move |_, next| {
            let _outcome = next.run();
            panic!("{name} is at fault")
        })
    };
    let app = App::new()
        .middleware(panics("the outer"))
        .middleware(panics("the inner"));
    let [even, odd, again] = outcomes(app, [2, 7, 0]);
    for log in [&even.log, &odd.log] {
        let inner = log.find("the inner is at fault").unwrap();
        assert!(log.find("the outer is at fault").unwrap() > inner, "{log}");
    }
    assert_eq!(even.result.unwrap(), 1);
    assert_eq!(exception(&odd), "odd");
    assert!(again.result.unwrap_err().again.is_some());
}
