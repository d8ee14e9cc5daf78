//! `selvedge up`: the agent, in the foreground.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use selvedge_control_plane::{AccessLog, Api, Down, LogTarget, VirtualRange};
use selvedge_node::{Beside, ProxyOptions, living_proxy, open_metrics};
use selvedge_telemetry::{info, log, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::accounts;
use crate::agent::{Agent, Options};
use crate::lock::Lock;
use crate::stop::{self, Settings};

/// Arguments of `selvedge up`.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Folder of the mesh's state.
    #[arg(long, env = "SELVEDGE_STATE_DIR", default_value = "/var/lib/selvedge")]
    state_dir: PathBuf,
    /// Folder of configuration files, which is watched. What is in it belongs to it: `apply` and
    /// `delete` leave it alone.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Name of the mesh's cgroup, below the root of the cgroup2 file system.
    #[arg(long, value_name = "NAME", default_value = "selvedge", value_parser = plain_name)]
    cgroup: String,
    /// Range of virtual addresses.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "127.96.0.0/12")]
    virtual_range: String,
    /// Private ports for replicas, outside net.ipv4.ip_local_port_range.
    #[arg(long, value_name = "FIRST-LAST", default_value = "61000-65499")]
    private_ports: String,
    /// Serve Prometheus metrics over HTTP at this address of this host, for example 127.0.0.1:9100.
    /// Every local user can read them there.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    metrics: Option<SocketAddr>,
    /// Log requests that come through the proxy to this file, or with `-` to standard output: one JSON
    /// object a line. A file that is moved away is made anew within some 2 s.
    #[arg(long, value_name = "FILE|-")]
    access_log: Option<PathBuf>,
    /// Log one of N requests; those that are refused are always logged.
    #[arg(long, value_name = "N", default_value = "1", requires = "access_log")]
    access_log_sample: NonZeroU32,
    /// Log the query of each request too, which may hold secrets.
    #[arg(long, requires = "access_log")]
    access_log_query: bool,
    /// What to log: error, warn, info or debug.
    #[arg(long, default_value = "info")]
    log: log::Level,
}

impl UpArgs {
    fn virtual_range(&self) -> anyhow::Result<VirtualRange> {
        let parse = || {
            let (address, prefix) = self.virtual_range.split_once('/')?;
            VirtualRange::new(address.parse::<Ipv4Addr>().ok()?, prefix.parse().ok()?)
        };
        parse().with_context(|| {
            format!(
                "`{}` is not a range of addresses like 127.96.0.0/12",
                self.virtual_range
            )
        })
    }

    fn access_log(&self) -> anyhow::Result<Option<AccessLog>> {
        let Some(path) = &self.access_log else {
            return Ok(None);
        };
        let target = match path.as_os_str() == "-" {
            true => LogTarget::Output,
            false => LogTarget::File(std::path::absolute(path)?),
        };
        let opened = target.open();
        opened.with_context(|| {
            format!(
                "could not open {} for the access log; name another file with --access-log, or `-`",
                path.display()
            )
        })?;
        let content = selvedge_feed::AccessLog {
            one_of: self.access_log_sample,
            has_query: self.access_log_query,
        };
        Ok(Some(AccessLog { target, content }))
    }

    fn private_ports(&self) -> anyhow::Result<(u16, u16)> {
        let parse = || {
            let (first, last) = self.private_ports.split_once('-')?;
            let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            let count = last.checked_sub(first)?.checked_add(1)?;
            (first >= 1024).then_some((first, count))
        };
        let ports = parse().with_context(|| {
            format!(
                "`{}` is not a range of ports like 61000-65499",
                self.private_ports
            )
        })?;
        warn_of_local_ports(ports);
        Ok(ports)
    }
}

