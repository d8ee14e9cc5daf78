//! `selvedge enter`: asks the agent to be placed as a replica, then becomes the program.
//!
//! This is what `run` starts for each replica. The agent learns from the kernel which process
//! asks, moves it into its cgroup and answers; only then does the program begin.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use rustix::process::{Gid, Uid};
use selvedge_control_plane::wire::{RunPort, RunPublish, RunReply, RunRequest};
use selvedge_model::ServiceName;

use crate::accounts::{self, Account};
use crate::client;
use crate::output::print;

/// Arguments of `selvedge enter`.
#[derive(Args, Debug)]
pub(crate) struct EnterArgs {
    /// The service, as NAME.NAMESPACE.
    service: ServiceName,
    #[arg(long = "port")]
    ports: Vec<String>,
    #[arg(long = "publish")]
    publish: Vec<String>,
    #[arg(long)]
    user: Option<String>,
    /// Write the replica's name as the first line of output.
    #[arg(long)]
    announce: bool,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl EnterArgs {
    fn request(&self) -> anyhow::Result<RunRequest> {
        let resolver = Resolver::read(Path::new("/etc/resolv.conf"));
        let ports = self.ports.iter().map(|text| parse_port(text));
        let publish = self.publish.iter().map(|text| parse_publish(text));
        Ok(RunRequest {
            service: self.service.name.to_string(),
            namespace: self.service.namespace.to_string(),
            ports: ports.collect::<anyhow::Result<_>>()?,
            publish: publish.collect::<anyhow::Result<_>>()?,
            search: resolver.search,
            ndots: resolver.ndots,
            nameservers: resolver.nameservers,
            keep_ports: false,
        })
    }
}

/// Comes back only when the program could not be started.
pub(crate) fn enter(run_dir: &Path, args: &EnterArgs) -> anyhow::Result<ExitCode> {
    let request = args.request()?;
    let account = args.user.as_deref().map(accounts::find).transpose()?;
    if account.is_some() && !rustix::process::geteuid().is_root() {
        bail!("only root can run a program as another user (--user)");
    }
    let reply: RunReply = client::post(run_dir, "/v1/run", &request)?;
    if args.announce {
        print(&format!("{}\n", reply.workload))?;
    }
    if let Some(account) = &account {
        become_user(account)?;
    }
    let (program, arguments) = args
        .command
        .split_first()
        .context("there is no program to run")?;
    let error = Command::new(program).args(arguments).exec();
    eprintln!("selvedge: could not run `{program}`: {error}");
    // Without an agent nothing can be taken back now, and the error above is what matters.
    let _: Result<(), _> = client::post(run_dir, "/v1/run/failed", &());
    // As shells have it: 127 for a program that is not there, 126 for one that cannot be run.
    Ok(match error.kind() {
        std::io::ErrorKind::NotFound => ExitCode::from(127),
        _ => ExitCode::from(126),
    })
}

fn parse_port(text: &str) -> anyhow::Result<RunPort> {
    let (number, name) = match text.split_once(':') {
        Some((number, name)) => (number, Some(name.to_owned())),
        None => (text, None),
    };
    let (number, protocol) = match number.split_once('/') {
        Some((number, protocol)) => (number, Some(protocol.to_ascii_uppercase())),
        None => (number, None),
    };
    let wrong = || format!("`{text}` is not a port: N[/udp][:NAME], N from 1 to 65535");
    Ok(RunPort {
        port: read_number(number).with_context(wrong)?,
        name,
        protocol,
    })
}

fn parse_publish(text: &str) -> anyhow::Result<RunPublish> {
    let (outside, inside) = match text.split_once(':') {
        Some((outside, inside)) => (outside, Some(inside)),
        None => (text, None),
    };
    let (number, protocol) = match outside.split_once('/') {
        Some((number, protocol)) => (number, Some(protocol.to_ascii_uppercase())),
        None => (outside, None),
    };
    let wrong =
        || format!("`{text}` is not a port to publish: N[:PORT] or N/udp, N from 1 to 65535");
    let service_port = match inside {
        Some(inside) => Some(read_number(inside).with_context(wrong)?),
        None => None,
    };
    Ok(RunPublish {
        port: read_number(number).with_context(wrong)?,
        protocol,
        service_port,
    })
}

fn read_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| *number > 0)
}

