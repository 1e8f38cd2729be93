//! A server that is away is said to be so once, and once that it is back.

use std::fmt;
use std::time::Instant;

/// The log's view of one server.
#[derive(Debug)]
pub struct Outage {
    what: String,
    since: Option<Instant>,
}

impl Outage {
    /// Of a server that is well, so far.
    #[must_use]
    pub const fn of(what: String) -> Self {
        Self { what, since: None }
    }

    /// It did not answer as it should.
    pub fn goes_on(&mut self, error: &dyn fmt::Display) {
        if self.since.is_none() {
            log::error!(
                "{} is away: {error}; trying again until it is back",
                self.what
            );
            self.since = Some(Instant::now());
        } else {
            log::debug!("{} is still away: {error}", self.what);
        }
    }

    /// It answers.
    pub fn is_over(&mut self) {
        if let Some(since) = self.since.take() {
            let away = since.elapsed();
            log::warn!("{} is back after {:.1} s", self.what, away.as_secs_f64());
        }
    }
}
