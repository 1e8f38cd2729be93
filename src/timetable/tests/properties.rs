//! Properties that hold for every line, zone and time, tried with random lines from fixed seeds.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use fastrand::Rng;

use super::{at, next};
use crate::timetable::Timetable;

/// A random field, and the values that it stands for.
struct RandomField {
    text: String,
    values: BTreeSet<u32>,
    runs_to_end: bool,
}

fn field(random: &mut Rng, least: u32, most: u32) -> RandomField {
    let all = || least..=most;
    let mut field = RandomField {
        text: String::new(),
        values: BTreeSet::new(),
        runs_to_end: false,
    };
    for nth in 0..random.usize(1..4) {
        let from = random.u32(all());
        let to = random.u32(from..=most);
        let step = random.u32(1..=(most - least) / 2);
        let stepped = |from, to| (from..=to).step_by(step as usize);
        let text = match random.u8(..8) {
            0 | 1 => {
                field.values.extend(all());
                field.runs_to_end = true;
                "*".to_owned()
            }
            2 | 3 => {
                field.values.extend(stepped(least, most));
                field.runs_to_end = true;
                format!("*/{step}")
            }
            4 => {
                field.values.extend(stepped(from, most));
                field.runs_to_end = true;
                format!("{from}/{step}")
            }
            5 => {
                field.values.extend(from..=to);
                format!("{from}-{to}")
            }
            6 => {
                field.values.extend(stepped(from, to));
                format!("{from}-{to}/{step}")
            }
            _ => {
                field.values.insert(from);
                from.to_string()
            }
        };
        if nth > 0 {
            field.text.push(',');
        }
        field.text.push_str(&text);
    }
    field
}

/// `0`
fn zero() -> RandomField {
    RandomField {
        text: "0".to_owned(),
        values: BTreeSet::from([0]),
        runs_to_end: false,
    }
}

/// `*`
fn all(least: u32, most: u32) -> RandomField {
    RandomField {
        text: "*".to_owned(),
        values: (least..=most).collect(),
        runs_to_end: true,
    }
}

/// A random line and its fields, from which the tests compute when it must fire.
struct RandomLine {
    text: String,
    second: RandomField,
    fields: [RandomField; 5],
}

impl RandomLine {
    /// A line of five fields.
    fn new(random: &mut Rng) -> Self {
        let mut field = |least, most| field(random, least, most);
        let fields = [
            field(0, 59),
            field(0, 23),
            field(1, 31),
            field(1, 12),
            field(0, 6),
        ];
        let texts: Vec<&str> = fields.iter().map(|field| field.text.as_str()).collect();
        Self {
            text: texts.join(" "),
            second: zero(),
            fields,
        }
    }

    /// A line of six fields, every day, in the hours in which most clocks change.
    fn of_any_night(random: &mut Rng) -> Self {
        let mut line = Self::new(random);
        let first = random.u32(..4);
        let last = random.u32(first..4);
        line.fields[1] = RandomField {
            text: format!("{first}-{last}"),
            values: (first..=last).collect(),
            runs_to_end: false,
        };
        for (field, (least, most)) in line.fields[2..].iter_mut().zip([(1, 31), (1, 12), (0, 6)]) {
            *field = all(least, most);
        }
        line.second = field(random, 0, 59);
        let fields = std::iter::once(&line.second).chain(&line.fields);
        let texts: Vec<&str> = fields.map(|field| field.text.as_str()).collect();
        line.text = texts.join(" ");
        line
    }

    fn goes_by_elapsed_time(&self) -> bool {
        self.fields[0].runs_to_end || self.fields[1].values.len() == 24
    }

    fn fits(&self, wall: NaiveDateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.fields;
        let by_day = day.values.contains(&wall.day());
        let by_weekday = weekday
            .values
            .contains(&wall.weekday().num_days_from_sunday());
        let starred = [day, weekday]
            .iter()
            .any(|field| field.text.starts_with('*'));
        self.second.values.contains(&wall.second())
            && minute.values.contains(&wall.minute())
            && hour.values.contains(&wall.hour())
            && month.values.contains(&wall.month())
            && if starred {
                by_day && by_weekday
            } else {
                by_day || by_weekday
            }
    }
}

