//! Keeping the proxy alive, and its sockets served or closed.
//!
//! The agent owns the listening sockets and hands copies to the proxy, never the other way. While
//! the proxy restarts, what arrives waits in the sockets, look-ups and connections to services alike;
//! when it stays away for longer than [`PATIENCE`] the sockets are closed, which resets the connections
//! that wait there. Then the kernel programs let look-ups go where programs sent them, and connections
//! to an endpoint directly, or refuse them where a rule would not be kept. Without an agent the sockets
//! end with the proxy, and all that at once. A restarted agent finds the living proxy by its
//! reconnecting, and hands it new sockets.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;

/// How long a proxy may be away before its sockets are closed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait before another try to start it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a proxy whose connection has ended may take to end itself.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a restarted agent waits for the proxy that its predecessor left: the proxy tries to
/// reconnect at least twice in that time.
const ADOPTION: Duration = Duration::from_millis(1200);

/// The user a proxy runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// How to run the proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Program and arguments; the feed socket's path is appended.
    pub command: Vec<String>,
    /// Who it runs as.
    pub user: ProxyUser,
    /// Where the agent listens for it.
    pub feed: PathBuf,
    /// File that names the running proxy, for the next agent.
    pub pid_file: PathBuf,
}

/// A proxy that has connected and has its sockets.
#[derive(Debug)]
pub struct Link {
    /// The feed connection.
    pub stream: tokio::net::UnixStream,
    /// The proxy's process.
    pub pid: i32,
    /// To be told when the connection has ended or the proxy has been found to hang.
    pub over: oneshot::Sender<()>,
}

/// A proxy's process.
struct Running {
    pid: i32,
    /// How long it may take to connect.
    patience: Duration,
    /// How it ends. Of another agent's child nobody is told.
    status: Option<oneshot::Receiver<ExitStatus>>,
}

/// What the supervisor needs done to sockets, by whoever owns the node.
pub trait Sockets {
    /// Opens the sockets if they are closed, and hands copies over `stream`.
    fn hand_over(&mut self, stream: &UnixStream) -> Result<(), Error>;
    /// Closes the agent's copies of those that programs are led to, so that the kernel's fallbacks take
    /// over.
    fn close(&mut self);
    /// Moves the proxy's process into its cgroup.
    fn adopt(&mut self, pid: i32) -> Result<(), Error>;
}

