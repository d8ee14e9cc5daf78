//! What a query costs here and in the resolvers a user would pick instead: dnsmasq without a cache
//! for what is forwarded, unbound's local data for mesh names. All run at once, take turns, and are
//! asked the same by the same program; the server behind is this process's own.
//!
//! `cargo run --release -p selvedge-proxy --example dns_bench [ROUNDS]`, with both installed and
//! `lone_proxy` built by the same profile. Prints, per kind of query and number of queries under way
//! at once: CPU time per query of each, time per query, and our ratio to the rival as minimum, median
//! and maximum over the rounds.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use selvedge_feed::{Publication, Settings, SocketKind, SocketList};
use selvedge_model::{Generation, Service, Snapshot};

const QUERIES: usize = 2000;
const SERVICES: u8 = 20;
const PATIENCE: Duration = Duration::from_secs(5);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(24), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let upstream = start_upstream()?;
    let ours = Subject::ours(folder.path(), upstream)?;
    let dnsmasq = Subject::dnsmasq(upstream)?;
    let unbound = Subject::unbound(folder.path())?;
    let mut out = std::io::stdout();
    for (kind, rival) in [(Kind::Foreign, &dnsmasq), (Kind::Mesh, &unbound)] {
        for window in [1, 16] {
            let comparison = compare(&ours, rival, kind, window, rounds)?;
            writeln!(
                out,
                "{kind:?}, {window} at once, {} against {}",
                ours.name, rival.name
            )?;
            for line in comparison {
                writeln!(out, "  {line}")?;
            }
        }
    }
    let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", ours.pid()))?;
    let memory = memory.lines().find(|line| line.starts_with("Pss:"));
    writeln!(out, "{}", memory.unwrap_or_default())?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Foreign,
    Mesh,
}

/// Time per query of one turn, in microseconds.
struct Turn {
    cpu_us: f64,
    wall_us: f64,
}

fn compare(
    ours: &Subject,
    rival: &Subject,
    kind: Kind,
    window: usize,
    rounds: usize,
) -> Result<[String; 2]> {
    let mut turns = Vec::new();
    ours.turn(kind, window)?;
    rival.turn(kind, window)?;
    for round in 0..rounds {
        // Each goes first in every second round.
        turns.push(if round % 2 == 0 {
            let first = ours.turn(kind, window)?;
            (first, rival.turn(kind, window)?)
        } else {
            let first = rival.turn(kind, window)?;
            (ours.turn(kind, window)?, first)
        });
    }
    Ok([
        summary("cpu ", &turns, |turn| turn.cpu_us),
        summary("time", &turns, |turn| turn.wall_us),
    ])
}

fn summary(what: &str, turns: &[(Turn, Turn)], value: impl Fn(&Turn) -> f64) -> String {
    let ours = spread(turns.iter().map(|(ours, _)| value(ours)));
    let rival = spread(turns.iter().map(|(_, rival)| value(rival)));
    let ratio = spread(turns.iter().map(|(ours, rival)| value(ours) / value(rival)));
    format!(
        "{what} {:6.2} us against {:6.2} us per query, ratio {:.2} / {:.2} / {:.2}",
        ours[1], rival[1], ratio[0], ratio[1], ratio[2]
    )
}

/// Minimum, median and maximum.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    ]
}

/// A resolver under test.
struct Subject {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// What must stay open for it to live.
    _kept: Option<(UnixStream, UdpSocket)>,
}

impl Subject {
    fn ours(folder: &Path, upstream: SocketAddr) -> Result<Self> {
        let feed = folder.join("feed.sock");
        let listener = UnixListener::bind(&feed)?;
        let program = std::env::current_exe()?.with_file_name("lone_proxy");
        let child = Command::new(program)
            .arg(&feed)
            .args([&upstream.to_string(), "1", "ask"])
            .spawn()?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        let stream = hand_over(&listener, &socket)?;
        Ok(Self {
            name: "selvedge",
            child,
            address,
            _kept: Some((stream, socket)),
        })
    }

