//! A proxy before a server. The test can cut its connections, leave them half-open, hold up what they carry,
//! and close AMQP channels as RabbitMQ does.

mod amqp;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::server;

/// The protocol of a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Amqp,
    Any,
}

/// One connection, in both directions.
struct Link {
    to_client: Mutex<TcpStream>,
    /// The test has closed the channel, and RabbitMQ will receive the client's `close-ok`.
    closing: AtomicBool,
    /// Nothing is forwarded any more, and neither side is told.
    half_open: AtomicBool,
    gate: Arc<Gate>,
}

/// The state of all connections of a proxy.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.is_shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let is_shut = self.is_shut.lock().unwrap();
        drop(self.changed.wait_while(is_shut, |shut| *shut).unwrap());
    }
}

/// A proxy; it listens until the tests end.
pub struct Proxy {
    port: u16,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    gate: Arc<Gate>,
}

impl Proxy {
    /// A proxy to RabbitMQ.
    pub fn start() -> Self {
        Self::to(&server("CARROT_TEST_AMQP"), Protocol::Amqp)
    }

    /// A proxy to the server of this URL.
    pub fn before(url: &str) -> Self {
        Self::to(url, Protocol::Any)
    }

    fn to(url: &str, protocol: Protocol) -> Self {
        let target = url::Url::parse(url).unwrap().port().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let links = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&links);
        let gate = Arc::new(Gate::default());
        let common_gate = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming() {
                // If the server is away, the client's connection is closed.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    let link = forward(client.unwrap(), server, protocol, &common_gate);
                    accepted.lock().unwrap().push(link);
                }
            }
        });
        Self { port, links, gate }
    }

    /// The server's URL through the proxy.
    pub fn url(&self, server_url: &str) -> String {
        let mut url = url::Url::parse(server_url).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }

    /// Closes every TCP connection; how many there were.
    pub fn cut_connections(&self) -> usize {
        let links = std::mem::take(&mut *self.links.lock().unwrap());
        let cut = links.iter().filter(|link| {
            let client = link.to_client.lock().unwrap();
            client.shutdown(Shutdown::Both).is_ok()
        });
        cut.count()
    }

    /// Leaves every connection half-open: nothing is forwarded any more, and neither side is told. New
    /// connections work.
    pub fn leave_half_open(&self) {
        for link in self.links.lock().unwrap().iter() {
            link.half_open.store(true, Ordering::SeqCst);
        }
    }

    /// Holds up what every connection carries, new ones included.
    pub fn hold_up(&self) {
        self.gate.set(true);
    }

    /// Forwards again.
    pub fn let_pass(&self) {
        self.gate.set(false);
    }

    /// Closes the channel of every open connection; the connections stay open.
    pub fn close_channels(&self) {
        for link in self.links.lock().unwrap().drain(..) {
            link.closing.store(true, Ordering::SeqCst);
            let close = amqp::close_frame();
            // A connection that has ended has no channel to close.
            link.to_client
                .lock()
                .unwrap()
                .write_all(&close)
                .unwrap_or_default();
        }
    }
}

/// Releases what is held up, so that its threads end.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.let_pass();
    }
}

fn forward(
    client: TcpStream,
    server: TcpStream,
    protocol: Protocol,
    gate: &Arc<Gate>,
) -> Arc<Link> {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let link = Arc::new(Link {
        to_client: Mutex::new(client.try_clone().unwrap()),
        closing: AtomicBool::new(false),
        half_open: AtomicBool::new(false),
        gate: Arc::clone(gate),
    });
    let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let answers = Arc::clone(&link);
    thread::spawn(move || {
        let ended = to_client(server_end, protocol, &answers);
        answers.hang_up(&client_end, ended);
    });
    let requests = Arc::clone(&link);
    thread::spawn(move || {
        let server_end = server.try_clone().unwrap();
        let ended = to_server(client, server, protocol, &requests);
        requests.hang_up(&server_end, ended);
    });
    link
}

fn to_client(mut server: TcpStream, protocol: Protocol, link: &Link) -> io::Result<()> {
    loop {
        let part = protocol.read(&mut server)?;
        // Do not forward `close-ok`: RabbitMQ has not sent the `close`.
        let is_ours = link.is_closing(protocol) && amqp::is_close_ok(&part);
        if link.passes() && !is_ours {
            link.to_client.lock().unwrap().write_all(&part)?;
        }
    }
}

fn to_server(
    mut client: TcpStream,
    mut server: TcpStream,
    protocol: Protocol,
    link: &Link,
) -> io::Result<()> {
    if protocol == Protocol::Amqp {
        let mut header = [0; 8];
        client.read_exact(&mut header)?;
        link.gate.pass();
        server.write_all(&header)?;
    }
    loop {
        let part = protocol.read(&mut client)?;
        if !link.passes() {
        } else if link.is_closing(protocol) && amqp::is_close_ok(&part) {
            server.write_all(&amqp::close_frame())?;
        } else {
            server.write_all(&part)?;
        }
    }
}

impl Protocol {
    /// Reads an AMQP frame, or any bytes that have arrived.
    fn read(self, from: &mut TcpStream) -> io::Result<Vec<u8>> {
        if self == Self::Amqp {
            return amqp::read_frame(from);
        }
        let mut part = vec![0; 1 << 16];
        let length = from.read(&mut part)?;
        part.truncate(length);
        match length {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(part),
        }
    }
}

impl Link {
    fn is_closing(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Amqp && self.closing.load(Ordering::SeqCst)
    }

    /// Waits while the proxy holds up; whether to forward.
    fn passes(&self) -> bool {
        self.gate.pass();
        !self.half_open.load(Ordering::SeqCst)
    }

    /// Closes the other side when one side has ended, unless the connection is half-open.
    fn hang_up(&self, other: &TcpStream, ended: io::Result<()>) {
        assert!(ended.is_err(), "a connection is forwarded until it ends");
        if !self.half_open.load(Ordering::SeqCst) {
            other.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}
