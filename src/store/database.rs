//! The database as one thread of a service uses it, for as long as the service runs.

use std::sync::Arc;
use std::time::Duration;

use super::{Session, Store, StoreError};
use crate::health::outage::{HealthProbe, Servers};
use crate::retry::Backoff;

/// A session that is opened when it is needed, kept while the database answers on it, and closed when the database
/// fails. The result of each request is reported to the thread's [`HealthProbe`].
pub(crate) struct Database {
    store: Arc<dyn Store>,
    session: Option<Box<dyn Session>>,
    health: HealthProbe,
    backoff: Backoff,
}

impl Database {
    /// The database of `store` for the thread that the log calls `name`.
    pub(crate) fn of(store: Arc<dyn Store>, servers: &Servers, name: &str) -> Self {
        Self {
            health: servers.database(&store.describe()).probe(name),
            store,
            session: None,
            backoff: Backoff::for_connections(),
        }
    }

    /// Does `work` on the session. `work` also gets the [`HealthProbe`], to report that it now waits for something
    /// other than the database.
    ///
    /// # Errors
    /// Those of `work` and of connecting. A conflict should be retried at once; after any other error the session is
    /// closed.
    pub(crate) fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Session, &HealthProbe) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ask_expecting(|_| false, work)
    }

    /// The same, but errors that the caller `expects` count as answers, and keep the session.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn ask_expecting<T>(
        &mut self,
        expects: impl FnOnce(&StoreError) -> bool,
        work: impl FnOnce(&mut dyn Session, &HealthProbe) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.health.started();
        // A panic of `work` drops the session, whose state is then unknown.
        let open = self.session.take().map_or_else(|| self.store.connect(), Ok);
        let (session, answer) = match open {
            Ok(mut session) => {
                let answer = work(session.as_mut(), &self.health);
                (Some(session), answer)
            }
            Err(error) => (None, Err(error)),
        };
        let is_kept = match &answer {
            Ok(_) => {
                self.health.succeeded();
                self.backoff.reset();
                true
            }
            Err(error) => self.is_kept_after(error, expects(error)),
        };
        self.session = session.filter(|_| is_kept);
        answer
    }

    /// Reports an error, and returns whether the session can be kept. No other place decides that.
    fn is_kept_after(&self, error: &StoreError, is_expected: bool) -> bool {
        if let StoreError::Conflict(reason) = error {
            let name = self.health.name();
            log::debug!("{name} conflicted with another transaction: {reason}");
        }
        match error {
            _ if is_expected => self.health.answered(),
            // The request is retried, and so still under way.
            StoreError::Conflict(_) => {}
            _ if error.is_value_error() => self.health.refused(error),
            _ => self.health.failed(error),
        }
        is_expected || matches!(error, StoreError::Conflict(_))
    }

    /// How long to wait before a failed request is retried.
    pub(crate) fn retry_in(&mut self) -> Duration {
        self.backoff.next_wait()
    }

    /// The session, if one is open.
    pub(crate) fn session(&mut self) -> Option<&mut dyn Session> {
        match &mut self.session {
            Some(session) => Some(session.as_mut()),
            None => None,
        }
    }

    /// Closes the session of a thread that will be idle for some time, and resets the backoff.
    pub(crate) fn close(&mut self) {
        self.session = None;
        self.backoff.reset();
    }

    /// The thread's probe of the database's health.
    pub(crate) const fn health(&self) -> &HealthProbe {
        &self.health
    }
}

/// Does `work` up to `tries` times, as long as it conflicts with other transactions.
///
/// # Errors
/// Those of `work`.
pub(crate) fn retry_conflicts<T>(
    tries: u32,
    mut work: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
    for _ in 1..tries {
        match work() {
            Err(StoreError::Conflict(reason)) => {
                log::debug!(
                    "a statement conflicted with another transaction and is retried: {reason}"
                );
            }
            other => return other,
        }
        std::thread::sleep(backoff.next_wait());
    }
    work()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::{self, MigrationReporter, Tables};

    /// Counts connections.
    struct Counting {
        store: Box<dyn Store>,
        connections: AtomicUsize,
    }

    impl Store for Counting {
        fn connect(&self) -> Result<Box<dyn Session>, StoreError> {
            self.connections.fetch_add(1, Ordering::Relaxed);
            self.store.connect()
        }

        fn migrate_reporting(&self, tell: &mut MigrationReporter<'_>) -> Result<(), StoreError> {
            self.store.migrate_reporting(tell)
        }

        fn migrates_itself(&self) -> bool {
            self.store.migrates_itself()
        }

        fn describe(&self) -> String {
            self.store.describe()
        }
    }

    /// Has work fail with each of these errors in turn, and succeed after each. Returns how many connections there
    /// have been by then, and whether the database counted as away.
    fn connections_of(
        errors: &[StoreError],
        expects: fn(&StoreError) -> bool,
    ) -> Vec<(usize, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("db").display());
        let counting = Arc::new(Counting {
            store: store::open(&url.parse().unwrap(), Tables::Plain).unwrap(),
            connections: AtomicUsize::new(0),
        });
        let servers = Servers::default();
        let mut database = Database::of(counting.clone(), &servers, "the test");
        let mut seen = Vec::new();
        for error in errors {
            let asked = database.ask_expecting(expects, |_, _| Err::<(), _>(error.clone()));
            assert!(asked.is_err());
            database.ask(|_, _| Ok(())).unwrap();
            let connections = counting.connections.load(Ordering::Relaxed);
            seen.push((connections, !servers.problems().is_empty()));
        }
        seen
    }

    #[test]
    fn a_session_is_kept_while_the_database_answers_on_it() {
        let text = || "no".to_owned();
        let conflict = StoreError::Conflict(text());
        let refused = StoreError::Refused(text());
        let away = StoreError::Unavailable(text());
        let errors = [conflict.clone(), refused.clone(), conflict, away];
        assert_eq!(
            connections_of(&errors, |_| false),
            [(1, false), (2, false), (2, false), (3, true)]
        );
        let is_refused = |error: &StoreError| matches!(error, StoreError::Refused(_));
        assert_eq!(
            connections_of(&[refused.clone(), refused], is_refused),
            [(1, false), (1, false)]
        );
    }
}
