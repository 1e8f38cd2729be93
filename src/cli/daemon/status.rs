//! `daemon status`.

use chrono::{DateTime, Local};
use serde_json::{Value, json};

use super::super::exit::Exit;
use super::super::failure::CommandFailure;
use super::super::output::say;
use super::controller::Controller;
use crate::daemon::{PidfileState, inspect, request_status};
use crate::health::service_status::{ServiceState, StatusReport};

impl Controller {
    pub(super) fn status(&self) -> Result<Exit, CommandFailure> {
        let found = match inspect(&self.pidfile) {
            Ok(found) => found,
            Err(error) => {
                if self.args.json {
                    let unknown = json!({ "status": "unknown", "error": error.to_string() });
                    say(&unknown.to_string())?;
                }
                return Err(CommandFailure {
                    exit: Exit::Unknown,
                    ..self.with_remedy(error)
                });
            }
        };
        if self.args.json {
            say(&self.as_json(&found).to_string())?;
        } else {
            self.print_status(&found)?;
        }
        Ok(match found {
            PidfileState::Running(_) => Exit::Ok,
            // LSB: the service is dead, and its pidfile exists.
            PidfileState::Stale(_) => Exit::Partly,
            PidfileState::Nothing => Exit::Stopped,
        })
    }

    fn as_json(&self, found: &PidfileState) -> Value {
        match found {
            PidfileState::Nothing => json!({ "status": "stopped" }),
            PidfileState::Stale(pid) => json!({ "status": "dead", "pid": pid }),
            PidfileState::Running(holder) => {
                let mut all = json!({ "status": "running", "pid": holder.pid() });
                let more = request_status(&self.pidfile).map(|report| json!(report));
                let more = more.unwrap_or_else(|error| json!({ "error": error.to_string() }));
                if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
                    all.extend(more);
                }
                all
            }
        }
    }

    fn print_status(&self, found: &PidfileState) -> Result<(), CommandFailure> {
        match found {
            PidfileState::Nothing => {
                say("Service is NOT running")?;
                say(&format!("({})", self.hint()))
            }
            PidfileState::Stale(pid) => {
                let pidfile = self.pidfile.display();
                say("Service is NOT running")?;
                say(&format!(
                    "It died as pid {pid}, and left its pidfile {pidfile}"
                ))
            }
            PidfileState::Running(holder) => {
                say(&format!("Service is running. PID: {}", holder.pid()))?;
                match request_status(&self.pidfile) {
                    Ok(report) => print_report(&report),
                    Err(error) => say(&format!("No more is known: {error}")),
                }
            }
        }
    }
}

/// Prints a service's own report.
fn print_report(report: &StatusReport) -> Result<(), CommandFailure> {
    let scheduler = if report.scheduler { "on" } else { "off" };
    say(&format!(
        "Since {}, scheduler {scheduler}",
        local(&report.since)
    ))?;
    match report.state {
        ServiceState::Starting => say("It is starting")?,
        ServiceState::Stopping => say("It is stopping")?,
        ServiceState::Restarting => say("It is starting again")?,
        ServiceState::Waiting | ServiceState::Consuming => {}
    }
    if let Some(what) = &report.failure {
        say(&format!("A vital part has died: {what}"))?;
    }
    if let Some(restarts) = &report.restarts {
        let (count, cause) = (restarts.count, &restarts.cause);
        let times = if count == 1 { "time" } else { "times" };
        let last = local(&restarts.last);
        say(&format!(
            "It has started again by itself {count} {times}, the last time at {last}: {cause} had died"
        ))?;
    }
    for what in &report.waiting_for {
        say(&format!("It waits: {what}"))?;
    }
    for queue in &report.queues {
        let ends = matches!(
            report.state,
            ServiceState::Stopping | ServiceState::Restarting
        );
        let unconsumed = if queue.consumed || ends {
            ""
        } else {
            ", not consumed"
        };
        say(&format!(
            "Queue {}: tasks running: {} of {}{unconsumed}",
            queue.name, queue.running_tasks, queue.consumers
        ))?;
    }
    Ok(())
}

/// A time in the local zone, for people.
fn local(time: &str) -> String {
    DateTime::parse_from_rfc3339(time).map_or_else(
        |_| time.to_owned(),
        |time| {
            time.with_timezone(&Local)
                .format("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}
