//! The address of a RabbitMQ, and the credentials for it.

use std::fmt;
use std::str::FromStr;

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

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or(BrokerUrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(BrokerUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(BrokerUrlError::Query);
        }
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        if vhost.contains(['/', '@']) {
            return Err(BrokerUrlError::Path);
        }
        let (username, password, address) = split_user(authority)?;
        let (host, port) = split_port(address)?;
        let url = Self {
            secure,
            host: or_default(decode(host)?, DEFAULT_HOST),
            port: port.unwrap_or(default_port(secure)),
            username,
            password: Secret::new(password),
            vhost: or_default(decode(vhost)?, DEFAULT_VHOST),
        };
        url.checked()
    }
}

fn or_default(text: String, default: &str) -> String {
    if text.is_empty() {
        default.to_owned()
    } else {
        text
    }
}

fn decode(text: &str) -> Result<String, BrokerUrlError> {
    percent::decode(text).ok_or(BrokerUrlError::Percent)
}

/// Splits the user and password from the address. An unescaped `@` in a password is accepted, since a host can't
/// contain one.
fn split_user(authority: &str) -> Result<(String, String, &str), BrokerUrlError> {
    let Some((userinfo, address)) = authority.rsplit_once('@') else {
        return Ok((DEFAULT_USER.to_owned(), DEFAULT_USER.to_owned(), authority));
    };
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (decode(username)?, decode(password)?),
        None => (decode(userinfo)?, DEFAULT_USER.to_owned()),
    };
    Ok((username, password, address))
}

fn split_port(address: &str) -> Result<(&str, Option<u16>), BrokerUrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BrokerUrlError::Host)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(BrokerUrlError::Host);
            }
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return Err(BrokerUrlError::Port),
            }
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port
        .parse()
        .ok()
        .filter(|&number: &u16| digits && number > 0);
    number
        .map(|number| (host, Some(number)))
        .ok_or(BrokerUrlError::Port)
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
    use super::{BrokerUrl, BrokerUrlError};

    fn parts(text: &str) -> (bool, String, u16, String, String, String) {
        let url: BrokerUrl = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let password = url.password.expose().to_owned();
        (
            url.secure,
            url.host,
            url.port,
            url.username,
            password,
            url.vhost,
        )
    }

    fn expect(text: &str, host: &str, port: u16, user: &str, password: &str, vhost: &str) {
        let expected = (
            false,
            host.into(),
            port,
            user.into(),
            password.into(),
            vhost.into(),
        );
        assert_eq!(parts(text), expected, "{text}");
    }

    #[test]
    fn urls_are_read_as_rabbitmq_specifies_them() {
        expect(
            "amqp://user:pass@host:10000/vhost",
            "host",
            10000,
            "user",
            "pass",
            "vhost",
        );
        let encoded = "amqp://user%61:%61pass@ho%61st:10000/v%2fhost";
        expect(encoded, "hoast", 10000, "usera", "apass", "v/host");
        expect("amqp://", "localhost", 5672, "guest", "guest", "/");
        expect("amqp://:@/", "localhost", 5672, "", "", "/");
        expect("amqp://user@", "localhost", 5672, "user", "guest", "/");
        expect("amqp://host", "host", 5672, "guest", "guest", "/");
        expect("amqp://:10000", "localhost", 10000, "guest", "guest", "/");
        expect(
            "amqp:///vhost",
            "localhost",
            5672,
            "guest",
            "guest",
            "vhost",
        );
        expect("amqp://host/", "host", 5672, "guest", "guest", "/");
        expect("amqp://host/%2f", "host", 5672, "guest", "guest", "/");
        expect("amqp://[::1]", "::1", 5672, "guest", "guest", "/");
        expect("amqp://[::1]:7/a", "::1", 7, "guest", "guest", "a");
        expect("AMQP://u:p@ss:w@h", "h", 5672, "u", "p@ss:w", "/");
        assert_eq!(parts("amqps://h").2, 5671);
        assert!(parts(" amqps://h:5672\n").0);
    }

    #[test]
    fn a_wrong_url_is_refused_for_what_is_wrong_with_it() {
        let wrong = [
            ("embedded", BrokerUrlError::Scheme),
            ("http://h", BrokerUrlError::Scheme),
            ("amqp://h?heartbeat=5", BrokerUrlError::Query),
            ("amqp://u:p#w@h", BrokerUrlError::Query),
            ("amqp://u:12/w@h", BrokerUrlError::Path),
            ("amqp://h/a/b", BrokerUrlError::Path),
            ("amqp://u:%zz@h", BrokerUrlError::Percent),
            ("amqp://u:%ff@h", BrokerUrlError::Percent),
            ("amqp://h h", BrokerUrlError::Host),
            ("amqp://[x]", BrokerUrlError::Host),
            ("amqp://[::1", BrokerUrlError::Host),
            ("amqp://h:0", BrokerUrlError::Port),
            ("amqp://h:+5", BrokerUrlError::Port),
            ("amqp://h:65536", BrokerUrlError::Port),
            ("amqp://[::1]7", BrokerUrlError::Port),
            ("amqp://::1", BrokerUrlError::Port),
            ("amqp://u:%00@h", BrokerUrlError::Nul),
        ];
        for (text, error) in wrong {
            assert_eq!(text.parse::<BrokerUrl>(), Err(error), "{text}");
        }
        let long = format!("amqp://h/{}", "v".repeat(256));
        assert_eq!(long.parse::<BrokerUrl>(), Err(BrokerUrlError::Vhost));
    }

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
