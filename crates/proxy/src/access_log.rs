//! The access log: lines of all workers, written by a thread that serves nobody.
//!
//! A worker puts its line into a buffer of its own, which the writer exchanges for an empty one; neither
//! waits for the other longer than that takes. A line that finds [`AccessLog::BUFFER_BYTES`] in the
//! buffer is dropped and counted, and so is what cannot be written. The descriptor is the agent's, which
//! may exchange it at any time.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use selvedge_feed::Counter;

use crate::counters::Counters;

/// How long lines gather before they are written, while there are any: a write for each of them would
/// cost more than they do.
const GATHERING: Duration = Duration::from_millis(10);

/// What workers, writer and feed share.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// Of so many requests one; 0 is off.
    one_of: AtomicU32,
    has_query: AtomicBool,
    file: ArcSwapOption<File>,
    /// By worker.
    buffers: Box<[Mutex<Vec<u8>>]>,
    writer: OnceLock<Thread>,
    counters: Arc<Counters>,
}

impl AccessLog {
    /// Most bytes that wait to be written, of one worker: about 2,500 lines.
    const BUFFER_BYTES: usize = 1 << 20;

    pub(crate) fn new(workers: usize, counters: Arc<Counters>) -> Self {
        Self {
            one_of: AtomicU32::new(0),
            has_query: AtomicBool::new(false),
            file: ArcSwapOption::empty(),
            buffers: (0..workers).map(|_| Mutex::default()).collect(),
            writer: OnceLock::new(),
            counters,
        }
    }

    /// Lines go to `descriptor` from here on, and so do those that wait.
    pub(crate) fn begin(&self, content: selvedge_feed::AccessLog, descriptor: OwnedFd) {
        self.file.store(Some(Arc::new(File::from(descriptor))));
        self.has_query.store(content.has_query, Relaxed);
        self.one_of.store(content.one_of.get(), Relaxed);
    }

    /// Nothing is logged any more; what waits is still written.
    pub(crate) fn end(&self) {
        self.one_of.store(0, Relaxed);
    }

    /// What the writing thread does, for ever.
    pub(crate) fn run(&self) {
        let _set_once = self.writer.set(thread::current());
        let mut pen = Pen::default();
        loop {
            while self.write_waiting(&mut pen) {
                thread::sleep(GATHERING);
            }
            // Whoever puts a line into an empty buffer ends this, also if it did so just before.
            thread::park();
        }
    }

