//! `database_url`: the address of the database, and the credentials for it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use url::Url;

use super::percent;
use super::reader::Entry;

const EXPECTED: &str = "a postgres://, mysql:// or sqlite:// URL";
const SQLITE_PREFIX: &str = "sqlite://";

/// Which kind of database a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// `postgres://` or `postgresql://`
    Postgresql,
    /// `mysql://`, for MySQL and MariaDB
    Mysql,
    /// `sqlite://` followed by a path
    Sqlite,
}

impl fmt::Display for DatabaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgresql => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Sqlite => "SQLite",
        })
    }
}

/// The URL of a database. `Display` and `Debug` show it with `***` for the password, both before the host and in the
/// query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    full: String,
    redacted: String,
}

/// Why a text is not the URL of a database. It repeats no part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// The scheme is missing or unknown.
    #[error("must be {EXPECTED}")]
    Scheme,
    /// It is not a valid URL (RFC 3986).
    #[error("must be a valid URL, with special characters of the password percent-encoded: {0}")]
    Syntax(url::ParseError),
    /// There is a `#`, or an `@` after the host. Most likely the password has an unescaped `/`, `?` or `#`, and
    /// would be shown as part of the path.
    #[error(
        "must not have # in it, nor @ after the host; in a password write @ / ? # as %40 %2f %3f %23"
    )]
    Ambiguous,
    /// An SQLite URL does not name a file.
    #[error("must name a file after sqlite://, without ? or #; a database in memory would be lost")]
    File,
    /// A path is relative, and the directory that it is relative to is not UTF-8.
    #[error("must be an absolute path, since the directory of the configuration is not UTF-8")]
    Directory,
}

impl DatabaseUrl {
    /// Parses `text`. Relative paths, of an SQLite file or of files that a client library reads, such as
    /// certificates, are made absolute from `directory`. So they stay valid if the process changes its directory.
    ///
    /// # Errors
    /// When `text` is not the URL of a supported database.
    pub fn parse_at(text: &str, directory: &Path) -> Result<Self, DatabaseUrlError> {
        let url: Self = text.parse()?;
        match url.sqlite_file() {
            Some(file) => {
                let file = directory.join(file);
                let file = file.to_str().ok_or(DatabaseUrlError::Directory)?;
                Ok(Self::sqlite(file))
            }
            None => url.with_absolute_paths(directory),
        }
    }

    /// The URL with the paths in its query made absolute.
    fn with_absolute_paths(self, directory: &Path) -> Result<Self, DatabaseUrlError> {
        let Some((place, query)) = self.full.split_once('?') else {
            return Ok(self);
        };
        let pairs: Option<Vec<_>> = query
            .split('&')
            .map(|pair| with_absolute_path(pair, directory))
            .collect();
        let pairs = pairs.ok_or(DatabaseUrlError::Directory)?;
        format!("{place}?{}", pairs.join("&")).parse()
    }

    /// The default database: the SQLite file `carrot.db` in `directory`.
    pub(super) fn default_in(directory: &Path) -> Self {
        Self::sqlite(&directory.join("carrot.db").to_string_lossy())
    }

    /// Reads `database_url` of a configuration file in `directory`.
    pub(super) fn read(entry: Entry<'_>, directory: &Path) -> Option<Self> {
        let entry = entry.confidential();
        let parsed = Self::parse_at(entry.string(EXPECTED)?, directory);
        parsed.map_err(|error| entry.fault(error.to_string())).ok()
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The whole URL, including the password. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.full
    }

    /// The file, if it is an SQLite database.
    #[must_use]
    pub fn sqlite_file(&self) -> Option<&Path> {
        match self.kind {
            DatabaseKind::Sqlite => self.full.strip_prefix(SQLITE_PREFIX).map(Path::new),
            DatabaseKind::Postgresql | DatabaseKind::Mysql => None,
        }
    }

    /// Replaces the URL's passwords in `text`, such as an error of a client library, by `***`.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let Ok(url) = Url::parse(&self.full) else {
            return text.to_owned();
        };
        let encoded = url.password().unwrap_or_default().to_owned();
        let decoded = percent::decode(&encoded).unwrap_or_default();
        let queried = url
            .query_pairs()
            .filter(|(key, _)| is_secret_key(key))
            .map(|(_, value)| value.into_owned());
        [encoded, decoded]
            .into_iter()
            .chain(queried)
            .filter(|password| !password.is_empty())
            .fold(text.to_owned(), |text, password| {
                text.replace(&password, "***")
            })
    }

    fn sqlite(file: &str) -> Self {
        let full = format!("{SQLITE_PREFIX}{file}");
        Self {
            kind: DatabaseKind::Sqlite,
            redacted: full.clone(),
            full,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(DatabaseUrlError::Scheme)?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => DatabaseKind::Postgresql,
            "mysql" => DatabaseKind::Mysql,
            "sqlite" => return parse_sqlite(rest),
            _ => return Err(DatabaseUrlError::Scheme),
        };
        if rest.contains('#')
            || rest
                .find(['/', '?'])
                .is_some_and(|end| rest[end..].contains('@'))
        {
            return Err(DatabaseUrlError::Ambiguous);
        }
        let url = Url::parse(text).map_err(DatabaseUrlError::Syntax)?;
        Ok(Self {
            kind,
            full: text.to_owned(),
            redacted: redacted(url),
        })
    }
}

