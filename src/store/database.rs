//! The database as one thread of a service asks it, for as long as the service runs.

use std::sync::Arc;
use std::time::Duration;

use super::{Session, Store, StoreError};
use crate::health::outage::{HealthProbe, Servers};
use crate::retry::Backoff;

/// A session that is opened when something is asked and there is none, kept while the database answers on it,
/// and given up when the database fails. What comes of each request is told to the thread's [`HealthProbe`].
pub(crate) struct Database {
    store: Arc<dyn Store>,
    session: Option<Box<dyn Session>>,
    health: HealthProbe,
    backoff: Backoff,
}

impl Database {
    /// The database of `store`, as the thread asks it that the log calls `name`.
    pub(crate) fn of(store: Arc<dyn Store>, servers: &Servers, name: &str) -> Self {
        Self {
            health: servers.database(&store.describe()).probe(name),
            store,
            session: None,
            backoff: Backoff::for_connections(),
        }
    }

    /// Has `work` ask for something. It is handed the [`HealthProbe`] too, to say when it waits for others than the
    /// database.
    ///
    /// # Errors
    /// Those of `work` and of connecting. What met another transaction is to be asked again; after any other
    /// error the session is gone.
    pub(crate) fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Session, &HealthProbe) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ask_expecting(|_| false, work)
    }

    /// The same, but for errors that the caller `expects`: these are answers, and the session is kept.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn ask_expecting<T>(
        &mut self,
        expects: impl FnOnce(&StoreError) -> bool,
        work: impl FnOnce(&mut dyn Session, &HealthProbe) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.health.started();
        // Not kept where `work` panics: nobody knows what the session is in the middle of.
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

    /// Tells of an error, and whether the session is good for more: the one place that sorts them.
    fn is_kept_after(&self, error: &StoreError, is_expected: bool) -> bool {
        if let StoreError::Conflict(reason) = error {
            let name = self.health.name();
            log::debug!("{name} met another transaction: {reason}");
        }
        match error {
            _ if is_expected => self.health.answered(),
            // It still waits for what it asked for.
            StoreError::Conflict(_) => {}
            _ if error.is_of_values() => self.health.refused(error),
            _ => self.health.failed(error),
        }
        is_expected || matches!(error, StoreError::Conflict(_))
    }

    /// How long to wait before what failed is asked again.
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

    /// Nothing is asked for some time: closes the session, and starts over.
    pub(crate) fn rest(&mut self) {
        self.session = None;
        self.backoff.reset();
    }

    /// The thread as a client of the database.
    pub(crate) const fn health(&self) -> &HealthProbe {
        &self.health
    }
}

/// Does something up to `tries` times, until it meets no other transaction.
///
/// # Errors
/// Those of `work`.
pub(crate) fn apart_from_others<T>(
    tries: u32,
    mut work: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
    for _ in 1..tries {
        match work() {
            Err(StoreError::Conflict(reason)) => {
                log::debug!("a statement met another transaction and is tried again: {reason}");
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
    use crate::store::{self, Tables, Tell};

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

        fn migrate_telling(&self, tell: &mut Tell<'_>) -> Result<(), StoreError> {
            self.store.migrate_telling(tell)
        }

        fn migrates_itself(&self) -> bool {
            self.store.migrates_itself()
        }

        fn describe(&self) -> String {
            self.store.describe()
        }
    }

    /// One whose work fails with each of these errors in turn; how many connections there have been after
    /// each, and whether the database was thought to be away.
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
