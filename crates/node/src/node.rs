//! The node as a whole: what [`Node::start`] sets up, [`Node::apply`] keeps to the configuration and
//! [`Remains::clear`] removes without a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use selvedge_feed::SocketKind;
use selvedge_model::{
    CgroupId, Generation, KernelStatus, Observation, Pinned, Port, Protocol, Snapshot, WorkloadName,
};

use crate::abi;
use crate::apply::{Applied, entries, update};
use crate::cgroup::{self, Relation, Tree};
use crate::counters;
use crate::ending::{self, Asked, Whom};
use crate::error::Error;
use crate::held::Held;
use crate::intent::{self, Intent};
use crate::kernel::{Kernel, info, remove_tree};
use crate::neighbour;
use crate::object::{INBOUND, ORIGIN, Scope, UPSTREAM};
use crate::sockets::{self, Beside};
use crate::watch::{Events, Watches};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for sockets and pins, `/run/selvedge` as a rule.
    pub run_dir: PathBuf,
    /// Name of the mesh's cgroup, directly below the cgroup2 file system's root.
    pub cgroup: String,
    /// First private port and how many there are; outside `net.ipv4.ip_local_port_range`, so that
    /// no outgoing connection takes one.
    pub private_ports: (u16, u16),
}

impl Options {
    /// What a node has unless told otherwise.
    pub fn new(run_dir: PathBuf) -> Self {
        Self {
            run_dir,
            cgroup: "selvedge".to_owned(),
            private_ports: (61_000, 4_500),
        }
    }

    /// Makes sure that no other mesh has this one's cgroup, and that none takes it from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] where another mesh has it; otherwise what the file system says.
    pub fn claim_cgroup(&self) -> Result<(), Error> {
        Tree::claim(&self.cgroup, &self.run_dir)
    }

    fn bpffs(&self) -> PathBuf {
        self.run_dir.join("bpf")
    }
}

/// The kernel side of one node, running.
pub struct Node {
    options: Options,
    kernel: Kernel,
    tree: Tree,
    applied: Applied,
    generation: Option<Generation>,
    config: abi::Config,
    watches: Watches,
    /// Ports of Gateways.
    held: Held,
    /// Cgroups outside the mesh's tree that have been asked about.
    joined: BTreeMap<CgroupId, PathBuf>,
    /// Places of joined cgroups that have this agent's programs.
    current: BTreeSet<String>,
}

impl Node {
    /// Sets the node up, or adopts what an earlier agent left running.
    pub fn start(options: Options) -> Result<Self, Error> {
        let bpffs = options.bpffs();
        mount_bpffs(&bpffs)?;
        let tree = Tree::make(&options.cgroup)?;
        let mut kernel = Kernel::load(&bpffs)?;
        let applied = Applied::read(&kernel)?;
        let before = entries::<u32, abi::Config>(&kernel, "config")?.remove(&0);
        let mut config = configuration(&options)?;
        if let Some(before) = before.filter(|it| it.network == config.network) {
            // Replicas have ports out of the range of then, and look-ups are led to that port.
            config = before;
        }
        update(&kernel, "config", &0u32, &config)?;
        kernel.attach(
            Scope::Workloads,
            "workloads",
            &open(&tree.workloads_folder())?,
        )?;
        kernel.attach(Scope::Proxy, "proxy", &open(&tree.proxy_folder())?)?;
        kernel.attach(Scope::Network, "network", &open(Path::new(NETWORK))?)?;
        let watches = Watches::new()?;
        for (name, cgroup) in tree.workloads()? {
            watches.add(cgroup, tree.folder_of(&name))?;
        }
        Ok(Self {
            options,
            kernel,
            tree,
            applied,
            generation: None,
            config,
            watches,
            held: Held::default(),
            joined: BTreeMap::new(),
            current: BTreeSet::new(),
        })
    }

    /// Brings the kernel to `snapshot`.
    pub fn apply(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let (net, prefix) = snapshot.virtual_range;
        self.config.virtual_net = net.to_bits().to_be();
        self.config.virtual_mask = mask(prefix).to_bits().to_be();
        update(&self.kernel, "config", &0u32, &self.config)?;
        let newest = self.newest_generation()?.max(snapshot.generation);
        update(&self.kernel, "generation", &0u32, &newest.0)?;
        self.generation = None;
        self.hold_ports(snapshot);
        let intent = Intent::of(snapshot, |port| self.held.has(port));
        let publishes_more = self.applied.apply(&self.kernel, intent)?;
        let joins_more = self.attach_joined(snapshot)?;
        if publishes_more || joins_more {
            self.kernel.seed()?;
        }
        self.generation = Some(snapshot.generation);
        Ok(())
    }

