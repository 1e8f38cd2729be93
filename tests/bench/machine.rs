//! The machine, its software, and how busy other processes keep it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// How long the machine is watched while the benchmark is idle.
const WATCH: Duration = Duration::from_millis(500);

/// What a figure depends on besides the code.
pub fn describe() -> Value {
    json!({
        "cores": thread::available_parallelism().map_or(0, usize::from),
        "cpu": line_of("/proc/cpuinfo", "model name"),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// The versions of the compiler and of this crate.
pub fn versions() -> Vec<(String, String)> {
    let revision = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = !output("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    vec![
        ("rustc".to_owned(), output("rustc", &["--version"])),
        (
            "carrot-actors".to_owned(),
            format!(
                "{} ({revision}{})",
                env!("CARGO_PKG_VERSION"),
                if changed { ", changed" } else { "" }
            ),
        ),
    ]
}

/// The share of all cores that others use now, in per cent, including what a hypervisor takes.
pub fn others() -> f64 {
    let before = Ticks::now();
    thread::sleep(WATCH);
    let after = Ticks::now();
    100.0 * (after.busy - before.busy) / (after.all - before.all).max(1.0)
}

/// The processor time of all cores since boot.
struct Ticks {
    busy: f64,
    all: f64,
}

impl Ticks {
    fn now() -> Self {
        let text = read("/proc/stat");
        // user, nice, system, idle, iowait, irq, softirq, steal; proc(5)
        let ticks: Vec<f64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(|ticks| ticks.parse().unwrap_or_default())
            .collect();
        let all: f64 = ticks.iter().sum();
        Self {
            busy: all - ticks[3] - ticks[4],
            all,
        }
    }
}

fn line_of(file: &str, key: &str) -> String {
    let text = read(file);
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The one line that a program prints. Without it, a figure is still worth having.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
