//! Where documents come from: files and folders.
//!
//! A folder given to `up --config` is watched; what is in it is read whole after every change, once
//! it has been quiet for a moment, so that an editor's or a copy's half-written state is not taken.
//! Read next: `plane/change.rs`, `take_folder`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use selvedge_model::{Diagnostic, Origin};
use selvedge_telemetry::{info, warn};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use crate::document::{Document, SourceFile, parse};
use crate::plane::{ControlPlane, Gone};

/// Longest file that is read; 200,000 services are about 40 MiB.
const MAX_FILE: u64 = 64 << 20;
/// Most files in a folder.
const MAX_FILES: usize = 10_000;
/// How long a folder must be quiet before it is read...
const QUIET: Duration = Duration::from_millis(100);
/// ... and how long it is waited for that at most.
const LONGEST: Duration = Duration::from_secs(2);
/// How often a folder that cannot be watched is read.
const UNWATCHED: Duration = Duration::from_secs(10);
/// What ends a document file's name.
const SUFFIXES: [&str; 3] = [".yaml", ".yml", ".json"];

/// Reads files, the files directly in folders, and `-` as standard input. Every file that cannot be
/// read is a diagnostic.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Vec<Diagnostic>> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        let read = match path {
            path if path.as_os_str() == "-" => read_stdin().map(|file| vec![file]),
            path if path.is_dir() => read_folder(path, &mut errors),
            path => read_file(path).map(|file| vec![file]),
        };
        match read {
            Ok(mut read) => files.append(&mut read),
            Err(error) => errors.push(unreadable(path, &error)),
        }
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(errors)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let file = path.display().to_string();
    Diagnostic {
        origin: Origin { file, line: 0 },
        object: String::new(),
        path: String::new(),
        message: format!("cannot be read: {error}"),
    }
}

fn read_stdin() -> io::Result<SourceFile> {
    let text = read_bounded(io::stdin().lock())?;
    let name = "stdin".to_owned();
    Ok(SourceFile { name, text })
}

/// Whatever is at `path`, a pipe for example.
fn read_file(path: &Path) -> io::Result<SourceFile> {
    let text = read_bounded(fs::File::open(path)?)?;
    let name = path.display().to_string();
    Ok(SourceFile { name, text })
}

fn read_bounded(source: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    let length = source.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "it is longer than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}

/// The document files directly in a folder, by name. Hidden files are those of editors.
fn read_folder(folder: &Path, errors: &mut Vec<Diagnostic>) -> io::Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_document = SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        if is_document && !name.starts_with('.') && !path.is_dir() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(io::Error::other(format!(
                "it has more than {MAX_FILES} files"
            )));
        }
    }
    paths.sort_unstable();
    let mut files = Vec::new();
    for path in paths {
        // A pipe that lies there would be waited for for ever.
        let read = match fs::metadata(&path) {
            Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
            _ => read_file(&path),
        };
        match read {
            Ok(file) => files.push(file),
            Err(error) => errors.push(unreadable(&path, &error)),
        }
    }
    Ok(files)
}

/// The folder given to `up --config`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the folder and tells the control plane, at once and after every change, until the
    /// control plane is gone.
    pub async fn follow(self, plane: ControlPlane) -> Result<(), Gone> {
        loop {
            // Watched before it is read, so that no change falls between; and watched anew each
            // time, since the change may be another folder under the same name.
            let watch = Watch::new(&self.path);
            self.read(&plane).await?;
            let changed = match watch {
                Ok(watch) => watch.changed().await,
                Err(error) => Err(error),
            };
            match changed {
                Ok(()) => info!("{} has changed", self.path.display()),
                Err(error) => {
                    warn!("{} cannot be watched: {error}", self.path.display());
                    tokio::time::sleep(UNWATCHED).await;
                }
            }
        }
    }

    async fn read(&self, plane: &ControlPlane) -> Result<(), Gone> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_documents(&path)).await;
        let read = read
            .unwrap_or_else(|panic| Err(vec![unreadable(&self.path, &io::Error::other(panic))]));
        plane
            .take_folder(self.path.display().to_string(), read)
            .await
    }
}

fn read_documents(folder: &Path) -> Result<Vec<Document>, Vec<Diagnostic>> {
    if !folder.is_dir() {
        // A folder that is gone is a mistake rather than the wish to delete everything.
        let error = io::Error::other("it is not a folder");
        return Err(vec![unreadable(folder, &error)]);
    }
    let files = read_files(&[folder.to_owned()])?;
    let parsed = parse(&files)?;
    for warning in &parsed.warnings {
        warn!("{warning}");
    }
    Ok(parsed.documents)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; an OwnedFd stays what it is"
)]
fn asynchronous(events: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(events)
}

/// A watch on what is directly in a folder, and on the folder's own name.
struct Watch {
    events: AsyncFd<OwnedFd>,
    /// The watch of the folder itself, where it is there.
    folder: Option<i32>,
    name: OsString,
}

impl Watch {
    fn new(folder: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let names =
            WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let absolute = std::path::absolute(folder)?;
        let name = absolute.file_name().unwrap_or_default().to_owned();
        if let Some(parent) = absolute.parent() {
            inotify::add_watch(&events, parent, names)?;
        }
        let changes = names | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        let folder = inotify::add_watch(&events, &absolute, changes).ok();
        Ok(Self {
            events: asynchronous(events)?,
            folder,
            name,
        })
    }

    /// Returns when something has changed and the folder has been quiet since.
    async fn changed(&self) -> io::Result<()> {
        self.drain().await?;
        let latest = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            match timeout_at(quiet, self.drain()).await {
                Err(_) => return Ok(()),
                Ok(Ok(())) if Instant::now() >= latest => return Ok(()),
                Ok(drained) => drained?,
            }
        }
    }

    /// Waits for an event that concerns the folder.
    async fn drain(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let concerned = self.read_events()?;
            ready.clear_ready();
            if concerned {
                return Ok(());
            }
        }
    }

    /// Reads what is queued. Which file it was does not matter, since all are read again.
    fn read_events(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.events.get_ref(), &mut buffer);
        let mut concerned = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    let is_inside = Some(event.wd()) == self.folder;
                    concerned |= is_inside || name == Some(self.name.as_bytes());
                    // Too many to queue: some of them may have been ours.
                    concerned |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                }
                Err(Errno::WOULDBLOCK) => return Ok(concerned),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
