//! The machine has too few file descriptors, processes or threads.

use std::process::Command;

use crate::support::{Running, World, eventually};

/// One queue, and tasks that take a moment.
fn world(concurrency: usize) -> World {
    let world = World::new(&format!(
        "[[queues]]\nname = 'default'\nconcurrency = {concurrency}\n\
         [tasks.nap]\ncommand = ['sleep', '0.3']\n\
         [tasks.files]\ncommand = ['sh', '-c', 'ulimit -Sn']\n"
    ));
    world.declare_queue("default");
    world
}

impl World {
    /// The service, started by a shell with these limits.
    fn limited(&self, limits: &str, shell: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_carrot-actors");
        let script = format!("{limits} && exec {binary} --no-scheduler \"$@\"");
        let arguments = [&shell[1..], &["-c", &script, "service"]].concat();
        self.command_of(shell[0], &arguments)
    }

    fn start_limited(&self, limits: &str) -> Running {
        let running = self.spawn(self.limited(limits, &["bash"]));
        running.await_log("consuming queue");
        running
    }

    /// Waits until `count` messages are COMPLETED, however slowly: a message that is put off comes back
    /// within half a minute. None may fail.
    #[track_caller]
    fn await_all_completed(&self, count: usize) {
        for minute in 1.. {
            let before = self.count("COMPLETED");
            eventually("more messages are COMPLETED", || {
                assert_eq!(self.count("FAILED"), 0);
                let now = self.count("COMPLETED");
                now == count || now > before
            });
            if self.count("COMPLETED") == count {
                return;
            }
            assert!(minute < 10_000);
        }
    }
}

#[test]
fn more_tasks_than_the_soft_limit_of_open_files_are_all_run() {
    for (soft, concurrency) in [(256, 200), (1024, 250)] {
        let world = world(concurrency);
        world.enqueue("default", "nap", 300);
        let files = world.send(&["files"]);
        let mut service = world.start_limited(&format!("ulimit -Sn {soft}"));
        world.await_all_completed(301);
        // The limit of the commands is unchanged.
        assert_eq!(world.find(&files).unwrap()["output"], soft.to_string());
        let log = service.log();
        assert!(
            !log.contains("is put off") && !log.contains("files open"),
            "{log}"
        );
        service.stop_with_empty(&world, &["default"]);
    }
}

#[test]
fn a_hard_limit_of_open_files_that_is_too_low_is_logged_and_runs_without_files_are_put_off() {
    let world = world(100);
    world.enqueue("default", "nap", 150);
    let mut service = world.start_limited("ulimit -Sn 200 && ulimit -Hn 200");
    service.await_log(
        "may have 944 files open, and the system allows it 200: messages that find none",
    );
    world.await_all_completed(150);
    let log = service.log();
    let said = log
        .lines()
        .filter(|line| line.contains("Too many open files"));
    let said: Vec<_> = said.filter(|line| line.contains("is put off")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    service.stop_with_empty(&world, &["default"]);
}

#[test]
fn all_messages_are_run_for_a_user_who_may_have_few_processes() {
    // This test has its own user.
    let user = 60_000 + std::process::id() % 5000;
    let world = world(40);
    world.enqueue("default", "nap", 60);
    std::os::unix::fs::chown(world.directory(), Some(user), Some(user)).unwrap();
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let shell = ["setpriv", &ids[0], &ids[1], "--clear-groups", "bash"];
    // The threads of the service are about sixty.
    let mut service = world.spawn(world.limited("ulimit -u 75", &shell));
    service.await_log("consuming queue");
    world.await_all_completed(60);
    let log = service.log();
    assert!(log.contains("Resource temporarily unavailable"), "{log}");
    service.stop_with_empty(&world, &["default"]);
}

#[test]
fn consumers_without_a_thread_start_when_one_is_free() {
    let user = 65_000 + std::process::id() % 500;
    let world = world(40);
    world.enqueue("default", "nap", 60);
    std::os::unix::fs::chown(world.directory(), Some(user), Some(user)).unwrap();
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let shell = ["setpriv", &ids[0], &ids[1], "--clear-groups", "bash"];
    let mut service = world.spawn(world.limited("ulimit -Su 35", &shell));
    service.await_log("no thread for a consumer");
    // Raise the limit, as if other processes of the user had ended.
    let pid = service.pid().as_raw_nonzero().to_string();
    let raised = Command::new(shell[0])
        .args(&shell[1..4])
        .args(["prlimit", "--pid", &pid, "--nproc=500:"])
        .status()
        .unwrap();
    assert!(raised.success());
    service.await_log("consuming queue");
    world.await_all_completed(60);
    service.stop_with_empty(&world, &["default"]);
}
