//! An agent and a proxy for tests: the real process, fed over a real socket.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use selvedge_feed::{
    AccessLog, Decoder, JournalPart, MAX_TO_AGENT_BYTES, MetricsPart, Publication, Report,
    Settings, SocketKind, SocketList, ToAgent, ToProxy, TrafficReading, VERSION,
};
use selvedge_model::{CgroupId, Holds, Snapshot, Traffic};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The proxy's sockets, as the agent holds them.
pub(crate) struct Sockets {
    pub(crate) udp: UdpSocket,
    pub(crate) udp6: UdpSocket,
    pub(crate) tcp: TcpListener,
    pub(crate) tcp6: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
    /// Where the kernel would lead connections to services.
    pub(crate) captured: TcpListener,
    /// Where the kernel would lead connections from outside; here its own port is the one reached.
    pub(crate) outside: TcpListener,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        Self::with_udp_at(mapped.into())
    }

    /// As on a host without IPv6, as far as datagrams over IPv4 go.
    pub(crate) fn without_ipv6() -> Self {
        Self::with_udp_at(Ipv4Addr::LOCALHOST.into())
    }

    fn with_udp_at(udp: IpAddr) -> Self {
        let any = |ip: IpAddr| SocketAddr::new(ip, 0);
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        Self::at(any(udp), any(v6), any(v4), any(v6), any(v4), any(v4))
    }

    /// New ones beside these, at the same addresses.
    pub(crate) fn beside(&self) -> Self {
        Self::at(
            self.udp.local_addr().unwrap(),
            self.udp6.local_addr().unwrap(),
            self.tcp.local_addr().unwrap(),
            self.tcp6.local_addr().unwrap(),
            self.metrics(),
            self.captured.local_addr().unwrap(),
        )
    }

    /// Where metrics are served.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.metrics.as_ref().unwrap().local_addr().unwrap()
    }

    fn at(
        udp: SocketAddr,
        udp6: SocketAddr,
        tcp: SocketAddr,
        tcp6: SocketAddr,
        metrics: SocketAddr,
        captured: SocketAddr,
    ) -> Self {
        let open = |address: SocketAddr, kind| {
            let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_reuse_address(kind == Type::STREAM).unwrap();
            if address.is_ipv6() {
                let v6_only = address.ip().to_canonical().is_ipv6();
                socket.set_only_v6(v6_only).unwrap();
            }
            socket.bind(&address.into()).unwrap();
            if kind == Type::STREAM {
                socket.listen(128).unwrap();
            }
            socket
        };
        Self {
            udp: open(udp, Type::DGRAM).into(),
            udp6: open(udp6, Type::DGRAM).into(),
            tcp: open(tcp, Type::STREAM).into(),
            tcp6: open(tcp6, Type::STREAM).into(),
            metrics: Some(open(metrics, Type::STREAM).into()),
            captured: open(captured, Type::STREAM).into(),
            outside: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        }
    }

    fn hand_over(&self, stream: &UnixStream) {
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![
            self.udp.as_fd(),
            self.udp6.as_fd(),
            self.tcp.as_fd(),
            self.tcp6.as_fd(),
        ];
        let mut kinds = SocketKind::RESOLVER.to_vec();
        descriptors.push(self.captured.as_fd());
        kinds.push(SocketKind::Captured);
        descriptors.push(self.outside.as_fd());
        kinds.push(SocketKind::Outside);
        descriptors.extend(self.metrics.as_ref().map(AsFd::as_fd));
        kinds.extend(self.metrics.as_ref().map(|_| SocketKind::Metrics));
        let list = SocketList::new(kinds);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(7))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = list.encode();
        let sent = sendmsg(
            stream,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::empty(),
        );
        assert_eq!(sent.unwrap(), bytes.len());
    }
}

/// Listens for proxies.
pub(crate) struct Agent {
    folder: TempDir,
    listener: UnixListener,
}

impl Agent {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("feed.sock")).unwrap();
        Self { folder, listener }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("feed.sock")
    }

    /// Dies, and another begins to listen where it did.
    pub(crate) fn replace(self) -> Self {
        let Self { folder, listener } = self;
        drop(listener);
        let path = folder.path().join("feed.sock");
        std::fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        Self { folder, listener }
    }

    /// Waits for a proxy, hands it `sockets` and hears its hello.
    pub(crate) fn accept(&self, sockets: &Sockets) -> Feed {
        self.listener.set_nonblocking(true).unwrap();
        let stream = until("a proxy to connect", || match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        sockets.hand_over(&stream);
        let mut feed = Feed {
            stream,
            decoder: Decoder::new(MAX_TO_AGENT_BYTES),
            publication: Publication::new(Settings::default()),
            pid: 0,
        };
        let ToAgent::Hello { version, pid } = feed.next() else {
            panic!("the first message is a hello");
        };
        assert_eq!(version, u32::from(VERSION));
        feed.pid = pid;
        feed
    }
}

/// A connection to a proxy.
pub(crate) struct Feed {
    stream: UnixStream,
    decoder: Decoder,
    publication: Publication,
    pub(crate) pid: u32,
}

impl Feed {
    /// Publishes, and waits until it is in force.
    pub(crate) fn publish(&mut self, snapshot: Snapshot) {
        self.publication.publish(Arc::new(snapshot));
        while let Some(frame) = self.publication.poll_transmit() {
            self.stream.write_all(&frame).unwrap();
            loop {
                if let ToAgent::Ack(ack) = self.next() {
                    self.publication.on_ack(&ack).unwrap();
                    break;
                }
            }
        }
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.publication.set_settings(settings);
    }

