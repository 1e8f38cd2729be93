//! One field of a cron line: `*`, values, ranges, steps, and lists of these.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Which field of a line it is: its name, its values, and the names of values.
pub(super) struct FieldKind {
    name: &'static str,
    range: RangeInclusive<u32>,
    /// The full names of the values, in order.
    names: &'static [&'static str],
    /// Whether a range may wrap around from the last value to the first.
    wraps: bool,
    /// Whether `?` is accepted as `*`.
    accepts_question_mark: bool,
}

const fn kind(name: &'static str, range: RangeInclusive<u32>) -> FieldKind {
    FieldKind {
        name,
        range,
        names: &[],
        wraps: false,
        accepts_question_mark: false,
    }
}

pub(super) const SECOND: FieldKind = kind("second", 0..=59);
pub(super) const MINUTE: FieldKind = kind("minute", 0..=59);
pub(super) const HOUR: FieldKind = kind("hour", 0..=23);
pub(super) const DAY: FieldKind = FieldKind {
    accepts_question_mark: true,
    ..kind("day of the month", 1..=31)
};
pub(super) const MONTH: FieldKind = FieldKind {
    names: &[
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
    ..kind("month", 1..=12)
};
/// 0 is Sunday, as is 7.
pub(super) const WEEKDAY: FieldKind = FieldKind {
    names: &[
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
    ],
    wraps: true,
    accepts_question_mark: true,
    ..kind("weekday", 0..=6)
};
/// The years that `cron_clock` knows.
pub(super) const YEAR: FieldKind = kind("year", 1970..=2100);

const SECOND_SUNDAY: u32 = 7;

/// The values of a field at which the line fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldValues {
    All,
    Some(BTreeSet<u32>),
}

impl FieldValues {
    /// The text of the field for `cron_clock`, with `offset` added to each value. Written as a range with a step
    /// where possible, since `cron_clock` is slow at long lists.
    pub(super) fn to_cron_clock(&self, offset: u32) -> String {
        let Self::Some(values) = self else {
            return "*".to_owned();
        };
        let values: Vec<u32> = values.iter().map(|value| value + offset).collect();
        match values.as_slice() {
            [least, next, .., most]
                if values.windows(2).all(|two| two[1] - two[0] == next - least) =>
            {
                format!("{least}-{most}/{}", next - least)
            }
            values => {
                let values: Vec<String> = values.iter().map(u32::to_string).collect();
                values.join(",")
            }
        }
    }
}

/// A parsed field.
#[derive(Debug)]
pub(super) struct CronField {
    pub(super) values: FieldValues,
    /// Whether it begins with `*` or `?`. Such a field of days counts as unrestricted.
    pub(super) starts_with_star: bool,
    /// Whether it has an item without an end: `*`, `*/n` or `a/n`.
    pub(super) runs_to_end: bool,
}

impl FieldKind {
    pub(super) fn parse(&self, text: &str) -> Result<CronField, String> {
        if self.is_star(text) {
            return Ok(CronField {
                values: FieldValues::All,
                starts_with_star: true,
                runs_to_end: true,
            });
        }
        let mut values = BTreeSet::new();
        let mut runs_to_end = false;
        for item in text.split(',') {
            let (base, step) = match item.split_once('/') {
                Some((base, step)) => (base, Some(self.step(item, step)?)),
                None => (item, None),
            };
            let open = self.is_star(base) || (step.is_some() && !base.contains('-'));
            let range = self.base(base, step.is_some())?;
            values.extend(range.into_iter().step_by(step.unwrap_or(1)));
            runs_to_end |= open;
        }
        let values = if values.len() == self.count() {
            FieldValues::All
        } else {
            FieldValues::Some(values)
        };
        Ok(CronField {
            values,
            starts_with_star: text.starts_with('*')
                || (self.accepts_question_mark && text.starts_with('?')),
            runs_to_end,
        })
    }

    fn is_star(&self, base: &str) -> bool {
        base == "*" || (base == "?" && self.accepts_question_mark)
    }

    /// The values of an item, before its step is applied, in order.
    fn base(&self, base: &str, has_step: bool) -> Result<Vec<u32>, String> {
        let (least, most) = self.range.clone().into_inner();
        if self.is_star(base) {
            return Ok((least..=most).collect());
        }
        let Some((from, to)) = base.split_once('-') else {
            let from = self.normalized(self.value(base)?);
            let to = if has_step { most } else { from };
            return Ok((from..=to).collect());
        };
        let (mut first, last) = (self.value(from)?, self.value(to)?);
        if first > last {
            first = self.normalized(first);
        }
        if first <= last {
            return Ok((first..=last).map(|value| self.normalized(value)).collect());
        }
        if !self.wraps {
            return Err(format!(
                "{}: {from}-{to} goes backwards; to wrap around, write {from}-{most},{least}-{to}",
                self.name
            ));
        }
        Ok((first..=most).chain(least..=last).collect())
    }

    /// The value with 7, the other number of Sunday, replaced by 0.
    fn normalized(&self, value: u32) -> u32 {
        if self.wraps && value == SECOND_SUNDAY {
            0
        } else {
            value
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if is_number(text) {
            return text
                .parse()
                .ok()
                .filter(|value| self.accepted().contains(value))
                .ok_or_else(|| self.unfit_error(text));
        }
        let typed = text.to_ascii_lowercase();
        let named = (*self.range.start()..)
            .zip(self.names)
            .find(|(_, name)| typed.len() >= 3 && name.starts_with(&typed));
        named
            .map(|(value, _)| value)
            .ok_or_else(|| self.unfit_error(text))
    }

    /// The numbers that are accepted in a line.
    fn accepted(&self) -> RangeInclusive<u32> {
        let (least, most) = self.range.clone().into_inner();
        least..=if self.wraps { SECOND_SUNDAY } else { most }
    }

    fn unfit_error(&self, text: &str) -> String {
        let name = self.name;
        if text.is_empty() {
            return format!("{name}: a value is missing");
        }
        if text == "?" {
            return format!("{name}: ? stands for the day of the month or the weekday only; use *");
        }
        let letters = text.trim_matches(|c: char| c.is_ascii_digit());
        if text.contains('#') || ["L", "W", "LW"].contains(&letters.to_uppercase().as_str()) {
            return format!(
                "{name}: {text:?} is not supported: there is no L (the last day), W (the nearest working day) or # \
                 (the nth weekday); list the days that may fit, and check the date in the task"
            );
        }
        let (least, most) = self.accepted().into_inner();
        let names = match self.names {
            [first, .., last] => format!(", nor a name from {first} to {last}"),
            _ => String::new(),
        };
        format!("{name}: {text:?} is not one of {least} to {most}{names}")
    }

    fn step(&self, item: &str, step: &str) -> Result<usize, String> {
        let name = self.name;
        if !is_number(step) {
            return Err(format!("{name}: {item:?} has a step that is not a number"));
        }
        match step.parse() {
            Ok(0) => Err(format!(
                "{name}: {item:?} has a step of 0; it must be 1 or more"
            )),
            Ok(step) if step <= self.count() => Ok(step),
            _ => Err(format!(
                "{name}: {item:?} has a step that is longer than the field, so it would fire at the first \
                 value only; use an interval for a longer time between runs"
            )),
        }
    }

    fn count(&self) -> usize {
        self.range.clone().count()
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
