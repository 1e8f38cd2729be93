//! A consumer: one thread, which runs one task at a time.

mod local_wait;
mod put_off;
mod worker;

use std::thread;

use actix::prelude::*;
use crossbeam_channel::{Sender, bounded};

use super::messages::{ConsumerDeath, ConsumerNotice};

pub(super) use self::worker::Worker;

/// The actor of consumer `<queue>-consumer-<n>`. Its thread stops when the actor ends, and reports that to the set.
pub(super) struct ConsumerActor {
    worker: Option<Worker>,
    /// Dropped to tell the thread to stop.
    stop: Option<Sender<()>>,
}

/// Tells a consumer to finish what it is running and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopConsumer;

impl ConsumerActor {
    pub(super) const fn new(worker: Worker) -> Self {
        Self {
            worker: Some(worker),
            stop: None,
        }
    }
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let (stop, stopped) = bounded(0);
        self.stop = Some(stop);
        let number = worker.number;
        let set = worker.set.clone();
        let spawned = thread::Builder::new()
            .name(worker.name.clone())
            .spawn(move || {
                let death = worker.run_until_stopped(&stopped);
                worker.set.do_send(ConsumerNotice::Down { number, death });
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
