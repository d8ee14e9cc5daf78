//! What comes from off the host, from a network namespace beside it.

use std::process::Command;

use selvedge_model::{Port, Protocol};

use crate::testbed::{Program, Testbed, local};

/// A network namespace joined to ours by a pair of virtual interfaces.
struct Neighbour {
    name: String,
}

impl Neighbour {
    const OURS: &str = "100.64.97.1";

    fn new() -> Self {
        let name = format!("sv{}", std::process::id());
        let neighbour = Self { name: name.clone() };
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add {name}a type veth peer name {name}b netns {name}"),
            format!("ip addr add {}/30 dev {name}a", Self::OURS),
            format!("ip link set {name}a up"),
            format!("ip -n {name} addr add 100.64.97.2/30 dev {name}b"),
            format!("ip -n {name} link set {name}b up"),
        ] {
            run(&line);
        }
        neighbour
    }

    /// What a connection from there to our address meets.
    fn connect(&self, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/{}/{port} && head -n1 <&3", Self::OURS);
        let line = [
            "ip", "netns", "exec", &self.name, "timeout", "20", "bash", "-c", &script,
        ];
        let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

#[test]
fn private_ports_are_not_reachable_and_published_ones_reach_every_replica() {
    let Some(mut bed) = Testbed::new("inbound") else {
        return;
    };
    let neighbour = Neighbour::new();
    bed.service("web", 80, Protocol::Tcp);
    let published = 18_099;
    bed.service_mut("web").published =
        vec![(Port::new(published).unwrap(), Port::new(80).unwrap())];
    let mut replicas: Vec<Program> = (0..3)
        .map(|i| bed.program("web", &format!("web-{i}")))
        .collect();
    for replica in &mut replicas {
        replica.tell("serve a 0.0.0.0:18098");
        bed.endpoint("web", local(replica), 18_098, 1);
    }
    bed.apply();

    let listening = bed.node().observe().unwrap().listening;
    for it in listening.iter().filter(|it| it.bound != it.port) {
        let met = neighbour.connect(it.bound.get());
        assert!(met.contains("refused"), "{met}");
    }
    // The one that kept its port is reachable there, as without a mesh.
    assert!(
        neighbour
            .connect(18_098)
            .starts_with(&replicas[0].pid().to_string())
    );

    let mut met = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = neighbour.connect(published);
        met.insert(answer.split(' ').next().unwrap().to_owned());
    }
    let all: std::collections::BTreeSet<String> =
        replicas.iter().map(|it| it.pid().to_string()).collect();
    assert_eq!(met, all);
    // From this host too, on every address.
    let mut outside = Program::outside();
    let answer = outside.tell(&format!("ask 127.0.0.1:{published}"));
    assert!(all.contains(answer.split(' ').next().unwrap()), "{answer}");

    for replica in &mut replicas {
        replica.kill();
    }
    assert!(neighbour.connect(published).contains("refused"));
}

#[test]
fn replicas_that_listen_already_are_published() {
    let Some(mut bed) = Testbed::new("publishing later") else {
        return;
    };
    bed.service("late", 80, Protocol::Tcp);
    let mut replica = bed.program("late", "late-0");
    replica.tell("serve a 127.0.0.1:18103");
    bed.endpoint("late", local(&replica), 18_103, 1);
    bed.apply();
    let mut outside = Program::outside();
    assert_eq!(outside.tell("ask 127.0.0.1:18104"), "error ECONNREFUSED");
    bed.service_mut("late").published = vec![(Port::new(18_104).unwrap(), Port::new(80).unwrap())];
    bed.apply();
    let answer = outside.tell("ask 127.0.0.1:18104");
    assert!(answer.starts_with(&replica.pid().to_string()), "{answer}");
}
