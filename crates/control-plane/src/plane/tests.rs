//! Claims: a change is published whole, once, with a generation that never shrinks; what cannot be
//! stored is refused where people asked for it and kept where it has happened; a bad folder never
//! displaces a good one.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use selvedge_model::{PortMode, ServiceName};

use super::*;
use crate::document::{
    CgroupRef, Document, Kind, ObjectKey, Publish, ResolverSpec, SourceFile, parse,
};
use crate::objects::{Action, PlaceError, PlaceRequest};

fn documents(text: &str) -> Vec<Document> {
    let file = SourceFile {
        name: "f".to_owned(),
        text: text.to_owned(),
    };
    parse(&[file]).unwrap().documents
}

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn begin(folder: &Path) -> ControlPlane {
    let (store, restored) = Store::open(Disk::open(folder).unwrap()).unwrap();
    let options = Options {
        virtual_range: VirtualRange::DEFAULT,
        floor: Generation(0),
    };
    let (handle, task) = start(store, restored, options);
    tokio::spawn(task);
    handle
}

/// Makes every save fail, whoever runs the test: the folder is replaced by a file.
fn break_folder(folder: &Path) -> PathBuf {
    let aside = folder.with_extension("aside");
    fs::rename(folder, &aside).unwrap();
    fs::write(folder, "").unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o400)).unwrap();
    aside
}

fn mend_folder(folder: &Path, aside: &Path) {
    fs::remove_file(folder).unwrap();
    fs::rename(aside, folder).unwrap();
}

fn web() -> PlaceRequest {
    PlaceRequest {
        service: "web".parse().unwrap(),
        ports: Vec::new(),
        publish: Vec::new(),
        resolver: ResolverSpec::default(),
        port_mode: PortMode::Shared,
    }
}

async fn place(plane: &ControlPlane, cgroup: u64) -> Placed {
    try_place(plane, web(), cgroup).await.unwrap()
}

async fn try_place(
    plane: &ControlPlane,
    request: PlaceRequest,
    cgroup: u64,
) -> Result<Placed, PlaceError> {
    let service = request.service.clone();
    let name = plane.reserve(service).await.unwrap().unwrap();
    let reference = CgroupRef::Path(format!("/selvedge/{name}"));
    let placed = plane.place(request, name, reference, CgroupId(cgroup));
    placed.await.unwrap()
}

#[tokio::test]
async fn changes_are_published_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let plane = begin(folder.path());
    let mut snapshots = plane.snapshots();
    let first = snapshots.borrow_and_update().generation;
    let applied = plane
        .apply(documents(&service("cart")), Effect::Judge)
        .await
        .unwrap();
    assert_eq!(applied.changes[0].action, Action::Created);
    assert!(
        !snapshots.has_changed().unwrap(),
        "a dry run changes nothing"
    );
    let applied = plane
        .apply(documents(&service("cart")), Effect::Change)
        .await
        .unwrap();
    assert_eq!(applied.generation, Generation(first.0 + 1));
    let cart: ServiceName = "cart".parse().unwrap();
    let address = snapshots.borrow_and_update().services[&cart].address;
    let again = plane
        .apply(documents(&service("cart")), Effect::Change)
        .await
        .unwrap();
    assert_eq!(again.changes[0].action, Action::Unchanged);
    assert_eq!(again.generation, applied.generation);
    assert!(!snapshots.has_changed().unwrap());
    drop(plane);
    let snapshot = begin(folder.path()).view().snapshot.clone();
    assert_eq!(snapshot.services[&cart].address, address);
    assert!(snapshot.generation > applied.generation);
}

