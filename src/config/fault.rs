//! Errors of the configuration.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A fault of one key or environment variable, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key's path, as `queues[0].concurrency`, or the name of an
    /// environment variable.
    pub key: String,
    /// What would be right. It never contains a value that may hold a password.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Why a [`Config`](super::Config) could not be read.
///
/// Its text goes to logs and terminals. It never shows a line of the file, or the value of a key that may hold a
/// password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or that exists, could not be read.
    #[error("configuration file {}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {}, line {line}, column {column}: {message}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The parser's message, without the text of the file.
        message: String,
    },
    /// Keys or environment variables are wrong. All faults are reported at once.
    #[error("{}", list_faults(file.as_ref(), faults))]
    Faulty {
        /// The file, if there was one.
        file: Option<PathBuf>,
        /// All faults, in the order in which the keys are read; never empty.
        faults: Vec<Fault>,
    },
    /// The program's own defaults are wrong, which its author has to correct.
    #[error("the app's own defaults are wrong{0}")]
    Defaults(String),
}

fn list_faults(file: Option<&PathBuf>, faults: &[Fault]) -> String {
    let mut text = match file {
        Some(file) => format!("configuration file {}", file.display()),
        None => "configuration from the environment".to_owned(),
    };
    text.push_str(match faults.len() {
        1 => " has a fault:",
        _ => " has faults:",
    });
    for fault in faults {
        text.push_str("\n  ");
        text.push_str(&fault.to_string());
    }
    text
}

/// Collects the faults of one configuration while its parts are read.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    /// Adds a fault. See [`Fault`] for what `problem` may contain.
    pub(super) fn report(&self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.borrow_mut().push(Fault {
            key: key.into(),
            problem: problem.into(),
        });
    }

    /// Returns `value` if no fault was reported.
    pub(super) fn into_result<T>(self, value: T, file: Option<PathBuf>) -> Result<T, ConfigError> {
        let faults = self.0.into_inner();
        if faults.is_empty() {
            Ok(value)
        } else {
            Err(ConfigError::Faulty { file, faults })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Faults;

    #[test]
    fn faults_are_listed_one_a_line_under_the_file() {
        let faults = Faults::default();
        faults.report("max_crashes", "must be at least 1");
        faults.report("CARROT_DATABASE_URL", "must be a URL");
        let error = faults
            .into_result((), Some("/etc/c.toml".into()))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration file /etc/c.toml has faults:\n  \
             max_crashes: must be at least 1\n  \
             CARROT_DATABASE_URL: must be a URL"
        );
    }

    #[test]
    fn without_a_file_the_environment_is_named() {
        let faults = Faults::default();
        faults.report("DATABASE_URL", "must be a URL");
        let error = faults.into_result((), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration from the environment has a fault:\n  DATABASE_URL: must be a URL"
        );
    }

    #[test]
    fn no_fault_is_no_error() {
        assert_eq!(Faults::default().into_result(7, None).unwrap(), 7);
    }
}
