//! Where a PostgreSQL server is.

use crate::config::DatabaseUrl;
use crate::store::StoreError;

/// libpq's parameters unless the URL has them: connecting takes at most 10 s, and a connection notices within about
/// 20 s that the other host is gone.
const DEFAULTS: [(&str, &str); 5] = [
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "20000"),
];

/// The address of a database.
#[derive(Clone)]
pub(in crate::store) struct PostgresServer {
    url: DatabaseUrl,
    full: String,
}

impl PostgresServer {
    pub(in crate::store) fn new(url: &DatabaseUrl) -> Result<Self, StoreError> {
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

    /// `text` on one line and without the password, which libpq quotes in some errors.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = text
            .replace(&self.full, &self.describe())
            .replace(self.url.expose(), &self.describe());
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.url.redact(&one_line)
    }

    /// The URL with its password and the defaults.
    pub(super) fn expose(&self) -> &str {
        &self.full
    }

    /// The URL without its password.
    pub(super) fn describe(&self) -> String {
        self.url.to_string()
    }
}

/// Refuses a URL that insists on TLS if this build lacks it.
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
    use super::PostgresServer;
    use crate::store::StoreError;

    #[test]
    fn an_sslmode_that_insists_says_what_to_build() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u:hunter2@h/d?sslmode={mode}");
            let refused = PostgresServer::new(&url.parse().unwrap()).err();
            let Some(StoreError::Unsupported(reason)) = refused else {
                panic!("{mode} is not Unsupported: {refused:?}");
            };
            assert!(reason.contains("--features tls"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
        for url in ["postgres://h/d", "postgres://h/d?sslmode=prefer"] {
            assert!(PostgresServer::new(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }
}
