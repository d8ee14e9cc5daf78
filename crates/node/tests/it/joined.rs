//! Cgroups that were there before the mesh: their programs are served as they are, and serve.

use std::fs;
use std::path::{Path, PathBuf};

use selvedge_model::{CgroupId, DnsSettings, Label, PortMode, Protocol, Workload, WorkloadName};

use selvedge_node::Error;

use crate::testbed::{Program, Testbed, eventually, local};

/// A cgroup of somebody else's making.
struct Foreign {
    folder: PathBuf,
    path: PathBuf,
}

impl Foreign {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .unwrap();
        let root = PathBuf::from(mount.split(' ').nth(4).unwrap());
        let path = PathBuf::from(format!("/selvedge-{name}-{}", std::process::id()));
        Self::at(root, path)
    }

    /// One within this one.
    fn inner(&self) -> Self {
        let root = self.folder.parent().unwrap().to_owned();
        Self::at(root, self.path.join("inner"))
    }

    fn at(root: PathBuf, path: PathBuf) -> Self {
        let folder = root.join(path.strip_prefix("/").unwrap());
        fs::create_dir(&folder).unwrap();
        Self { folder, path }
    }

    /// A program in it that was there before the mesh.
    fn program(&self, bed: &mut Testbed) -> Program {
        let program = Program::outside();
        let procs = self.folder.join("cgroup.procs");
        fs::write(procs, program.pid().to_string()).unwrap();
        program.belongs_to(bed.node().find_cgroup(&self.path).unwrap())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        assert!(eventually(|| fs::remove_dir(&self.folder).is_ok()));
    }
}

fn workload(service: &str, cgroup: CgroupId) -> Workload {
    let name = WorkloadName {
        namespace: Label::default_namespace(),
        name: Label::new(&format!("{service}-0")).unwrap(),
    };
    Workload {
        name,
        service: service.parse().unwrap(),
        cgroup,
        ports: PortMode::Kept,
        dns: DnsSettings::default(),
    }
}

#[test]
fn a_joined_cgroup_serves_with_the_ports_it_has_and_calls() {
    let Some(mut bed) = Testbed::new("joined cgroups") else {
        return;
    };
    let foreign = Foreign::new("foreign");
    let legacy = bed.service("legacy", 80, Protocol::Tcp);
    let udp = bed.service("names", 53, Protocol::Udp);
    bed.service("caller", 1, Protocol::Tcp);

    let mut program = foreign.program(&mut bed);
    let cgroup = program.cgroup;
    // It listens before the mesh knows of it.
    assert_eq!(program.tell("serve a 127.0.0.1:18101"), "127.0.0.1:18101");
    assert_eq!(program.tell("answer u 0.0.0.0:18101"), "0.0.0.0:18101");
    bed.snapshot
        .workloads
        .insert(cgroup, workload("legacy", cgroup));
    bed.endpoint("legacy", local(&program), 18101, 1);
    bed.endpoint("names", local(&program), 18101, 1);
    bed.apply();

    let mut caller = bed.program("caller", "caller-0");
    assert!(
        caller
            .tell(&format!("ask {legacy}:80"))
            .starts_with(&program.pid().to_string())
    );
    assert!(
        caller
            .tell(&format!("send {udp}:53"))
            .starts_with(&program.pid().to_string())
    );
    // It may call, and bind what it likes.
    assert!(
        program
            .tell(&format!("ask {legacy}:80"))
            .starts_with(&program.pid().to_string())
    );
    assert_eq!(program.tell("serve b 127.0.0.1:18102"), "127.0.0.1:18102");
    let listening = bed.node().observe().unwrap().listening;
    assert!(
        listening.iter().all(|it| it.bound == it.port),
        "{listening:?}"
    );
    // Its death is seen.
    program.tell("close a");
    drop(program);
    assert!(eventually(
        || caller.tell(&format!("ask {legacy}:80")) == "error ECONNREFUSED"
    ));
    // It leaves the mesh.
    bed.snapshot.workloads.remove(&cgroup);
    bed.apply();
    assert_eq!(bed.node().status().unwrap().drift, []);
}

/// The programs of the outer cgroup run for the inner one too, and must not run twice.
#[test]
fn a_workload_within_a_workload_is_captured_once() {
    let Some(mut bed) = Testbed::new("workloads within workloads") else {
        return;
    };
    let slice = Foreign::new("slice");
    let unit = slice.inner();
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller = bed.service("inner", 1, Protocol::Tcp);
    bed.service("outer", 1, Protocol::Tcp);
    let mut server = bed.program("web", "web-0");
    assert_eq!(server.tell("serve a 127.0.0.1:18104"), "127.0.0.1:18104");
    bed.endpoint("web", local(&server), 18104, 1);

    let outer = bed.node().find_cgroup(&slice.path).unwrap();
    let mut program = unit.program(&mut bed);
    let inner = program.cgroup;
    for outer_is_workload in [true, false, true] {
        bed.snapshot
            .workloads
            .insert(inner, workload("inner", inner));
        bed.snapshot.workloads.remove(&outer);
        if outer_is_workload {
            bed.snapshot
                .workloads
                .insert(outer, workload("outer", outer));
        }
        bed.apply();
        let before = bed.edge(Some(caller), web);
        assert!(
            program
                .tell(&format!("ask {web}:80"))
                .contains(&format!("{web}:80")),
            "it sees the address it asked for"
        );
        let after = bed.edge(Some(caller), web);
        assert_eq!(after.connections - before.connections, 1);
        assert_eq!(after.failures, 0);
    }
}

/// The resolver's own look-ups would be led to itself.
#[test]
fn the_meshs_own_cgroups_cannot_be_joined() {
    let Some(mut bed) = Testbed::new("joining the mesh itself") else {
        return;
    };
    let workloads = PathBuf::from(bed.node().workloads_path());
    let mesh = workloads.parent().unwrap();
    for path in [Path::new("/"), mesh, &workloads, &mesh.join("proxy")] {
        let found = bed.node().find_cgroup(path);
        assert!(matches!(found, Err(Error::OwnCgroup { .. })), "{found:?}");
    }
}
