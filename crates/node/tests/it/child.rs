//! The programs that tests run as workloads: this very test binary, told by environment what to be.
//!
//! A child waits for a line on its standard input (so that it can be placed in a cgroup first), does
//! one thing after another as its script says, and prints one line for each. It knows nothing of a
//! mesh.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use crate::testbed::patience;

/// Set to `1` in children.
pub(crate) const ENVIRONMENT: &str = "SELVEDGE_TEST_CHILD";

/// Set beside it in the child that makes the proxy's sockets, to a [host](Host).
pub(crate) const MAKER: &str = "SELVEDGE_TEST_MAKER";

/// What a maker of sockets seems to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// What it does run on.
    Usual,
    /// One whose kernel was started with `ipv6.disable=1`.
    WithoutIpv6,
}

impl Host {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::WithoutIpv6 => "without IPv6",
        }
    }
}

/// From now on this process gets no IPv6 socket, with the error of a kernel that has none.
fn lose_ipv6() {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };
    const SYS_SOCKET: i64 = if cfg!(target_arch = "x86_64") {
        41
    } else {
        198
    };
    const AF_INET6: u64 = 10;
    const EAFNOSUPPORT: u32 = 97;
    let family =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, AF_INET6).unwrap();
    let rule = SeccompRule::new(vec![family]).unwrap();
    let refuse = SeccompAction::Errno(EAFNOSUPPORT);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(SYS_SOCKET, vec![rule])].into();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Entry point of a child process; as a test of the parent it does nothing.
#[test]
fn child() {
    if std::env::var_os(ENVIRONMENT).is_none() {
        return;
    }
    if let Some(host) = std::env::var_os(MAKER) {
        if host == Host::WithoutIpv6.word() {
            lose_ipv6();
        }
        let agent =
            std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
        selvedge_node::make_sockets(agent).unwrap();
        std::process::exit(0);
    }
    let mut program = Program::default();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = program
            .run(&line)
            .unwrap_or_else(|error| format!("error {}", code(&error)));
        // The harness writes to stdout too: answers are marked.
        println!("\n> {answer}");
        io::stdout().flush().unwrap();
    }
    std::process::exit(0);
}

/// The name of an error as the C library has it, or its number.
fn code(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(13) => "EACCES".into(),
        Some(93) => "EPROTONOSUPPORT".into(),
        Some(98) => "EADDRINUSE".into(),
        Some(101) => "ENETUNREACH".into(),
        Some(111) => "ECONNREFUSED".into(),
        Some(122) => "EDQUOT".into(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

#[derive(Default)]
struct Program {
    sockets: BTreeMap<String, Socket>,
    /// Datagrams that `answer` got.
    heard: Arc<AtomicU32>,
}

impl Program {
    fn run(&mut self, line: &str) -> io::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["hello"] => Ok("hello".into()),
            ["serve", name, address] => self.serve(name, address.parse().unwrap(), &[]),
            ["serve", name, address, ref options @ ..] => {
                self.serve(name, address.parse().unwrap(), options)
            }
            ["bind", name, address, ref options @ ..] => {
                let socket = bound(address.parse().unwrap(), options)?;
                let answer = own(&socket)?.to_string();
                self.sockets.insert(name.into(), socket);
                Ok(answer)
            }
            // What connects is never accepted.
            ["listen", name, address] => {
                let socket = bound(address.parse().unwrap(), &[])?;
                socket.listen(16)?;
                let answer = own(&socket)?.to_string();
                self.sockets.insert(name.into(), socket);
                Ok(answer)
            }
            ["answer", name, address] => self.answer(name, address.parse().unwrap()),
            ["ask", address] => ask(address.parse().unwrap()),
            ["ask6", address] => {
                let SocketAddr::V4(v4) = address.parse().unwrap() else {
                    panic!("a v4 address")
                };
                ask((v4.ip().to_ipv6_mapped(), v4.port()).into())
            }
            ["send", address] => send(any(address), address.parse().unwrap(), true),
            ["sendto", address] => send(any(address), address.parse().unwrap(), false),
            ["sendto", address, own] => send(own.parse().unwrap(), address.parse().unwrap(), false),
            ["volley", address, count] => volley(address.parse().unwrap(), count.parse().unwrap()),
            ["post", name, server] => post(name, server.parse().unwrap()),
            ["post-both", name, server, server6] => {
                self.post_both(name, server.parse().unwrap(), server6.parse().unwrap())
            }
            ["heard"] => Ok(self.heard.load(Ordering::SeqCst).to_string()),
            ["connect", name, address] => self.connect(name, address.parse().unwrap()),
            ["begin", name, address] => self.begin(name, address.parse().unwrap()),
            // Says something and hangs up.
            ["leave", address, word] => {
                TcpStream::connect(address)?.write_all(word.as_bytes())?;
                Ok("left".into())
            }
            ["close", name] => {
                self.sockets.remove(name);
                Ok("closed".into())
            }
            ["own", name] => own(&self.sockets[name]).map(|address| address.to_string()),
            ["peer", name] => Ok(self.sockets[name]
                .peer_addr()?
                .as_socket()
                .unwrap()
                .to_string()),
            ["echo", name] => {
                let mut stream = &self.sockets[name];
                stream.write_all(b"x")?;
                let mut one = [0];
                stream.read_exact(&mut one)?;
                Ok("echoed".into())
            }
            ["mptcp"] => Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(262)))
                .map(|_| "made".into()),
            _ => panic!("no such command: {line}"),
        }
    }

    /// Listens, and answers each connection with `<pid> <own address> <peer's port>`, then echoes.
    fn serve(&mut self, name: &str, address: SocketAddr, options: &[&str]) -> io::Result<String> {
        let socket = bound(address, options)?;
        socket.listen(4096)?;
        let answer = own(&socket)?.to_string();
        let listener: TcpListener = socket.try_clone()?.into();
        self.sockets.insert(name.into(), socket);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || greet(stream));
            }
        });
        Ok(answer)
    }

    /// Answers each datagram as [`Program::serve`] does connections.
    fn answer(&mut self, name: &str, address: SocketAddr) -> io::Result<String> {
        let socket = UdpSocket::bind(address)?;
        let own = socket.local_addr()?;
        let socket = Arc::new(socket);
        self.sockets.insert(name.into(), socket.try_clone()?.into());
        let heard = Arc::clone(&self.heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                heard.fetch_add(1, Ordering::SeqCst);
                let text = format!("{} {own}", std::process::id());
                let _unheard = socket.send_to(text.as_bytes(), peer);
            }
        });
        Ok(own.to_string())
    }

    fn connect(&mut self, name: &str, address: SocketAddr) -> io::Result<String> {
        let socket: Socket = TcpStream::connect(address)?.into();
        let answer = read_line(&socket)?;
        self.sockets.insert(name.into(), socket);
        Ok(answer)
    }

    /// Sends a datagram to servers of both families from one socket, as musl does.
    fn post_both(
        &mut self,
        name: &str,
        server: SocketAddrV4,
        server6: SocketAddrV6,
    ) -> io::Result<String> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.set_only_v6(false)?;
        let mapped = SocketAddrV6::new(server.ip().to_ipv6_mapped(), server.port(), 0, 0);
        for server in [mapped, server6] {
            socket.send_to(b"?", &server.into())?;
        }
        self.sockets.insert(name.into(), socket);
        Ok("sent".into())
    }

    /// A connect that is not waited for.
    fn begin(&mut self, name: &str, address: SocketAddr) -> io::Result<String> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let begun = socket.connect(&address.into());
        self.sockets.insert(name.into(), socket);
        match begun {
            Err(error) if error.raw_os_error() == Some(115) => Ok("begun".into()),
            other => other.map(|()| "connected".into()),
        }
    }
}

