//! Opening a connection, and sorting what goes wrong on one.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

use super::super::StoreError;
use crate::config::DatabaseUrl;

/// What every connection is set to, whatever the server's defaults are.
///
/// `enable_seqscan = off`: our statements find rows by key; before PostgreSQL has statistics of a
/// table it would rather scan it whole, once a batch.
/// `lc_messages` would be ours to set too, but only a superuser may.
const SET_UP: &str = "SET application_name = 'carrot-actors'; \
    SET TIME ZONE 'UTC'; \
    SET default_transaction_isolation = 'read committed'; \
    SET client_min_messages = warning; \
    SET enable_seqscan = off";

/// What libpq is told unless the URL says it: give up on a connection that does not come about in
/// 10 s, and notice within about 20 s that the other host is gone.
const DEFAULTS: [(&str, &str); 5] = [
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "20000"),
];

/// Where the database is and how to get there.
#[derive(Clone)]
pub(super) struct Link {
    url: DatabaseUrl,
    full: String,
}

impl Link {
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let text = url.expose();
        refuse_tls_if_not_built_in(text)?;
        let mut full = text.to_owned();
        for (key, value) in DEFAULTS {
            if !text.contains(&format!("{key}=")) {
                full.push(if full.contains('?') { '&' } else { '?' });
                full.push_str(key);
                full.push('=');
                full.push_str(value);
            }
        }
        Ok(Self {
            url: url.clone(),
            full,
        })
    }

    pub(super) fn open(&self) -> Result<PgConnection, StoreError> {
        let mut connection = PgConnection::establish(&self.full)
            .map_err(|error| StoreError::Unavailable(self.scrub(&error.to_string())))?;
        connection
            .batch_execute(SET_UP)
            .map_err(|error| StoreError::Unavailable(self.scrub(&error.to_string())))?;
        Ok(connection)
    }

    pub(super) fn describe(&self) -> String {
        self.url.to_string()
    }

    /// `text` on one line and without the password, which libpq quotes in some errors.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = text
            .replace(&self.full, &self.describe())
            .replace(self.url.expose(), &self.describe());
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.url.redact(&one_line)
    }

    /// What the caller can do about `error`. libpq's SQLSTATE does not reach us, so the connection
    /// itself is asked whether it still lives.
    pub(super) fn error(&self, connection: &mut PgConnection, error: &Error) -> StoreError {
        let text = self.scrub(&error.to_string());
        match error {
            Error::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ReadOnlyTransaction,
                _,
            )
            | Error::BrokenTransactionManager => StoreError::Unavailable(text),
            Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => {
                StoreError::Conflict(text)
            }
            _ if connection.batch_execute("SELECT 1").is_err() => StoreError::Unavailable(text),
            _ if text.contains("deadlock") => StoreError::Conflict(text),
            Error::DatabaseError(DatabaseErrorKind::Unknown, _) => StoreError::Unclear(text),
            _ => StoreError::Refused(text),
        }
    }
}

/// Says what to build when the URL insists on TLS.
fn refuse_tls_if_not_built_in(url: &str) -> Result<(), StoreError> {
    let insists = ["require", "verify-ca", "verify-full"]
        .iter()
        .any(|mode| url.contains(&format!("sslmode={mode}")));
    if insists && !cfg!(feature = "tls") {
        return Err(StoreError::Unsupported(
            "database_url asks for TLS (sslmode), which this build is without: build with \
             `--features tls`, or set sslmode=prefer"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use super::Link;
    use crate::store::StoreError;

    #[test]
    fn an_sslmode_that_insists_says_what_to_build() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u:hunter2@h/d?sslmode={mode}");
            let refused = Link::new(&url.parse().unwrap()).err();
            let Some(StoreError::Unsupported(reason)) = refused else {
                panic!("{mode} is not Unsupported: {refused:?}");
            };
            assert!(reason.contains("--features tls"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
        for url in ["postgres://h/d", "postgres://h/d?sslmode=prefer"] {
            assert!(Link::new(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }
}