#[tokio::test]
async fn references_to_nothing_are_refused_when_applied_and_kept_when_the_service_goes() {
    let folder = tempfile::tempdir().unwrap();
    let plane = begin(folder.path());
    let policy = "---\napiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\n\
                  metadata: {name: p}\n\
                  spec: {targetRefs: [{kind: Service, name: cart}], limits: {connections: 3}}\n";
    let error = plane
        .apply(documents(policy), Effect::Change)
        .await
        .unwrap_err();
    let ApplyError::Refused(diagnostics) = error else {
        panic!("{error}")
    };
    assert_eq!(diagnostics[0].path, "spec.targetRefs[0].name");
    assert_eq!(diagnostics[0].origin.line, 5);
    let both = service("cart") + policy;
    plane.apply(documents(&both), Effect::Change).await.unwrap();
    let key = ObjectKey::new(
        Kind::Service,
        &selvedge_model::Label::default_namespace(),
        "cart",
    );
    plane.delete(key).await.unwrap();
    assert_eq!(plane.view().conditions[0].key.name, "p");
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_or_kept_by_who_asked() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("state");
    let plane = begin(&folder);
    plane
        .apply(documents(&service("cart")), Effect::Change)
        .await
        .unwrap();
    let before = plane.view().snapshot.clone();
    let aside = break_folder(&folder);
    let error = plane
        .apply(documents(&service("shop")), Effect::Change)
        .await
        .unwrap_err();
    assert!(matches!(error, ApplyError::NotStored(_)), "{error}");
    let view = plane.view();
    assert!(Arc::ptr_eq(&view.snapshot, &before));
    assert!(
        matches!(view.store, StoreState::Refusing { failures: 1, .. }),
        "{:?}",
        view.store
    );
    let placed = place(&plane, 7).await;
    let view = plane.view();
    assert_eq!(view.snapshot.generation, placed.generation);
    assert_eq!(view.snapshot.workloads[&CgroupId(7)].name, placed.name);
    assert!(
        matches!(view.store, StoreState::InMemory { failures: 2, .. }),
        "{:?}",
        view.store
    );
    mend_folder(&folder, &aside);
    plane
        .apply(documents(&service("shop")), Effect::Change)
        .await
        .unwrap();
    assert!(matches!(plane.view().store, StoreState::Durable));
    drop(plane);
    assert_eq!(
        begin(&folder).view().objects.iter().count(),
        4,
        "cart, shop, web, web-0"
    );
}

/// Programs that open and close a listener now and then change nothing that is stored.
#[tokio::test]
async fn storing_is_tried_again_however_busy_the_plane_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("state");
    let plane = begin(&folder);
    let aside = break_folder(&folder);
    place(&plane, 7).await;
    assert!(matches!(plane.view().store, StoreState::InMemory { .. }));
    mend_folder(&folder, &aside);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let port = Port::new(8080).unwrap();
    while began.elapsed() < 2 * RETRY {
        plane
            .port_gone(CgroupId(9), Protocol::Tcp, port)
            .await
            .unwrap();
        tokio::time::sleep(RETRY / 3).await;
    }
    tokio::time::resume();
    plane
        .set_cgroups(Default::default(), Vec::new())
        .await
        .unwrap();
    assert!(matches!(plane.view().store, StoreState::Durable));
}

#[tokio::test]
async fn a_bad_folder_never_displaces_a_good_one() {
    let root = tempfile::tempdir().unwrap();
    let plane = begin(root.path());
    let take = async |read| plane.take_folder("dir".to_owned(), read).await.unwrap();
    take(Ok(documents(&(service("a") + &service("b"))))).await;
    let bad = service("a") + &service("a");
    take(Ok(documents(&bad))).await;
    // Commands are carried out in order, so this answer comes after the folder was judged.
    plane
        .set_cgroups(Default::default(), Vec::new())
        .await
        .unwrap();
    let view = plane.view();
    assert_eq!(view.snapshot.services.len(), 2);
    assert_eq!(view.folder.as_ref().unwrap().errors.len(), 1);
    take(Ok(documents(&service("b")))).await;
    plane
        .set_cgroups(Default::default(), Vec::new())
        .await
        .unwrap();
    let view = plane.view();
    assert_eq!(view.snapshot.services.len(), 1);
    assert!(view.folder.as_ref().unwrap().errors.is_empty());
}

#[tokio::test]
async fn replicas_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let plane = begin(folder.path());
    let port = Port::new(8080).unwrap();
    // The kernel may tell of a port before the workload is known.
    plane
        .port_seen(CgroupId(1), Protocol::Tcp, port)
        .await
        .unwrap();
    place(&plane, 1).await;
    place(&plane, 2).await;
    let view = plane.view();
    let web: ServiceName = "web".parse().unwrap();
    let ports = &view.snapshot.services[&web].ports;
    assert_eq!((ports.len(), ports[0].endpoints.len()), (1, 2));
    plane.emptied(CgroupId(1)).await.unwrap();
    plane
        .set_cgroups(Default::default(), Vec::new())
        .await
        .unwrap();
    assert_eq!(
        plane.view().snapshot.services[&web].ports[0]
            .endpoints
            .len(),
        1
    );
    drop((plane, view));
    // After a restart what is gone is said to be gone; the service stays with its ports.
    let plane = begin(folder.path());
    let gone: Vec<_> = plane.cgroups_named().into_iter().collect();
    assert_eq!(gone.len(), 1);
    plane.set_cgroups(Default::default(), gone).await.unwrap();
    let view = plane.view();
    assert!(view.snapshot.workloads.is_empty());
    assert_eq!(view.objects.iter().count(), 1);
    assert_eq!(view.snapshot.services[&web].ports.len(), 1);
}