    /// Asks whether it lives, and waits for the answer.
    pub(crate) fn probe(&mut self, nonce: u64) {
        let probe = ToProxy::Probe(nonce).encode();
        self.stream.write_all(&probe).unwrap();
        while self.next() != ToAgent::ProbeReply(nonce) {}
    }

    /// Probes until a report comes that `wanted` likes: it stands between two answers.
    pub(crate) fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        self.report_amid(wanted, |_| {})
    }

    /// Answers requests for metrics until there is a report that `wanted` likes; how many came.
    pub(crate) fn answer_metrics(&mut self, text: &str, wanted: impl Fn(&Report) -> bool) -> usize {
        let mut requests = 0;
        self.report_amid(wanted, |feed| {
            requests += 1;
            feed.send_metrics(text);
        });
        requests
    }

    fn report_amid(
        &mut self,
        wanted: impl Fn(&Report) -> bool,
        mut on_metrics_request: impl FnMut(&mut Self),
    ) -> Report {
        let end = Instant::now() + DEADLINE;
        for nonce in 1.. {
            let probe = ToProxy::Probe(nonce).encode();
            self.stream.write_all(&probe).unwrap();
            loop {
                match self.next() {
                    ToAgent::Report(report) if wanted(&report) => return report,
                    ToAgent::Report(report) => eprintln!("{report:?}"),
                    ToAgent::ProbeReply(answered) if answered == nonce => break,
                    ToAgent::MetricsRequest => on_metrics_request(self),
                    _ => {}
                }
            }
            assert!(Instant::now() < end, "no such report");
        }
        unreachable!("there are more numbers than time")
    }

    /// Asks what was seen of requests until there is something that `wanted` likes: a client has its
    /// response before it is counted.
    pub(crate) fn traffic(&mut self, wanted: impl Fn(&Traffic) -> bool) -> Traffic {
        let end = Instant::now() + DEADLINE;
        loop {
            let request = ToProxy::TrafficRequest.encode();
            self.stream.write_all(&request).unwrap();
            let mut reading = TrafficReading::default();
            let traffic = loop {
                if let ToAgent::Traffic(part) = self.next()
                    && let Some(traffic) = reading.on_part(part).unwrap()
                {
                    break traffic;
                }
            };
            if wanted(&traffic) {
                return traffic;
            }
            assert!(Instant::now() < end, "no such traffic: {traffic:#?}");
        }
    }

    /// Begins to read the journal of the controllers; what has come of it so far.
    pub(crate) fn begin_journal(&mut self) -> Vec<JournalPart> {
        let request = ToProxy::JournalRequest.encode();
        self.stream.write_all(&request).unwrap();
        self.journal()
    }

    /// What has come of it since.
    pub(crate) fn journal(&mut self) -> Vec<JournalPart> {
        let nonce = 77;
        let probe = ToProxy::Probe(nonce).encode();
        self.stream.write_all(&probe).unwrap();
        let mut parts = Vec::new();
        loop {
            match self.next() {
                ToAgent::Journal(part) => parts.push(part),
                ToAgent::ProbeReply(answered) if answered == nonce => return parts,
                _ => {}
            }
        }
    }

    /// Has this held, and nothing else. Returns when it is so.
    pub(crate) fn hold(&mut self, holds: Holds) {
        let version = 5;
        let frame = ToProxy::Hold { version, holds }.encode();
        self.stream.write_all(&frame).unwrap();
        while self.next() != ToAgent::Held(version) {}
    }

    /// Has requests logged to a file from here on, one of so many. Returns when it is so.
    pub(crate) fn log_to(&mut self, file: &std::fs::File, content: AccessLog) {
        let frame = ToProxy::AccessLog(Some(content)).encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let parts = [IoSlice::new(&frame)];
        let sent = sendmsg(&self.stream, &parts, &mut ancillary, SendFlags::empty());
        assert_eq!(sent.unwrap(), frame.len());
        self.probe(1);
    }

    /// Waits until metrics are asked for.
    pub(crate) fn await_metrics_request(&mut self) {
        while self.next() != ToAgent::MetricsRequest {}
    }

    /// Answers a request for metrics.
    pub(crate) fn send_metrics(&mut self, text: &str) {
        for part in MetricsPart::answer(text) {
            let frame = ToProxy::Metrics(part).encode();
            self.stream.write_all(&frame).unwrap();
        }
    }

    fn next(&mut self) -> ToAgent {
        let mut chunk = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return ToAgent::decode(message).unwrap();
            }
            let length = self.stream.read(&mut chunk).unwrap();
            assert!(length > 0, "the proxy hung up");
            self.decoder.push(&chunk[..length]);
        }
    }
}

/// The proxy as a process; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
}

impl Proxy {
    /// Whatever it is asked counts as meant for `server` and sent by `workload`.
    pub(crate) fn start(feed: &Path, server: SocketAddr, workload: CgroupId) -> Self {
        let program = Self::program();
        let spawned = Command::new(&program)
            .arg(feed)
            .args([server.to_string(), workload.0.to_string()])
            .spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo build --examples` makes it",
                program.display()
            )
        });
        Self { child }
    }

    /// Where the proxy without kernel programs was built.
    pub(crate) fn program() -> PathBuf {
        let tests = std::env::current_exe().unwrap();
        let target = tests.parent().and_then(Path::parent).unwrap();
        target.join("examples/lone_proxy")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