    /// Takes the ports of Gateways, and lets go of others.
    fn hold_ports(&mut self, snapshot: &Snapshot) {
        let has_inbound = self.kernel.has(INBOUND);
        let ours = info(self.kernel.map("published")).map_or(0, |info| info.id);
        let network = self.config.network;
        let refuse = |port| {
            if !has_inbound {
                return Some(
                    "this kernel cannot lead callers from outside to the proxy".to_owned(),
                );
            }
            let key = intent::published_key(port, Protocol::Tcp);
            let elsewhere = neighbour::publishes(&key, network, ours).unwrap_or(false);
            elsewhere.then(|| "another mesh of this host has the port".to_owned())
        };
        self.held.hold(intent::gateway_ports(snapshot), refuse);
    }

    /// The ports of Gateways, and of those that cannot be had why.
    pub fn gateway_ports(&self) -> BTreeMap<Port, Result<(), String>> {
        self.held.states()
    }

    /// Whether a port of a Gateway could not be had. Applying the snapshot again tries it again.
    pub fn lacks_ports(&self) -> bool {
        self.held.lacks_any()
    }

    /// The newest generation that this agent or those before it since the last reboot have begun to
    /// apply; 0 where there was none. It outlives agents whose disk was full.
    pub fn newest_generation(&self) -> Result<Generation, Error> {
        let newest = entries::<u32, u64>(&self.kernel, "generation")?.remove(&0);
        Ok(Generation(newest.unwrap_or(0)))
    }

    /// Finds a cgroup by its path below the cgroup2 file system's root. One that lies outside the
    /// mesh's own tree is remembered: once a snapshot has a workload for it, it is captured.
    ///
    /// # Errors
    ///
    /// [`Error::OwnCgroup`] where it is the mesh's own, other than that of a workload, or one around
    /// it: the resolver would be led to itself.
    pub fn find_cgroup(&mut self, path: &Path) -> Result<CgroupId, Error> {
        let (folder, cgroup) = self.tree.resolve(path)?;
        match self.tree.relation(&folder) {
            Relation::Own => return Err(Error::OwnCgroup { cgroup: folder }),
            Relation::Workload => {}
            Relation::Beside => drop(self.joined.insert(cgroup, folder)),
        }
        Ok(cgroup)
    }

    /// Whether processes are in the cgroup of that path, or below it.
    pub fn is_populated(&self, path: &Path) -> bool {
        let found = self.tree.resolve(path);
        found.is_ok_and(|(folder, _)| cgroup::populated(&folder))
    }

    /// [`Node::find_cgroup`] for the cgroup of a systemd unit.
    pub fn find_unit(&mut self, unit: &str) -> Option<CgroupId> {
        let folder = self.tree.find_unit(unit)?;
        let path = self.tree.path_of(&folder);
        self.find_cgroup(Path::new(&path)).ok()
    }

    /// The path of a workload's cgroup below the cgroup2 file system's root.
    pub fn workload_path(&self, name: &WorkloadName) -> String {
        self.tree.path_of(&self.tree.folder_of(name))
    }

    /// The path below which all workloads' cgroups are.
    pub fn workloads_path(&self) -> String {
        self.tree.path_of(&self.tree.workloads_folder())
    }

    /// Where the cgroup2 file system is mounted.
    pub fn cgroup_file_system(&self) -> PathBuf {
        self.tree.file_system().to_owned()
    }

    /// Attaches to joined cgroups that are workloads now and detaches from those that are not; true
    /// if it attached to any.
    fn attach_joined(&mut self, snapshot: &Snapshot) -> Result<bool, Error> {
        let is_workload = |cgroup: &CgroupId| snapshot.workloads.contains_key(cgroup);
        let wanted = self.joined.iter().filter(|(cgroup, _)| is_workload(cgroup));
        let mut attached: BTreeSet<String> = self.kernel.places()?.into_iter().collect();
        let mut joins_more = false;
        for (cgroup, folder) in wanted.clone() {
            // The programs of a cgroup run for all below it, and must not run twice.
            let is_around = |outer: &PathBuf| outer != folder && folder.starts_with(outer);
            if wanted.clone().any(|(_, outer)| is_around(outer)) {
                continue;
            }
            let place = joined_place(*cgroup);
            let is_new = !attached.remove(&place);
            if is_new || !self.current.contains(&place) {
                self.kernel.attach(Scope::Joined, &place, &open(folder)?)?;
                self.current.insert(place);
                joins_more = true;
            }
        }
        for place in attached.iter().filter(|place| place.starts_with(JOINED)) {
            self.kernel.detach(place)?;
            self.current.remove(place);
        }
        Ok(joins_more)
    }

