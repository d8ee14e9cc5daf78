//! Waiting for events: the kernel programs' ring, and cgroups that become empty.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::{RingBuffer, RingBufferBuilder};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use selvedge_model::CgroupId;
use tokio::sync::mpsc;

use crate::cgroup;
use crate::error::Error;
use crate::event::Event;
use crate::kernel::Kernel;

/// Cgroups whose emptying is awaited, by inotify watch.
#[derive(Clone)]
pub(crate) struct Watches {
    inotify: Arc<OwnedFd>,
    folders: Arc<Mutex<BTreeMap<i32, (CgroupId, PathBuf)>>>,
}

impl Watches {
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(|e| Error::system("watch cgroups")(e.into()))?;
        Ok(Self {
            inotify: Arc::new(inotify),
            folders: Arc::default(),
        })
    }

    /// Reports [`Event::Emptied`] once the cgroup has no processes.
    pub(crate) fn add(&self, cgroup: CgroupId, folder: PathBuf) -> Result<(), Error> {
        let path = folder.join("cgroup.events");
        let watch = inotify::add_watch(&*self.inotify, &path, inotify::WatchFlags::MODIFY)
            .map_err(|error| Error::file("watch", &path)(error.into()))?;
        self.folders().insert(watch, (cgroup, folder));
        Ok(())
    }

    fn folders(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, (CgroupId, PathBuf)>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has become empty among the cgroups that changed.
    fn emptied(&self) -> Vec<Event> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&*self.inotify, &mut space);
        let mut events = Vec::new();
        let mut folders = self.folders();
        while let Ok(change) = reader.next() {
            let Some((cgroup, folder)) = folders.get(&change.wd()) else {
                continue;
            };
            if !cgroup::populated(folder) {
                events.push(Event::Emptied { cgroup: *cgroup });
                folders.remove(&change.wd());
            }
        }
        events
    }
}

/// All events of the node, as they come.
///
/// One thread waits for them, so that a slow reader fills the bounded channel first and then the
/// ring, where what does not fit is counted (`SV_EVENTS_LOST`), and never holds the kernel up.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    /// Closed on drop, which ends the thread.
    _running: OwnedFd,
}

/// Events that wait to be read, beside those in the ring.
const CHANNEL_BOUND: usize = 1024;

impl Events {
    pub(crate) fn open(kernel: &Kernel, watches: Watches) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(CHANNEL_BOUND);
        let failed = || Error::map("read", "events");
        let sink = sender.clone();
        // Called from C: it must not panic, and does not. A negative answer ends a `consume`.
        let on_record = move |bytes: &[u8]| match Event::decode(bytes) {
            Some(event) if sink.blocking_send(event).is_err() => -1,
            _ => 0,
        };
        let mut builder = RingBufferBuilder::new();
        builder
            .add(kernel.map("events"), on_record)
            .map_err(failed())?;
        let ring = builder.build().map_err(failed())?;
        let records = kernel.map("events").as_fd().try_clone_to_owned();
        let records = records.map_err(Error::system("wait for events"))?;
        let (stop, running) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| Error::system("make a pipe")(error.into()))?;
        let wait = move || wait_for_events(&ring, &records, &watches, &stop, &sender);
        std::thread::Builder::new()
            .name("kernel-events".to_owned())
            .spawn(wait)
            .map_err(Error::system("start a thread"))?;
        Ok(Self {
            receiver,
            _running: running,
        })
    }

    /// The next event; `None` when the kernel can no longer be listened to. Safe to drop at any
    /// time.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

fn wait_for_events(
    ring: &RingBuffer<'_>,
    records: &OwnedFd,
    watches: &Watches,
    stop: &OwnedFd,
    sender: &mpsc::Sender<Event>,
) {
    loop {
        let mut waited = [
            PollFd::new(records, PollFlags::IN),
            PollFd::new(&*watches.inotify, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut waited, None) {
            Ok(_) if waited[2].revents().is_empty() => {}
            Err(rustix::io::Errno::INTR) => continue,
            _ => return,
        }
        if ring.consume_raw() < 0 {
            return;
        }
        for event in watches.emptied() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    }
}