    /// Whether there was anything.
    fn write_waiting(&self, pen: &mut Pen) -> bool {
        let mut any = false;
        for buffer in &self.buffers {
            let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut *buffer, &mut pen.batch);
            drop(buffer);
            if pen.batch.is_empty() {
                continue;
            }
            any = true;
            let dropped = pen.write(self.file.load_full().as_deref());
            if dropped > 0 {
                self.counters.add(Counter::AccessLogDropped, dropped);
            }
        }
        any
    }

    fn put(&self, worker: usize, line: &[u8]) {
        let buffer = &self.buffers[worker];
        let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() + line.len() > Self::BUFFER_BYTES {
            self.counters.count(Counter::AccessLogDropped);
            return;
        }
        let is_first = buffer.is_empty();
        buffer.extend_from_slice(line);
        drop(buffer);
        if is_first && let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// What the writing thread works with.
#[derive(Debug, Default)]
struct Pen {
    batch: Vec<u8>,
    /// What is left of a line of which part is in the file: a disk was full, for instance. It comes
    /// before all else, or a reader would find two lines as one.
    rest: Vec<u8>,
    /// The file that this line is in, by device and inode: a restarted agent opens it anew.
    file: Option<(u64, u64)>,
}

impl Pen {
    /// Writes the batch, as far as that goes; gives how many lines were lost.
    fn write(&mut self, file: Option<&File>) -> u64 {
        let metadata = file.and_then(|file| file.metadata().ok());
        let identity = metadata.map(|it| (it.dev(), it.ino()));
        let mut lost = 0;
        if self.file != identity {
            lost += lines(&mem::take(&mut self.rest));
            self.file = identity;
        }
        let Some(file) = file else {
            lost += lines(&self.batch);
            self.batch.clear();
            return lost;
        };
        let taken = write(file, &self.rest);
        self.rest.drain(..taken);
        let written = match self.rest.is_empty() {
            true => write(file, &self.batch),
            false => 0,
        };
        let left = &self.batch[written..];
        let is_torn = written > 0 && self.batch[written - 1] != b'\n';
        let torn = left.iter().position(|byte| *byte == b'\n' && is_torn);
        let (torn, left) = left.split_at(torn.map_or(0, |end| end + 1));
        self.rest.extend_from_slice(torn);
        lost += lines(left);
        self.batch.clear();
        lost
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes until all is written or no more can be; gives how much was.
fn write(mut file: &File, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(count @ 1..) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    written
}

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Logger {
    log: Arc<AccessLog>,
    worker: usize,
    /// Requests since the last one that was drawn.
    passed: Cell<u32>,
    line: RefCell<Vec<u8>>,
}

impl Logger {
    pub(crate) fn new(log: Arc<AccessLog>, worker: usize) -> Self {
        Self {
            log,
            worker,
            passed: Cell::new(0),
            line: RefCell::default(),
        }
    }

    /// Whether a request is to be logged that was refused, or was not.
    pub(crate) fn wants(&self, is_refused: bool) -> bool {
        let one_of = self.log.one_of.load(Relaxed);
        if one_of == 0 || is_refused {
            return one_of != 0;
        }
        let passed = self.passed.get() + 1;
        let is_drawn = passed >= one_of;
        self.passed.set(if is_drawn { 0 } else { passed });
        is_drawn
    }

    pub(crate) fn has_query(&self) -> bool {
        self.log.has_query.load(Relaxed)
    }

    /// Logs the line that `write` makes.
    pub(crate) fn log(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut line = self.line.borrow_mut();
        line.clear();
        write(&mut line);
        self.log.put(self.worker, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn log() -> (Arc<AccessLog>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Arc::new(AccessLog::new(1, counters.clone())), counters)
    }

    fn one_of(number: u32) -> selvedge_feed::AccessLog {
        selvedge_feed::AccessLog {
            one_of: NonZeroU32::new(number).unwrap(),
            has_query: false,
        }
    }

    #[test]
    fn one_of_so_many_is_drawn_and_every_refusal() {
        let (log, _) = log();
        let logger = Logger::new(log.clone(), 0);
        assert!(!logger.wants(false) && !logger.wants(true), "it is off");
        log.begin(one_of(4), tempfile::tempfile().unwrap().into());
        let drawn = (0..40).filter(|_| logger.wants(false)).count();
        assert_eq!(drawn, 10);
        assert!((0..10).all(|_| logger.wants(true)));
        log.end();
        assert!(!logger.wants(true));
    }

    /// A pipe takes part of a line and then no more, as a full disk does.
    #[test]
    fn a_line_that_was_torn_is_finished_before_the_next() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let file = File::from(OwnedFd::from(writer));
        // As the next agent opens it.
        let again = file.try_clone().unwrap();
        let line = [b"x".repeat(1022), b"\n".to_vec()].concat();
        let mut pen = Pen::default();
        let mut put = |count: usize, file: &File| {
            pen.batch = line.repeat(count);
            pen.write(Some(file))
        };
        let first = put(200, &file);
        assert!(first > 0, "64 KiB fit into a pipe");
        assert_eq!(put(1, &file), 1, "none fits");
        let mut read = vec![0; 32 << 10];
        std::io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(put(10, &again), 0, "there is room");
        drop((pen, file, again));
        std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
        let whole = 200 - first as usize + 10;
        assert_eq!(read, line.repeat(whole));
    }

    #[test]
    fn a_full_buffer_drops_lines_and_counts_them() {
        let (log, counters) = log();
        let logger = Logger::new(log.clone(), 0);
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..1030 {
            logger.log(|out| out.extend_from_slice(&line));
        }
        let dropped = || counters.report().counters[&Counter::AccessLogDropped];
        assert_eq!(dropped(), 6);
        // There is no file: the others are lost too, and there is room again.
        assert!(log.write_waiting(&mut Pen::default()));
        assert_eq!(dropped(), 1030);
        logger.log(|out| out.extend_from_slice(&line));
        assert_eq!(dropped(), 1030);
    }
}
