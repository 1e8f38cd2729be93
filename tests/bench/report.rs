//! The figures: medians, on the terminal and as JSON.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::expectations;

/// The name of a figure, with the conditions that it was measured under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub what: Cow<'static, str>,
    pub unit: &'static str,
    labels: Vec<(&'static str, String)>,
}

impl Key {
    pub fn new(what: impl Into<Cow<'static, str>>, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            labels: Vec::new(),
        }
    }

    pub fn on(self, database: &str) -> Self {
        self.with("database", database)
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.labels.push((name, value.to_string()));
        self
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (name, value) in &self.labels {
            match *name {
                "database" => write!(f, ", {value}")?,
                name => write!(f, ", {name} {value}")?,
            }
        }
        Ok(())
    }
}

/// The readings of a figure.
#[derive(Debug, Default)]
pub struct Readings(Vec<f64>);

impl Readings {
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        }
    }

    fn range(&self) -> (f64, f64) {
        let of = |pick: fn(f64, f64) -> f64| self.0.iter().copied().reduce(pick);
        (
            of(f64::min).unwrap_or_default(),
            of(f64::max).unwrap_or_default(),
        )
    }
}

/// All figures.
#[derive(Default)]
pub struct Report {
    figures: Vec<(Key, Readings)>,
    /// What was not measured, and why.
    skipped: Vec<(String, String)>,
    versions: Vec<(String, String)>,
}

impl Report {
    /// Adds a reading.
    pub fn add(&mut self, key: Key, value: f64) {
        println!("  {key}: {} {}", shown(value), key.unit);
        let known = self.figures.iter().position(|(other, _)| *other == key);
        let index = known.unwrap_or_else(|| {
            self.figures.push((key, Readings::default()));
            self.figures.len() - 1
        });
        self.figures[index].1.0.push(value);
    }

    /// Records what is not measured, and why.
    pub fn skip(&mut self, what: &str, why: String) {
        println!("skipped: {what}: {why}");
        self.skipped.push((what.to_owned(), why));
    }

    /// Records a version.
    pub fn version(&mut self, of: &str, version: &str) {
        self.versions.push((of.to_owned(), version.to_owned()));
    }

    pub fn figures(&self) -> &[(Key, Readings)] {
        &self.figures
    }

    /// Prints everything.
    pub fn print(&self, machine: &Value) {
        println!("\nmachine: {machine}");
        for (of, version) in &self.versions {
            println!("{of}: {version}");
        }
        for (what, why) in &self.skipped {
            println!("skipped: {what}: {why}");
        }
        println!("\n{:>12}  {:>25}", "median", "(least to most)");
        for (key, readings) in &self.figures {
            let (least, most) = readings.range();
            println!(
                "{:>12}  {:>25}  {:12} {key}",
                shown(readings.median()),
                format!("({} to {})", shown(least), shown(most)),
                key.unit
            );
        }
        println!("\nexpected on 4 cores:");
        for verdict in expectations::verdicts(self) {
            println!(
                "  {} {}: {}",
                if verdict.met { "met   " } else { "MISSED" },
                verdict.what,
                shown(verdict.measured)
            );
        }
    }

    /// Writes everything as JSON.
    pub fn write(&self, path: &Path, machine: &Value, settings: &Value) {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|(key, readings)| {
                let labels: Map<String, Value> = key
                    .labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), json!(value)))
                    .collect();
                json!({
                    "what": key.what, "unit": key.unit, "labels": labels,
                    "median": readings.median(), "readings": readings.0,
                })
            })
            .collect();
        let verdicts: Vec<Value> = expectations::verdicts(self)
            .into_iter()
            .map(|verdict| {
                json!({"what": verdict.what, "measured": verdict.measured, "met": verdict.met})
            })
            .collect();
        let object = |pairs: &[(String, String)]| -> Map<String, Value> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect()
        };
        let all = json!({
            "at": chrono::Utc::now().to_rfc3339(),
            "machine": machine,
            "versions": object(&self.versions),
            "settings": settings,
            "figures": figures,
            "skipped": object(&self.skipped),
            "expected on 4 cores": verdicts,
        });
        fs::write(path, format!("{all:#}\n")).expect("a file");
    }
}

/// The value with its significant digits.
fn shown(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// The rate of `count` in `time`, per second.
pub fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
