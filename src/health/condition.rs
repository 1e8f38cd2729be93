//! Decides from the probes of one server whether it is away, silent or back. Has neither a clock nor a log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server that has not answered a request for so long is reported as silent.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// An outage is over when all probes have been healthy for so long: a server that is being restarted or
/// repaired may answer for a moment in between.
const RECOVERY_TIME: Duration = Duration::from_secs(1);

/// What is known from one probe.
#[derive(Debug)]
struct ProbeState {
    name: String,
    /// When the request was sent that it waits for.
    asked: Option<Instant>,
    /// Whether it has waited for longer than [`SILENCE_TIMEOUT`].
    unanswered: bool,
    /// Whether its last request failed.
    failing: bool,
    /// When its connection was last known to be good.
    healthy: Instant,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Since when no probe has been failing or unanswered.
    healthy_since: Option<Instant>,
    /// When a probe last failed; `None` if the server was only silent.
    failed: Option<Instant>,
}

/// A change that is logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HealthEvent {
    /// A request to a server that had been healthy has failed.
    Away,
    /// A request has been unanswered for [`SILENCE_TIMEOUT`].
    Silent {
        /// The probe's name.
        probe: String,
    },
    /// All probes are healthy again.
    Back {
        /// How long the outage lasted.
        after: Duration,
        /// Whether a probe failed, rather than only waited.
        failed: bool,
    },
}

/// The condition of one server.
#[derive(Debug, Default)]
pub(super) struct Condition {
    probes: BTreeMap<u64, ProbeState>,
    outage: Option<Outage>,
    /// When a probe last failed, in an outage that is over.
    failed: Option<Instant>,
    ticked: Option<Instant>,
}

impl Condition {
    pub(super) fn add_probe(&mut self, id: u64, name: String, now: Instant) {
        let probe = ProbeState {
            name,
            asked: None,
            unanswered: false,
            failing: false,
            healthy: now,
        };
        self.probes.insert(id, probe);
    }

    pub(super) fn remove_probe(&mut self, id: u64, now: Instant) {
        self.probes.remove(&id);
        self.update_recovery(now);
    }

