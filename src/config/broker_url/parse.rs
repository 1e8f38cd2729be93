//! Parses the URL of a RabbitMQ.

use std::str::FromStr;

use super::{BrokerUrl, BrokerUrlError, DEFAULT_HOST, DEFAULT_USER, DEFAULT_VHOST, default_port};
use crate::config::Secret;
use crate::config::percent;

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
}