fn offset(zone: Tz, time: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix();
    TimeDelta::seconds(offset.local_minus_utc().into())
}

/// The times at which a line must fire, found by checking the rules at every `step`.
fn times_by_the_rules(
    line: &RandomLine,
    zone: Tz,
    step: TimeDelta,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let steps = |from: DateTime<Utc>, to: DateTime<Utc>, step: TimeDelta| {
        std::iter::successors(Some(from), move |time| Some(*time + step))
            .take_while(move |time| *time < to)
    };
    // The last clock change: its time, by how much, and the offset before.
    let mut change = (
        DateTime::<Utc>::MIN_UTC,
        TimeDelta::zero(),
        TimeDelta::zero(),
    );
    let days_before = from - TimeDelta::days(2);
    let mut before = offset(zone, days_before);
    let mut fired = Vec::new();
    let times = steps(days_before, from, TimeDelta::minutes(1)).chain(steps(from, to, step));
    for time in times {
        let now = offset(zone, time);
        if now != before {
            change = (time, now - before, before);
            before = now;
        }
        if time < from {
            continue;
        }
        let (changed, by, old) = change;
        let wall = (time + now).naive_utc();
        let after_gap = time < changed + by;
        let fires = if line.goes_by_elapsed_time() {
            line.fits(wall) || (after_gap && line.fits((time + old).naive_utc()))
        } else {
            let repeated = by < TimeDelta::zero() && time < changed - by;
            let skipped = time == changed
                && steps(time, changed + by, step).any(|time| line.fits((time + old).naive_utc()));
            (line.fits(wall) && !repeated) || skipped
        };
        if fires {
            fired.push(time);
        }
    }
    fired
}

/// The day before the clocks of a zone change, if they do in the 400 days from a random one.
fn random_change(random: &mut Rng, zone: Tz) -> Option<DateTime<Utc>> {
    let start = at("1973-01-01T00:00:00Z") + TimeDelta::days(random.i64(0..365 * 70));
    let days = (0..400).map(|day| start + TimeDelta::days(day));
    let before = |day: &DateTime<Utc>| *day + TimeDelta::days(1);
    days.into_iter()
        .find(|day| offset(zone, *day) != offset(zone, before(day)))
}

#[test]
fn around_every_change_a_line_fires_by_the_rules() {
    let mut random = Rng::with_seed(7);
    let (mut tried, mut times) = (0, 0);
    while tried < 150 {
        let zone = *random.choice(TZ_VARIANTS.iter()).unwrap();
        let Some(change) = random_change(&mut random, zone) else {
            continue;
        };
        let line = RandomLine::new(&mut random);
        let Ok(timetable) = Timetable::cron(&line.text, zone) else {
            continue;
        };
        tried += 1;
        let (from, to) = (change - TimeDelta::days(1), change + TimeDelta::days(2));
        let expected = times_by_the_rules(&line, zone, TimeDelta::minutes(1), from, to);
        times += expected.len();
        let just_before = from - TimeDelta::seconds(random.i64(1..60));
        let mut fired = next(&timetable, just_before, expected.len() + 1);
        fired.retain(|time| *time < to);
        assert_eq!(fired, expected, "{} in {zone} from {from}", line.text);
    }
    assert!(times > 10_000, "{times} times say little");
}

/// The second at which the clocks of a zone change, if they do in the 400 days from a random one.
fn random_change_to_the_second(random: &mut Rng, zone: Tz) -> Option<DateTime<Utc>> {
    let mut from = random_change(random, zone)?;
    let mut to = from + TimeDelta::days(1);
    let before = offset(zone, from);
    while to - from > TimeDelta::seconds(1) {
        let middle = from + TimeDelta::seconds((to - from).num_seconds() / 2);
        if offset(zone, middle) == before {
            from = middle;
        } else {
            to = middle;
        }
    }
    Some(to)
}

