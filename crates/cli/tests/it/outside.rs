//! What lies outside the mesh: a name server that knows every name, and a `resolv.conf` that names it.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use crate::mesh::{Mesh, SELVEDGE};
use crate::process::Process;

/// What the server answers to every question (an address that RFC 5737 keeps for examples).
pub(crate) const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// What a stopping server sends to itself: too short for a question.
const FAREWELL: &[u8] = b"bye";

static NEXT: AtomicU8 = AtomicU8::new(0);

/// A server with a wildcard record for the root: whatever leaks to it is answered.
pub(crate) struct NameServer {
    address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Port 53 is what the kernel leads away, so the address is what makes it ours alone.
        let address = Ipv4Addr::new(127, 50 + number, high, low);
        let socket = UdpSocket::bind((address, 53)).expect("nobody has this address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = asked.clone();
        let serving = std::thread::spawn(move || serve(&socket, &names));
        Self {
            address,
            asked,
            serving: Some(serving),
        }
    }

    /// The names it was asked for, lower case, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .expect("the server has not panicked")
            .clone()
    }

    /// `selvedge run ARGUMENTS` where `/etc/resolv.conf` names this server.
    pub(crate) fn run(&self, mesh: &Mesh, options: &str, arguments: &[&str]) -> Process {
        let text = format!("nameserver {}\n{options}\n", self.address);
        let file = mesh.file("resolv.conf", &text);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"")
            .args([&file, SELVEDGE, "run"])
            .args(arguments)
            .env("SELVEDGE_RUN_DIR", mesh.run_dir())
            .current_dir(mesh.folder());
        Process::start(mesh.folder(), command)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let socket = UdpSocket::bind((self.address, 0)).expect("our own address");
        socket
            .send_to(FAREWELL, (self.address, 53))
            .expect("it is still there");
        let serving = self.serving.take().expect("dropped once");
        if serving.join().is_err() && !std::thread::panicking() {
            panic!("the name server has panicked");
        }
    }
}

fn serve(socket: &UdpSocket, names: &Mutex<Vec<String>>) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let query = &buffer[..length];
        if query == FAREWELL {
            return;
        }
        let (name, question_end) = question(query);
        names.lock().expect("readers do not panic").push(name);
        let _gone = socket.send_to(&answer(query, question_end), peer);
    }
}

/// The name in the only question, and where the question ends (RFC 1035, section 4.1.2).
fn question(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    (labels.join("."), at + 5)
}

/// One A record for a question of type A, nothing for others.
fn answer(query: &[u8], question_end: usize) -> Vec<u8> {
    let is_a = query[question_end - 4..question_end - 2] == [0, 1];
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(&query[12..question_end]);
    if is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(ANSWER.octets());
    }
    reply
}
