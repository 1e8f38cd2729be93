//! A service to try: `cargo run --example quickstart`, and beside it, in a second terminal,
//! `cargo run --example quickstart send greet Ada`.
//!
//! Nothing else is needed: messages are in an SQLite file, quickstart.db in the current directory.

use std::process::ExitCode;

use carrot_actors::{App, Args, Client, LogLevel, PublishError, Schedule, TaskContext, TaskError};

/// The configuration, as far as no carrot.toml says otherwise.
const DEFAULTS: &str = r#"
default_broker = "embedded"
database_url = "sqlite://quickstart.db"

[[queues]]
name = "default"
concurrency = 2
"#;

/// For `send greet NAME`: the message's arguments are the function's.
fn greet(Args((name,)): Args<(String,)>) -> Result<String, TaskError> {
    if name.is_empty() {
        return Err(TaskError::new("nobody to greet"));
    }
    Ok(format!("Hello {name}!"))
}

/// The schedule below runs it every three seconds. It publishes a message itself.
fn tick(client: Client) -> Result<(), PublishError> {
    client.task("sum").args((1, 2, 3)).publish()?;
    Ok(())
}

/// A task can be sync or async.
async fn sum(Args(numbers): Args<Vec<i64>>, context: TaskContext) -> Result<i64, TaskError> {
    log::info!("adding {numbers:?}, attempt {}", context.attempt);
    Ok(numbers.iter().sum())
}

fn main() -> ExitCode {
    let app = App::new()
        .defaults(DEFAULTS)
        .task("greet", greet)
        .task("tick", tick)
        .task("sum", sum)
        .schedule(Schedule::new("tick", "tick").every("3s"))
        .log_to_terminal(LogLevel::Info);
    if std::env::args().len() == 1
        && let Ok(config) = app.config()
    {
        eprintln!("In a second terminal: cargo run --example quickstart send greet Ada");
        eprintln!(
            "Ctrl+C stops the service. Its messages are in {}\n",
            config.database_url
        );
    }
    app.run()
}