    /// Opens the proxy's sockets through `maker`, a command that calls [`crate::make_sockets`] on its
    /// standard input, and leads look-ups of workloads to them, and connections to services that need
    /// the proxy. The ports of an earlier agent are kept where they can be had.
    pub fn open_sockets(
        &mut self,
        mut maker: Command,
        beside: Beside,
    ) -> Result<Vec<(SocketKind, OwnedFd)>, Error> {
        let failed = || Error::system("start the maker of the proxy's sockets");
        let (near, far) = UnixStream::pair().map_err(failed())?;
        let mut child = maker.stdin(OwnedFd::from(far)).spawn().map_err(failed())?;
        drop(maker);
        let placed = cgroup::place(child.id() as i32, &self.tree.proxy_folder());
        let (first, count) = self.options.private_ports;
        let request = sockets::Request {
            first,
            count,
            resolver_port: u16::from_be(self.config.resolver_port),
            proxy_port: u16::from_be(self.config.proxy_port),
            shared: u16::from(beside == Beside::LivingProxy),
        };
        let made = placed.and_then(|()| sockets::ask_for_sockets(near, request));
        child.wait().map_err(failed())?;
        let made = made?;
        self.lead_to(&made)?;
        Ok(made)
    }

    /// Marks the sockets as ours, has them listen and tells the programs their ports, in this order: no
    /// program is to take one for a stranger's.
    fn lead_to(&mut self, sockets: &[(SocketKind, OwnedFd)]) -> Result<(), Error> {
        for (_, socket) in sockets {
            update(&self.kernel, "ours", &socket.as_raw_fd(), &1u32)?;
        }
        sockets::listen(sockets).map_err(Error::system("listen on the proxy's sockets"))?;
        let mut proxy_port = sockets::port_of(sockets, &[SocketKind::Captured]);
        if proxy_port == 0 {
            let reason = "this kernel has no IPv6 sockets, by which the proxy names workloads";
            self.kernel.lack(UPSTREAM, reason);
        }
        // It could not take further what is led to it.
        if !self.kernel.has(UPSTREAM) || !self.kernel.has(ORIGIN) {
            proxy_port = 0;
        }
        if proxy_port != 0 {
            self.lead_from_outside_to(sockets)?;
        }
        self.config.proxy_port = proxy_port.to_be();
        self.config.resolver_port = sockets::port_of(sockets, &SocketKind::RESOLVER).to_be();
        update(&self.kernel, "config", &0u32, &self.config)
    }

    /// Leads connections to ports that are published or a Gateway's to the sockets. The kernel takes a
    /// group by one of it, and lets go of it when that is closed.
    fn lead_from_outside_to(&self, sockets: &[(SocketKind, OwnedFd)]) -> Result<(), Error> {
        let mut sockets = sockets.iter();
        let Some((_, socket)) = sockets.find(|(kind, _)| *kind == SocketKind::Outside) else {
            return Ok(());
        };
        let descriptor = socket.as_raw_fd().cast_unsigned();
        update(
            &self.kernel,
            "outside_listener",
            &0u32,
            &u64::from(descriptor),
        )
    }

    /// Hands sockets over `stream`, as the proxy expects it.
    pub fn hand_over<'a>(
        stream: &UnixStream,
        sockets: impl IntoIterator<Item = &'a (SocketKind, OwnedFd)>,
    ) -> Result<(), Error> {
        sockets::hand_over(stream, sockets).map_err(Error::system("hand sockets to the proxy"))
    }

    /// Moves the proxy into its cgroup.
    pub fn place_proxy(&self, pid: i32) -> Result<(), Error> {
        cgroup::place(pid, &self.tree.proxy_folder())
    }

    /// Events from now on. One reader at a time.
    pub fn events(&self) -> Result<Events, Error> {
        Events::open(&self.kernel, self.watches.clone())
    }

    /// Makes the cgroup for a workload.
    pub fn add_workload(&self, name: &WorkloadName) -> Result<CgroupId, Error> {
        let cgroup = self.tree.add(name)?;
        self.watches.add(cgroup, self.tree.folder_of(name))?;
        Ok(cgroup)
    }

    /// Moves the process of a pidfd, whose number is `pid`, into the cgroup that
    /// [`Self::add_workload`] made for it. After an error nobody is in there.
    pub fn place(&self, process: impl AsFd, pid: i32, name: &WorkloadName) -> Result<(), Error> {
        let folder = self.tree.folder_of(name);
        let placed = cgroup::place_known(process, pid, &folder);
        if placed.is_err() {
            let _ended_meanwhile = self.tree.release(&folder);
        }
        placed
    }

    /// Removes the cgroup of a workload whose processes have ended.
    pub fn remove_workload(&self, name: &WorkloadName) -> Result<(), Error> {
        self.tree.remove(name)
    }

    /// Every workload's cgroup that is there, with whether processes are in it.
    pub fn workloads(&self) -> Result<Vec<(WorkloadName, CgroupId, bool)>, Error> {
        let with_state = |(name, id): (WorkloadName, CgroupId)| {
            let populated = cgroup::populated(&self.tree.folder_of(&name));
            (name, id, populated)
        };
        Ok(self.tree.workloads()?.into_iter().map(with_state).collect())
    }

    /// Whether another mesh in this network namespace publishes the port. Nothing is reserved: of two
    /// meshes that ask at the same moment both may hear that it is free.
    pub fn is_published_elsewhere(&self, protocol: Protocol, port: Port) -> Result<bool, Error> {
        let key = intent::published_key(port, protocol);
        let ours = info(self.kernel.map("published")).map_or(0, |info| info.id);
        neighbour::publishes(&key, self.config.network, ours)
    }

    /// What was counted so far.
    pub fn observe(&self) -> Result<Observation, Error> {
        counters::observe(&self.kernel)
    }

    /// Connections that go directly though their service's port goes through the proxy.
    pub fn pinned(&self) -> Result<Vec<Pinned>, Error> {
        counters::pinned(&self.kernel)
    }

    /// The state of the kernel path, drift included.
    pub fn status(&self) -> Result<KernelStatus, Error> {
        Ok(KernelStatus {
            age: Duration::ZERO,
            generation: self.generation,
            features: self.kernel.features().to_vec(),
            maps: counters::usage(&self.kernel)?,
            drift: self.applied.drift(&self.kernel)?,
        })
    }
}