    fn dnsmasq(upstream: SocketAddr) -> Result<Self> {
        let address = free_address()?;
        let child = Command::new("dnsmasq")
            .args(["--no-daemon", "--no-resolv", "--no-hosts", "--cache-size=0"])
            .args([
                "--conf-file=/dev/null",
                "--bind-interfaces",
                "--user=root",
                "--pid-file=",
            ])
            .arg(format!("--listen-address={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--server={}#{}", upstream.ip(), upstream.port()))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            name: "dnsmasq",
            child,
            address,
            _kept: None,
        })
    }

    fn unbound(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let data = (0..SERVICES)
            .map(|n| format!("local-data: \"s{n}.default.svc.cluster.local. 5 A 127.96.1.{n}\"\n"));
        let text = format!(
            "server:\nport: {}\ninterface: {}\nnum-threads: 1\nchroot: \"\"\nusername: \"\"\n\
             pidfile: \"\"\ndirectory: \"{}\"\nuse-syslog: no\nmodule-config: \"iterator\"\n\
             local-zone: \"cluster.local.\" static\n{}",
            address.port(),
            address.ip(),
            folder.display(),
            data.collect::<String>()
        );
        let file = folder.join("unbound.conf");
        fs::write(&file, text)?;
        let child = Command::new("unbound")
            .args(["-d", "-c"])
            .arg(file)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            name: "unbound",
            child,
            address,
            _kept: None,
        })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks [`QUERIES`] times, `window` at once, each from a socket of its own.
    fn turn(&self, kind: Kind, window: usize) -> Result<Turn> {
        let sockets: Vec<UdpSocket> = (0..window)
            .map(|_| self.connected())
            .collect::<Result<_>>()?;
        self.wait_until_up(&sockets[0], kind)?;
        let cpu = self.cpu()?;
        let start = Instant::now();
        let mut buffer = [0; 512];
        for batch in 0..QUERIES / window {
            for (index, socket) in sockets.iter().enumerate() {
                socket.send(&query(kind, batch * window + index))?;
            }
            for socket in &sockets {
                let length = socket.recv(&mut buffer)?;
                if buffer[3] & 0xf != 0 || buffer[7] != 1 {
                    return Err(format!("{}: no answer: {:?}", self.name, &buffer[..length]).into());
                }
            }
        }
        let asked = (QUERIES / window * window) as f64;
        Ok(Turn {
            wall_us: start.elapsed().as_secs_f64() * 1e6 / asked,
            cpu_us: (self.cpu()? - cpu).as_secs_f64() * 1e6 / asked,
        })
    }

    fn connected(&self) -> Result<UdpSocket> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    fn wait_until_up(&self, socket: &UdpSocket, kind: Kind) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 512];
        loop {
            // A server that does not listen yet is told by either call.
            let sent = socket.send(&query(kind, 0));
            if sent.and_then(|_| socket.recv(&mut buffer)).is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("{} does not answer", self.name).into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// CPU time of all its threads, user and system.
    fn cpu(&self) -> Result<Duration> {
        let mut total_ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            let running = schedstat.split(' ').next().unwrap_or_default();
            total_ns += running.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total_ns))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn query(kind: Kind, n: usize) -> Vec<u8> {
    let id = (n & 0xffff) as u16;
    let labels = match kind {
        Kind::Foreign => vec![format!("n{n}"), "example".to_owned(), "com".to_owned()],
        Kind::Mesh => {
            let rest = ["default", "svc", "cluster", "local"].map(str::to_owned);
            let mut labels = vec![format!("s{}", n % usize::from(SERVICES))];
            labels.extend(rest);
            labels
        }
    };
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in labels {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// The server behind: an A record for whatever it is asked.
fn start_upstream() -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 9];
            // Whatever follows the question (EDNS) is left out.
            let question = buffer[12..length].iter().position(|byte| *byte == 0);
            let end = 12 + question.unwrap_or(0) + 5;
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend_from_slice(&record);
            // A resolver that is gone asks no more.
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(address)
}

/// Does for the proxy what the agent does: sockets, then services.
fn hand_over(listener: &UnixListener, socket: &UdpSocket) -> Result<UnixStream> {
    let (mut stream, _) = listener.accept()?;
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let list = SocketList::new([SocketKind::DnsUdpV4]).encode();
    sendmsg(
        &stream,
        &[IoSlice::new(&list)],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    let mut snapshot = Snapshot::empty();
    snapshot.generation = Generation(1);
    for n in 0..SERVICES {
        let service = Service {
            name: format!("s{n}").parse()?,
            address: [127, 96, 1, n].into(),
            ports: Vec::new(),
            published: Vec::new(),
            published_udp: Vec::new(),
            connection_limit: None,
            detailed_counters: false,
        };
        snapshot.services.insert(service.name.clone(), service);
    }
    let mut publication = Publication::new(Settings::default());
    publication.publish(Arc::new(snapshot));
    while let Some(frame) = publication.poll_transmit() {
        stream.write_all(&frame)?;
    }
    let mut reader = stream.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    Ok(stream)
}

/// An address nobody listens at, neither by UDP nor by TCP.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    UdpSocket::bind(address)?;
    Ok(address)
}
