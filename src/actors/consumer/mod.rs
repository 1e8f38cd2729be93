//! A consumer: one thread, which runs one task at a time.

mod consumer_thread;
mod local_wait;
mod put_off;

use std::thread;

use actix::prelude::*;
use crossbeam_channel::{Sender, bounded};

use super::messages::{ConsumerDeath, ConsumerNotice};

pub(super) use self::consumer_thread::ConsumerThread;

/// The actor of consumer `<queue>-consumer-<n>`. Its thread stops when the actor ends, and reports that to the set.
pub(super) struct ConsumerActor {
    consumer_thread: Option<ConsumerThread>,
    /// Dropped to tell the thread to stop.
    stop: Option<Sender<()>>,
}

/// Tells a consumer to finish what it is running and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopConsumer;

impl ConsumerActor {
    pub(super) const fn new(consumer_thread: ConsumerThread) -> Self {
        Self {
            consumer_thread: Some(consumer_thread),
            stop: None,
        }
    }
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let Some(consumer_thread) = self.consumer_thread.take() else {
            return;
        };
        let (stop, stopped) = bounded(0);
        self.stop = Some(stop);
        let number = consumer_thread.number;
        let set = consumer_thread.set.clone();
        let spawned = thread::Builder::new()
            .name(consumer_thread.name.clone())
            .spawn(move || {
                let death = consumer_thread.run_until_stopped(&stopped);
                consumer_thread
                    .set
                    .do_send(ConsumerNotice::Down { number, death });
            });
        if let Err(error) = spawned {
            log::error!("no thread for a consumer: {error}");
            let death = Some(ConsumerDeath { attempt: None });
            set.do_send(ConsumerNotice::Down { number, death });
        }
    }
}

impl Handler<StopConsumer> for ConsumerActor {
    type Result = ();

    fn handle(&mut self, _: StopConsumer, _: &mut Context<Self>) {
        self.stop = None;
    }
}
