//! Time zones by name.

use chrono_tz::{TZ_VARIANTS, Tz};

use super::TimetableError;
use crate::suggest;

/// The time zone with this name in the IANA database, as `Europe/Berlin`.
///
/// # Errors
/// [`TimetableError::Zone`] for an unknown name; it suggests names that may have been meant.
pub fn zone(name: &str) -> Result<Tz, TimetableError> {
    name.parse().map_err(|_| TimetableError::Zone {
        name: name.to_owned(),
        hint: hint(name),
    })
}

fn hint(name: &str) -> String {
    let all = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    let city = |zone: &&str| {
        let last = zone.rsplit('/').next().unwrap_or_default();
        last.to_lowercase() == wanted
    };
    let mut meant: Vec<&str> = all().filter(|zone| zone.to_lowercase() == wanted).collect();
    if meant.is_empty() {
        meant = all().filter(city).collect();
    }
    if meant.is_empty() {
        meant = suggest::near(name, all());
    }
    meant.truncate(3);
    if meant.is_empty() {
        "it must be a name of the IANA database, as Europe/Berlin, America/New_York or UTC"
            .to_owned()
    } else {
        format!("did you mean {}?", meant.join(" or "))
    }
}
