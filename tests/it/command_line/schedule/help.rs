//! The help and the tables of `schedule`.

use super::TASKS;
use crate::support::World;

#[test]
fn the_help_has_examples_and_the_table_is_readable() {
    let world = World::new(TASKS);
    world.answer(&["add", "a", "cat", "--every", "5m", "--disabled"]);
    world.answer(&["add", "a longer name", "cat", "--cron", "0 3 * * *"]);
    world.execute("UPDATE carrot_scheduledtask SET task_name = E'a\\x1b[2J' WHERE task_name = 'a'");
    let (_, out, _) = world.run(&["schedule", "list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    let column = |head: &str| lines[0].find(head).unwrap();
    assert!(
        lines[2][column("TIMETABLE")..].starts_with("0 3 * * * UTC"),
        "{out}"
    );
    assert!(lines[2][column("STATE")..].starts_with("enabled"), "{out}");
    assert!(!out.contains('\u{1b}'), "{out}");
    for help in [["schedule", "--help"], ["schedule", "help"]] {
        let (code, out, _) = world.run(&help);
        assert_eq!(code, 0);
        for word in [
            "list", "show", "add", "edit", "enable", "disable", "remove", "run", "--json",
        ] {
            assert!(out.contains(word), "{word} in {out}");
        }
    }
    let (_, out, _) = world.run(&["schedule", "add", "--help"]);
    for word in [
        "'0 3 * * 1-5'",
        "@daily",
        "run_once",
        "--timezone",
        "--overlap",
    ] {
        assert!(out.contains(word), "{word} in {out}");
    }
}
