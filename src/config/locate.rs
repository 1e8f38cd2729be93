//! Finds and reads the configuration file.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use super::environment::Environment;
use super::fault::ConfigError;

/// The file that is looked for in the current directory.
const LOCAL_FILE: &str = "carrot.toml";
/// The file that is looked for last.
const SYSTEM_FILE: &str = "/etc/carrot/carrot.toml";

/// What a configuration is read from. The configuration can be read from it again later, even if the process has
/// changed its directory or user, or the file has changed. It may hold passwords.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The configuration file, if there is one.
    pub(super) source: Option<ConfigFile>,
    /// The current directory when it was read.
    pub(crate) directory: PathBuf,
}

impl Origin {
    /// Finds and reads the configuration file. `directory` is the current directory.
    ///
    /// # Errors
    /// When a file that was named, or that exists, can't be read.
    pub(crate) fn find(
        explicit: Option<&Path>,
        environment: &Environment,
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        let system = Path::new(SYSTEM_FILE);
        Ok(Self {
            source: find(explicit, environment, directory, system)?,
            directory: directory.to_owned(),
        })
    }
}

/// A configuration file that was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    /// The path of the file, absolute if that of the current directory is.
    pub(super) path: PathBuf,
    /// The content of the file.
    pub(super) text: String,
}

/// Reads the first of these files: `explicit`, the one that the environment names, `carrot.toml` in `cwd`,
/// `system`. The first two must exist if they are named. If one of the others exists but can't be read, that is
/// an error. If this user may not enter `cwd`, its `carrot.toml` is skipped.
pub(super) fn find(
    explicit: Option<&Path>,
    environment: &Environment,
    cwd: &Path,
    system: &Path,
) -> Result<Option<ConfigFile>, ConfigError> {
    if let Some(named) = explicit.or(environment.file()) {
        return read(cwd.join(named)).map(Some);
    }
    let local = cwd.join(LOCAL_FILE);
    for path in [&local, system] {
        match read(path.to_owned()) {
            Err(ConfigError::Unreadable { cause, .. })
                if cause.kind() == io::ErrorKind::NotFound => {}
            Err(ConfigError::Unreadable { cause, .. })
                if path == local && is_out_of_reach(path, &cause) => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Whether this user may not even see if the file exists. This happens if root becomes another user (`runuser`)
/// in a directory that only root may enter.
fn is_out_of_reach(path: &Path, cause: &io::Error) -> bool {
    let denied = io::ErrorKind::PermissionDenied;
    cause.kind() == denied
        && std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == denied)
}

fn read(path: PathBuf) -> Result<ConfigFile, ConfigError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(ConfigFile { path, text }),
        Err(cause) => Err(ConfigError::Unreadable { file: path, cause }),
    }
}

impl ConfigFile {
    /// The directory that paths in the file are relative to. If the file is a symbolic link, it is the directory
    /// of the link.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Parses the content of the file.
    pub(super) fn parse(&self) -> Result<Table, ConfigError> {
        self.text.parse().map_err(|error| self.not_toml(&error))
    }

    /// Keeps only the parser's message and position: its `Display` repeats the line, which may hold a password.
    fn not_toml(&self, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        let before = self.text.get(..start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::NotToml {
            file: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: error.message().replace('\n', ", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigFile, Environment, find};
    use std::path::{Path, PathBuf};

    /// A temporary directory that is removed at the end of the test.
    struct ScratchDirectory(PathBuf);

    impl ScratchDirectory {
        fn new(test: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("carrot-locate-{}-{test}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, "").unwrap();
            path
        }
    }

    impl Drop for ScratchDirectory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_first_place_that_has_a_file_counts() {
        let directory = ScratchDirectory::new("order");
        let none = Environment::default();
        let found = |explicit: Option<&Path>, environment: &Environment| {
            let system = directory.0.join("system.toml");
            find(explicit, environment, &directory.0, &system)
                .unwrap()
                .map(|source| source.path)
        };
        assert_eq!(found(None, &none), None);
        let system = directory.file("system.toml");
        assert_eq!(found(None, &none), Some(system));
        let local = directory.file("carrot.toml");
        assert_eq!(found(None, &none), Some(local));
        let named = directory.file("named.toml");
        let environment = Environment::from_pairs([("CARROT_CONFIG", "named.toml")]);
        assert_eq!(found(None, &environment), Some(named));
        let given = directory.file("given.toml");
        assert_eq!(
            found(Some(Path::new("given.toml")), &environment),
            Some(given)
        );
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let directory = ScratchDirectory::new("missing");
        directory.file("carrot.toml");
        let environment = Environment::from_pairs([("CARROT_CONFIG", "gone.toml")]);
        let error = find(None, &environment, &directory.0, Path::new("/nowhere")).unwrap_err();
        assert!(
            error.to_string().contains("gone.toml: No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let directory = ScratchDirectory::new("unreadable");
        std::fs::create_dir(directory.0.join("carrot.toml")).unwrap();
        let system = directory.file("system.toml");
        let error = find(None, &Environment::default(), &directory.0, &system).unwrap_err();
        assert!(error.to_string().contains("carrot.toml"), "{error}");
    }

    #[test]
    fn a_syntax_error_has_its_position_but_not_the_line() {
        let source = ConfigFile {
            path: "/c.toml".into(),
            text: "a = 1\ndefault_broker = \"amqp://u:hunter2@h\n".to_owned(),
        };
        let text = source.parse().unwrap_err().to_string();
        assert!(
            text.starts_with("configuration file /c.toml, line 2, column "),
            "{text}"
        );
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
}