/// A name that stays where it is put, and that a Workload's `cgroup` can be written with.
fn plain_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.starts_with('.') || text.is_empty() || !text.bytes().all(is_plain) {
        return Err(
            "a name is made of letters, digits, `-`, `_` and `.`, and does not begin with `.`",
        );
    }
    Ok(text.to_owned())
}

/// An address that only this host's programs reach.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let example = "give one of this host alone, like 127.0.0.1:9100 or [::1]:9100";
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("this is no address with a port, and names are not looked up; {example}")
    })?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "this is no loopback address, and nobody is asked who they are there; {example}"
        ));
    }
    Ok(address)
}

/// Runs the agent until it is told to stop.
pub(crate) fn up(run_dir: &Path, args: &UpArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    log::set_up(args.log, "agent");
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the agent needs root: it loads kernel programs and makes cgroups.\n\
             Try: sudo selvedge up"
        );
    }
    let node = selvedge_node::Options {
        run_dir: run_dir.to_owned(),
        cgroup: args.cgroup.clone(),
        private_ports: args.private_ports()?,
    };
    let virtual_range = args.virtual_range()?;
    let access_log = args.access_log()?;
    let lock = Lock::take(run_dir)?;
    let pid_file = run_dir.join("proxy.pid");
    let feed = run_dir.join("feed.sock");
    let living = living_proxy(&pid_file, &feed);
    let beside = match living {
        Some(_) => Beside::LivingProxy,
        None => Beside::Nobody,
    };
    // One that cannot be read is as good as none.
    let before = Settings::read(run_dir).ok().flatten();
    let of_living = before.as_ref().filter(|_| living.is_some());
    let served = of_living.and_then(|before| before.metrics);
    let metrics = args
        .metrics
        .map(|address| listen_for_metrics(address, served));
    let (metrics, address) = metrics.transpose()?.unzip();
    let settings = Settings {
        node: node.clone(),
        state_dir: args.state_dir.clone(),
        metrics: address,
    };
    let state = settings.hold_state()?;
    node.claim_cgroup().inspect_err(|_| {
        let _has_state = fs::remove_dir(&args.state_dir);
    })?;
    if before.is_none() {
        // Where this fails, `down` has to find what it leaves. What an agent before this one has left
        // is as that one wrote it until this one has started.
        settings.write()?;
    }
    let user = match living {
        Some((_, user)) => user,
        None => accounts::proxy_user()?,
    };
    let command = ["/proc/self/exe", "proxy", "--feed"]
        .map(str::to_owned)
        .to_vec();
    let proxy = ProxyOptions {
        command,
        user,
        feed,
        pid_file,
    };
    let options = Options {
        node,
        proxy,
        state_dir: args.state_dir.clone(),
        virtual_range,
        config: args.config.clone(),
        beside,
        metrics,
        access_log,
        started,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(serve(run_dir, options, settings))?;
    // Tasks that wait in another thread (a slow disk) are not waited for for ever.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    drop((state, lock));
    Ok(code)
}

