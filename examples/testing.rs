//! Tasks, and how to test them without a broker: `cargo run --example testing`.

use carrot_actors::{App, Args, Client, PublishError, TaskContext, TaskError};

fn greet(Args((name,)): Args<(String,)>, context: TaskContext) -> Result<String, TaskError> {
    log::info!("greeting {name}, attempt {}", context.attempt);
    match name.as_str() {
        "" => Err(TaskError::new("nobody to greet")),
        name => Ok(format!("Hello {name}")),
    }
}

async fn invite(Args(names): Args<Vec<String>>, client: Client) -> Result<usize, PublishError> {
    for name in &names {
        client.task("greet").args((name,)).publish_async().await?;
    }
    Ok(names.len())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::new().task("greet", greet).task("invite", invite);
    let mut app = app.test()?;

    let invited = app.run(app.task("invite").args(["Ada", ""]))?;
    assert_eq!(invited.result.ok(), Some(2.into()));
    assert_eq!(invited.published.len(), 2);

    let outcomes = app.run_until_idle()?;
    assert_eq!(outcomes[0].result.as_ref().ok(), Some(&"Hello Ada".into()));
    assert!(outcomes[0].log.contains("greeting Ada, attempt 1"));
    let nobody = outcomes[1].result.as_ref().err();
    assert_eq!(
        nobody.map(|error| error.exception.as_str()),
        Some("nobody to greet")
    );

    let wrong = app.run(app.task("greet").args((1,)))?;
    let wrong = wrong.result.err().map(|error| error.exception);
    assert!(wrong.is_some_and(|text| text.contains("[0]: invalid type")));
    assert!(app.run_until_idle()?.is_empty());
    Ok(())
}
