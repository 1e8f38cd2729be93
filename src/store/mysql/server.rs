//! Where a MySQL or MariaDB server is.

use url::Url;

use crate::config::DatabaseUrl;

/// The server's port unless the URL has one.
const DEFAULT_PORT: u16 = 3306;

/// The address of a database.
#[derive(Clone)]
pub(in crate::store) struct MysqlServer {
    url: DatabaseUrl,
}

impl MysqlServer {
    pub(in crate::store) fn new(url: &DatabaseUrl) -> Self {
        Self { url: url.clone() }
    }

    pub(super) fn port(&self) -> u16 {
        let url = Url::parse(self.url.expose()).ok();
        url.and_then(|url| url.port()).unwrap_or(DEFAULT_PORT)
    }

    /// `text` on one line and without the password, which errors may quote.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = text.replace(self.url.expose(), &self.describe());
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.url.redact(&one_line)
    }

    /// The URL with its password.
    pub(super) fn expose(&self) -> &str {
        self.url.expose()
    }

    /// The URL without its password.
    pub(super) fn describe(&self) -> String {
        self.url.to_string()
    }
}