/// What of resolv.conf(5) the resolver needs to know.
#[derive(Debug, Default, PartialEq)]
struct Resolver {
    search: Vec<String>,
    ndots: Option<u8>,
    nameservers: Vec<SocketAddr>,
}

impl Resolver {
    fn read(path: &Path) -> Self {
        fs::read_to_string(path)
            .map(|text| Self::parse(&text, &host_name()))
            .unwrap_or_default()
    }

    /// As glibc reads it: a line without a value counts for nothing, the last of several counts, and
    /// without a search list the domain of the host's own name is one.
    fn parse(text: &str, host_name: &str) -> Self {
        let mut resolver = Self::default();
        let mut search = host_name.split_once('.').map(|(_, domain)| vec![domain]);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("search") => {
                    let words: Vec<&str> = words.collect();
                    search = Some(words).filter(|it| !it.is_empty()).or(search);
                }
                Some("domain") => search = words.next().map(|word| vec![word]).or(search),
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver
                        .nameservers
                        .extend(address.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("options") => {
                    let mut ndots = words.filter_map(|word| word.strip_prefix("ndots:"));
                    resolver.ndots = ndots.next_back().map(leading_number).or(resolver.ndots);
                }
                _ => {}
            }
        }
        let suffixes = search.unwrap_or_default().into_iter().map(suffix);
        resolver.search = suffixes.filter(|suffix| !suffix.is_empty()).collect();
        resolver
    }
}

/// What atoi(3) makes of it, as far as it fits.
fn leading_number(text: &str) -> u8 {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number: u8, digit| {
        number.saturating_mul(10).saturating_add(digit - b'0')
    })
}

fn host_name() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

fn suffix(word: &str) -> String {
    word.trim_end_matches('.').to_ascii_lowercase()
}

/// Gives up root for good: groups first, then group and user, real, effective and saved.
fn become_user(account: &Account) -> anyhow::Result<()> {
    let gid = Gid::from_raw(account.gid);
    let uid = Uid::from_raw(account.uid);
    let groups: Vec<Gid> = account
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .with_context(|| format!("could not become user {}", account.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_every_form() {
        let port = parse_port("8080").unwrap();
        assert_eq!((port.port, port.name, port.protocol), (8080, None, None));
        let port = parse_port("53/udp:dns").unwrap();
        assert_eq!(
            (port.port, port.name.as_deref(), port.protocol.as_deref()),
            (53, Some("dns"), Some("UDP"))
        );
        for wrong in ["", "http", "70000", ":http"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_publish("80:8080").unwrap().service_port, Some(8080));
        assert!(parse_publish("80:").is_err());
        let udp = parse_publish("53/udp").unwrap();
        assert_eq!((udp.port, udp.protocol.as_deref()), (53, Some("UDP")));
    }

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let text = "# a comment\nsearch old\ndomain example\nsearch a.Example. b.example\n\
                    nameserver 127.0.0.53\nnameserver ::1\nnameserver nonsense\noptions ndots:5\n";
        let resolver = Resolver::parse(text, "box.corp.example");
        assert_eq!(resolver.search, ["a.example", "b.example"]);
        assert_eq!(resolver.ndots, Some(5));
        let servers = ["127.0.0.53:53", "[::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(resolver.nameservers, servers);

        let search = |text| Resolver::parse(text, "box.corp.example").search;
        assert_eq!(search("nameserver ::1"), ["corp.example"]);
        assert_eq!(search("search a\nsearch\ndomain\n"), ["a"]);
        assert_eq!(search("domain a b\n"), ["a"]);
        assert_eq!(search("search ."), [""; 0]);
        assert_eq!(Resolver::parse("", "box").search, [""; 0]);
        let ndots = |text| Resolver::parse(text, "").ndots;
        assert_eq!(ndots("options ndots:5abc rotate"), Some(5));
        assert_eq!(ndots("options ndots:300"), Some(255));
        assert_eq!(ndots("options rotate"), None);
    }
}
