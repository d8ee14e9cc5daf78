//! For names: dnsmasq and unbound, each configured for the one
//! thing it is compared in and nothing else.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::interrupt;
use crate::process::{Process, find};

/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A rival that serves.
#[derive(Debug)]
pub(crate) struct Rival {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Rival {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// dnsmasq without a cache, forwarding to `upstream`.
    pub(crate) fn dnsmasq(
        address: SocketAddr,
        upstream: SocketAddr,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let program = find("dnsmasq").context("dnsmasq is not installed")?;
        let mut command = Command::new(program);
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--group=root",
            ])
            .args(["--pid-file=", "--no-resolv", "--no-hosts", "--no-poll"])
            .args(["--cache-size=0", "--bind-interfaces", "--log-facility=-"])
            .arg(format!("--listen-address={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--server={}#{}", upstream.ip(), upstream.port()));
        let log = folder.join("dnsmasq.log");
        let process = Process::start("dnsmasq", &mut command, log)?;
        Self { process, address }.ready()
    }

    /// unbound with one thread, answering `name` from its configuration.
    pub(crate) fn unbound(
        address: SocketAddr,
        (name, answer): (&str, IpAddr),
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let program = find("unbound").context("unbound is not installed")?;
        let file = folder.join("unbound.conf");
        let (ip, port) = (address.ip(), address.port());
        let settings = format!(
            "server:\n  num-threads: 1\n  interface: {ip}\n  port: {port}\n  do-ip6: no\n  \
             do-daemonize: no\n  use-syslog: no\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  \
             directory: \"{}\"\n  access-control: 127.0.0.0/8 allow\n  module-config: \"iterator\"\n  \
             local-zone: \"{name}.\" static\n  local-data: \"{name}. 5 IN A {answer}\"\n\
             remote-control:\n  control-enable: no\n",
            folder.display()
        );
        fs::write(&file, settings)?;
        let log = folder.join("unbound.log");
        let mut command = Command::new(program);
        let process = Process::start("unbound", command.arg("-d").arg("-c").arg(&file), log)?;
        Self { process, address }.ready()
    }

    /// Waits until it answers a question, of whatever kind.
    fn ready(mut self) -> anyhow::Result<Self> {
        // The root's name servers, recursion not desired: cheap to answer for anyone.
        let query = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(interrupt::GLANCE))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            self.process.check()?;
            let asked = socket.send_to(&query, self.address);
            if asked.is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return Ok(self);
            }
            if Instant::now() > deadline {
                bail!("a rival does not answer{}", self.process.last_words());
            }
        }
    }
}
