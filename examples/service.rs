//! A service whose tasks ask for what they need: `cargo run --example service`, and beside it
//! `cargo run --example service send pages.fetch https://example.com/ --kwargs '{"retries": 2}'`.
//!
//! Messages are in service.db in the current directory.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use carrot_actors::message::Arguments;
use carrot_actors::{
    App, Args, Client, FromMessage, Kwargs, LogLevel, Middleware, Next, PublishError, State,
    TaskContext, TaskError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the tasks share.
#[derive(Default)]
struct Statistics {
    pages: AtomicU64,
}

/// The named arguments of a task.
#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    retries: u32,
}

/// What a task returns. It becomes the row's output, as JSON.
#[derive(Serialize)]
struct Page {
    url: String,
    tries: u32,
    nth: u64,
}

/// An extractor of our own. A message with an invalid tenant is FAILED before its task runs.
struct Tenant(String);

impl FromMessage for Tenant {
    fn from_message(_: &TaskContext, arguments: &Arguments) -> Result<Self, TaskError> {
        match arguments.kwargs.get("tenant") {
            None => Ok(Self("nobody in particular".to_owned())),
            Some(Value::String(name)) if !name.is_empty() => Ok(Self(name.clone())),
            Some(other) => Err(TaskError::new(format!("{other} is no tenant"))),
        }
    }
}

/// A sync task that returns errors of `anyhow`.
fn fetch(
    Args((url,)): Args<(String,)>,
    Kwargs(options): Kwargs<Options>,
    Tenant(tenant): Tenant,
    statistics: State<Statistics>,
    context: TaskContext,
) -> anyhow::Result<Page> {
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    ensure!(scheme == "https", "{scheme} is not safe enough");
    if rest.is_empty() {
        bail!("there is no host in {url}");
    }
    log::info!("for {tenant}, attempt {}", context.attempt);
    let nth = statistics.pages.fetch_add(1, Ordering::Relaxed) + 1;
    let tries = options.retries + 1;
    Ok(Page { url, tries, nth })
}

/// An async task, which publishes others: `send pages.crawl https://a/ https://b/`.
async fn crawl(Args(urls): Args<Vec<String>>, client: Client) -> Result<usize, PublishError> {
    for url in &urls {
        let page = client.task("pages.fetch").args((url,));
        page.delay(Duration::from_millis(200))
            .publish_async()
            .await?;
    }
    Ok(urls.len())
}

/// A long task, which ends when the service is told to stop.
async fn watch(context: TaskContext) -> Result<String, TaskError> {
    let began = Instant::now();
    context.cancelled().await;
    Ok(format!("watched for {} s", began.elapsed().as_secs()))
}

/// Runs around every task, and sees its message and its outcome.
struct Audit;

impl Middleware for Audit {
    fn around(
        &self,
        context: &TaskContext,
        arguments: &Arguments,
        next: Next<'_>,
    ) -> Result<Value, TaskError> {
        if arguments.args.len() > 100 {
            return Err(TaskError::new("at most 100 arguments, please"));
        }
        log::info!("{} by way of {}", context.task, context.queue);
        let output = next.run()?;
        log::info!("{} made {output}", context.task);
        Ok(output)
    }
}

fn main() -> ExitCode {
    App::new()
        .defaults("default_broker = 'embedded'\ndatabase_url = 'sqlite://service.db'")
        .state(Statistics::default())
        .middleware(Audit)
        .on_failure(|context, _, error| {
            log::error!("page somebody: {}: {}", context.task, error.exception);
        })
        .task("pages.fetch", fetch)
        .task("pages.crawl", crawl)
        .task("pages.watch", watch)
        .log_to_terminal(LogLevel::Info)
        .run()
}
