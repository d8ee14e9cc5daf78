//! The journal of controllers on disk: bounded, and read back after a crash.
//!
//! A journal is a folder of segments, each named by the number of its first entry. A segment is frames of
//! [`JournalPart`], and begins with the states of all controllers, so that it can be replayed alone. What was
//! being written at a crash is cut off when the journal is opened again; the kernel is not asked to have anything
//! on the disk before the segment is over, so that a power loss may take the last one. Read next: `pilot.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use selvedge_feed::{DecodeError, Decoder, FrameError, JournalPart};

const SUFFIX: &str = ".journal";
/// Bytes of a segment after which another is wanted.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes after which it ends even if no states came to begin another with.
const LONGEST_SEGMENT: u64 = 2 * SEGMENT_BYTES;
/// Bytes of all segments before the last one.
const KEPT_BYTES: u64 = 32 << 20;
/// How many of these there are at most: each start of an agent or a proxy begins one.
const KEPT: usize = 64;
/// Read at once.
const CHUNK: usize = 64 << 10;

/// Where entries are appended.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    file: Option<File>,
    bytes: u64,
}

/// What is known from the last segment of an earlier agent.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The number of the entry to come.
    pub(crate) next: u64,
    /// Its parts.
    pub(crate) parts: Vec<JournalPart>,
    /// Why there are no more. What is read no further stays as it is.
    pub(crate) damage: Option<JournalError>,
}

impl Journal {
    /// Opens the journal in a folder, which is made where it is not there, and cuts off what a crash left in
    /// pieces.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Left), JournalError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(failed("create", folder))?;
        let mut journal = Self {
            folder: folder.to_owned(),
            file: None,
            bytes: 0,
        };
        let mut left = Left {
            next: 1,
            ..Left::default()
        };
        if let Some(last) = segments(folder)?.pop() {
            let mut reader = Reader::open(&last.path)?;
            left.next = last.first;
            loop {
                match reader.next_part() {
                    Ok(Some(part)) => {
                        let count = part.entries.len() as u64;
                        left.next = part.number.saturating_add(count);
                        left.parts.push(part);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        // Another segment begins behind it.
                        left.next = u64::max(left.next, last.first + 1);
                        left.damage = Some(error);
                        return Ok((journal, left));
                    }
                }
            }
            let file = OpenOptions::new().append(true).open(&last.path);
            let file = file.map_err(failed("open", &last.path))?;
            let cut = file.set_len(reader.whole);
            cut.map_err(failed("shorten", &last.path))?;
            (journal.file, journal.bytes) = (Some(file), reader.whole);
        }
        Ok((journal, left))
    }

    /// Whether it is time for a part that begins with states.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes >= SEGMENT_BYTES
    }

    /// Appends a part, whose entries have their numbers.
    pub(crate) fn append(&mut self, part: JournalPart) -> Result<(), JournalError> {
        if part.is_beginning || self.file.is_none() || self.bytes >= LONGEST_SEGMENT {
            self.begin(part.number)?;
        }
        let frame = part.encode();
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if let Err(source) = file.write_all(&frame) {
            // What is in pieces is cut off; what comes next begins another segment.
            let _broken = file.set_len(self.bytes);
            self.file = None;
            return Err(failed("write to", &self.folder)(source));
        }
        self.bytes += frame.len() as u64;
        Ok(())
    }

    fn begin(&mut self, number: u64) -> Result<(), JournalError> {
        if let Some(file) = self.file.take() {
            file.sync_data().map_err(failed("sync", &self.folder))?;
        }
        let path = self.folder.join(format!("{number:020}{SUFFIX}"));
        let mut options = OpenOptions::new();
        // One of this number is there if nothing was written since it began: it begins again.
        options.append(true).create(true).mode(0o600);
        let file = options.open(&path).map_err(failed("create", &path))?;
        let length = file.metadata().map_err(failed("look at", &path))?.len();
        (self.file, self.bytes) = (Some(file), length);
        self.make_room()
    }

    /// Removes the oldest segments where there are too many before the last.
    fn make_room(&self) -> Result<(), JournalError> {
        let mut bytes = 0;
        let before = segments(&self.folder)?.into_iter().rev().skip(1);
        for (place, segment) in before.enumerate() {
            let length = fs::metadata(&segment.path).map_err(failed("look at", &segment.path))?;
            bytes += length.len();
            if place >= KEPT || bytes > KEPT_BYTES {
                fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
            }
        }
        Ok(())
    }
}

/// A file of a journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The number of its first entry.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The segments of a journal, the oldest first.
///
/// # Errors
/// Where the folder cannot be read; one that is not there has none.
pub fn segments(folder: &Path) -> Result<Vec<Segment>, JournalError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", folder))?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let first = name.and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        segments.extend(first.map(|first| Segment { first, path }));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Removes a journal, for a node that is to leave nothing behind. What is none of it stays.
///
/// # Errors
/// Where a segment cannot be removed.
pub(crate) fn remove_segments(folder: &Path) -> Result<(), JournalError> {
    for segment in segments(folder)? {
        fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
    }
    Ok(())
}

/// Reads a segment.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    decoder: Decoder,
    chunk: Vec<u8>,
    /// Bytes of whole parts so far.
    whole: u64,
    read: u64,
}

