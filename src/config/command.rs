//! `[tasks."name"]`: tasks that are external commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::name::read_name;
use super::reader::{Entry, Section};

const EXPECTED: &str = "a list of the program and its arguments, as [\"python3\", \"build.py\"]";

/// A task that is a command, run without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program and its arguments; never empty. A program with a `/` is a path; in a configuration file, a
    /// relative one is made absolute from the file's directory. A program without a `/` is looked up in `PATH`.
    pub command: Vec<String>,
    /// The working directory, by default the directory of the configuration file.
    pub directory: PathBuf,
}

impl CommandConfig {
    /// Reads `tasks` of a file in the directory `base`.
    pub(super) fn read_all(entry: &Entry<'_>, base: &Path) -> BTreeMap<String, Self> {
        let pairs = entry.pairs("a table with one [tasks.\"name\"] for each task");
        let read = |(name, entry): (&str, Entry<'_>)| {
            let valid = read_name(&entry, name).is_some();
            let task = Self::read(&entry, base)?;
            valid.then(|| (name.to_owned(), task))
        };
        pairs
            .unwrap_or_default()
            .into_iter()
            .filter_map(read)
            .collect()
    }

    fn read(entry: &Entry<'_>, base: &Path) -> Option<Self> {
        let mut section = entry.section("a table with a command")?;
        let command = section
            .require("command", EXPECTED)
            .and_then(|entry| read_command(entry, base));
        let directory = read_directory(&mut section, base);
        section.finish();
        Some(Self {
            command: command?,
            directory: directory?,
        })
    }
}

/// Reads `command`. No fault shows an argument, since it may hold a token or a password.
fn read_command(entry: Entry<'_>, base: &Path) -> Option<Vec<String>> {
    let entry = entry.confidential();
    let items = entry.items(EXPECTED)?;
    let read: Vec<_> = items.iter().map(read_word).collect();
    let mut command: Vec<String> = read.into_iter().collect::<Option<_>>()?;
    let Some(program) = command.first_mut().filter(|program| !program.is_empty()) else {
        entry.fault(format!(
            "must be {EXPECTED}, with a program that is not empty"
        ));
        return None;
    };
    if program.contains('/') {
        let path = base.join(&program);
        let Some(path) = path.to_str() else {
            entry.fault("must have an absolute program, since the configuration file's directory is not UTF-8");
            return None;
        };
        path.clone_into(program);
    }
    Some(command)
}

fn read_word(entry: &Entry<'_>) -> Option<String> {
    let word = entry.string("a string")?;
    if word.contains('\0') {
        entry.fault("must not hold a NUL, which no command can be given");
        return None;
    }
    Some(word.to_owned())
}

fn read_directory(section: &mut Section<'_>, base: &Path) -> Option<PathBuf> {
    match section.get("directory") {
        Some(entry) => entry.string("a path").map(|path| base.join(path)),
        None => Some(base.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::CommandConfig;
    use crate::config::fault::Faults;
    use crate::config::reader::Section;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn read(text: &str) -> Result<BTreeMap<String, CommandConfig>, String> {
        let table: toml::Table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::root(&table, &faults);
        let entry = section.get("tasks").unwrap();
        let tasks = CommandConfig::read_all(&entry, Path::new("/etc/carrot"));
        faults
            .into_result(tasks, None)
            .map_err(|error| error.to_string())
    }

    fn fault(text: &str) -> String {
        read(text).expect_err(text)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = r#"
            [tasks."a.b"]
            command = ["python3", "build.py"]
            [tasks.here]
            command = ["bin/run", "x/y"]
            directory = "work"
            [tasks.there]
            command = ["/bin/run"]
            directory = "/srv"
        "#;
        let tasks = read(text).unwrap();
        let shown = |name: &str| {
            (
                tasks[name].command.join(" "),
                tasks[name].directory.to_str().unwrap(),
            )
        };
        assert_eq!(shown("a.b"), ("python3 build.py".to_owned(), "/etc/carrot"));
        assert_eq!(
            shown("here"),
            ("/etc/carrot/bin/run x/y".to_owned(), "/etc/carrot/work")
        );
        assert_eq!(shown("there"), ("/bin/run".to_owned(), "/srv"));
    }

    #[test]
    fn a_command_must_be_a_list_of_strings() {
        let told = fault("[tasks.x]\ncommand = 'run --token=hunter2'");
        assert!(
            told.contains("tasks.x.command: must be a list of the program and its arguments"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
        assert!(fault("[tasks.x]\ncommand = []").contains("tasks.x.command: must be a list"));
        assert!(fault("[tasks.x]\ncommand = ['']").contains("a program that is not empty"));
        assert!(
            fault("[tasks.x]\ncommand = ['a', 1]").contains("tasks.x.command[1]: must be a string")
        );
        assert!(
            fault("[tasks.x]\ncommand = [\"a\\u0000\"]")
                .contains("tasks.x.command[0]: must not hold a NUL")
        );
        assert!(fault("[tasks.x]").contains("tasks.x.command: is missing"));
    }

    #[test]
    fn names_and_keys_are_checked() {
        assert!(
            fault("[tasks.'']\ncommand = ['a']")
                .contains("tasks.\"\": must have a name of 1 to 200 bytes")
        );
        assert!(fault("[tasks.'a.b']\ncomand = ['a']").contains("did you mean command?"));
        assert!(fault("tasks = 1").contains("tasks: must be a table"));
        assert!(
            fault("[tasks]\nx = ['a']")
                .contains("tasks.x: must be a table with a command, not a list")
        );
    }
}
