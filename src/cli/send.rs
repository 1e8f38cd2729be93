//! `carrot-actors send`.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::args::SendArgs;
use super::exit::Exit;
use super::failure::CommandFailure;
use super::output::say;
use super::publish::publish;
use super::typed;
use crate::config::Config;
use crate::message::{Message, Payload};
use crate::publish::Outbox;
use crate::store::{self, MOST_DELAY};
use crate::timetable;

pub(super) fn send(args: &SendArgs, config: Arc<Config>) -> Result<Exit, CommandFailure> {
    let message = message(args, &config)?;
    let when = PublishTime::read(args)?;
    let store = store::open_for(&config)?;
    let mut session = store::session(store.as_ref())?;
    let due = match when {
        PublishTime::Now => return publish(&message, session.as_mut(), config, &message.key),
        // By the database's clock, which also decides when the message is due.
        PublishTime::After(delay) => session
            .now()?
            .checked_add_signed(delay)
            .ok_or_else(|| CommandFailure::new(Exit::Data, "--delay goes beyond the calendar"))?,
        PublishTime::At(due) => due,
    };
    Outbox::record_due(session.as_mut(), &[(&message, due)]).map_err(|(_, error)| error)?;
    say(&message.key)?;
    Ok(Exit::Ok)
}

fn message(args: &SendArgs, config: &Config) -> Result<Message, CommandFailure> {
    let queue = typed::queue(args.queue.as_ref(), config);
    typed::check_name("TASK", &args.task)?;
    typed::check_name("--queue", &queue)?;
    let arguments = Payload {
        args: typed::positional(args.args.as_deref(), &args.texts)?,
        kwargs: typed::named(args.kwargs.as_deref())?,
    };
    Ok(Message {
        priority: args.priority,
        ..Message::new(&args.task, arguments, queue)
    })
}

/// When a message is to be published.
#[derive(Debug, PartialEq, Eq)]
enum PublishTime {
    Now,
    After(TimeDelta),
    At(DateTime<Utc>),
}

impl PublishTime {
    fn read(args: &SendArgs) -> Result<Self, CommandFailure> {
        let read = match (&args.delay, &args.at) {
            (Some(delay), _) => after(delay).map(Self::After),
            (None, Some(time)) => at(time, args.timezone.as_deref()).map(Self::At),
            (None, None) => Ok(Self::Now),
        };
        read.map_err(|problem| CommandFailure::new(Exit::Data, problem))
    }
}

fn after(delay: &str) -> Result<TimeDelta, String> {
    let parsed = humantime::parse_duration(delay).ok();
    parsed
        .filter(|delay| *delay <= MOST_DELAY)
        .and_then(|delay| TimeDelta::from_std(delay).ok())
        .ok_or_else(|| {
            format!("--delay must be a duration of 100 years at most, such as 30s, 5m or 1h30m, not {delay:?}")
        })
}

fn at(time: &str, zone: Option<&str>) -> Result<DateTime<Utc>, String> {
    const LOCAL: [&str; 4] = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    let expected = |problem: &str| {
        format!(
            "--at {time:?} {problem}: it must be a time as 2027-01-31T18:00:00Z, with its offset, or, with \
             --timezone Europe/Berlin, as 2027-01-31T18:00"
        )
    };
    let moment = match DateTime::parse_from_rfc3339(time) {
        Ok(_) if zone.is_some() => return Err(expected("has an offset and a time zone")),
        Ok(time) => time.to_utc(),
        Err(_) => {
            let local = LOCAL
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(time, format).ok())
                .ok_or_else(|| expected("is none"))?;
            let zone = zone.ok_or_else(|| expected("has no time zone"))?;
            let zone = timetable::zone(zone).map_err(|error| format!("--timezone: {error}"))?;
            timetable::wall_to_utc(zone, local).ok_or_else(|| expected("is none"))?
        }
    };
    let years = 1970..=9999;
    if !years.contains(&chrono::Datelike::year(&moment)) {
        return Err(expected("is in no year from 1970 to 9999"));
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }

    #[test]
    fn a_time_has_an_offset_or_a_zone() {
        let berlin = Some("Europe/Berlin");
        let evening = Ok(utc("2027-01-31T17:00:00Z"));
        assert_eq!(at("2027-01-31T18:00:00+01:00", None), evening);
        assert_eq!(at("2027-01-31T17:00:00Z", None), evening);
        assert_eq!(at("2027-01-31T18:00", berlin), evening);
        assert_eq!(at("2027-01-31 18:00:00", berlin), evening);
        let refusal = |time, zone| at(time, zone).unwrap_err();
        assert!(refusal("2027-01-31T18:00", None).contains("has no time zone: it must be"));
        assert!(refusal("2027-01-31T18:00:00Z", berlin).contains("an offset and a time zone"));
        assert!(refusal("tomorrow", berlin).contains("is none"));
        assert!(refusal("2027-02-31T18:00", berlin).contains("is none"));
        assert!(refusal("2027-01-31 18:00", Some("Europe/Berln")).contains("Europe/Berlin?"));
        assert!(refusal("0999-01-31T18:00:00Z", None).contains("is in no year from"));
    }

    #[test]
    fn a_repeated_time_is_the_first_one_and_a_skipped_time_the_end_of_the_gap() {
        let berlin = Some("Europe/Berlin");
        assert_eq!(
            at("2026-03-29 02:30", berlin),
            Ok(utc("2026-03-29T01:00:00Z"))
        );
        assert_eq!(
            at("2026-10-25 02:30", berlin),
            Ok(utc("2026-10-25T00:30:00Z"))
        );
    }

    #[test]
    fn a_delay_is_a_duration_of_at_most_100_years() {
        assert_eq!(after("1h30m"), Ok(TimeDelta::minutes(90)));
        assert_eq!(after("250ms"), Ok(TimeDelta::milliseconds(250)));
        for wrong in ["30", "-5s", "", "soon", "101y", "999999999999y"] {
            assert!(
                after(wrong).unwrap_err().contains("--delay must be"),
                "{wrong}"
            );
        }
    }
}
