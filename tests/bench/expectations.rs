//! The figures that are expected on four cores.

use crate::report::{Key, Report};

/// An expectation and its result.
pub struct Verdict {
    pub what: String,
    pub measured: f64,
    pub met: bool,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

/// The bound of a figure, on these databases, or on all if none is named.
struct Expectation {
    what: &'static str,
    databases: &'static [&'static str],
    /// Conditions that the figure is measured under.
    given: &'static [(&'static str, &'static str)],
    bound: Bound,
}

const EXPECTATIONS: [Expectation; 13] = [
    Expectation {
        what: "tracked of raw",
        databases: &["PostgreSQL"],
        given: &[("concurrency", "4"), ("loglevel", "WARNING")],
        bound: AtLeast(35.0),
    },
    Expectation {
        what: "tracked of raw",
        databases: &["SQLite"],
        given: &[("concurrency", "4"), ("loglevel", "WARNING")],
        bound: AtLeast(50.0),
    },
    Expectation {
        what: "publishing",
        databases: &[],
        given: &[("batch", "1000")],
        bound: AtLeast(25_000.0),
    },
    Expectation {
        what: "publish to start, p99",
        databases: &[],
        given: &[],
        bound: AtMost(10.0),
    },
    Expectation {
        what: "lone message to start, p99",
        databases: &[],
        given: &[("by", "another process")],
        bound: AtMost(200.0),
    },
    Expectation {
        what: "transaction to start, p95",
        databases: &["PostgreSQL"],
        given: &[],
        bound: AtMost(50.0),
    },
    // Half a second is the interval of the sweep.
    Expectation {
        what: "transaction to start, p95",
        databases: &["SQLite", "MariaDB"],
        given: &[],
        bound: AtMost(500.0),
    },
    // Otherwise the latency was measured at another rate.
    Expectation {
        what: "published at",
        databases: &[],
        given: &[],
        bound: AtLeast(990.0),
    },
    // 60 MB.
    Expectation {
        what: "service's peak memory",
        databases: &[],
        given: &[],
        bound: AtMost(57.2),
    },
    Expectation {
        what: "idle service's CPU",
        databases: &[],
        given: &[],
        bound: AtMost(1.0),
    },
    Expectation {
        what: "planned to delivered, p99",
        databases: &[],
        given: &[],
        bound: AtMost(100.0),
    },
    Expectation {
        what: "occurrences of those planned",
        databases: &[],
        given: &[],
        bound: AtLeast(99.0),
    },
    Expectation {
        what: "start with schedules",
        databases: &[],
        given: &[],
        bound: AtMost(2.0),
    },
];

/// A verdict on each expectation for each database, on the worst of its figures.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for expectation in &EXPECTATIONS {
        let mut worst: Vec<(&Key, f64)> = Vec::new();
        let of = report.figures().iter();
        for (key, readings) in of.filter(|(key, _)| expectation.is_of(key)) {
            let figure = (key, readings.median());
            let database = key.label("database");
            match worst
                .iter_mut()
                .find(|(key, _)| key.label("database") == database)
            {
                None => worst.push(figure),
                Some(known) if expectation.is_worse(figure.1, known.1) => *known = figure,
                Some(_) => {}
            }
        }
        let verdict = |(key, measured)| expectation.verdict(key, measured);
        verdicts.extend(worst.into_iter().map(verdict));
    }
    verdicts
}

impl Expectation {
    fn is_of(&self, key: &Key) -> bool {
        let on_it = key
            .label("database")
            .is_none_or(|database| self.databases.is_empty() || self.databases.contains(&database));
        let mut given = self.given.iter();
        let given = given.all(|(name, value)| key.label(name) == Some(value));
        key.what == self.what && on_it && given
    }

    const fn is_worse(&self, one: f64, other: f64) -> bool {
        match self.bound {
            AtLeast(_) => one < other,
            AtMost(_) => one > other,
        }
    }

    fn verdict(&self, key: &Key, measured: f64) -> Verdict {
        let (met, bound) = match self.bound {
            AtLeast(least) => (measured >= least, format!("≥ {least}")),
            AtMost(most) => (measured <= most, format!("≤ {most}")),
        };
        Verdict {
            what: format!("{key} {bound} {}", key.unit),
            measured,
            met,
        }
    }
}
