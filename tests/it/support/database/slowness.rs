//! A database on which commits are slow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Database;
use crate::support::World;

/// How much longer a commit takes: longer than a short command on a busy machine.
const DELAY: Duration = Duration::from_millis(250);

impl World {
    /// Calls `work` while each commit that updates messages is slow.
    pub fn with_slow_commits<T>(&self, work: impl FnOnce() -> T) -> T {
        let seconds = DELAY.as_secs_f64();
        let (slow, fast) = match self.database {
            Database::Postgresql => (
                format!(
                    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                         $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$; \
                     CREATE TRIGGER slow AFTER UPDATE ON carrot_messagelog \
                         FOR EACH STATEMENT EXECUTE FUNCTION slow()"
                ),
                "DROP TRIGGER slow ON carrot_messagelog",
            ),
            Database::Sqlite => return self.with_a_busy_writer(work),
            // The trigger runs once for each row.
            #[cfg(feature = "mysql")]
            Database::Mariadb => (
                format!(
                    "CREATE TRIGGER slow AFTER UPDATE ON carrot_messagelog \
                     FOR EACH ROW DO sleep({})",
                    seconds / 2.0
                ),
                "DROP TRIGGER slow",
            ),
        };
        self.execute(&slow);
        let done = work();
        self.execute(fast);
        done
    }

    /// Calls `work` while another connection holds SQLite's only write lock most of the time.
    fn with_a_busy_writer<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Ends the writer when the work returns or panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = self.client();
                while !over.load(Ordering::Relaxed) {
                    writer.execute("BEGIN IMMEDIATE");
                    std::thread::sleep(DELAY);
                    writer.execute("COMMIT");
                    std::thread::sleep(DELAY / 10);
                }
            });
            let _over = Over(&over);
            work()
        })
    }
}
