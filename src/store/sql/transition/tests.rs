use super::*;
use crate::store::postgres::PostgresEngine;
use crate::store::sqlite::SqliteEngine;

/// An event's guards and assignments, which are the same on each database; NOW stands for the database's time.
fn rendered(change: impl Fn(Dialect) -> EventSql) -> String {
    let text = |database: Dialect| {
        let EventSql {
            guard,
            lookup_guard,
            set,
        } = change(database);
        let and = match lookup_guard.as_str() {
            ALWAYS_TRUE => String::new(),
            and => format!(" AND {and}"),
        };
        let text = format!("{guard}{and} | {}", assignments("", &set));
        text.replace(OWNER_IS_DEAD, "DEAD")
            .replace(database.now(), "NOW")
    };
    let [first, others @ ..] = Dialect::ALL;
    let first = text(first);
    for other in others {
        assert_eq!(text(other), first);
    }
    first
}

#[derive(Clone, Copy)]
enum Dialect {
    Postgres,
    Sqlite,
    #[cfg(feature = "mysql")]
    Mysql,
}

impl Dialect {
    #[cfg(feature = "mysql")]
    const ALL: [Self; 3] = [Self::Postgres, Self::Sqlite, Self::Mysql];
    #[cfg(not(feature = "mysql"))]
    const ALL: [Self; 2] = [Self::Postgres, Self::Sqlite];

    fn now(self) -> &'static str {
        match self {
            Self::Postgres => PostgresEngine::NOW,
            Self::Sqlite => SqliteEngine::NOW,
            #[cfg(feature = "mysql")]
            Self::Mysql => crate::store::mysql::MysqlEngine::NOW,
        }
    }

    fn change(self, event: Event) -> EventSql {
        let terms = EventTerms {
            worker: Some(WorkerId(7)),
            time: Some("THEN"),
            same_cause: Some("SAME"),
            too_long: Some("TOO_LONG"),
        };
        match self {
            Self::Postgres => EventSql::new::<PostgresEngine>(event, &terms),
            Self::Sqlite => EventSql::new::<SqliteEngine>(event, &terms),
            #[cfg(feature = "mysql")]
            Self::Mysql => EventSql::new::<crate::store::mysql::MysqlEngine>(event, &terms),
        }
    }

    fn ends(self) -> EventSql {
        match self {
            Self::Postgres => EventSql::ends::<PostgresEngine>(WorkerId(7)),
            Self::Sqlite => EventSql::ends::<SqliteEngine>(WorkerId(7)),
            #[cfg(feature = "mysql")]
            Self::Mysql => EventSql::ends::<crate::store::mysql::MysqlEngine>(WorkerId(7)),
        }
    }
}

fn event(event: Event) -> String {
    rendered(|database| database.change(event))
}

#[test]
fn what_publishes_messages_is_rendered_like_this() {
    for (of, expected) in [
        (
            Event::Confirm,
            "m.status = 'PENDING' AND m.owner IS NULL | \
             owner = NULL, due_time = NULL, status = 'PUBLISHED', \
             put_off_since = CASE WHEN SAME THEN NULL ELSE m.put_off_since END, \
             put_off_reason = CASE WHEN SAME THEN NULL ELSE m.put_off_reason END",
        ),
        (
            Event::RenewLease,
            "m.status = 'PENDING' AND m.owner IS NULL | due_time = THEN",
        ),
        (
            Event::Lease,
            "m.status = 'PENDING' | owner = NULL, due_time = THEN",
        ),
        (
            Event::Refuse,
            "m.status = 'PENDING' AND m.owner IS NULL | \
             exception = CASE WHEN TOO_LONG THEN v.exception ELSE m.exception END, \
             failure_time = CASE WHEN TOO_LONG THEN NOW ELSE m.failure_time END, \
             status = CASE WHEN TOO_LONG THEN 'FAILED' ELSE m.status END, \
             put_off_since = CASE WHEN SAME THEN m.put_off_since ELSE NOW END, \
             put_off_reason = v.reason",
        ),
        (
            Event::Reject,
            "m.status = 'PENDING' | \
             exception = v.exception, failure_time = NOW, status = 'FAILED'",
        ),
        (
            Event::RowCommittedLate,
            "m.status = 'PUBLISHED' AND m.owner IS NULL | due_time = NOW, status = 'PENDING'",
        ),
        (
            Event::Deliver,
            "m.status = 'PUBLISHED' AND (m.owner IS NULL OR DEAD) | owner = 7",
        ),
        (
            Event::ReturnDelivery,
            "m.status = 'PUBLISHED' AND m.owner = 7 | owner = NULL",
        ),
        (
            Event::Discard,
            "m.status = 'PUBLISHED' AND m.owner = 7 | \
             exception = v.exception, failure_time = NOW, status = 'FAILED'",
        ),
    ] {
        assert_eq!(event(of), expected, "{of:?}");
    }
}

