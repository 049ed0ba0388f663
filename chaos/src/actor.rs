//! What a daemon's process and a phone's have in common: both do what they are told, take what comes by their link, say
//! something now and then, and tell what becomes of their connection.

use crate::report::{Event, Order, orders, tell};
use relay_client::{ConnectError, Stop};
use relay_sim::rng::Rng;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// What is next for one.
pub(crate) enum Next<E> {
    /// Its link says something; `None`: nothing more.
    Event(Option<E>),
    /// It is time to say something.
    Speak,
    /// It is told something that only one of the two understands.
    Order(Order),
    /// It is to say what it knows, under this number.
    Report(u64),
    /// It is to close, and end.
    Quit,
}

/// The owner of one link.
pub(crate) struct Actor {
    orders: UnboundedReceiver<Order>,
    rng: Rng,
    /// Its link has a connection.
    pub(crate) connected: bool,
    /// Between two frames of its own, on the average.
    every_ms: u64,
    next_send: Instant,
    hush: bool,
}

impl Actor {
    /// One that says something every so often on the average; with 0, only when told.
    pub(crate) fn new(process: u64, every_ms: u64) -> Self {
        Self {
            orders: orders(),
            rng: Rng::new(process),
            connected: false,
            every_ms,
            next_send: Instant::now(),
            hush: every_ms == 0,
        }
    }

    /// Waits for what is next.
    pub(crate) async fn next<E>(&mut self, event: impl Future<Output = Option<E>>) -> Next<E> {
        let mut event = std::pin::pin!(event);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Hush) => self.hush = true,
                    Some(Order::Speak) => self.hush = false,
                    Some(Order::Report(number)) => return Next::Report(number),
                    Some(Order::Quit) | None => return Next::Quit,
                    Some(order) => return Next::Order(order),
                },
                event = &mut event => return Next::Event(event),
                () = sleep_until(self.next_send), if self.connected && !self.hush => {
                    let pause_ms = self.rng.within(self.every_ms / 2..self.every_ms * 3 / 2);
                    self.next_send = Instant::now() + Duration::from_millis(pause_ms);
                    return Next::Speak;
                }
            }
        }
    }

    /// Bytes of padding for a frame, fewer than `most`: the more, the rarer.
    pub(crate) fn pad(&mut self, most: u64) -> usize {
        self.rng.time_ms(1..most).as_millis() as usize
    }

    /// One of these, by chance.
    pub(crate) fn choose<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        self.rng.choose(of)
    }

    /// Its link is connected.
    pub(crate) fn connected(&mut self) {
        self.connected = true;
        tell(&Event::Connected);
    }

    /// Its link lost the connection.
    pub(crate) fn lost(&mut self, code: Option<u16>, reason: String) {
        self.connected = false;
        tell(&Event::Lost { code, reason });
    }
}

/// Its link got no connection.
pub(crate) fn dial_failed(error: &ConnectError) {
    tell(&Event::Failed {
        error: error.to_string(),
    });
}

/// Its link gave up for good.
pub(crate) fn stopped(why: Stop) {
    tell(&Event::Stopped {
        why: format!("{why:?}"),
    });
}

/// What came by its link is nothing that the other side says.
pub(crate) fn not_understood(frame: &[u8]) {
    let start = String::from_utf8_lossy(&frame[..frame.len().min(200)]);
    tell(&Event::Wrong(format!("got what nobody sent: {start}")));
}

/// A promise was broken.
pub(crate) fn wrong(what: String) {
    tell(&Event::Wrong(what));
}
