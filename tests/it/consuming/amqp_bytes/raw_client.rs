//! A client of RabbitMQ that sends any bytes.

use std::net::TcpStream;

use super::encoding::{Properties, frame, long, method, read_method, short, write};
use crate::support::{World, server};

pub struct Client(TcpStream);

impl Client {
    /// Connects to the world's vhost, and opens a channel with confirms.
    pub fn of(world: &World) -> Self {
        let url = url::Url::parse(&server("CARROT_TEST_AMQP")).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).unwrap();
        let mut client = Self(stream);
        write(&mut client.0, b"AMQP\0\0\x09\x01").unwrap();
        client.expects(10, 10);
        let plain = long(b"\0guest\0guest");
        let start_ok = [&long(b"")[..], &short(b"PLAIN"), &plain, &short(b"en_US")];
        client.calls(0, 10, 11, &start_ok, 30);
        let tune_ok = method(
            0,
            10,
            31,
            &[&[7, 0xff], &(128_u32 << 10).to_be_bytes(), &[0, 0]],
        );
        write(&mut client.0, &tune_ok).unwrap();
        let vhost = short(world.name.as_bytes());
        client.calls(0, 10, 40, &[&vhost, &[0, 0]], 41);
        client.calls(1, 20, 10, &[&[0]], 11);
        client.calls(1, 85, 10, &[&[0]], 11);
        client
    }

    fn expects(&mut self, class: u16, number: u16) {
        let (got_class, got_number, arguments) = read_method(&mut self.0).unwrap();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        assert_eq!((got_class, got_number), (class, number), "{arguments}");
    }

    fn calls(&mut self, channel: u16, class: u16, number: u16, arguments: &[&[u8]], answer: u16) {
        write(&mut self.0, &method(channel, class, number, arguments)).unwrap();
        self.expects(class, answer);
    }

    /// Declares a fanout exchange and binds the queue to it.
    pub fn fanout(&mut self, exchange: &str, queue: &str) {
        let name = short(exchange.as_bytes());
        let declare = [&[0, 0], &name[..], &short(b"fanout"), &[0], &long(b"")];
        self.calls(1, 40, 10, &declare, 11);
        let bind = [
            &[0, 0],
            &short(queue.as_bytes())[..],
            &name,
            &short(b""),
            &[0],
            &long(b""),
        ];
        self.calls(1, 50, 20, &bind, 21);
    }

    /// Publishes a message and waits for its confirm.
    pub fn publish(&mut self, exchange: &str, key: &[u8], properties: &Properties, body: &[u8]) {
        let publish = [&[0, 0], &short(exchange.as_bytes())[..], &short(key), &[0]];
        let bytes = [
            method(1, 60, 40, &publish),
            frame(2, 1, &properties.header(body.len() as u64)),
            frame(3, 1, body),
        ];
        write(&mut self.0, &bytes.concat()).unwrap();
        self.expects(60, 80);
    }

    /// Publishes a message to the queue "default".
    pub fn send(&mut self, properties: &Properties) {
        self.publish("", b"default", properties, b"{\"args\": [1]}");
    }
}
