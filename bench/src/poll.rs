//! Readiness of many sockets, edge-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// A socket that became ready, for reading or writing or both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) number: usize,
    /// The peer sends no more: a short read does not mean that there is nothing to come.
    pub(crate) ended: bool,
}

/// A set of sockets, each with a number.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(256),
        })
    }

    /// Adds a non-blocking socket. It counts as ready at once, and after that whenever it becomes so.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, flags)?)
    }

    /// Puts the sockets that became ready into `ready`; none after `timeout`.
    pub(crate) fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        const END: epoll::EventFlags = epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP);
        ready.extend(self.events.drain(..).map(|event| {
            let flags = event.flags;
            Ready {
                number: event.data.u64() as usize,
                ended: flags.intersects(END),
            }
        }));
        Ok(())
    }
}

/// A result of a non-blocking call: `None` means not now.
pub(crate) fn now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