    /// The probe sends a request, or repeats one that is not answered.
    pub(super) fn started(&mut self, id: u64, now: Instant) {
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.asked.get_or_insert(now);
        }
    }

    /// The probe's connection was good at `then`.
    pub(super) fn healthy_at(&mut self, id: u64, then: Instant) {
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.healthy = probe.healthy.max(then);
        }
    }

    /// The probe got an answer, which may be an error of the server's.
    pub(super) fn answered(&mut self, id: u64, now: Instant) {
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.healthy = probe.asked.take().unwrap_or(probe.healthy);
            probe.unanswered = false;
        }
        self.update_recovery(now);
    }

    /// The probe's request succeeded.
    pub(super) fn succeeded(&mut self, id: u64, now: Instant) {
        if let Some(probe) = self.probes.get_mut(&id) {
            probe.failing = false;
        }
        self.answered(id, now);
    }

    /// The probe's request failed.
    pub(super) fn failed(&mut self, id: u64, now: Instant) -> Option<HealthEvent> {
        let probe = self.probes.get_mut(&id)?;
        let asked = probe.asked.take();
        probe.unanswered = false;
        if self.outage.is_none() && self.failed.is_some_and(|failed| probe.healthy <= failed) {
            // Its connection died in that outage, which is noticed only now. The failure of a new connection is
            // reported.
            probe.healthy = now;
            return None;
        }
        probe.failing = true;
        if let Some(outage) = &mut self.outage {
            outage.failed = Some(now);
            outage.healthy_since = None;
            return None;
        }
        self.outage = Some(Outage {
            since: asked.unwrap_or(now),
            healthy_since: None,
            failed: Some(now),
        });
        Some(HealthEvent::Away)
    }

    /// Looks for silence and recovery; to be called about once a second.
    pub(super) fn tick(&mut self, now: Instant) -> Option<HealthEvent> {
        let before = self.ticked.replace(now);
        // If this process itself was suspended, an answer may have arrived and be unread.
        if before.is_none_or(|before| now.saturating_duration_since(before) < SILENCE_TIMEOUT)
            && let Some(event) = self.find_silence(now)
        {
            return Some(event);
        }
        self.update_recovery(now);
        let outage = self.outage.as_ref()?;
        let healthy_since = outage.healthy_since?;
        if now.saturating_duration_since(healthy_since) < RECOVERY_TIME {
            return None;
        }
        let event = HealthEvent::Back {
            after: healthy_since.saturating_duration_since(outage.since),
            failed: outage.failed.is_some(),
        };
        self.failed = outage.failed.or(self.failed);
        self.outage = None;
        Some(event)
    }

    /// Marks the probes that have waited for too long. The first one is an event, unless there is an outage.
    fn find_silence(&mut self, now: Instant) -> Option<HealthEvent> {
        let mut first = None;
        for probe in self.probes.values_mut() {
            if let Some(asked) = probe.asked
                && now.saturating_duration_since(asked) >= SILENCE_TIMEOUT
            {
                probe.unanswered = true;
                first.get_or_insert((probe.name.clone(), asked));
            }
        }
        let (probe, since) = first.filter(|_| self.outage.is_none())?;
        self.outage = Some(Outage {
            since,
            healthy_since: None,
            failed: None,
        });
        Some(HealthEvent::Silent { probe })
    }

    /// Records whether all probes are healthy.
    fn update_recovery(&mut self, now: Instant) {
        let in_trouble = self
            .probes
            .values()
            .any(|probe| probe.failing || probe.unanswered);
        if let Some(outage) = &mut self.outage {
            if in_trouble {
                outage.healthy_since = None;
            } else {
                outage.healthy_since.get_or_insert(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: u64 = 1;
    const SWEEP: u64 = 2;

    /// A server with two probes, and a clock that is set by hand.
    struct TwoProbes {
        condition: Condition,
        start: Instant,
    }

    impl TwoProbes {
        fn begin() -> Self {
            let start = Instant::now();
            let mut condition = Condition::default();
            condition.add_probe(LEDGER, "the ledger".to_owned(), start);
            condition.add_probe(SWEEP, "the sweep".to_owned(), start);
            Self { condition, start }
        }

        /// The time so many tenths of a second after the start.
        fn at(&self, tenths: u64) -> Instant {
            self.start + Duration::from_millis(100 * tenths)
        }

        fn ask(&mut self, id: u64, tenths: u64) {
            self.condition.started(id, self.at(tenths));
        }

        fn serve(&mut self, id: u64, tenths: u64) {
            self.condition.succeeded(id, self.at(tenths));
        }

        fn fail(&mut self, id: u64, tenths: u64) -> Option<HealthEvent> {
            self.condition.failed(id, self.at(tenths))
        }

        /// All events of the ticks in that range.
        fn ticks(&mut self, tenths: std::ops::Range<u64>) -> Vec<HealthEvent> {
            tenths
                .step_by(10)
                .filter_map(|tenth| self.condition.tick(self.at(tenth)))
                .collect()
        }
    }

    fn silent() -> HealthEvent {
        HealthEvent::Silent {
            probe: "the ledger".to_owned(),
        }
    }

    fn back(tenths: u64, failed: bool) -> HealthEvent {
        HealthEvent::Back {
            after: Duration::from_millis(100 * tenths),
            failed,
        }
    }

    #[test]
    fn an_outage_that_several_probes_see_is_reported_once_and_over_when_all_are_healthy() {
        let mut server = TwoProbes::begin();
        assert_eq!(server.fail(LEDGER, 10), Some(HealthEvent::Away));
        assert_eq!(server.fail(SWEEP, 11), None);
        assert_eq!(server.fail(LEDGER, 12), None);
        server.serve(LEDGER, 40);
        assert_eq!(server.ticks(40..80), []);
        server.serve(SWEEP, 80);
        assert_eq!(server.ticks(85..130), [back(70, true)]);
    }

    #[test]
    fn a_server_that_answers_for_a_moment_is_not_back() {
        let mut server = TwoProbes::begin();
        assert_eq!(server.fail(LEDGER, 10), Some(HealthEvent::Away));
        server.serve(LEDGER, 20);
        assert_eq!(server.fail(LEDGER, 25), None);
        assert_eq!(server.ticks(25..100), []);
        server.serve(LEDGER, 100);
        assert_eq!(server.ticks(100..130), [back(90, true)]);
    }

    #[test]
    fn a_connection_that_is_older_than_an_outage_fails_without_a_report() {
        let mut server = TwoProbes::begin();
        server.serve(SWEEP, 5);
        server.fail(LEDGER, 10);
        server.serve(LEDGER, 20);
        assert_eq!(server.ticks(20..50), [back(10, true)]);
        assert_eq!(server.fail(SWEEP, 600), None);
        assert_eq!(server.ticks(600..650), []);
        // A new connection fails for a reason of its own.
        assert_eq!(server.fail(SWEEP, 651), Some(HealthEvent::Away));
    }

    #[test]
    fn a_connection_that_was_good_after_an_outage_fails_in_a_new_one() {
        let mut server = TwoProbes::begin();
        server.fail(LEDGER, 10);
        server.ask(SWEEP, 15);
        server.ask(LEDGER, 19);
        server.serve(LEDGER, 20);
        server.serve(SWEEP, 21);
        assert_eq!(server.ticks(21..50), [back(10, true)]);
        assert_eq!(server.fail(SWEEP, 50), Some(HealthEvent::Away));
        assert_eq!(server.fail(LEDGER, 50), None);
    }

    #[test]
    fn an_answer_to_a_request_from_before_a_failure_does_not_prove_a_new_connection() {
        let mut server = TwoProbes::begin();
        server.ask(SWEEP, 5);
        server.fail(LEDGER, 10);
        server.serve(LEDGER, 20);
        server.serve(SWEEP, 21);
        server.ticks(21..60);
        assert_eq!(server.fail(SWEEP, 600), None);
    }

    #[test]
    fn silence_is_reported_once_and_over_when_all_are_answered() {
        let mut server = TwoProbes::begin();
        server.ask(LEDGER, 0);
        server.ask(SWEEP, 10);
        assert_eq!(server.ticks(0..200), [silent()]);
        server.serve(LEDGER, 200);
        assert_eq!(server.ticks(200..300), []);
        server.serve(SWEEP, 300);
        assert_eq!(server.ticks(300..330), [back(300, false)]);
    }

    #[test]
    fn a_probe_that_waits_for_a_lock_is_one_silence_while_others_are_answered() {
        let mut server = TwoProbes::begin();
        server.ask(LEDGER, 0);
        for second in 0..30 {
            server.ask(SWEEP, second * 10);
            server.serve(SWEEP, second * 10 + 1);
            let said = server.ticks(second * 10 + 2..second * 10 + 3);
            let expected = (second == 5).then(silent);
            assert_eq!(said, Vec::from_iter(expected), "in second {second}");
        }
        server.serve(LEDGER, 300);
        assert_eq!(server.ticks(300..330), [back(300, false)]);
    }

    #[test]
    fn a_probe_that_repeats_its_request_has_no_answer() {
        let mut server = TwoProbes::begin();
        (0..200)
            .step_by(20)
            .for_each(|tenths| server.ask(LEDGER, tenths));
        assert_eq!(server.ticks(0..200), [silent()]);
        server.serve(LEDGER, 200);
        assert_eq!(server.ticks(200..230), [back(200, false)]);
    }

    #[test]
    fn a_silent_server_that_is_killed_is_in_the_same_outage() {
        let mut server = TwoProbes::begin();
        server.ask(LEDGER, 0);
        assert_eq!(server.ticks(0..100).len(), 1);
        assert_eq!(server.fail(LEDGER, 100), None);
        assert_eq!(server.ticks(100..200), []);
        server.ask(LEDGER, 200);
        server.serve(LEDGER, 201);
        assert_eq!(server.ticks(201..240), [back(201, true)]);
    }

    #[test]
    fn a_process_that_was_suspended_reports_no_silence() {
        let mut server = TwoProbes::begin();
        assert_eq!(server.ticks(0..20), []);
        server.ask(LEDGER, 20);
        assert_eq!(server.ticks(600..601), []);
        server.serve(LEDGER, 601);
        assert_eq!(server.ticks(610..700), []);
    }

    #[test]
    fn a_removed_probe_waits_for_nothing() {
        let mut server = TwoProbes::begin();
        server.fail(SWEEP, 10);
        server.condition.remove_probe(SWEEP, server.at(20));
        assert_eq!(server.ticks(20..50), [back(10, true)]);
    }
}
