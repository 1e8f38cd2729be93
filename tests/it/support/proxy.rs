//! A way to RabbitMQ on which the test can cut connections, and close channels in the broker's name,
//! as the broker itself does it to a consumer that has not acknowledged for `consumer_timeout`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::server;

/// The type of a frame that holds a method, and the octet that ends each frame.
const METHOD: u8 = 1;
const FRAME_END: u8 = 0xCE;

/// The methods `channel.close` and `channel.close-ok`, class and method.
const CLOSE: [u8; 4] = [0, 20, 0, 40];
const CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// What RabbitMQ says with it.
const REASON: &str = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out";

struct Link {
    to_client: Mutex<TcpStream>,
    closing: AtomicBool,
}

/// Listens until the tests end.
pub struct Proxy {
    port: u16,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let links = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&links);
        thread::spawn(move || {
            for client in listener.incoming() {
                accepted.lock().unwrap().push(forward(client.unwrap()));
            }
        });
        Self { port, links }
    }

    /// The broker's URL by this way.
    pub fn url(&self, broker_url: &str) -> String {
        let mut url = url::Url::parse(broker_url).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }

    /// Cuts every connection without a word; how many there were.
    pub fn cut_connections(&self) -> usize {
        let links = std::mem::take(&mut *self.links.lock().unwrap());
        let cut = links.iter().filter(|link| {
            let client = link.to_client.lock().unwrap();
            client.shutdown(Shutdown::Both).is_ok()
        });
        cut.count()
    }

    /// Closes the channel of every connection that is open; the connections live on.
    pub fn close_channels(&self) {
        for link in self.links.lock().unwrap().drain(..) {
            link.closing.store(true, Ordering::SeqCst);
            let close = close_frame();
            // A connection that has ended since has no channel to close.
            link.to_client
                .lock()
                .unwrap()
                .write_all(&close)
                .unwrap_or_default();
        }
    }
}

fn forward(client: TcpStream) -> Arc<Link> {
    let url = url::Url::parse(&server("CARROT_TEST_AMQP")).unwrap();
    let broker = TcpStream::connect(("127.0.0.1", url.port().unwrap())).unwrap();
    let link = Arc::new(Link {
        to_client: Mutex::new(client.try_clone().unwrap()),
        closing: AtomicBool::new(false),
    });
    let (client_end, broker_end) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
    let answers = Arc::clone(&link);
    thread::spawn(move || {
        let ended = to_client(broker_end, &answers);
        hang_up(&client_end, ended);
    });
    let requests = Arc::clone(&link);
    thread::spawn(move || {
        let broker_end = broker.try_clone().unwrap();
        let ended = to_broker(client, broker, &requests);
        hang_up(&broker_end, ended);
    });
    link
}

fn to_client(mut broker: TcpStream, link: &Link) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut broker)?;
        // The broker's answer to what the client does not know that it has said.
        if !(link.closing.load(Ordering::SeqCst) && is_method(&frame, CLOSE_OK)) {
            link.to_client.lock().unwrap().write_all(&frame)?;
        }
    }
}

fn to_broker(mut client: TcpStream, mut broker: TcpStream, link: &Link) -> io::Result<()> {
    let mut header = [0; 8];
    client.read_exact(&mut header)?;
    broker.write_all(&header)?;
    loop {
        let frame = read_frame(&mut client)?;
        if link.closing.load(Ordering::SeqCst) && is_method(&frame, CLOSE_OK) {
            broker.write_all(&close_frame())?;
        } else {
            broker.write_all(&frame)?;
        }
    }
}

/// However one side has ended, the other learns of it.
fn hang_up(other: &TcpStream, ended: io::Result<()>) {
    assert!(ended.is_err(), "a connection is forwarded until it ends");
    other.shutdown(Shutdown::Both).unwrap_or_default();
}

fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 7];
    from.read_exact(&mut frame)?;
    let size = u32::from_be_bytes(frame[3..7].try_into().unwrap());
    frame.resize(7 + size as usize + 1, 0);
    from.read_exact(&mut frame[7..])?;
    Ok(frame)
}

fn is_method(frame: &[u8], method: [u8; 4]) -> bool {
    frame[0] == METHOD && frame[7..].starts_with(&method)
}

/// `channel.close` of channel 1: 406, the reason, and no method that would be at fault.
fn close_frame() -> Vec<u8> {
    let mut payload = CLOSE.to_vec();
    payload.extend(406_u16.to_be_bytes());
    payload.push(u8::try_from(REASON.len()).unwrap());
    payload.extend(REASON.as_bytes());
    payload.extend([0; 4]);
    let mut frame = vec![METHOD, 0, 1];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}
