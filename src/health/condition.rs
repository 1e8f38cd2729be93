//! What is known of one server from those who ask it, without a clock or a log of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So long a server may take for one answer before that is said.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// So long all must have been served before an outage is over: a server that is being restarted or
/// repaired may well serve for a moment in between.
const SETTLED: Duration = Duration::from_secs(1);

/// One of those who ask.
#[derive(Debug)]
struct View {
    name: String,
    /// It waits for an answer since then.
    asked: Option<Instant>,
    /// It has waited for longer than [`SILENCE`].
    unanswered: bool,
    /// It was not served the last time.
    failing: bool,
    /// Its connection was known to be good then.
    served: Instant,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Nobody has been failing or unanswered since then.
    well_since: Option<Instant>,
    /// The last time that somebody failed; else the server was silent only.
    failed: Option<Instant>,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody was not served, by a server that had been well.
    Away,
    /// Somebody waits for an answer for long.
    Silent {
        /// Who.
        client: String,
    },
    /// Everybody is served.
    Back {
        /// How long it took.
        after: Duration,
        /// Whether somebody failed, and did not just wait.
        failed: bool,
    },
}

/// The condition of one server.
#[derive(Debug, Default)]
pub(super) struct Condition {
    views: BTreeMap<u64, View>,
    outage: Option<Outage>,
    /// When somebody failed for the last time in an outage that is over.
    failed: Option<Instant>,
    ticked: Option<Instant>,
}

impl Condition {
    pub(super) fn join(&mut self, client: u64, name: String, now: Instant) {
        let view = View {
            name,
            asked: None,
            unanswered: false,
            failing: false,
            served: now,
        };
        self.views.insert(client, view);
    }

    pub(super) fn leave(&mut self, client: u64, now: Instant) {
        self.views.remove(&client);
        self.settle(now);
    }

    /// The client asks for something, or once more for what it has not got.
    pub(super) fn ask(&mut self, client: u64, now: Instant) {
        if let Some(view) = self.views.get_mut(&client) {
            view.asked.get_or_insert(now);
        }
    }

    /// The connection of the client was good at `then`.
    pub(super) fn alive(&mut self, client: u64, then: Instant) {
        if let Some(view) = self.views.get_mut(&client) {
            view.served = view.served.max(then);
        }
    }

    /// The client got an answer, if not yet what it wants.
    pub(super) fn answer(&mut self, client: u64, now: Instant) {
        if let Some(view) = self.views.get_mut(&client) {
            view.served = view.asked.take().unwrap_or(view.served);
            view.unanswered = false;
        }
        self.settle(now);
    }

    /// The client got what it wants.
    pub(super) fn serve(&mut self, client: u64, now: Instant) {
        if let Some(view) = self.views.get_mut(&client) {
            view.failing = false;
        }
        self.answer(client, now);
    }

    /// The client did not get what it wants.
    pub(super) fn fail(&mut self, client: u64, now: Instant) -> Option<News> {
        let view = self.views.get_mut(&client)?;
        let asked = view.asked.take();
        view.unanswered = false;
        if self.outage.is_none() && self.failed.is_some_and(|failed| view.served <= failed) {
            // Its connection is from before: it died in that outage, and that is only noticed now.
            // Should a new one fail as well, that is news.
            view.served = now;
            return None;
        }
        view.failing = true;
        if let Some(outage) = &mut self.outage {
            outage.failed = Some(now);
            outage.well_since = None;
            return None;
        }
        self.outage = Some(Outage {
            since: asked.unwrap_or(now),
            well_since: None,
            failed: Some(now),
        });
        Some(News::Away)
    }

    /// To be called every second or so.
    pub(super) fn tick(&mut self, now: Instant) -> Option<News> {
        let before = self.ticked.replace(now);
        // Where this process stood still itself, an answer may be there and unread.
        if before.is_none_or(|before| now.saturating_duration_since(before) < SILENCE)
            && let Some(news) = self.look_for_silence(now)
        {
            return Some(news);
        }
        self.settle(now);
        let outage = self.outage.as_ref()?;
        let well_since = outage.well_since?;
        if now.saturating_duration_since(well_since) < SETTLED {
            return None;
        }
        let news = News::Back {
            after: well_since.saturating_duration_since(outage.since),
            failed: outage.failed.is_some(),
        };
        self.failed = outage.failed.or(self.failed);
        self.outage = None;
        Some(news)
    }

