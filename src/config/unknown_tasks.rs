//! `unknown_tasks`: what happens to messages whose task is unknown.

use super::reader::Entry;

/// What happens to a message whose task the service does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownTasks {
    /// The message is put off for up to 15 minutes, so that a service that knows the task may take it, as during a
    /// rolling deployment. After that it is FAILED.
    #[default]
    Wait,
    /// The message is FAILED at once.
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
