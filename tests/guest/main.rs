//! An app in a program that has its own runtime or logger, depending on its environment. `tests/it` runs it.
#![expect(clippy::print_stdout, reason = "it says how a try went")]

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use carrot_actors::{App, Args, TaskError};
use serde_json::json;
use tokio::runtime::Builder;

/// Doubles the number on the thread whose name it logs, and in a task of the runtime.
async fn double(Args((number,)): Args<(u32,)>) -> Result<u32, TaskError> {
    let thread = std::thread::current();
    log::info!("double runs on {}", thread.name().unwrap_or_default());
    Ok(tokio::spawn(async move { number * 2 }).await?)
}

/// Starts a process that outlives its parent.
fn orphan() -> Result<(), TaskError> {
    let status = Command::new("sh").args(["-c", "sleep 0.1 &"]).status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| TaskError::new(status.to_string()))
}

fn app() -> App {
    App::new().task("double", double).task("orphan", orphan)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if env::var_os("GUEST_LOGGER").is_some() {
        env_logger::init();
    }
    let mut builder = match env::var("GUEST_RUNTIME").as_deref() {
        Ok("current_thread") => Builder::new_current_thread(),
        Ok("multi_thread") => Builder::new_multi_thread(),
        _ => return live(),
    };
    builder.enable_all().build()?.block_on(async { live() })
}

fn live() -> Result<ExitCode, Box<dyn Error>> {
    let Ok(number) = env::var("GUEST_TRIES") else {
        return Ok(app().run());
    };
    let mut app = app().test()?;
    let number: u32 = number.parse()?;
    let tried = app.run(app.task("double").args((number,)))?;
    println!("{}", json!({"result": tried.result.ok(), "log": tried.log}));
    Ok(ExitCode::SUCCESS)
}