    /// Notes who waits for long; the first one is news unless there is an outage.
    fn look_for_silence(&mut self, now: Instant) -> Option<News> {
        let mut first = None;
        for view in self.views.values_mut() {
            if let Some(asked) = view.asked
                && now.saturating_duration_since(asked) >= SILENCE
            {
                view.unanswered = true;
                first.get_or_insert((view.name.clone(), asked));
            }
        }
        let (client, since) = first.filter(|_| self.outage.is_none())?;
        self.outage = Some(Outage {
            since,
            well_since: None,
            failed: None,
        });
        Some(News::Silent { client })
    }

    /// Notes whether everybody is served.
    fn settle(&mut self, now: Instant) {
        let in_trouble = self
            .views
            .values()
            .any(|view| view.failing || view.unanswered);
        if let Some(outage) = &mut self.outage {
            if in_trouble {
                outage.well_since = None;
            } else {
                outage.well_since.get_or_insert(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: u64 = 1;
    const SWEEP: u64 = 2;

    /// A server that is asked by two, and a clock that is set by hand.
    struct Story {
        condition: Condition,
        start: Instant,
    }

    impl Story {
        fn begin() -> Self {
            let start = Instant::now();
            let mut condition = Condition::default();
            condition.join(LEDGER, "the ledger".to_owned(), start);
            condition.join(SWEEP, "the sweep".to_owned(), start);
            Self { condition, start }
        }

        /// So many tenths of a second after the beginning.
        fn at(&self, tenths: u64) -> Instant {
            self.start + Duration::from_millis(100 * tenths)
        }

        fn ask(&mut self, client: u64, tenths: u64) {
            self.condition.ask(client, self.at(tenths));
        }

        fn serve(&mut self, client: u64, tenths: u64) {
            self.condition.serve(client, self.at(tenths));
        }

        fn fail(&mut self, client: u64, tenths: u64) -> Option<News> {
            self.condition.fail(client, self.at(tenths))
        }

        /// All that is said at the ticks of a time.
        fn ticks(&mut self, tenths: std::ops::Range<u64>) -> Vec<News> {
            tenths
                .step_by(10)
                .filter_map(|tenth| self.condition.tick(self.at(tenth)))
                .collect()
        }
    }

    fn silent() -> News {
        News::Silent {
            client: "the ledger".to_owned(),
        }
    }

    fn back(tenths: u64, failed: bool) -> News {
        News::Back {
            after: Duration::from_millis(100 * tenths),
            failed,
        }
    }

    #[test]
    fn an_outage_that_several_meet_is_said_once_and_over_when_all_are_served() {
        let mut story = Story::begin();
        assert_eq!(story.fail(LEDGER, 10), Some(News::Away));
        assert_eq!(story.fail(SWEEP, 11), None);
        assert_eq!(story.fail(LEDGER, 12), None);
        story.serve(LEDGER, 40);
        assert_eq!(story.ticks(40..80), []);
        story.serve(SWEEP, 80);
        assert_eq!(story.ticks(85..130), [back(70, true)]);
    }

    #[test]
    fn a_server_that_serves_for_a_moment_is_not_back() {
        let mut story = Story::begin();
        assert_eq!(story.fail(LEDGER, 10), Some(News::Away));
        story.serve(LEDGER, 20);
        assert_eq!(story.fail(LEDGER, 25), None);
        assert_eq!(story.ticks(25..100), []);
        story.serve(LEDGER, 100);
        assert_eq!(story.ticks(100..130), [back(90, true)]);
    }

    #[test]
    fn a_connection_that_is_older_than_an_outage_fails_without_a_word() {
        let mut story = Story::begin();
        story.serve(SWEEP, 5);
        story.fail(LEDGER, 10);
        story.serve(LEDGER, 20);
        assert_eq!(story.ticks(20..50), [back(10, true)]);
        assert_eq!(story.fail(SWEEP, 600), None);
        assert_eq!(story.ticks(600..650), []);
        // A new one fails for a reason of its own.
        assert_eq!(story.fail(SWEEP, 651), Some(News::Away));
    }

    #[test]
    fn a_connection_that_was_good_after_an_outage_fails_in_a_new_one() {
        let mut story = Story::begin();
        story.fail(LEDGER, 10);
        story.ask(SWEEP, 15);
        story.ask(LEDGER, 19);
        story.serve(LEDGER, 20);
        story.serve(SWEEP, 21);
        assert_eq!(story.ticks(21..50), [back(10, true)]);
        assert_eq!(story.fail(SWEEP, 50), Some(News::Away));
        assert_eq!(story.fail(LEDGER, 50), None);
    }

    #[test]
    fn what_was_asked_before_a_failure_vouches_for_nothing_after() {
        let mut story = Story::begin();
        story.ask(SWEEP, 5);
        story.fail(LEDGER, 10);
        story.serve(LEDGER, 20);
        story.serve(SWEEP, 21);
        story.ticks(21..60);
        assert_eq!(story.fail(SWEEP, 600), None);
    }

    #[test]
    fn silence_is_said_once_and_over_when_it_is_answered() {
        let mut story = Story::begin();
        story.ask(LEDGER, 0);
        story.ask(SWEEP, 10);
        assert_eq!(story.ticks(0..200), [silent()]);
        story.serve(LEDGER, 200);
        assert_eq!(story.ticks(200..300), []);
        story.serve(SWEEP, 300);
        assert_eq!(story.ticks(300..330), [back(300, false)]);
    }

    #[test]
    fn one_who_waits_for_a_lock_is_one_silence_while_others_are_served() {
        let mut story = Story::begin();
        story.ask(LEDGER, 0);
        for second in 0..30 {
            story.ask(SWEEP, second * 10);
            story.serve(SWEEP, second * 10 + 1);
            let said = story.ticks(second * 10 + 2..second * 10 + 3);
            let expected = (second == 5).then(silent);
            assert_eq!(said, Vec::from_iter(expected), "in second {second}");
        }
        story.serve(LEDGER, 300);
        assert_eq!(story.ticks(300..330), [back(300, false)]);
    }

    #[test]
    fn who_must_ask_again_and_again_has_no_answer() {
        let mut story = Story::begin();
        (0..200)
            .step_by(20)
            .for_each(|tenths| story.ask(LEDGER, tenths));
        assert_eq!(story.ticks(0..200), [silent()]);
        story.serve(LEDGER, 200);
        assert_eq!(story.ticks(200..230), [back(200, false)]);
    }

    #[test]
    fn a_silent_server_that_is_killed_is_in_the_same_outage() {
        let mut story = Story::begin();
        story.ask(LEDGER, 0);
        assert_eq!(story.ticks(0..100).len(), 1);
        assert_eq!(story.fail(LEDGER, 100), None);
        assert_eq!(story.ticks(100..200), []);
        story.ask(LEDGER, 200);
        story.serve(LEDGER, 201);
        assert_eq!(story.ticks(201..240), [back(201, true)]);
    }

    #[test]
    fn a_process_that_stood_still_blames_no_server() {
        let mut story = Story::begin();
        assert_eq!(story.ticks(0..20), []);
        story.ask(LEDGER, 20);
        assert_eq!(story.ticks(600..601), []);
        story.serve(LEDGER, 601);
        assert_eq!(story.ticks(610..700), []);
    }

    #[test]
    fn who_has_left_waits_for_nothing() {
        let mut story = Story::begin();
        story.fail(SWEEP, 10);
        story.condition.leave(SWEEP, story.at(20));
        assert_eq!(story.ticks(20..50), [back(10, true)]);
    }
}