async fn serve(run_dir: &Path, options: Options, settings: Settings) -> anyhow::Result<ExitCode> {
    // Before anything is set up: a signal from now on is one to stop.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let started = options.started;
    let mut agent = Agent::start(options).await?;
    settings.write()?;
    let readers = accounts::group("selvedge");
    let listener = listen(&run_dir.join("api.sock"), readers)?;
    let (down, mut asked_down) = mpsc::channel::<Down>(1);
    let api = Api {
        plane: agent.plane.clone(),
        host: agent.host.clone(),
        proxy: agent.health.clone(),
        traffic: agent.traffic.clone(),
        pilot: agent.pilot.clone(),
        down,
        readers,
        started,
    };
    agent
        .tasks
        .spawn(async move { Ok(api.serve(listener).await?) });
    agent.wait_for_proxy().await;
    info!("the mesh is up; its sockets are in {}", run_dir.display());
    tell_systemd("READY=1");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(asked) = asked_down.recv() => {
                // Before it is looked who runs: nobody is overlooked, nobody comes meanwhile.
                agent.host.closed.store(true, Ordering::SeqCst);
                match stop::make_way(&settings, asked.request.workloads).await {
                    Ok(reply) => {
                        agent.stop().await;
                        let done = stop::remove(&settings, asked.request.keep_state).await;
                        let answer = done.map(|()| reply).map_err(|error| stop::problem(&error));
                        let failed = answer.is_err();
                        let _asker_gone = asked.reply.send(answer);
                        // The answer travels on a connection that ends with this process.
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        return Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
                    }
                    Err(problem) => {
                        agent.host.closed.store(false, Ordering::SeqCst);
                        drop(asked.reply.send(Err(problem)));
                    }
                }
            }
            Some(ended) = agent.tasks.join_next() => {
                ended.context("a part of the agent ended early")??;
                bail!("a part of the agent ended early");
            }
        }
    }
    tell_systemd("STOPPING=1");
    let running = settings.remains()?.running()?;
    if running.is_empty() {
        agent.stop().await;
        stop::remove_runtime(&settings).await?;
        info!("stopped; no workload was running, so nothing is left but the state");
    } else {
        // The proxy and the kernel path serve on; the next `up` adopts them.
        warn!(
            "stopped; {} workloads run on, and so does what serves them",
            running.len()
        );
        fs::remove_file(run_dir.join("api.sock")).context("could not remove the API's socket")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The socket at which the proxy is to serve metrics, and its address. A living proxy may serve them
/// there already; nobody else may, even where the kernel would let two share the port.
fn listen_for_metrics(
    address: SocketAddr,
    served: Option<SocketAddr>,
) -> anyhow::Result<(OwnedFd, SocketAddr)> {
    let beside = match served == Some(address) {
        true => Beside::LivingProxy,
        false => Beside::Nobody,
    };
    let socket = open_metrics(address, beside).map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "See who does with `ss -ltnp 'sport = :{}'`, or choose another port with --metrics.",
                address.port()
            ),
            _ => "Choose another address with --metrics, or go without.".to_owned(),
        };
        anyhow!("could not listen on {address} for metrics: {error}.\n{next}")
    })?;
    let bound = socket2::SockRef::from(&socket).local_addr()?;
    let bound = bound.as_socket().unwrap_or(address);
    info!("metrics are at http://{bound}/metrics");
    Ok((socket, bound))
}

/// The API's socket: root's, readable for the group `selvedge` where there is one.
fn listen(path: &Path, readers: Option<u32>) -> anyhow::Result<UnixListener> {
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("could not remove {}", path.display()))?;
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("could not listen on {}", path.display()))?;
    if readers.is_some() {
        chown(path, None, readers)
            .with_context(|| format!("could not give away {}", path.display()))?;
    }
    // Anybody may connect: who may what is decided for each request by who asks. Running by leave
    // is open to users who may not read.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("could not set the permissions of {}", path.display()))?;
    Ok(listener)
}

/// A replica's port must not be taken by an outgoing connection.
fn warn_of_local_ports((first, count): (u16, u16)) {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut bounds = text
        .split_whitespace()
        .filter_map(|word| word.parse::<u32>().ok());
    let (Some(low), Some(high)) = (bounds.next(), bounds.next()) else {
        return;
    };
    let (first, last) = (u32::from(first), u32::from(first) + u32::from(count) - 1);
    if first <= high && low <= last {
        warn!(
            "private ports {first}-{last} overlap net.ipv4.ip_local_port_range {low}-{high}: a replica \
             may find its port taken by an outgoing connection; choose others with --private-ports"
        );
    }
}

/// sd_notify(3): one datagram to the socket that systemd names, if it does.
fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = UnixDatagram::unbound().and_then(|socket| socket.send_to(state.as_bytes(), &path));
    if let Err(error) = told {
        warn!("systemd could not be told `{state}`: {error}");
    }
}
