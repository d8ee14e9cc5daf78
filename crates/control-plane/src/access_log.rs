//! Where the proxy's access log goes: opened here, since the proxy can open nothing, and opened again when
//! somebody has moved the file away.
//!
//! The descriptor travels beside a frame of the feed (unix(7), `SCM_RIGHTS`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use selvedge_feed::ToProxy;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// An access log that was asked for.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where it goes.
    pub target: LogTarget,
    /// What it has.
    pub content: selvedge_feed::AccessLog,
}

/// Where an access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output of this process.
    Output,
    /// A file, appended to.
    File(PathBuf),
}

impl LogTarget {
    /// Opens it; a file that is not there is made, readable for root and the group.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Output => io::stdout().as_fd().try_clone_to_owned(),
            Self::File(path) => append(path).map(Into::into),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

/// The descriptor that the proxy of one connection has.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Device and inode, where it is a file.
    identity: Option<(u64, u64)>,
}

impl AccessLog {
    /// Whether the proxy has to be handed the log once more: the file it has is no longer at its path.
    pub(crate) fn has_moved(&self, handed: &Handed) -> bool {
        match &self.target {
            LogTarget::Output => false,
            LogTarget::File(path) => {
                fs::metadata(path).ok().map(|it| identity(&it)) != handed.identity
            }
        }
    }

    /// Opens the log and hands it to the proxy.
    pub(crate) async fn hand_over(&self, proxy: &UnixStream) -> io::Result<Handed> {
        let descriptor = self.target.open()?;
        let file = File::from(descriptor);
        let is_file = matches!(self.target, LogTarget::File(_));
        let handed = Handed {
            identity: is_file
                .then(|| file.metadata())
                .transpose()?
                .as_ref()
                .map(identity),
        };
        let frame = ToProxy::AccessLog(Some(self.content)).encode();
        let send = || send_beside(proxy, &frame, &file);
        proxy.async_io(Interest::WRITABLE, send).await?;
        Ok(handed)
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn send_beside(proxy: &UnixStream, frame: &[u8], file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let parts = [IoSlice::new(frame)];
    let sent = sendmsg(proxy, &parts, &mut control, SendFlags::NOSIGNAL)?;
    // A unix stream takes so short a message whole.
    match sent == frame.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}
