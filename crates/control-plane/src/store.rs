//! Durable state: one file per generation, each holding the whole object set.
//!
//! A generation is written beside, synced, renamed into place, and the folder synced; so after a
//! power loss at any moment the last generation or the one before it is there, and a file that
//! does not match its checksum is passed over. The last [`KEPT`] are kept. Read next:
//! `store/files.rs` for the system calls, `store/tests.rs` for the power losses.

mod files;

use std::io;

use selvedge_model::{Diagnostic, Generation, Origin};
use serde_json::json;

use crate::document;
use crate::objects::{Object, Objects, Owner};

pub use files::{Disk, Files};

/// Generations that stay in the folder.
const KEPT: usize = 4;
/// First word and layout of every file.
const MAGIC: &str = "selvedge-state 1";
const PREFIX: &str = "generation-";
const SUFFIX: &str = ".state";
/// What is added to the name of a file that was set aside.
const ASIDE: &str = ".aside";
const UNFINISHED: &str = "unfinished.tmp";

/// Where generations are kept.
#[derive(Debug)]
pub struct Store<F = Disk> {
    files: F,
}

/// What the newest readable generation holds.
#[derive(Debug, Default)]
pub struct Restored {
    /// Its number; 0 where nothing was stored yet.
    pub generation: Generation,
    /// Its objects.
    pub objects: Objects,
    /// Newer files that are damaged, and objects that are not understood.
    pub left_out: Vec<StoreError>,
}

/// What went wrong with the state folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        what: &'static str,
    },
    /// There are generations, but none that can be read. To go on without them would take away what
    /// the kernel still serves, and in time the files too.
    #[error(
        "none of its {count} generations can be read: {newest}.\n\
         Start the version of selvedge that wrote them, or move the folder away to begin with nothing"
    )]
    Unreadable {
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<StoreError>,
    },
    /// A file holds an object that this version does not understand.
    #[error("{file} holds an object that this version does not understand: {first}")]
    Incompatible {
        /// The file.
        file: String,
        /// The first thing wrong.
        first: Box<Diagnostic>,
    },
}

impl<F: Files> Store<F> {
    /// Removes every stored generation, for a node that is to leave nothing behind.
    pub fn remove_all(files: &mut F) -> std::io::Result<()> {
        for name in files.list()? {
            let file = name.strip_suffix(ASIDE).unwrap_or(&name);
            if file == UNFINISHED || (file.starts_with(PREFIX) && file.ends_with(SUFFIX)) {
                files.remove(&name)?;
            }
        }
        files.sync_folder()
    }

    /// Opens the folder and reads the newest generation in it that can be read.
    pub fn open(files: F) -> Result<(Self, Restored), StoreError> {
        let mut store = Self { files };
        let mut restored = Restored::default();
        let generations = store.generations()?;
        let count = generations.len();
        for (generation, file) in generations {
            match store.read(generation, &file) {
                Ok(read) => {
                    store.set_aside(&file, &read)?;
                    restored.generation = generation;
                    restored.objects = Objects::restored(read.objects);
                    restored.left_out.extend(read.not_understood);
                    return Ok((store, restored));
                }
                Err(error) => restored.left_out.push(error),
            }
        }
        match restored.left_out.into_iter().next() {
            None => Ok((store, Restored::default())),
            Some(newest) => Err(StoreError::Unreadable {
                count,
                newest: newest.into(),
            }),
        }
    }

    /// Keeps a file that holds more than this version understands: the next generations are without
    /// it, and the version that wrote it may come back.
    fn set_aside(&mut self, file: &str, read: &Decoded) -> Result<(), StoreError> {
        if read.not_understood.is_empty() {
            return Ok(());
        }
        let bytes = self.files.read(file).map_err(failed("read", file))?;
        let aside = format!("{file}{ASIDE}");
        self.files
            .write(&aside, &bytes)
            .map_err(failed("write", &aside))?;
        self.files.sync(&aside).map_err(failed("sync", &aside))
    }

    /// Makes a generation durable. After an error the one before is still the newest.
    pub fn save(&mut self, generation: Generation, objects: &Objects) -> Result<(), StoreError> {
        let name = format!("{PREFIX}{:020}{SUFFIX}", generation.0);
        let written = self.write(&name, &encode(generation, objects));
        if written.is_err() {
            // What was refused must not be there after the next start.
            let _ = self.files.remove(UNFINISHED);
            let _ = self.files.remove(&name);
            return written;
        }
        self.prune();
        Ok(())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let files = &mut self.files;
        files
            .write(UNFINISHED, bytes)
            .map_err(failed("write", UNFINISHED))?;
        files.sync(UNFINISHED).map_err(failed("sync", UNFINISHED))?;
        files
            .rename(UNFINISHED, name)
            .map_err(failed("rename to", name))?;
        files
            .sync_folder()
            .map_err(failed("sync the folder of", name))
    }