#[test]
fn from_any_moment_around_a_change_the_next_run_is_by_the_rules() {
    let mut random = Rng::with_seed(11);
    let (mut tried, mut gaps) = (0, 0);
    while tried < 150 {
        let zone = *random.choice(TZ_VARIANTS.iter()).unwrap();
        let Some(change) = random_change_to_the_second(&mut random, zone) else {
            continue;
        };
        let line = RandomLine::of_any_night(&mut random);
        if line.goes_by_elapsed_time() && random.u8(..8) > 0 {
            continue;
        }
        let Ok(timetable) = Timetable::cron(&line.text, zone) else {
            continue;
        };
        tried += 1;
        let (from, to) = (
            change - TimeDelta::seconds(3),
            change + TimeDelta::minutes(70),
        );
        let expected = times_by_the_rules(&line, zone, TimeDelta::seconds(1), from, to);
        gaps += usize::from(!line.goes_by_elapsed_time() && expected.contains(&change));
        for early in (-2000..=2000).step_by(250) {
            let after = change - TimeDelta::milliseconds(early);
            let next = timetable.next_after(after).filter(|next| *next < to);
            let expected = expected.iter().find(|time| **time > after);
            assert_eq!(
                next.as_ref(),
                expected,
                "{} in {zone} after {after}",
                line.text
            );
        }
    }
    assert!(gaps > 20, "{gaps} runs when a gap ends say little");
}

#[test]
fn next_is_always_later_and_nothing_lies_between() {
    let mut random = Rng::with_seed(8);
    for _ in 0..3000 {
        let zone = *random.choice(TZ_VARIANTS.iter()).unwrap();
        let mut line = RandomLine::new(&mut random).text;
        if random.bool() {
            line = format!("{} {line}", field(&mut random, 0, 59).text);
            if random.bool() {
                line = format!("{line} {}", field(&mut random, 1970, 2100).text);
            }
        }
        let Ok(timetable) = Timetable::cron(&line, zone) else {
            continue;
        };
        let after =
            at("1969-12-01T00:00:00Z") + TimeDelta::milliseconds(random.i64(0..4_135_000_000_000));
        let Some(later) = timetable.next_after(after) else {
            continue;
        };
        assert!(later > after, "{line} in {zone} after {after}");
        // From any time before that, the next run is the same.
        let gone = (later - after).num_milliseconds();
        let between = after + TimeDelta::milliseconds(random.i64(0..gone));
        assert_eq!(
            timetable.next_after(between),
            Some(later),
            "{line} in {zone} after {after}, and after {between}"
        );
    }
}

#[test]
fn no_text_is_a_panic_or_takes_long() {
    const PIECES: [&str; 36] = [
        "*",
        "?",
        "/",
        "-",
        ",",
        " ",
        "  ",
        "\t",
        "0",
        "1",
        "5",
        "7",
        "12",
        "29",
        "30",
        "31",
        "59",
        "60",
        "1970",
        "2100",
        "999999999999",
        "L",
        "W",
        "#",
        "@",
        "@daily",
        "mon",
        "SUN",
        "feb",
        "JANUARY",
        "é",
        "\u{1f955}",
        "\0",
        "=",
        "+",
        "* * * * ",
    ];
    let mut random = Rng::with_seed(9);
    let mut parsed = 0;
    for _ in 0..100_000 {
        let line: String = (0..random.usize(..16))
            .map(|_| *random.choice(PIECES.iter()).unwrap())
            .collect();
        let zone = *random.choice(TZ_VARIANTS.iter()).unwrap();
        if let Ok(timetable) = Timetable::cron(&line, zone) {
            parsed += 1;
            let after = at("2026-11-24T00:00:00Z")
                + TimeDelta::seconds(random.i64(-3_000_000_000..3_000_000_000));
            let later = timetable.next_after(after);
            assert!(
                later.is_none_or(|later| later > after),
                "{line:?} in {zone}"
            );
        }
    }
    assert!(parsed > 200, "only {parsed} lines mean anything");
}
