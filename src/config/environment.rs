//! The environment variables that are part of the configuration.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use super::broker_host::BrokerHost;
use super::database_url::DatabaseUrl;
use super::fault::Faults;

/// Names the configuration file.
const CONFIG_VARIABLE: &str = "CARROT_CONFIG";
/// Overrides `default_broker`.
const DEFAULT_BROKER_VARIABLE: &str = "CARROT_DEFAULT_BROKER";
/// The first of these that is set overrides `database_url`.
const DATABASE_URL_VARIABLES: [&str; 2] = ["CARROT_DATABASE_URL", "DATABASE_URL"];

/// A snapshot of the environment variables `CARROT_CONFIG`, `CARROT_DEFAULT_BROKER`, `CARROT_DATABASE_URL` and
/// `DATABASE_URL`. An empty value counts as unset. `Debug` shows only names, since values may hold passwords.
#[derive(Clone, Default)]
pub struct Environment(Vec<(&'static str, OsString)>);

impl Environment {
    /// The current variables of this process.
    #[must_use]
    pub fn from_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// The variables among `pairs`. Other names are ignored.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<OsStr>,
        V: Into<OsString>,
    {
        let ours = |name: &OsStr| names().find(|ours| name == OsStr::new(ours));
        let variables = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((ours(name.as_ref())?, value.into())))
            .filter(|(_, value)| !value.is_empty());
        Self(variables.collect())
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(ours, _)| *ours == name)?;
        Some(&found.1)
    }

    /// The configuration file that the environment names.
    pub(super) fn file(&self) -> Option<&Path> {
        self.get(CONFIG_VARIABLE).map(Path::new)
    }

    /// The broker that overrides the file's `default_broker`.
    pub(super) fn default_broker(&self, faults: &Faults) -> Option<BrokerHost> {
        self.parse(DEFAULT_BROKER_VARIABLE, faults, str::parse)
    }

    /// The database that overrides the file's `database_url`. Relative paths are taken from `cwd`.
    pub(super) fn database_url(&self, faults: &Faults, cwd: &Path) -> Option<DatabaseUrl> {
        let name = DATABASE_URL_VARIABLES
            .into_iter()
            .find(|name| self.get(name).is_some())?;
        self.parse(name, faults, |text| DatabaseUrl::parse_at(text, cwd))
    }

    fn parse<T, E: fmt::Display>(
        &self,
        name: &'static str,
        faults: &Faults,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Some(text) = self.get(name)?.to_str() else {
            faults.report(name, "must be UTF-8 text");
            return None;
        };
        parse(text)
            .map_err(|error| faults.report(name, error.to_string()))
            .ok()
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    [CONFIG_VARIABLE, DEFAULT_BROKER_VARIABLE]
        .into_iter()
        .chain(DATABASE_URL_VARIABLES)
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, Faults};
    use std::path::Path;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment =
            Environment::from_pairs([("CARROT_CONFIG", ""), ("CARROT_DATABASE_URL", "")]);
        assert_eq!(environment.file(), None);
        assert!(
            environment
                .database_url(&Faults::default(), Path::new("/"))
                .is_none()
        );
    }

    #[test]
    fn our_database_variable_overrides_the_common_one() {
        let environment = Environment::from_pairs([
            ("DATABASE_URL", "mysql://other"),
            ("CARROT_DATABASE_URL", "postgres://ours"),
        ]);
        let url = environment.database_url(&Faults::default(), Path::new("/"));
        assert_eq!(url.unwrap().expose(), "postgres://ours");
    }

    #[test]
    fn debug_shows_no_values() {
        let environment =
            Environment::from_pairs([("DATABASE_URL", "postgres://u:hunter2@h/d"), ("HOME", "/")]);
        assert_eq!(format!("{environment:?}"), "{\"DATABASE_URL\"}");
    }
}