impl Reader {
    /// Begins to read a segment.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(failed("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            decoder: Decoder::new(JournalPart::MAX_BYTES),
            chunk: vec![0; CHUNK],
            whole: 0,
            read: 0,
        })
    }

    /// The next part; `None` at the end, and before one that a crash left in pieces.
    ///
    /// # Errors
    /// Where the file cannot be read or is no segment of a journal of this version.
    pub fn next_part(&mut self) -> Result<Option<JournalPart>, JournalError> {
        let damaged = |path: &Path, source| JournalError::Damaged {
            path: path.to_owned(),
            source,
        };
        loop {
            let message = self.decoder.next_message();
            match message.map_err(|error| damaged(&self.path, error.into()))? {
                Some(message) => {
                    self.whole += 4 + message.len() as u64;
                    let part = JournalPart::decode(message);
                    return part
                        .map(Some)
                        .map_err(|error| damaged(&self.path, error.into()));
                }
                None => {
                    let length = self.file.read(&mut self.chunk);
                    let length = length.map_err(failed("read", &self.path))?;
                    if length == 0 {
                        return Ok(None);
                    }
                    self.read += length as u64;
                    self.decoder.push(&self.chunk[..length]);
                }
            }
        }
    }

    /// Bytes behind the last whole part, at the end.
    pub const fn torn(&self) -> u64 {
        self.read - self.whole
    }
}

/// What went wrong with a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} is no segment of a journal, or of another version", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Unread,
    },
}

/// Why bytes are no part of a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unread {
    /// They are too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// They say nothing of a journal.
    #[error(transparent)]
    Part(#[from] DecodeError),
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::{JournalEntry, JournalEvent, Limited};

    fn part(number: u64, is_beginning: bool, count: usize) -> JournalPart {
        let about = Limited::Entry {
            service: "cart".parse().unwrap(),
            route: "r".repeat(500),
        };
        let event = JournalEvent::Gone;
        JournalPart {
            epoch_unix_ns: 1,
            sequence: number,
            number,
            is_beginning,
            entries: vec![JournalEntry { about, event }; count],
        }
    }

    fn read(folder: &Path) -> Vec<JournalPart> {
        let mut parts = Vec::new();
        for segment in segments(folder).unwrap() {
            let mut reader = Reader::open(&segment.path).unwrap();
            while let Some(part) = reader.next_part().unwrap() {
                parts.push(part);
            }
            assert_eq!(reader.torn(), 0);
        }
        parts
    }

    /// After a crash at any byte what was whole is there, and what is appended follows on it.
    #[test]
    fn what_a_crash_left_in_pieces_is_cut_off() {
        let whole = [part(1, true, 2), part(3, false, 1)];
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, left) = Journal::open(folder.path()).unwrap();
        assert_eq!((left.next, left.parts.len()), (1, 0));
        whole
            .iter()
            .for_each(|part| journal.append(part.clone()).unwrap());
        drop(journal);
        let path = segments(folder.path()).unwrap().remove(0).path;
        let bytes = fs::read(&path).unwrap();
        let first = whole[0].clone().encode().len();
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, left) = Journal::open(folder.path()).unwrap();
            let there = usize::from(cut >= first) + usize::from(cut == bytes.len());
            assert_eq!(left.parts, whole[..there]);
            assert_eq!(left.next, [1, 3, 4][there]);
            journal.append(part(left.next, false, 1)).unwrap();
            let all = read(folder.path());
            assert_eq!(all[..there], whole[..there]);
            assert_eq!(all[there..], [part(left.next, false, 1)]);
        }
    }

    #[test]
    fn a_journal_is_bounded_and_its_segments_begin_with_states() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let mut next = 1;
        let mut begins = true;
        for _ in 0..1600 {
            // Of the sixth segment on nobody sends states.
            journal.append(part(next, begins, 100)).unwrap();
            next += 100;
            begins = journal.is_full() && next < 60_000;
        }
        let sizes = segments(folder.path()).unwrap();
        let lengths = sizes.iter().map(|it| fs::metadata(&it.path).unwrap().len());
        let longest = LONGEST_SEGMENT + JournalPart::MAX_BYTES as u64;
        assert!(lengths.clone().all(|length| length < longest));
        let bytes: u64 = lengths.sum();
        assert!(
            (KEPT_BYTES - longest..KEPT_BYTES + longest).contains(&bytes),
            "{bytes}"
        );
        let kept = read(folder.path());
        assert!(kept[0].number > 1);
        let mut expected = kept[0].number;
        for part in &kept {
            assert_eq!(part.number, expected);
            expected += 100;
        }
        assert_eq!(expected, next);
        let (_, left) = Journal::open(folder.path()).unwrap();
        assert_eq!(left.next, next);
    }

    #[test]
    fn what_is_no_journal_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000000000000000007.journal");
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\x00\x00\x00\x01\xff"] {
            fs::write(&path, bytes).unwrap();
            let (mut journal, left) = Journal::open(folder.path()).unwrap();
            let error = left.damage.unwrap().to_string();
            assert!(error.contains("0007.journal"), "{error}");
            journal.append(part(left.next, false, 1)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes, "it is nobody's to remove");
            let behind = segments(folder.path()).unwrap().pop().unwrap();
            assert_eq!(behind.first, 8);
            fs::remove_file(behind.path).unwrap();
        }
        // Of those that one start after another began the last are kept.
        for number in 8..200 {
            let (mut journal, left) = Journal::open(folder.path()).unwrap();
            assert_eq!(left.next, number);
            journal.append(part(number, true, 1)).unwrap();
        }
        assert_eq!(segments(folder.path()).unwrap().len(), KEPT + 1);
        remove_segments(folder.path()).unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let (_, left) = Journal::open(folder.path()).unwrap();
        assert_eq!(left.next, 1);
        remove_segments(folder.path()).unwrap();
        assert!(folder.path().join("notes.txt").exists());
        assert!(segments(&folder.path().join("none")).unwrap().is_empty());
    }
}
