//! The demo: it plays to its end, which checks what it claims, and leaves nothing behind in whatever
//! act it is broken off.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::mesh::{SELVEDGE, skip_unless};
use crate::process::Process;

const PROGRAMS: [&str; 6] = [
    "nginx",
    "redis-server",
    "gunicorn",
    "python3",
    "curl",
    "wrk",
];

/// A demo whose temporary folder is in `folder`.
fn start(folder: &Path, play: &[&str]) -> Process {
    let mut demo = Command::new(SELVEDGE);
    demo.args(["demo", "--brief"])
        .args(play)
        .env("TMPDIR", folder)
        .current_dir("/");
    Process::start(folder, demo)
}

/// What is left in `folder` besides the file that the demo's output goes to.
fn check_nothing_is_left(folder: &Path, demo: &Process) {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let names: Vec<_> = entries
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        names.iter().all(|name| name.starts_with("output-")),
        "{names:?}"
    );
    let text = folder.to_str().expect("it is plain");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    assert!(!mounts.contains(text), "{mounts}");
    let cgroup = format!("selvedge-demo-{}", demo.pid().as_raw_nonzero());
    assert!(!crate::life::cgroup_exists(&cgroup), "the cgroups are gone");
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    for process in processes {
        let place = fs::read_link(process.path().join("cwd"));
        let is_there = place.is_ok_and(|place| place.starts_with(folder));
        assert!(!is_there, "a program lives on: {:?}", process.path());
    }
}

/// A folder that every user can pass through.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder can be made")
}

/// Broken off in the middle, and then played to its end: two in a row.
#[test]
fn the_demo_leaves_nothing_behind() {
    if !skip_unless("the_demo_leaves_nothing_behind", &PROGRAMS) {
        return;
    }
    let folder = folder();
    let mut demo = start(folder.path(), &[]);
    demo.line("answered by process");
    demo.signal(Signal::INT);
    let (status, printed) = demo.finish();
    assert_eq!(status, 130, "{printed}");
    check_nothing_is_left(folder.path(), &demo);

    let mut demo = start(folder.path(), &[]);
    for act in ["3  ", "5  ", "6  ", "7  ", "8  ", "Summary"] {
        demo.line(act);
    }
    let (status, printed) = demo.finish();
    assert_eq!(status, 0, "{printed}");
    check_nothing_is_left(folder.path(), &demo);
}

/// The play of limits too, broken off while a program computes beside, and to its end.
#[test]
fn the_demo_of_the_pilot_leaves_nothing_behind() {
    if !skip_unless("the_demo_of_the_pilot_leaves_nothing_behind", &PROGRAMS) {
        return;
    }
    let folder = folder();
    let mut demo = start(folder.path(), &["pilot"]);
    demo.line("as it was");
    demo.signal(Signal::INT);
    let (status, printed) = demo.finish();
    assert_eq!(status, 130, "{printed}");
    check_nothing_is_left(folder.path(), &demo);

    let mut demo = start(folder.path(), &["pilot"]);
    for act in ["2  ", "3  ", "4  ", "Answers within", "5  "] {
        demo.line(act);
    }
    let (status, printed) = demo.finish();
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("; 0 do not"), "{printed}");
    check_nothing_is_left(folder.path(), &demo);
}
