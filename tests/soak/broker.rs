//! Publishing to a broker that goes away: messages are sent again until the broker has confirmed them.

use std::collections::HashSet;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use amiquip::{
    Auth, Channel, Confirm, Connection, ConnectionOptions, ConnectionTuning, Publish, Return,
};
use crossbeam_channel::Receiver;

use crate::support::{Raw, World, server};

/// How long the broker may take for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

const HEARTBEAT_SECONDS: u16 = 5;

/// Why an attempt failed; it is made again.
type Away = Box<dyn std::error::Error>;

/// A connection to the broker, opened again when it is lost.
pub struct Broker<'a> {
    world: &'a World,
    link: Option<Link>,
}

impl<'a> Broker<'a> {
    pub const fn new(world: &'a World) -> Self {
        Self { world, link: None }
    }

    /// Publishes messages to their queues. Returns how many messages were sent without a confirm or a
    /// refusal, and so once more.
    pub fn publish(&mut self, messages: &[Raw]) -> usize {
        let mut left: Vec<&Raw> = messages.iter().collect();
        let mut in_doubt = 0;
        while !left.is_empty() {
            match self.open() {
                Ok(link) => {
                    if link.publish(&mut left).is_err() {
                        self.link = None;
                    }
                    in_doubt += left.len();
                }
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
        in_doubt
    }

    fn open(&mut self) -> Result<&mut Link, Away> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(self.world)?,
        };
        Ok(self.link.insert(link))
    }
}

struct Link {
    socket: TcpStream,
    channel: Channel,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    next_tag: u64,
    _connection: Connection,
}

impl Link {
    fn open(world: &World) -> Result<Self, Away> {
        let url = url::Url::parse(&server("CARROT_TEST_AMQP"))?;
        let socket = TcpStream::connect(("127.0.0.1", url.port().unwrap()))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_stream(socket.try_clone()?)?;
        let options = ConnectionOptions::<Auth>::default()
            .virtual_host(world.name.as_str())
            .heartbeat(HEARTBEAT_SECONDS)
            .connection_timeout(Some(PATIENCE));
        let mut connection =
            Connection::insecure_open_stream(stream, options, ConnectionTuning::default())?;
        let channel = connection.open_channel(None)?;
        channel.enable_publisher_confirms()?;
        Ok(Self {
            socket,
            confirms: channel.listen_for_publisher_confirms()?,
            returns: channel.listen_for_returns()?,
            channel,
            next_tag: 1,
            _connection: connection,
        })
    }

    /// Publishes the messages in `left`, and leaves those that were not confirmed.
    fn publish(&mut self, left: &mut Vec<&Raw>) -> Result<(), Away> {
        let mut sent = Vec::new();
        for message in left.iter() {
            // A missing queue must not swallow the message.
            let publish = Publish {
                mandatory: true,
                ..Publish::with_properties(
                    &message.body,
                    message.routing_key.as_str(),
                    message.properties.clone(),
                )
            };
            self.channel.basic_publish("", publish)?;
            sent.push((self.next_tag, id(&message.properties)));
            self.next_tag += 1;
        }
        while !sent.is_empty() {
            let confirm = self.confirms.recv_timeout(PATIENCE)?;
            // A return comes before the confirm of its message.
            let returned: Vec<_> = self.returns.try_iter().map(|r| id(&r.properties)).collect();
            let (tag, multiple, taken) = match confirm {
                Confirm::Ack(ack) => (ack.delivery_tag, ack.multiple, true),
                Confirm::Nack(nack) => (nack.delivery_tag, nack.multiple, false),
            };
            let (told, untold) = sent
                .into_iter()
                .partition::<Vec<_>, _>(|(sent, _)| *sent == tag || (multiple && *sent < tag));
            sent = untold;
            let done: HashSet<_> = told
                .into_iter()
                .map(|(_, id)| id)
                .filter(|id| taken && !returned.contains(id))
                .collect();
            left.retain(|message| !done.contains(&id(&message.properties)));
        }
        Ok(())
    }
}

fn id(properties: &amiquip::AmqpProperties) -> String {
    properties.message_id().clone().unwrap()
}

/// Closing in order would wait for a broker that is away.
impl Drop for Link {
    fn drop(&mut self) {
        self.socket.shutdown(Shutdown::Both).unwrap_or_default();
    }
}
