//! A broker that accepts a consumer and then sends it given bytes. The test can turn it into a proxy to
//! RabbitMQ.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::encoding::{field, long, method, read_method, short, value, write};
use crate::support::{World, server};

/// What the fake broker sends, and when.
#[derive(Debug, Clone)]
pub enum Says {
    /// Instead of the first frame of the handshake.
    AtOnce(Vec<u8>),
    /// To the first consumer of each connection; the function takes its tag.
    ToConsumers(fn(&[u8]) -> Vec<u8>),
    /// Instead of a confirm.
    ToPublishers(Vec<u8>),
}

struct Shared {
    says: Says,
    connections: AtomicUsize,
    is_real: AtomicBool,
    is_over: AtomicBool,
    /// The tags of the deliveries that were acknowledged.
    acknowledged: Mutex<Vec<u64>>,
}

pub struct Fake {
    shared: Arc<Shared>,
    port: u16,
}

impl Fake {
    pub fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            says,
            connections: AtomicUsize::new(0),
            is_real: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&serving);
                thread::spawn(move || shared.serve(stream.unwrap()));
            }
        });
        Self { shared, port }
    }

    /// Makes the services of the world connect to it.
    pub fn replace_broker(&self, world: &mut World) {
        let port = self.port;
        world.broker_url = format!("amqp://guest:guest@127.0.0.1:{port}/{}", world.name);
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn acknowledged(&self) -> Vec<u64> {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// Makes new connections go to RabbitMQ from now on.
    pub fn forward_to_rabbitmq(&self) {
        self.shared.is_real.store(true, Ordering::SeqCst);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let ended = if self.is_real.load(Ordering::SeqCst) {
            forward(&stream)
        } else {
            self.connections.fetch_add(1, Ordering::SeqCst);
            self.play(stream)
        };
        if let Err(error) = ended {
            eprintln!("a connection to the fake broker ended: {error}");
        }
    }

    fn play(&self, mut stream: TcpStream) -> io::Result<()> {
        io::Read::read_exact(&mut stream, &mut [0; 8])?;
        if let Says::AtOnce(bytes) = &self.says {
            write(&mut stream, bytes)?;
            // Wait until the client closes the connection.
            io::copy(&mut stream, &mut io::sink())?;
            return Ok(());
        }
        let product = field(b"product", &value(b'S', b"f\xe1ke"));
        let (mechanisms, locales) = (long(b"PLAIN"), long(b"en_US"));
        let start = [&[0, 9], &long(&product)[..], &mechanisms, &locales];
        write(&mut stream, &method(0, 10, 10, &start))?;
        let mut consumers = 0;
        loop {
            let (class, number, arguments) = read_method(&mut stream)?;
            let queue = |at: usize| &arguments[at + 1..=at + usize::from(arguments[at])];
            let zeros = [0; 8];
            let answer = match (class, number) {
                (10, 11) => method(0, 10, 30, &[&[7, 0xff], &[0; 4], &[0, 60]]),
                (10, 31) => continue,
                (10, 40) => method(0, 10, 41, &[&[0]]),
                (10, 50) => method(0, 10, 51, &[]),
                (20, 10) => method(1, 20, 11, &[&[0; 4]]),
                (20, 40) => method(1, 20, 41, &[]),
                (50, 10) => method(1, 50, 11, &[&short(queue(2)), &zeros]),
                (60, 20) => {
                    consumers += 1;
                    let consumer = format!("consumer-{consumers}");
                    let consumer = consumer.as_bytes();
                    write(&mut stream, &method(1, 60, 21, &[&short(consumer)]))?;
                    match &self.says {
                        Says::ToConsumers(bytes) if consumers == 1 => bytes(consumer),
                        _ => continue,
                    }
                }
                (60, 40) => match &self.says {
                    Says::ToPublishers(bytes) => bytes.clone(),
                    _ => continue,
                },
                (60, 30) => method(1, 60, 31, &[&arguments[..arguments.len() - 1]]),
                (60, 80) => {
                    let tag = u64::from_be_bytes(*arguments.first_chunk().unwrap());
                    self.acknowledged.lock().unwrap().push(tag);
                    continue;
                }
                (40, 10) | (50, 20) | (60, 10) | (85, 10) => method(1, class, number + 1, &[]),
                other => panic!("unexpected method {other:?}"),
            };
            write(&mut stream, &answer)?;
        }
    }
}

fn forward(stream: &TcpStream) -> io::Result<()> {
    let url = url::Url::parse(&server("CARROT_TEST_AMQP")).unwrap();
    let real = TcpStream::connect(("127.0.0.1", url.port().unwrap()))?;
    let (mut from, mut to) = (real.try_clone()?, stream.try_clone()?);
    let back = thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        drop(to.shutdown(std::net::Shutdown::Both));
        copied
    });
    let (mut from, mut to) = (stream.try_clone()?, real);
    io::copy(&mut from, &mut to)?;
    drop(to.shutdown(std::net::Shutdown::Both));
    back.join().unwrap().map(drop)
}
