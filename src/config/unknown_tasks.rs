//! What becomes of messages whose task is not known.

use super::reader::Entry;

/// What becomes of a message whose task this service does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownTasks {
    /// It is put off for 15 minutes, in which a service that knows it may take it, as in a deployment that
    /// replaces one host after the other; then it is FAILED.
    #[default]
    Wait,
    /// It is FAILED at once.
    Fail,
}

impl UnknownTasks {
    pub(super) fn read(entry: &Entry<'_>) -> Option<Self> {
        const EXPECTED: &str = "\"wait\" or \"fail\"";
        match entry.string(EXPECTED)? {
            "wait" => Some(Self::Wait),
            "fail" => Some(Self::Fail),
            _ => {
                entry.mismatch(EXPECTED);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnknownTasks;
    use crate::config::fault::Faults;
    use crate::config::reader::Section;

    fn read(text: &str) -> Result<Option<UnknownTasks>, String> {
        let table = text.parse().unwrap();
        let faults = Faults::default();
        let mut section = Section::root(&table, &faults);
        let entry = section.get("unknown_tasks").unwrap();
        let read = UnknownTasks::read(&entry);
        faults
            .into_result(read, None)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn they_wait_or_fail_and_nothing_else() {
        assert_eq!(read("unknown_tasks = 'wait'"), Ok(Some(UnknownTasks::Wait)));
        assert_eq!(read("unknown_tasks = 'fail'"), Ok(Some(UnknownTasks::Fail)));
        for other in ["'Wait'", "true", "15"] {
            let told = read(&format!("unknown_tasks = {other}")).unwrap_err();
            assert!(
                told.contains("must be \"wait\" or \"fail\", not "),
                "{told}"
            );
        }
    }
}
