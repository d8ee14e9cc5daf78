//! The proxy has no rights, and what is the agent's is closed to it: read from /proc, and tried.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mesh::Mesh;

/// The process that reads what strangers send has no rights, and cannot get at what the agent keeps.
#[test]
fn the_proxy_is_kept_from_what_is_the_agents() {
    let test = "the_proxy_is_kept_from_what_is_the_agents";
    let Some(mesh) = Mesh::start(test, &["setpriv", "python3"]) else {
        return;
    };
    mesh.apply("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n");
    let proxy = mesh.status().proxy.pid.expect("it serves");
    let status = fs::read_to_string(format!("/proc/{proxy}/status")).expect("it is there");
    let fields: BTreeMap<&str, Vec<&str>> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, values)| (name, values.split_whitespace().collect()))
        .collect();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(fields[set], ["0000000000000000"], "{set}");
    }
    assert_eq!(fields["NoNewPrivs"], ["1"]);
    assert_eq!(fields["Seccomp"], ["2"]);
    let [uid, gid] = ["Uid", "Gid"].map(|id| fields[id][0]);
    assert_ne!(uid, "0");
    let groups = match &fields["Groups"][..] {
        [] => "--clear-groups".to_owned(),
        some => format!("--groups={}", some.join(",")),
    };
    // As the proxy, on what is there in fact: a stored configuration, and the way to change it.
    let state = mesh.state_dir();
    let stored: Vec<_> = walk(&state)
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    assert!(!stored.is_empty(), "nothing is stored");
    for path in stored.iter().chain([&state]) {
        let tried = Command::new("setpriv")
            .args([
                &format!("--reuid={uid}"),
                &format!("--regid={gid}"),
                &groups,
            ])
            .args(["--", "sh", "-c", "head -c1 \"$1\" || ls \"$1\"", "sh"])
            .arg(path)
            .output()
            .expect("it can be started");
        let said = String::from_utf8_lossy(&tried.stderr);
        assert!(!tried.status.success(), "{} can be read", path.display());
        assert!(said.contains("Permission denied"), "{said}");
    }
    // Anybody may connect; who it is decides.
    let ask = "import socket, sys\nasked = socket.socket(socket.AF_UNIX)\nasked.connect(sys.argv[1])\n\
               asked.sendall(b'GET /v1/objects HTTP/1.0\\r\\nHost: a\\r\\n\\r\\n')\n\
               print(asked.recv(100).decode())";
    let asked = Command::new("setpriv")
        .args([
            &format!("--reuid={uid}"),
            &format!("--regid={gid}"),
            &groups,
        ])
        .args(["--", "/usr/bin/python3", "-c", ask])
        .arg(mesh.run_dir().join("api.sock"))
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(
        said.contains(" 403 "),
        "{said}\n{}",
        String::from_utf8_lossy(&asked.stderr)
    );
}

/// Everything below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it can be read").flatten();
    let below = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => walk(&path),
        path => vec![path],
    });
    below.collect()
}
