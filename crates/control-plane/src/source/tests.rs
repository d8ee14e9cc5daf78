//! Claims: a folder is in force as it is on disk, after every kind of change; one that is wrong or
//! gone displaces nothing; what cannot be read is said.
use std::os::unix::fs::symlink;
use std::sync::Arc;

use selvedge_model::Generation;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::address::VirtualRange;
use crate::plane::{Options, View, start};
use crate::store::{Disk, Store};

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn begin(state: &Path) -> ControlPlane {
    let (store, restored) = Store::open(Disk::open(state).unwrap()).unwrap();
    let options = Options {
        virtual_range: VirtualRange::DEFAULT,
        floor: Generation(0),
    };
    let (plane, task) = start(store, restored, options);
    tokio::spawn(task);
    plane
}

/// Waits until the services in force are these.
async fn services(plane: &ControlPlane, want: &[&str]) -> Arc<View> {
    let mut views = plane.views();
    let found = views.wait_for(|view| {
        let names = view.snapshot.services.keys().map(|name| name.name.as_str());
        view.folder.is_some() && names.eq(want.iter().copied())
    });
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    found
        .unwrap_or_else(|_| panic!("{want:?} never came into force"))
        .unwrap()
        .clone()
}

async fn errors(plane: &ControlPlane) -> Arc<View> {
    let mut views = plane.views();
    let wrong = |view: &Arc<View>| view.folder.as_ref().is_some_and(|it| !it.errors.is_empty());
    let found = tokio::time::timeout(Duration::from_secs(20), views.wait_for(wrong)).await;
    found.expect("in time").unwrap().clone()
}

#[tokio::test]
async fn a_folder_is_followed_through_every_kind_of_change() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (root.path().join("v1"), root.path().join("v2"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    fs::write(first.join("a.yaml"), service("a")).unwrap();
    fs::write(first.join("notes.txt"), "not for us").unwrap();
    fs::write(first.join(".a.yaml.swp"), "an editor's").unwrap();
    fs::write(second.join("d.yml"), service("d")).unwrap();
    let current = root.path().join("current");
    symlink(&first, &current).unwrap();
    let plane = begin(&root.path().join("state"));
    let following = tokio::spawn(Folder::new(current.clone()).follow(plane.clone()));
    services(&plane, &["a"]).await;
    fs::write(
        first.join("b.json"),
        r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
    )
    .unwrap();
    fs::write(first.join("c.yaml"), service("c")).unwrap();
    services(&plane, &["a", "c"]).await;
    // As editors save: another file takes the name.
    fs::write(first.join("new"), service("b")).unwrap();
    fs::rename(first.join("new"), first.join("c.yaml")).unwrap();
    services(&plane, &["a", "b"]).await;
    fs::write(first.join("c.yaml"), "kind: [").unwrap();
    let view = errors(&plane).await;
    assert_eq!(
        view.snapshot.services.len(),
        2,
        "a bad set displaces nothing"
    );
    fs::remove_file(first.join("c.yaml")).unwrap();
    services(&plane, &["a"]).await;
    // As deployments switch: the name leads elsewhere.
    symlink(&second, root.path().join("next")).unwrap();
    fs::rename(root.path().join("next"), &current).unwrap();
    services(&plane, &["d"]).await;
    fs::remove_file(&current).unwrap();
    let view = errors(&plane).await;
    assert_eq!(
        view.snapshot.services.len(),
        1,
        "a folder that is gone deletes nothing"
    );
    assert!(!following.is_finished());
    following.abort();
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.yaml"), service("b")).unwrap();
    fs::write(folder.path().join("a.yaml"), service("a")).unwrap();
    fs::write(folder.path().join("c.yaml"), [0xff, 0xfe]).unwrap();
    // Nobody writes to this pipe, ever.
    let pipe = folder.path().join("d.yaml");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let absent = folder.path().join("absent.yaml");
    let errors = read_files(&[folder.path().to_owned(), absent]).unwrap_err();
    let files = errors
        .iter()
        .map(|error| error.origin.file.rsplit('/').next().unwrap());
    assert_eq!(
        files.collect::<Vec<_>>(),
        ["c.yaml", "d.yaml", "absent.yaml"]
    );
    fs::remove_file(folder.path().join("c.yaml")).unwrap();
    fs::remove_file(pipe).unwrap();
    let files = read_files(&[folder.path().to_owned()]).unwrap();
    let names = files
        .iter()
        .map(|file| file.name.rsplit('/').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["a.yaml", "b.yaml"]);
}
