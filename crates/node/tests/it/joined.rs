//! Cgroups that were there before the mesh: their programs are served as they are, and serve.

use std::fs;
use std::path::PathBuf;

use selvedge_model::{DnsSettings, Label, PortMode, Protocol, Workload, WorkloadName};

use crate::testbed::{Program, Testbed, eventually, local};

/// A cgroup of somebody else's making.
struct Foreign {
    folder: PathBuf,
    path: PathBuf,
}

impl Foreign {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .unwrap();
        let root = PathBuf::from(mount.split(' ').nth(4).unwrap());
        let path = PathBuf::from(format!("/selvedge-foreign-{}", std::process::id()));
        let folder = root.join(path.strip_prefix("/").unwrap());
        fs::create_dir(&folder).unwrap();
        Self { folder, path }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        assert!(eventually(|| fs::remove_dir(&self.folder).is_ok()));
    }
}

#[test]
fn a_joined_cgroup_serves_with_the_ports_it_has_and_calls() {
    let Some(mut bed) = Testbed::new("joined cgroups") else {
        return;
    };
    let foreign = Foreign::new();
    let legacy = bed.service("legacy", 80, Protocol::Tcp);
    let udp = bed.service("names", 53, Protocol::Udp);
    bed.service("caller", 1, Protocol::Tcp);

    let program = Program::outside();
    fs::write(
        foreign.folder.join("cgroup.procs"),
        program.pid().to_string(),
    )
    .unwrap();
    let cgroup = bed.node().find_cgroup(&foreign.path).unwrap();
    let mut program = program.belongs_to(cgroup);
    // It listens before the mesh knows of it.
    assert_eq!(program.tell("serve a 127.0.0.1:18101"), "127.0.0.1:18101");
    assert_eq!(program.tell("answer u 0.0.0.0:18101"), "0.0.0.0:18101");
    let name = WorkloadName {
        namespace: Label::default_namespace(),
        name: Label::new("legacy-0").unwrap(),
    };
    let workload = Workload {
        name,
        service: "legacy".parse().unwrap(),
        cgroup,
        ports: PortMode::Kept,
        dns: DnsSettings::default(),
    };
    bed.snapshot.workloads.insert(cgroup, workload);
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