#[test]
fn what_takes_messages_is_rendered_like_this() {
    for (of, expected) in [
        (
            Event::Claim,
            "m.status IN ('PENDING', 'PUBLISHED', 'IN_PROGRESS') \
             AND (m.status <> 'IN_PROGRESS' OR m.owner IS NULL OR m.owner = 7) | \
             suspect = CASE WHEN m.status = 'IN_PROGRESS' THEN true ELSE m.suspect END, \
             owner = 7, due_time = NULL, status = 'IN_PROGRESS'",
        ),
        (
            Event::TakeOver,
            "m.status IN ('PENDING', 'PUBLISHED', 'IN_PROGRESS') \
             AND (m.status <> 'IN_PROGRESS' OR m.owner IS NULL OR m.owner = 7 OR DEAD) | \
             suspect = CASE WHEN m.status = 'IN_PROGRESS' THEN true ELSE m.suspect END, \
             owner = 7, due_time = NULL, status = 'IN_PROGRESS', \
             put_off_since = NULL, put_off_reason = NULL",
        ),
        (
            Event::LoseBrokerCopy,
            "m.status = 'IN_PROGRESS' | due_time = NOW",
        ),
        (
            Event::Begin,
            "m.status IN ('PENDING', 'PUBLISHED', 'IN_PROGRESS') \
             AND (m.status <> 'IN_PROGRESS' OR m.owner = 7) | \
             attempts = v.attempts, owner = 7, \
             due_time = CASE WHEN m.status = 'IN_PROGRESS' THEN m.due_time ELSE NULL END, \
             status = 'IN_PROGRESS'",
        ),
        (
            Event::Recover,
            "m.status = 'IN_PROGRESS' AND m.owner IS NOT NULL AND DEAD | \
             suspect = true, due_time = NOW, status = 'PENDING', \
             put_off_since = NULL, put_off_reason = NULL",
        ),
    ] {
        assert_eq!(event(of), expected, "{of:?}");
    }
}

#[test]
fn what_gives_messages_back_is_rendered_like_this() {
    for (of, expected) in [
        (
            Event::PutOff,
            "m.status IN ('PENDING', 'PUBLISHED', 'IN_PROGRESS') \
             AND (m.status <> 'IN_PROGRESS' OR m.owner = 7) | \
             task = v.task, task_args = v.task_args, content = v.content, queue = v.queue, \
             exchange = v.exchange, routing_key = v.routing_key, priority = v.priority, \
             attempts = v.attempts, suspect = (m.suspect OR v.suspect = 1), owner = 7, \
             due_time = CASE WHEN TOO_LONG THEN CASE WHEN m.status = 'IN_PROGRESS' THEN m.due_time \
             ELSE NULL END ELSE THEN END, \
             status = CASE WHEN TOO_LONG THEN 'IN_PROGRESS' ELSE 'PENDING' END, \
             put_off_since = CASE WHEN SAME THEN m.put_off_since ELSE NOW END, \
             put_off_reason = v.reason",
        ),
        (
            Event::Release,
            "m.status = 'IN_PROGRESS' AND m.owner = 7 | \
             owner = CASE WHEN m.due_time IS NOT NULL THEN m.owner ELSE NULL END, \
             status = CASE WHEN m.due_time IS NOT NULL THEN 'PENDING' ELSE 'PUBLISHED' END",
        ),
        (
            Event::Republish,
            "m.status IN ('PUBLISHED', 'IN_PROGRESS') \
             AND (m.status <> 'PUBLISHED' OR m.owner IS NULL) \
             AND (m.status <> 'IN_PROGRESS' OR m.owner = 7) | \
             owner = 7, due_time = COALESCE(m.due_time, THEN), status = 'PENDING'",
        ),
    ] {
        assert_eq!(event(of), expected, "{of:?}");
    }
}

#[test]
fn ends_are_rendered_like_this() {
    assert_eq!(
        rendered(Dialect::ends),
        "m.status IN ('PENDING', 'PUBLISHED', 'IN_PROGRESS') \
         AND (m.status <> 'IN_PROGRESS' OR m.owner = 7) | \
         attempts = v.attempts, output = v.output, exception = v.exception, \
         traceback = v.traceback, log = v.log, \
         completion_time = CASE WHEN v.status = 'COMPLETED' THEN NOW ELSE m.completion_time END, \
         failure_time = CASE WHEN v.status = 'FAILED' THEN NOW ELSE m.failure_time END, \
         status = v.status",
    );
}

/// MySQL assigns one column after the other.
#[test]
fn no_column_is_set_before_another_is_computed_from_it() {
    let terms = EventTerms {
        worker: Some(WorkerId(7)),
        time: Some("THEN(m.put_off_since, m.put_off_reason)"),
        same_cause: Some("SAME(m.put_off_reason)"),
        too_long: Some("TOO_LONG(m.put_off_since, m.put_off_reason)"),
    };
    for event in Event::ALL {
        let mut set_before: Vec<&str> = Vec::new();
        for (column, to) in EventSql::new::<PostgresEngine>(event, &terms).set {
            for before in &set_before {
                assert!(!to.contains(&format!("m.{before}")), "{event:?}: {to}");
            }
            set_before.push(column);
        }
    }
}
