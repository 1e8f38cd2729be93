//! `max_crashes`: how many crashes of its worker a message may cause.

use toml::Table;

use super::fault::Fault;
use super::reader::Section;

const KEY: &str = "max_crashes";

/// The old name of the key, which is still read for one release.
const OLD_KEY: &str = "max_attempts";

pub(super) const DEFAULT: u32 = 3;

/// Reads the key by its new or old name.
pub(super) fn read(root: &mut Section<'_>, warnings: &mut Vec<Fault>) -> u32 {
    let (new, old) = (root.get(KEY), root.outdated(OLD_KEY));
    match (&new, &old) {
        (Some(_), Some(old)) => old.fault(format!("is the old name of {KEY}, which is set too")),
        (None, Some(_)) => warnings.push(Fault {
            key: OLD_KEY.to_owned(),
            problem: format!(
                "is called {KEY} from now on, and the next release will not read the old name; it is the number \
                 of runs of a message that crashes each time, the first run included"
            ),
        }),
        (_, None) => {}
    }
    // The upper bound is that of the database's integer column.
    let crashes = new
        .or(old)
        .and_then(|entry| entry.whole(1..=i64::from(i32::MAX)));
    crashes.unwrap_or(DEFAULT)
}

/// Whether a table has a key, by its new or old name.
pub(super) fn has_key(table: &Table, key: &str) -> bool {
    let names: &[&str] = match key {
        KEY | OLD_KEY => &[KEY, OLD_KEY],
        _ => &[key],
    };
    names.iter().any(|name| table.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::super::fault::Faults;
    use super::*;

    /// The value that is read, and the number of warnings.
    fn read_from(text: &str) -> Result<(u32, usize), String> {
        let table: Table = text.parse().unwrap();
        let (faults, mut warnings) = (Faults::default(), Vec::new());
        let mut root = Section::root(&table, &faults);
        let crashes = read(&mut root, &mut warnings);
        root.finish();
        let read = faults.into_result((crashes, warnings.len()), None);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn the_old_name_is_read_with_a_warning_and_not_beside_the_new_one() {
        assert_eq!(read_from(""), Ok((DEFAULT, 0)));
        assert_eq!(read_from("max_crashes = 1"), Ok((1, 0)));
        assert_eq!(read_from("max_attempts = 7"), Ok((7, 1)));
        let both = read_from("max_attempts = 7\nmax_crashes = 7").unwrap_err();
        assert!(
            both.ends_with("max_attempts: is the old name of max_crashes, which is set too"),
            "{both}"
        );
        for key in [KEY, OLD_KEY] {
            let none = read_from(&format!("{key} = 0")).unwrap_err();
            let told = format!("{key}: must be a whole number from 1 to 2147483647, not 0");
            assert!(none.ends_with(&told), "{none}");
        }
    }

    #[test]
    fn the_old_name_is_never_suggested() {
        let told = read_from("max_atempts = 7").unwrap_err();
        assert!(
            told.ends_with("is not a known key; known are max_crashes"),
            "{told}"
        );
    }
}