fn parse_sqlite(file: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let unusable = file.is_empty()
        || file.ends_with('/')
        || file == ":memory:"
        || file.contains(['?', '#', '\0']);
    if unusable {
        return Err(DatabaseUrlError::File);
    }
    Ok(DatabaseUrl::sqlite(file))
}

/// The keys of the query whose values are files: those of libpq, and those of diesel for MySQL.
const FILE_KEYS: [&str; 9] = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
    "passfile",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
];

/// A pair of the query, with the path made absolute if it names a file. `None` if the path is not UTF-8.
fn with_absolute_path(pair: &str, directory: &Path) -> Option<String> {
    let file = pair
        .split_once('=')
        .filter(|(key, _)| FILE_KEYS.contains(key))
        .and_then(|(key, value)| Some((key, percent::decode(value)?)))
        // `system` means the system's certificates.
        .filter(|(_, file)| !file.is_empty() && file != "system" && Path::new(file).is_relative());
    match file {
        Some((key, file)) => {
            let file = directory.join(file);
            Some(format!("{key}={}", percent::encode(file.to_str()?)))
        }
        None => Some(pair.to_owned()),
    }
}

/// Whether the value of this key of the query is a password.
fn is_secret_key(key: &str) -> bool {
    key.to_ascii_lowercase().contains("pass")
}

fn redacted(mut url: Url) -> String {
    // Setting a password fails only without a host, and such a URL has no password.
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return format!("{}://***", url.scheme());
    }
    // libpq decodes keys too, so `p%61ssword` is a password.
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs.iter().any(|(key, _)| is_secret_key(key)) {
        // A key without a value is not shown: most likely it is the rest of a password with an unescaped `&`.
        let shown: Vec<String> = pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key}={}", if is_secret_key(key) { "***" } else { value }))
            .collect();
        url.set_query(Some(&shown.join("&")));
    }
    url.into()
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

#[cfg(test)]
mod tests {
    use super::{DatabaseKind, DatabaseUrl, DatabaseUrlError};
    use std::path::Path;

    fn parse(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
        DatabaseUrl::parse_at(text, Path::new("/srv/app"))
    }

    #[test]
    fn the_scheme_says_which_database_it_is() {
        for (text, kind) in [
            ("postgres://u:p@h:5433/d", DatabaseKind::Postgresql),
            ("postgresql:///d?host=/tmp&user=u", DatabaseKind::Postgresql),
            (
                "postgres://u@%2Frun%2Fpostgresql/d",
                DatabaseKind::Postgresql,
            ),
            ("mysql://u:p@h/d", DatabaseKind::Mysql),
            ("sqlite://file.db", DatabaseKind::Sqlite),
        ] {
            assert_eq!(parse(text).unwrap().kind(), kind, "{text}");
        }
    }

    #[test]
    fn a_relative_file_is_taken_from_the_directory() {
        assert_eq!(
            parse("sqlite://file.db").unwrap().expose(),
            "sqlite:///srv/app/file.db"
        );
        let absolute = parse("sqlite:///var/file.db").unwrap();
        assert_eq!(absolute.sqlite_file(), Some(Path::new("/var/file.db")));
        assert_eq!(parse("mysql://h/d").unwrap().sqlite_file(), None);
    }

    #[test]
    fn certificates_are_taken_from_the_directory_too() {
        let full = |text: &str| parse(text).unwrap().expose().to_owned();
        assert_eq!(
            full("postgres://h/d?sslmode=verify-full&sslrootcert=my%20ca.pem"),
            "postgres://h/d?sslmode=verify-full&sslrootcert=%2fsrv%2fapp%2fmy%20ca.pem"
        );
        assert_eq!(
            full("mysql://h/d?ssl_ca=../ca.pem"),
            "mysql://h/d?ssl_ca=%2fsrv%2fapp%2f..%2fca.pem"
        );
        for kept in [
            "postgres://h/d?sslrootcert=/etc/ca.pem",
            "postgres://h/d?sslrootcert=system&sslmode=verify-full",
            "postgres://h/d?sslkey=&x",
        ] {
            assert_eq!(full(kept), kept);
        }
    }

    #[test]
    fn the_password_is_shown_by_neither_display_nor_debug() {
        for (text, shown) in [
            ("postgres://u:hunter2@h/d", "postgres://u:***@h/d"),
            (
                "postgres://u:hunter2@h/d?sslmode=require",
                "postgres://u:***@h/d?sslmode=require",
            ),
            (
                "postgres://h/d?user=u&password=hunter2",
                "postgres://h/d?user=u&password=***",
            ),
            (
                "postgres:///d?p%61ssword=hunter2&x=1",
                "postgres:///d?password=***&x=1",
            ),
            (
                "postgres://h/d?x=1&password=a&hunter2",
                "postgres://h/d?x=1&password=***",
            ),
            (
                "postgres://h/d?PASSWORD=hunter2",
                "postgres://h/d?PASSWORD=***",
            ),
            ("mysql://u:hunter2@h/d", "mysql://u:***@h/d"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for text in [
            "host=h password=hunter2",
            "oracle://u:hunter2@h",
            "postgres://u:hunter2#@h/d",
            "postgres://u:12/hunter2@h/d",
            "postgres://u:12?hunter2@h/d",
            "postgres://u:hunter2/x",
            "postgres://u:hunter2@h:x/d",
            "postgres://u:hunter2@/d",
            "postgres://u:hunter2@[::/d",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://f?hunter2",
            "",
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
            assert!(error.to_string().starts_with("must "), "{error}");
        }
    }
}
