//! The address of a RabbitMQ, and the credentials for it.

mod parse;

use std::fmt;

use super::percent;
use super::reader::{Entry, Section};
use super::secret::Secret;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 5672;
const DEFAULT_SECURE_PORT: u16 = 5671;
const DEFAULT_USER: &str = "guest";
const DEFAULT_VHOST: &str = "/";
/// The most bytes of a virtual host's name, which is an AMQP 0-9-1 short string.
const MAX_VHOST_BYTES: usize = 255;

pub(super) const EXPECTED: &str = "\"embedded\", an amqp:// or amqps:// URL, or a table of host, port, \
    name, username, password and secure";

/// A virtual host of RabbitMQ, with the credentials for it.
///
/// URLs are parsed as <https://www.rabbitmq.com/docs/uri-spec> specifies, with one exception: an empty virtual
/// host, which RabbitMQ can't have, means `/`. So `amqp://host` and `amqp://host/` both mean `amqp://host/%2f`.
///
/// `Display` and `Debug` show the URL with `***` for the password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// Whether to use TLS (`amqps`).
    pub secure: bool,
    /// The host's name or address; an IPv6 address is without brackets.
    pub host: String,
    /// The port: 5672 by default, 5671 with TLS.
    pub port: u16,
    /// The user, `guest` by default.
    pub username: String,
    /// The password, `guest` by default.
    pub password: Secret,
    /// The virtual host, `/` by default; at most 255 bytes.
    pub vhost: String,
}

/// Why a text is not the URL of a broker. It repeats no part of the text, since even what looks like a port may be
/// part of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// The scheme is missing, or is not `amqp` or `amqps`.
    #[error("must be \"embedded\", or an amqp:// or amqps:// URL")]
    Scheme,
    /// There is a `?query` or `#fragment`, or a password with an unescaped `?` or `#`.
    #[error("must not have ? or # in it; in a user or password write them as %3f and %23")]
    Query,
    /// There is more than one path segment, or a password with an unescaped `/`.
    #[error(
        "must have at most one / after the host, before the virtual host; elsewhere write / as %2f and @ as %40"
    )]
    Path,
    /// A `%` is not followed by two hex digits, or the decoded text is not UTF-8.
    #[error(
        "must have % only before two hex digits, and be UTF-8 when decoded; write % itself as %25"
    )]
    Percent,
    /// The host is neither a name nor an IPv6 address in brackets.
    #[error("must name a host, an IPv6 address in brackets")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("must have a port from 1 to 65535 after the host's colon")]
    Port,
    /// There is a NUL, which would end the user or password early.
    #[error("must not hold a NUL")]
    Nul,
    /// The virtual host's name has more than 255 bytes.
    #[error("must name a virtual host of at most 255 bytes")]
    Vhost,
}

impl BrokerUrl {
    /// Reads `default_broker` or a queue's `host` from a table.
    pub(super) fn read(entry: &Entry<'_>) -> Option<Self> {
        Self::from_section(entry.section(EXPECTED)?, entry)
    }

    fn from_section(mut section: Section<'_>, entry: &Entry<'_>) -> Option<Self> {
        let mut text = |key, what| section.get(key).map(|entry| entry.string(what));
        let host = text("host", "a host's name or address");
        let vhost = text("name", "the name of a virtual host");
        let username = text("username", "a string");
        let password = text("password", "a string");
        let secure = section.get("secure").map(|entry| entry.boolean());
        let port = section.get("port").map(|entry| entry.whole(1..=65535));
        section.finish();
        let secure = secure.unwrap_or(Some(false))?;
        let url = Self {
            secure,
            host: host.unwrap_or(Some(DEFAULT_HOST))?.to_owned(),
            port: port.unwrap_or(Some(default_port(secure)))?,
            username: username.unwrap_or(Some(DEFAULT_USER))?.to_owned(),
            password: Secret::new(password.unwrap_or(Some(DEFAULT_USER))?),
            vhost: vhost_of_table(vhost.unwrap_or(Some(DEFAULT_VHOST))?),
        };
        url.checked()
            .map_err(|error| entry.fault(error.to_string()))
            .ok()
    }

    /// Checks the parts, whether they came from a URL or a table.
    fn checked(self) -> Result<Self, BrokerUrlError> {
        let outside = |c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c);
        if self.host.is_empty() || self.host.contains(outside) {
            return Err(BrokerUrlError::Host);
        }
        if [&*self.username, self.password.expose(), &*self.vhost]
            .iter()
            .any(|part| part.contains('\0'))
        {
            return Err(BrokerUrlError::Nul);
        }
        if self.vhost.len() > MAX_VHOST_BYTES {
            return Err(BrokerUrlError::Vhost);
        }
        Ok(self)
    }
}

/// The fault to report for a URL. After an error in the scheme it lists all forms that the configuration accepts,
/// since the value may not have been meant as a URL.
pub(super) fn config_message(error: BrokerUrlError) -> String {
    match error {
        BrokerUrlError::Scheme => format!("must be {EXPECTED}"),
        other => other.to_string(),
    }
}

/// The virtual host that a table's `name` means. django-carrot puts `name` into a URL unescaped, so `%2f`, its
/// default, means `/` here too.
fn vhost_of_table(name: &str) -> String {
    if name.is_empty() || name.eq_ignore_ascii_case("%2f") {
        DEFAULT_VHOST.to_owned()
    } else {
        name.to_owned()
    }
}

fn default_port(secure: bool) -> u16 {
    if secure {
        DEFAULT_SECURE_PORT
    } else {
        DEFAULT_PORT
    }
}

impl Default for BrokerUrl {
    /// `amqp://guest:guest@localhost:5672/`
    fn default() -> Self {
        Self {
            secure: false,
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            username: DEFAULT_USER.to_owned(),
            password: Secret::new(DEFAULT_USER),
            vhost: DEFAULT_VHOST.to_owned(),
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "amqps" } else { "amqp" };
        let user = percent::encode(&self.username);
        let vhost = percent::encode(&self.vhost);
        if self.host.contains(':') {
            write!(
                f,
                "{scheme}://{user}:***@[{}]:{}/{vhost}",
                self.host, self.port
            )
        } else {
            write!(
                f,
                "{scheme}://{user}:***@{}:{}/{vhost}",
                self.host, self.port
            )
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::BrokerUrl;

    #[test]
    fn the_password_is_not_shown() {
        let url: BrokerUrl = "amqps://us%40er:hunter2@[::1]/v%2fh".parse().unwrap();
        assert_eq!(url.to_string(), "amqps://us%40er:***@[::1]:5671/v%2fh");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(
            BrokerUrl::default().to_string(),
            "amqp://guest:***@localhost:5672/%2f"
        );
    }

    #[test]
    fn a_shown_url_reads_back_as_the_same_address() {
        let url: BrokerUrl = "amqp://a:b@[fe80::1]:99/x y".parse().unwrap();
        let back: BrokerUrl = url.to_string().parse().unwrap();
        assert_eq!(
            (back.host, back.port, back.vhost),
            (url.host, url.port, url.vhost)
        );
    }
}
