//! Workers and ended messages with values that can't be read.

use std::time::Duration;

use carrot_actors::config::History;
use carrot_actors::internals::state::Status;
use carrot_actors::internals::store::{self, Session, Stretch, WorkerProcess};

use super::{Loose, loose, no_times};
use crate::support::{Database, cases};

cases! { on every_database:
    an_unreadable_worker_hides_no_other_and_counts_as_silent,
    a_message_with_an_unreadable_time_of_its_end_is_aged_by_its_recording,
}

const DAY: Duration = Duration::from_hours(24);

fn session(world: &Loose) -> Box<dyn Session> {
    let store = store::open_for(&world.config()).unwrap();
    store.connect().unwrap()
}

fn an_unreadable_worker_hides_no_other_and_counts_as_silent(database: Database) {
    let world = loose(database.into());
    let mut session = session(&world);
    let process = |pid| WorkerProcess {
        host: "host".to_owned(),
        namespace: "namespace".to_owned(),
        pid,
        process_start: 12,
    };
    let well = session.register(&process(1)).unwrap();
    for no_time in no_times(database) {
        let odd = session.register(&process(2)).unwrap();
        let set = match database {
            // There our own tables have text columns, which accept no invalid bytes.
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!("heartbeat = {no_time}"),
            _ => format!("heartbeat = {no_time}, host = {}", world.stray()),
        };
        world.set("carrot_worker", &set, &format!("id = {}", odd.0));
        session.heartbeat(well, &process(1)).unwrap();
        let found = session.workers_in("namespace").unwrap();
        let mut found: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        found.sort_by_key(|id| id.0);
        assert_eq!(found, [well, odd]);
        let old = session.heartbeats().unwrap().into_iter();
        let old: Vec<_> = old
            .filter(|beat| beat.is_old)
            .map(|beat| beat.worker)
            .collect();
        assert_eq!(old, [odd], "{no_time}");
        session.deregister(&[odd]).unwrap();
    }
}

fn a_message_with_an_unreadable_time_of_its_end_is_aged_by_its_recording(database: Database) {
    let world = loose(database.into());
    let mut session = session(&world);
    let history = History {
        completed: Some(DAY),
        failed: None,
        cancelled: None,
        expired: None,
        every: DAY,
    };
    let stretch = Stretch {
        after: 0,
        limit: 1000,
        history: &history,
        delete: true,
    };
    let [before, ..] = no_times(database);
    let (now, long_ago) = (database.ago(0), database.ago(7 * DAY.as_secs()));
    let uuids: Vec<String> = (0..4).map(|nth| format!("m{nth}")).collect();
    world.insert_published("default", "note", &uuids);
    for (uuid, recorded, ended) in [
        ("m0", now.as_str(), before),
        ("m1", before, before),
        ("m2", long_ago.as_str(), before),
        ("m3", long_ago.as_str(), long_ago.as_str()),
    ] {
        let set =
            format!("status = 'COMPLETED', publish_time = {recorded}, completion_time = {ended}");
        world.set("carrot_messagelog", &set, &format!("uuid = '{uuid}'"));
    }
    let pruned = session.prune(&stretch).unwrap();
    assert_eq!(pruned.counts.get(&Status::Completed), Some(&2));
    let left = world.rows("SELECT uuid FROM carrot_messagelog ORDER BY uuid");
    let left: Vec<_> = left
        .iter()
        .map(|row| row["uuid"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["m0", "m1"]);
}
