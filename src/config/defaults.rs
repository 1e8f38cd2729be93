//! The program's own defaults, which the configuration file overrides.

use toml::Table;

use super::max_crashes;

/// A program's own defaults: a TOML text with the keys of the configuration file, which override it.
#[derive(Debug, Clone, Default)]
pub struct Defaults(Table);

impl Defaults {
    pub(super) const fn from_table(table: Table) -> Self {
        Self(table)
    }

    /// Adds the defaults for the keys that `file` does not have.
    pub(super) fn fill_in(&self, mut file: Table) -> Table {
        for (key, value) in &self.0 {
            if !max_crashes::has_key(&file, key) {
                file.insert(key.clone(), value.clone());
            }
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::locate::ConfigFile;
    use crate::config::{BrokerHost, Config, Environment};

    const DEFAULTS: &str = "default_broker = 'embedded'\ndatabase_url = 'sqlite://app.db'\n\
        [[queues]]\nname = 'a'\n[[queues]]\nname = 'b'\n";

    fn over(file: Option<&str>, environment: &Environment) -> Config {
        let source = file.map(|text| ConfigFile {
            path: "/etc/app/carrot.toml".into(),
            text: text.to_owned(),
        });
        let defaults = Defaults::read(DEFAULTS).unwrap();
        Config::from_source(
            source.as_ref(),
            &defaults,
            environment,
            Path::new("/home/me"),
        )
        .unwrap()
    }

    #[test]
    fn file_and_environment_override_the_defaults() {
        let config = over(None, &Environment::default());
        assert_eq!(config.default_broker, BrokerHost::Embedded);
        assert_eq!(config.database_url.expose(), "sqlite:///home/me/app.db");
        assert_eq!((config.queues.len(), config.file), (2, None));

        let file = "database_url = 'sqlite://file.db'\n[[queues]]\nname = 'c'";
        let config = over(Some(file), &Environment::default());
        assert_eq!(config.queues.len(), 1);
        assert_eq!(config.queue("c").unwrap().host, BrokerHost::Embedded);
        assert_eq!(
            config.database_url.expose(),
            "sqlite:///etc/app/file.db",
            "a key of the file"
        );

        let environment = Environment::from_pairs([("CARROT_DEFAULT_BROKER", "amqp://there/v")]);
        let config = over(Some(""), &environment);
        assert_eq!(config.default_broker.rabbitmq().unwrap().host, "there");
        assert_eq!(config.queue("b").unwrap().host, config.default_broker);
        assert_eq!(config.database_url.expose(), "sqlite:///etc/app/app.db");
    }

    #[test]
    fn a_key_of_the_file_counts_under_its_old_name_too() {
        let defaults = Defaults::read("max_crashes = 7").unwrap();
        let file: Table = "max_attempts = 5".parse().unwrap();
        assert_eq!(defaults.fill_in(file.clone()), file);
        assert_eq!(defaults.fill_in(Table::new()), defaults.0);
    }

    #[test]
    fn an_error_says_that_the_defaults_are_wrong() {
        let told = |text| Defaults::read(text).unwrap_err().to_string();
        assert_eq!(
            told("max_crashs = 3\nmax_crashes = 0"),
            "the app's own defaults are wrong:\n  \
             max_crashes: must be a whole number from 1 to 2147483647, not 0\n  \
             max_crashs: is not a known key; did you mean max_crashes?"
        );
        let broken = told("a = 'hunter2");
        assert!(
            broken.starts_with("the app's own defaults are wrong, line 1, column "),
            "{broken}"
        );
        assert!(!broken.contains("hunter2"), "{broken}");
    }
}