/// What there is of a node, whether or not its agent runs.
pub struct Remains {
    options: Options,
    tree: Tree,
}

impl Remains {
    /// Looks for what a node with these options has left.
    pub fn of(options: Options) -> Result<Self, Error> {
        Ok(Self {
            tree: Tree::locate(&options.cgroup)?,
            options,
        })
    }

    /// Workloads with processes, and these.
    pub fn running(&self) -> Result<Vec<(WorkloadName, Vec<i32>)>, Error> {
        let with_processes = |(name, _): (WorkloadName, CgroupId)| {
            let processes = cgroup::processes(&self.tree.folder_of(&name));
            (name, processes)
        };
        let all = self.tree.workloads()?.into_iter().map(with_processes);
        Ok(all.filter(|(_, processes)| !processes.is_empty()).collect())
    }

    /// Asks processes of workloads to end that were not asked yet.
    pub fn terminate(&self, whom: Whom, asked: &mut Asked) {
        ending::terminate(&self.tree.workloads_folder(), whom, asked);
    }

    /// Ends every process of every workload.
    pub fn kill(&self) {
        ending::kill(&self.tree.workloads_folder());
    }

    /// Moves every process of every workload out of the mesh.
    pub fn release(&self) -> Result<(), Error> {
        self.tree.release(&self.tree.workloads_folder())
    }

    /// Removes programs, pins, the mount and the cgroups. Workloads must have ended or have been
    /// released.
    pub fn clear(&self) -> Result<(), Error> {
        let bpffs = self.options.bpffs();
        if is_bpffs(&bpffs) {
            let entries = fs::read_dir(&bpffs).map_err(Error::file("list", &bpffs))?;
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                remove_tree(&entry.path())?;
            }
            unmount(&bpffs, UnmountFlags::DETACH)
                .map_err(|error| Error::file("unmount", &bpffs)(error.into()))?;
        }
        match fs::remove_dir(&bpffs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", bpffs)(error));
            }
            _ => {}
        }
        self.tree.remove_all()
    }
}

/// The network namespace that this node is of: this thread's.
const NETWORK: &str = "/proc/thread-self/ns/net";

/// Prefix of the places of joined cgroups.
const JOINED: &str = "joined-";

fn joined_place(cgroup: CgroupId) -> String {
    format!("{JOINED}{}", cgroup.0)
}

fn configuration(options: &Options) -> Result<abi::Config, Error> {
    let network = fs::metadata(NETWORK).map_err(Error::file("read", NETWORK))?;
    let network = network.ino();
    Ok(abi::Config {
        // Inode numbers of namespaces are 32 bits in the kernel.
        network: network as u32,
        virtual_net: 0,
        virtual_mask: 0,
        private_first: options.private_ports.0,
        private_count: options.private_ports.1,
        resolver_port: 0,
        proxy_port: 0,
    })
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::file("open", path))
}

/// A bpf file system of our own, so that removing it removes everything, and 0700, so that nobody
/// but root reaches the maps.
fn mount_bpffs(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    if is_bpffs(path) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("selvedge", path, "bpf", flags, Some(c"mode=0700"))
        .map_err(|error| Error::file("mount a bpf file system on", path)(error.into()))
}

fn is_bpffs(path: &Path) -> bool {
    /// `BPF_FS_MAGIC` of linux/magic.h.
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == BPF_FS_MAGIC)
}
