//! Servers that nobody here wrote, each with an address of its own, for as long as a test lasts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::agent::until;
use crate::skip::skip;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Software {
    Nginx,
    Apache,
    Gunicorn,
    Node,
    Uvicorn,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// A line for each request that it got, with its target as it was.
    pub(crate) log: PathBuf,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// One that answers everything; `None`, with the reason said, where it is not installed.
    pub(crate) fn start(test: &str, software: Software) -> Option<Self> {
        let Some(program) = software.program() else {
            skip(test, &format!("{software:?} is not installed"));
            return None;
        };
        // Processes of other users write here.
        let permissions = fs::Permissions::from_mode(0o777);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir();
        let folder = folder.unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // The address makes it ours alone, so that any port will do.
        let address = Ipv4Addr::new(127, 60 + software as u8, high, low);
        let address = SocketAddr::new(address.into(), 8080);
        let mut command = software.command(&program, folder.path(), address);
        let output = fs::File::create(folder.path().join("output")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        let mut server = Self {
            address,
            log: folder.path().join("saw"),
            child: command.spawn().unwrap(),
            _folder: folder,
        };
        until("the server to listen", || server.listens().then_some(()));
        Some(server)
    }

    fn listens(&mut self) -> bool {
        if let Some(status) = self.child.try_wait().unwrap() {
            let output = fs::read_to_string(self.log.with_file_name("output"));
            panic!("it ended, {status}: {output:?}");
        }
        TcpStream::connect(self.address).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // A server of several processes ends in order if it is asked to.
        let _ = kill_process_group(group, Signal::TERM);
        let _ = self.child.wait();
        let _ = kill_process_group(group, Signal::KILL);
    }
}

impl Software {
    /// Where the program is. Those of servers may be where only root looks.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache2",
            Self::Gunicorn => "gunicorn",
            Self::Node => "node",
            Self::Uvicorn => "uvicorn",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let mut places = folders.map(|folder| folder.join(name));
        places.find(|place| place.is_file())
    }

    fn command(self, program: &Path, folder: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(program);
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let log = folder.join("saw");
        command
            .current_dir(folder)
            .env("SAW", &log)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        match self {
            Self::Nginx => {
                let file = settings("nginx.conf", folder, address);
                command.args(["-e", "stderr", "-c"]).arg(file);
                command.arg("-p").arg(folder)
            }
            Self::Apache => {
                settings("saw.lua", folder, address);
                let file = settings("apache.conf", folder, address);
                command.args(["-D", "FOREGROUND", "-f"]).arg(file)
            }
            Self::Gunicorn => command
                .args(["--worker-class=gthread", "--threads=16", "--keep-alive=60"])
                .args(["--bind", &address.to_string(), "--chdir", SERVERS])
                .arg("saw:wsgi"),
            Self::Node => command
                .args([&format!("{SERVERS}/saw.js"), &host, &port])
                .arg(log),
            Self::Uvicorn => command
                .args(["--no-access-log", "--timeout-keep-alive=60"])
                .args(["--host", &host, "--port", &port, "--app-dir", SERVERS])
                .arg("saw:asgi"),
        };
        command
    }
}

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers");

/// Writes a server's file into its folder.
fn settings(name: &str, folder: &Path, address: SocketAddr) -> PathBuf {
    let text = fs::read_to_string(format!("{SERVERS}/{name}")).unwrap();
    let text = text
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("ADDRESS", &address.to_string());
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    file
}
