//! The log of one message: keeps what the message's task logs for its row.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use log::{Level, Record};

use super::line::line;

/// The longest log of a message, in bytes. Further lines are left out, and a line says so.
const MOST_LOG_BYTES: usize = 1 << 20;

thread_local! {
    static CURRENT: RefCell<Option<TaskLog>> = const { RefCell::new(None) };
}

/// The log of one message, shared by the threads that write it.
#[derive(Debug, Clone)]
pub struct TaskLog {
    name: Arc<str>,
    text: Arc<Mutex<String>>,
}

impl TaskLog {
    /// The log of a message that the consumer `name` runs.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            text: Arc::default(),
        }
    }

    /// Runs `work` and keeps what it logs on this thread.
    pub fn capture<R>(&self, work: impl FnOnce() -> R) -> R {
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// Runs `work` and keeps nothing of what it logs on this thread.
    pub fn suspend<R>(work: impl FnOnce() -> R) -> R {
        let _restore = Restore(CURRENT.take());
        work()
    }

    /// Adds a line.
    pub fn append(&self, level: Level, message: &fmt::Arguments<'_>) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() < MOST_LOG_BYTES {
            push(&mut text, &line(&self.name, level, message));
            if text.len() >= MOST_LOG_BYTES {
                let left_out = format_args!("the log is full; what follows is left out");
                push(&mut text, &line(&self.name, Level::Warn, &left_out));
            }
        }
    }

    /// Adds a line even if the log is full.
    pub fn append_last(&self, level: Level, message: &fmt::Arguments<'_>) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        push(&mut text, &line(&self.name, level, message));
    }

    /// The lines, joined by newlines.
    #[must_use]
    pub fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Adds `line`, cut to the longest log.
fn push(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    if line.len() <= MOST_LOG_BYTES {
        text.push_str(line);
    } else {
        text.push_str(&line[..line.floor_char_boundary(MOST_LOG_BYTES)]);
    }
}

/// Restores the previous log of this thread, also when the task panics.
struct Restore(Option<TaskLog>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Keeps `record` if a task logged it on this thread.
pub(super) fn record(record: &Record<'_>) {
    CURRENT.with_borrow(|current| {
        if let Some(log) = current {
            log.append(record.level(), record.args());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_shape_that_the_monitor_splits() {
        let log = TaskLog::new("default-consumer-1");
        log.append(Level::Info, &format_args!("Starting task a"));
        log.append(Level::Warn, &format_args!("careful"));
        let text = log.text();
        let lines: Vec<&str> = text.lines().collect();
        let (head, message) = lines[0].split_once(":: ").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        assert_eq!(words.len(), 4);
        assert_eq!((words[0], words[3]), ("default-consumer-1", "INFO"));
        assert!(words[2].len() == 12 && words[2].as_bytes()[8] == b',');
        assert_eq!(message, "Starting task a");
        assert!(lines[1].contains(" WARNING:: careful"));
    }

    #[test]
    fn a_log_that_is_too_long_is_cut_and_still_gets_its_last_line() {
        let log = TaskLog::new("c");
        (0..3)
            .for_each(|_| log.append(Level::Info, &format_args!("{}", "x".repeat(MOST_LOG_BYTES))));
        log.append_last(Level::Info, &format_args!("done"));
        let text = log.text();
        assert!(text.len() < 2 * MOST_LOG_BYTES);
        assert!(text.contains("the log is full") && text.ends_with("done"));
    }
}