/// A service that `run` made goes with its last replica only if no program of it has started.
#[tokio::test]
async fn a_service_whose_programs_never_started_goes() {
    let folder = tempfile::tempdir().unwrap();
    let plane = begin(folder.path());
    let web: ServiceName = "web".parse().unwrap();
    let end = async |cgroup: u64, has_started: bool| {
        let view = plane.view();
        let name = view.snapshot.workloads[&CgroupId(cgroup)].name.clone();
        let reference = CgroupRef::Path(format!("/selvedge/{name}"));
        if !has_started {
            plane.not_started(reference).await.unwrap();
        }
        plane.emptied(CgroupId(cgroup)).await.unwrap();
        // Answered in turn, so what was told before has been done.
        let nothing = plane.set_cgroups(Default::default(), Vec::new());
        nothing.await.unwrap();
        let view = plane.view();
        let service = view.snapshot.services.get(&web);
        (view.objects.iter().count(), service.map(|it| it.address))
    };
    place(&plane, 1).await;
    place(&plane, 2).await;
    let (objects, address) = end(1, false).await;
    assert_eq!(objects, 2, "the other replica may start yet");
    assert_eq!(end(2, false).await, (0, None));
    place(&plane, 3).await;
    assert_eq!(end(3, true).await, (1, address), "its address comes again");
    place(&plane, 4).await;
    assert_eq!(end(4, false).await, (1, address), "an earlier one started");

    let key = ObjectKey::new(Kind::Service, &web.namespace, "web");
    plane.delete(key).await.unwrap();
    place(&plane, 5).await;
    let written = documents(&service("web"));
    plane.apply(written, Effect::Change).await.unwrap();
    let (objects, _) = end(5, false).await;
    assert_eq!(objects, 1, "somebody wants it");
}

#[tokio::test]
async fn closing_ends_the_task_after_what_was_asked_before() {
    let folder = tempfile::tempdir().unwrap();
    let (store, restored) = Store::open(Disk::open(folder.path()).unwrap()).unwrap();
    let options = Options {
        virtual_range: VirtualRange::DEFAULT,
        floor: Generation(0),
    };
    let (plane, task) = start(store, restored, options);
    let task = tokio::spawn(task);
    plane.emptied(CgroupId(1)).await.unwrap();
    let before = tokio::spawn({
        let plane = plane.clone();
        async move {
            plane
                .apply(documents(&service("cart")), Effect::Change)
                .await
        }
    });
    before.await.unwrap().unwrap();
    plane.close().await;
    task.await.unwrap();
    let error = plane
        .apply(documents(&service("late")), Effect::Change)
        .await
        .unwrap_err();
    assert!(matches!(error, ApplyError::Gone(_)), "{error}");
    assert_eq!(begin(folder.path()).view().snapshot.services.len(), 1);
}

/// Both services get their ports when their replicas listen: neither may lose them to the other.
#[tokio::test]
async fn of_two_services_that_publish_a_port_at_once_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plane = begin(folder.path());
    let port = |number| Port::new(number).unwrap();
    let publishing = |service: &str| PlaceRequest {
        service: service.parse().unwrap(),
        publish: vec![Publish {
            port: port(9102),
            protocol: Protocol::Tcp,
            service_port: None,
        }],
        ..web()
    };
    try_place(&plane, publishing("one"), 1).await.unwrap();
    let refused = try_place(&plane, publishing("two"), 2).await.unwrap_err();
    let PlaceError::Refused { diagnostics, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(
        diagnostics[0].message.contains("service one.default"),
        "{diagnostics:?}"
    );
    plane
        .port_seen(CgroupId(1), Protocol::Tcp, port(80))
        .await
        .unwrap();
    let mut snapshots = plane.snapshots();
    let served = snapshots.wait_for(|snapshot| {
        let one = snapshot.services.get(&"one".parse().unwrap());
        one.is_some_and(|one| one.published == [(port(9102), port(80))])
    });
    assert_eq!(served.await.unwrap().services.len(), 1);
}
