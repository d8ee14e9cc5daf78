//! Waiting for many sockets at once, and for an instant (epoll(7), timerfd_create(2)).
//!
//! One thread, level-triggered listeners, edge-triggered streams: a stream is told of once until it
//! has been read empty, which a read that fills less than the buffer shows without another call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Most sockets told of in one turn.
const READY: usize = 256;
/// The timer's token; owners use the numbers below.
const TIMER: u64 = u64::MAX;

/// The number that its owner gave to a socket.
pub(crate) type Token = u64;

/// A socket that something can be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    /// Behind what can be read, the end has come: read until it is met.
    pub(crate) is_ending: bool,
}

/// The sockets of one thread.
pub(crate) struct Poller {
    epoll: OwnedFd,
    /// epoll itself counts in milliseconds; arrivals come more densely than that.
    timer: OwnedFd,
    armed_ns: u64,
    ready: Vec<epoll::Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(TIMER);
        let when = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, data, when)?;
        Ok(Self {
            epoll,
            timer,
            armed_ns: 0,
            ready: Vec::with_capacity(READY),
        })
    }

    /// Tells of a listener for as long as connections wait in it.
    pub(crate) fn add_listener(&self, listener: impl AsFd, token: Token) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(
            &self.epoll,
            listener,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Tells of a stream each time that something comes, or that there is room again. Closing the
    /// stream ends it.
    pub(crate) fn add_stream(&self, stream: impl AsFd, token: Token) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        let when = both | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, stream, data, when)?)
    }

    /// Waits until a socket is ready, `until_ns` on the monotonic clock has come, or 50 ms are over,
    /// so that the wish to end is seen. Puts what is ready into `ready`.
    pub(crate) fn wait(&mut self, until_ns: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        if let Some(until_ns) = until_ns {
            self.arm(until_ns)?;
        }
        let most = Timespec {
            tv_sec: 0,
            tv_nsec: crate::interrupt::GLANCE.as_nanos() as _,
        };
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ends = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let met = self.ready.iter().map(|event| Ready {
            token: event.data.u64(),
            is_ending: { event.flags }.intersects(ends),
        });
        ready.extend(met.filter(|met| met.token != TIMER));
        Ok(())
    }

    /// Lets the timer go off at an instant; one that has passed does at once.
    fn arm(&mut self, at_ns: u64) -> io::Result<()> {
        if self.armed_ns == at_ns {
            return Ok(());
        }
        self.armed_ns = at_ns;
        let at = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (at_ns / 1_000_000_000) as _,
                tv_nsec: (at_ns % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &at)?;
        Ok(())
    }
}
