//! Servers that a test owns while it stops, kills and freezes them: a second set of those that
//! `scripts/services` starts, which ends with the tests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::process::outcome;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");

/// Waits for the end of the tests, which hold the other end of its standard input and the lock; then stops
/// the servers.
const STOPS_THEM: &str = r#"read -r _; exec flock "$CARROT_SERVICES_DIR/tests.lock" "$0" down"#;

thread_local! {
    /// The variables of the servers that this thread's test owns.
    static VARIABLES: RefCell<HashMap<String, String>> = RefCell::default();
}

/// The variable of a server that this thread's test owns.
pub fn variable(name: &str) -> Option<String> {
    VARIABLES.with_borrow(|variables| variables.get(name).cloned())
}

/// A server that a test can own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Rabbitmq,
    Postgresql,
    #[cfg(feature = "mysql")]
    Mariadb,
}

/// How a server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    Stop,
    Kill,
    Freeze,
}

struct Set {
    directory: PathBuf,
    _lock: File,
    _stops_them: Child,
}

static SET: OnceLock<Set> = OnceLock::new();
static TURNS: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];

/// A server that the test owns until this is dropped. Drop worlds on it before.
pub struct OwnServer {
    server: Server,
    set: &'static Set,
    _turn: MutexGuard<'static, ()>,
}

/// A server that is away until this is dropped.
pub struct Away<'a> {
    own: &'a OwnServer,
    outage: Outage,
}

impl Set {
    fn start() -> Self {
        let shared = std::env::var("CARROT_SERVICES_DIR")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/target/services").to_owned());
        let directory = PathBuf::from(format!("{shared}-outages"));
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.join("tests.lock")).unwrap();
        lock.lock().unwrap();
        // In another process group, since the tests' may be killed as a whole.
        let stops_them = Command::new("setsid")
            .args(["bash", "-c", STOPS_THEM, SCRIPT])
            .env("CARROT_SERVICES_DIR", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let set = Self {
            directory,
            _lock: lock,
            _stops_them: stops_them,
        };
        set.tell(&["up"]);
        set
    }

    fn try_to_tell(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(SCRIPT);
        command
            .args(arguments)
            .env("CARROT_SERVICES_DIR", &self.directory);
        match outcome(&mut command) {
            (0, out, _) => Ok(out),
            (_, out, err) => Err(format!("scripts/services {arguments:?}: {out}{err}")),
        }
    }

    fn tell(&self, arguments: &[&str]) -> String {
        self.try_to_tell(arguments).unwrap()
    }
}

impl Server {
    const fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Postgresql => "postgresql",
            #[cfg(feature = "mysql")]
            Self::Mariadb => "mariadb",
        }
    }

    /// The variables that hold its address.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Rabbitmq => &["CARROT_TEST_AMQP", "CARROT_TEST_RABBITMQ_API"],
            Self::Postgresql => &["CARROT_TEST_POSTGRES"],
            #[cfg(feature = "mysql")]
            Self::Mariadb => &["CARROT_TEST_MYSQL"],
        }
    }
}

impl OwnServer {
    /// Waits until no other test owns it.
    pub fn take(server: Server) -> Self {
        let turn = TURNS[server as usize].lock();
        let turn = turn.unwrap_or_else(PoisonError::into_inner);
        let set = SET.get_or_init(Set::start);
        // The previous test may have failed and left it stopped.
        set.tell(&["start", server.name()]);
        let env = fs::read_to_string(set.directory.join("env")).unwrap();
        let own = env.lines().filter_map(|line| line.split_once('='));
        let own = own.filter(|(name, _)| server.variables().contains(name));
        VARIABLES.with_borrow_mut(|variables| {
            variables.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        });
        Self {
            server,
            set,
            _turn: turn,
        }
    }

    /// Stops, kills or freezes all its processes.
    pub fn take_away(&self, outage: Outage) -> Away<'_> {
        let verb = match outage {
            Outage::Stop => "stop",
            Outage::Kill => "kill",
            Outage::Freeze => "freeze",
        };
        let away = Away { own: self, outage };
        self.set.tell(&[verb, self.server.name()]);
        away
    }

    /// Runs `rabbitmqctl`.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        assert_eq!(self.server, Server::Rabbitmq);
        self.set.tell(&[&["rabbitmqctl"], arguments].concat())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        VARIABLES.with_borrow_mut(|variables| {
            variables.retain(|name, _| !self.server.variables().contains(&name.as_str()));
        });
    }
}

impl Away<'_> {
    /// Starts or thaws it.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let verb = match self.outage {
            Outage::Stop | Outage::Kill => "start",
            Outage::Freeze => "thaw",
        };
        let told = self.own.set.try_to_tell(&[verb, self.own.server.name()]);
        // If this fails after a panic, the next test starts the server.
        assert!(told.is_ok() || std::thread::panicking(), "{told:?}");
    }
}