fn own(socket: &Socket) -> io::Result<SocketAddr> {
    Ok(socket.local_addr()?.as_socket().unwrap())
}

fn bound(address: SocketAddr, options: &[&str]) -> io::Result<Socket> {
    let kind = if options.contains(&"udp") {
        Type::DGRAM
    } else {
        Type::STREAM
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if options.contains(&"reuseport") {
        socket.set_reuse_port(true)?;
    }
    if options.contains(&"reuseaddr") {
        socket.set_reuse_address(true)?;
    }
    if options.contains(&"only6") {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn greet(mut stream: TcpStream) {
    let own = stream.local_addr().unwrap();
    let peer = stream.peer_addr().unwrap().port();
    if writeln!(stream, "{} {own} {peer}", std::process::id()).is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

fn read_line(mut socket: &Socket) -> io::Result<String> {
    let mut text = String::new();
    let mut byte = [0];
    while socket.read(&mut byte)? == 1 && byte[0] != b'\n' {
        text.push(byte[0] as char);
    }
    Ok(text)
}

/// `<greeting> | <own port> <peer as seen>`: one connection, closed again.
fn ask(address: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(address)?;
    let (own, peer) = (stream.local_addr()?.port(), stream.peer_addr()?);
    let greeting = read_line(&stream.into())?;
    Ok(format!("{greeting} | {own} {peer}"))
}

/// Any address and port of the family of `address`.
fn any(address: &str) -> SocketAddr {
    let any = if address.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    any.parse().expect("it is an address")
}

/// `<answer> | <from whom>`.
fn send(own: SocketAddr, address: SocketAddr, connected: bool) -> io::Result<String> {
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(patience()))?;
    let mut buffer = [0; 1500];
    if connected {
        socket.connect(address)?;
        socket.send(b"?")?;
    } else {
        socket.send_to(b"?", address)?;
    }
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok(format!(
        "{} | {from}",
        String::from_utf8_lossy(&buffer[..length])
    ))
}

/// How many of `count` datagrams of one socket are answered, one after the other.
fn volley(address: SocketAddr, count: u32) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(patience()))?;
    let mut buffer = [0; 1500];
    for _ in 0..count {
        socket.send_to(b"?", address)?;
        socket.recv_from(&mut buffer)?;
    }
    Ok(count.to_string())
}

/// Sends a query for the A record of a name, and waits for nothing.
fn post(name: &str, server: SocketAddr) -> io::Result<String> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    UdpSocket::bind("0.0.0.0:0")?.send_to(&query, server)?;
    Ok("sent".into())
}