/// Runs the proxy for ever; ends only with an error that a retry cannot mend, or when `links` is
/// closed. The proxy itself is left running then.
pub async fn supervise(
    options: ProxyOptions,
    mut sockets: impl Sockets,
    links: mpsc::Sender<Link>,
    report: impl Fn(&str),
) -> Result<(), Error> {
    let listener = listen(&options)?;
    let mut pause = Duration::ZERO;
    let mut adopting = living_proxy(&options.pid_file, &options.feed)
        .filter(|(_, user)| *user == options.user)
        .map(|(pid, _)| pid);
    loop {
        let mut running = match adopting.take() {
            Some(pid) => Running {
                pid,
                patience: ADOPTION,
                status: None,
            },
            None => {
                sleep(pause).await;
                start(&options, &mut sockets)?
            }
        };
        let stream = match running
            .connect(accept(&listener, &options, running.pid))
            .await
        {
            Ok(stream) => stream,
            Err(how) => {
                report(&format!(
                    "{how}; the kernel path goes on without the proxy until one answers"
                ));
                sockets.close();
                pause = (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
                continue;
            }
        };
        let since = Instant::now();
        if let Some(ended) = link(stream, running.pid, &mut sockets, &links).await? {
            if ended.await.is_err() && links.is_closed() {
                return Ok(());
            }
        } else {
            return Ok(());
        }
        let how = running.end().await;
        report(&format!("the proxy has ended ({how}); starting another"));
        // One that lived is restarted at once; one that keeps dying is given more and more time,
        // and its sockets are closed once that is longer than callers should wait.
        pause = match since.elapsed() > LONGEST_PAUSE {
            true => Duration::ZERO,
            false => (pause * 2).clamp(Duration::from_millis(20), LONGEST_PAUSE),
        };
        if pause >= PATIENCE {
            sockets.close();
        }
    }
}

impl Running {
    /// Its connection, or why there is none: then its process has ended.
    async fn connect(
        &mut self,
        accepting: impl Future<Output = tokio::net::UnixStream>,
    ) -> Result<tokio::net::UnixStream, String> {
        let ending = async {
            match &mut self.status {
                Some(status) => status.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            connected = timeout(self.patience, accepting) => connected.map_err(|_| {
                end(self.pid);
                "the proxy does not answer".to_owned()
            }),
            Ok(status) = ending => Err(format!("the proxy has ended before it served ({status})")),
        }
    }

    /// Ends it where it does not end itself; says how it ended.
    async fn end(self) -> String {
        let Some(mut status) = self.status else {
            end(self.pid);
            return "started by an earlier agent".to_owned();
        };
        if let Ok(Ok(status)) = timeout(FAREWELL, &mut status).await {
            return status.to_string();
        }
        end(self.pid);
        // Not for ever: what it waits for in the kernel may never come.
        match timeout(PATIENCE, status).await {
            Ok(Ok(_)) => "by the agent, since it did not end itself".to_owned(),
            _ => "killed by the agent, and still there".to_owned(),
        }
    }
}

/// Gives the connected proxy its sockets and tells the control plane; `None` when nobody listens.
async fn link(
    stream: tokio::net::UnixStream,
    pid: i32,
    sockets: &mut impl Sockets,
    links: &mpsc::Sender<Link>,
) -> Result<Option<oneshot::Receiver<()>>, Error> {
    let failed = || Error::system("hand sockets to the proxy");
    let stream = stream.into_std().map_err(failed())?;
    sockets.hand_over(&stream)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(failed())?;
    let (over, ended) = oneshot::channel();
    Ok(links
        .send(Link { stream, pid, over })
        .await
        .is_ok()
        .then_some(ended))
}

fn listen(options: &ProxyOptions) -> Result<UnixListener, Error> {
    let path = &options.feed;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("remove", path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(Error::file("listen on", path))?;
    chown(path, None, Some(options.user.gid)).map_err(Error::file("give to the proxy", path))?;
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(path, mode).map_err(Error::file("protect", path))?;
    Ok(listener)
}

/// The connection of the proxy that is expected; others are turned away.
async fn accept(
    listener: &UnixListener,
    options: &ProxyOptions,
    expected: i32,
) -> tokio::net::UnixStream {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, as a rule: let others free some.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let peer = stream.peer_cred();
        let is_proxy = |peer: &tokio::net::unix::UCred| {
            peer.uid() == options.user.uid && peer.pid() == Some(expected)
        };
        if peer.as_ref().is_ok_and(is_proxy) {
            return stream;
        }
    }
}

fn start(options: &ProxyOptions, sockets: &mut impl Sockets) -> Result<Running, Error> {
    let (program, arguments) = options
        .command
        .split_first()
        .expect("a command names a program");
    let mut child = Command::new(program)
        .args(arguments)
        .arg(&options.feed)
        .stdin(Stdio::null())
        .uid(options.user.uid)
        .gid(options.user.gid)
        .current_dir("/")
        .env_clear()
        // Its own group: an interrupt typed at the agent's terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(Error::file("start", program))?;
    let pid = child.id() as i32;
    sockets.adopt(pid)?;
    fs::write(&options.pid_file, pid.to_string())
        .map_err(Error::file("write", &options.pid_file))?;
    // Reaped by a thread of its own, which also ends with it: no signal handling is needed.
    let (ended, status) = oneshot::channel();
    let reap = move || {
        if let Ok(status) = child.wait() {
            // The agent may have gone on without waiting for it.
            let _unheard = ended.send(status);
        }
    };
    std::thread::Builder::new()
        .name("proxy-reaper".to_owned())
        .spawn(reap)
        .map_err(Error::system("start a thread"))?;
    Ok(Running {
        pid,
        patience: PATIENCE,
        status: Some(status),
    })
}

/// The proxy that an earlier agent left, if it still lives, and whom it runs as. `feed` is where it
/// finds its agent.
pub fn living_proxy(pid_file: &Path, feed: &Path) -> Option<(i32, ProxyUser)> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let id = |name: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let user = ProxyUser {
        uid: id("Uid:")?,
        gid: id("Gid:")?,
    };
    // The number may be another process's by now, or another mesh's proxy's: ours is never root, and
    // was told of our feed, whatever links led there.
    let words: Vec<&str> = command.split('\0').collect();
    let told = words.windows(3).find_map(|words| match words {
        ["proxy", "--feed", feed] => Some(Path::new(*feed)),
        _ => None,
    });
    let folder = |feed: &Path| fs::canonicalize(feed.parent()?).ok();
    let is_ours = user.uid != 0 && folder(told?)? == folder(feed)?;
    is_ours.then_some((pid, user))
}

/// Ends the proxy, whether it is our child or an earlier agent's.
pub fn end(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
        let _gone_already = pidfd_send_signal(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoSockets;

    impl Sockets for NoSockets {
        fn hand_over(&mut self, _: &UnixStream) -> Result<(), Error> {
            Ok(())
        }

        fn close(&mut self) {}

        fn adopt(&mut self, _: i32) -> Result<(), Error> {
            Ok(())
        }
    }

    /// One that cannot serve is not waited for, and what is wrong with it is said each time.
    #[tokio::test]
    async fn a_proxy_that_ends_before_it_connects_says_how() {
        let folder = tempfile::tempdir().unwrap();
        let options = ProxyOptions {
            command: ["sh", "-c", "exit 3"].map(str::to_owned).into(),
            user: ProxyUser {
                uid: rustix::process::getuid().as_raw(),
                gid: rustix::process::getgid().as_raw(),
            },
            feed: folder.path().join("feed"),
            pid_file: folder.path().join("pid"),
        };
        let (links, _linked) = mpsc::channel(1);
        let (reported, mut reports) = mpsc::channel(1);
        let report = |line: &str| drop(reported.try_send(line.to_owned()));
        let line = tokio::select! {
            ended = supervise(options, NoSockets, links, report) => panic!("{ended:?}"),
            line = reports.recv() => line.unwrap(),
        };
        assert_eq!(
            line,
            "the proxy has ended before it served (exit status: 3); the kernel path goes on without \
             the proxy until one answers"
        );
    }
}