    /// Removes what is too old. What cannot be removed costs space and is tried again next time.
    fn prune(&mut self) {
        for (_, file) in self
            .generations()
            .unwrap_or_default()
            .into_iter()
            .skip(KEPT)
        {
            let _ = self.files.remove(&file);
        }
    }

    /// Files of generations, newest first.
    fn generations(&self) -> Result<Vec<(Generation, String)>, StoreError> {
        let files = self
            .files
            .list()
            .map_err(failed("list", "the state folder"))?;
        let numbered = files.into_iter().filter_map(|file| {
            let number = file
                .strip_prefix(PREFIX)?
                .strip_suffix(SUFFIX)?
                .parse()
                .ok()?;
            Some((Generation(number), file))
        });
        let mut generations: Vec<_> = numbered.collect();
        generations.sort_unstable_by(|one, other| other.cmp(one));
        Ok(generations)
    }

    fn read(&self, generation: Generation, file: &str) -> Result<Decoded, StoreError> {
        let bytes = self.files.read(file).map_err(failed("read", file))?;
        decode(file, generation, &bytes)
    }
}

fn failed<'a>(action: &'static str, file: &'a str) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        action,
        file: file.to_owned(),
        source,
    }
}

/// A header line with length and checksum, then one object a line.
fn encode(generation: Generation, objects: &Objects) -> Vec<u8> {
    let mut body = Vec::new();
    for object in objects.iter() {
        let line = json!({
            "owner": match object.owner {
                Owner::Folder => "folder",
                Owner::Api => "api",
            },
            "version": object.version.0,
            "file": object.document.origin.file,
            "line": object.document.origin.line,
            "object": object.document.to_json(),
        });
        body.extend_from_slice(line.to_string().as_bytes());
        body.push(b'\n');
    }
    let header = header(generation, &body);
    [header.into_bytes(), body].concat()
}

/// The line that proves the rest: it is made again on reading and compared.
fn header(generation: Generation, body: &[u8]) -> String {
    let checksum = crc32fast::hash(body);
    format!("{MAGIC} {generation} {} {checksum:08x}\n", body.len())
}

fn decode(file: &str, generation: Generation, bytes: &[u8]) -> Result<Decoded, StoreError> {
    let damaged = |what| StoreError::Damaged {
        file: file.to_owned(),
        what,
    };
    if !bytes.starts_with(MAGIC.as_bytes()) {
        return Err(damaged("its layout is not known"));
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (found, body) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
    if found != header(generation, body).as_bytes() {
        return Err(damaged("length or checksum are not those written"));
    }
    let lines = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let mut read = Decoded::default();
    for line in lines {
        match decode_object(file, line) {
            Ok(object) => read.objects.push(object),
            Err(error) => read.not_understood.push(error),
        }
    }
    Ok(read)
}

/// What an undamaged file holds.
#[derive(Debug, Default)]
struct Decoded {
    objects: Vec<Object>,
    /// Objects of another version of this program.
    not_understood: Vec<StoreError>,
}

fn decode_object(file: &str, line: &[u8]) -> Result<Object, StoreError> {
    let damaged = |what| StoreError::Damaged {
        file: file.to_owned(),
        what,
    };
    let mut line: serde_json::Value =
        serde_json::from_slice(line).map_err(|_| damaged("an object is no JSON"))?;
    let owner = match line["owner"].as_str() {
        Some("folder") => Owner::Folder,
        Some("api") => Owner::Api,
        _ => return Err(damaged("an object has no owner")),
    };
    let version = line["version"]
        .as_u64()
        .ok_or(damaged("an object has no version"))?;
    let origin = Origin {
        file: line["file"].as_str().unwrap_or_default().to_owned(),
        line: line["line"]
            .as_u64()
            .and_then(|line| u32::try_from(line).ok())
            .unwrap_or(0),
    };
    let read = document::from_json(file, line["object"].take());
    let mut document = read.map_err(|errors| match errors.into_iter().next() {
        Some(first) => StoreError::Incompatible {
            file: file.to_owned(),
            first: Box::new(first),
        },
        None => damaged("an object is not one object"),
    })?;
    document.origin = origin;
    Ok(Object {
        document,
        owner,
        version: Generation(version),
    })
}

#[cfg(test)]
mod tests;
