//! Names of queues and tasks.

use super::reader::Entry;

/// The most bytes of a name: the columns of django-carrot's tables are `varchar(200)`.
pub(super) const MAX_NAME_BYTES: usize = 200;

/// Checks the name of a queue or task. It is stored in the database, and PostgreSQL refuses NULs.
pub(super) fn read_name<'a>(entry: &Entry<'_>, name: &'a str) -> Option<&'a str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        entry.fault(format!(
            "must have a name of 1 to {MAX_NAME_BYTES} bytes, not {}",
            name.len()
        ));
        return None;
    }
    if name.contains('\0') {
        entry.fault("must have a name without a NUL");
        return None;
    }
    Some(name)
}
