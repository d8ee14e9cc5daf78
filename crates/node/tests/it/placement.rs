//! Placing: the process that asked is moved, and no other.

use std::fs;
use std::process::Command;

use selvedge_model::{Label, WorkloadName};
use selvedge_node::Error;

use crate::testbed::{Program, Testbed, pidfd};

/// Who has the number of a process that asked and then ended stays where it is.
#[test]
fn whoever_has_the_number_of_an_ended_process_is_not_moved() {
    let Some(mut bed) = Testbed::new("placing a process that has ended") else {
        return;
    };
    let stranger = Program::outside();
    let cgroup = format!("/proc/{}/cgroup", stranger.pid());
    let before = fs::read_to_string(&cgroup).unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    let ended = pidfd(child.id() as i32);
    child.wait().unwrap();

    let name = WorkloadName {
        namespace: Label::default_namespace(),
        name: Label::new("web-0").unwrap(),
    };
    let node = bed.node();
    node.add_workload(&name).unwrap();
    let placed = node.place(&ended, stranger.pid(), &name);
    assert!(matches!(placed, Err(Error::Ended { .. })), "{placed:?}");
    assert_eq!(fs::read_to_string(&cgroup).unwrap(), before);
    node.remove_workload(&name).expect("nobody is in there");

    node.add_workload(&name).unwrap();
    let living = pidfd(stranger.pid());
    node.place(&living, stranger.pid(), &name).unwrap();
    assert!(fs::read_to_string(&cgroup).unwrap().contains("web-0"));
}
