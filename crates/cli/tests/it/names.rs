//! Names: those of the mesh are answered by it alone, all others are none of its business.

use rustix::process::Signal;

use crate::mesh::Mesh;
use crate::outside::{ANSWER, NameServer};
use crate::process::{Process, eventually};

const LOOKUPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lookups.py");
/// A program that needs a name now gives up soon: an outage is to be noticed within the test.
const HASTY: &str = "options timeout:1 attempts:1";

/// A mesh with a service `cart` that has an address and nothing behind it.
fn mesh_with_cart(test: &str) -> Option<(Mesh, String)> {
    let mesh = Mesh::start(test, &["python3", "unshare"])?;
    mesh.apply(CART);
    let address = mesh
        .service("cart")
        .address
        .expect("it has one")
        .to_string();
    Some((mesh, address))
}

const CART: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{name: http, port: 80}]}
";

/// What a program in a fresh workload finds for a name.
fn look_up(server: &NameServer, mesh: &Mesh, options: &str, name: &str) -> String {
    let script = "import socket, sys\n\
                  try: print(socket.gethostbyname(sys.argv[1]))\n\
                  except socket.gaierror as error: print(error.strerror)";
    let run = ["shop", "--", "/usr/bin/python3", "-c", script, name];
    let (status, printed) = server.run(mesh, options, &run).finish();
    assert_eq!(status, 0, "{printed}");
    printed.trim().to_owned()
}

/// Every form of a service's name resolves, whatever the search list; what is no service does not
/// exist; and none of these questions gets to a server that would answer it.
#[test]
fn mesh_names_never_reach_another_server() {
    let Some((mesh, address)) = mesh_with_cart("mesh_names_never_reach_another_server") else {
        return;
    };
    let server = NameServer::start();
    let search = "search corp.example\noptions ndots:5 timeout:2";
    for name in [
        "cart",
        "cart.default",
        "cart.default.svc",
        "cart.default.svc.cluster.local",
    ] {
        assert_eq!(look_up(&server, &mesh, search, name), address, "{name}");
    }
    let missing = look_up(&server, &mesh, search, "nosuch.default.svc.cluster.local.");
    assert_eq!(missing, "Name or service not known");
    let asked = server.asked();
    assert!(
        !asked.iter().any(|name| name.ends_with("svc.cluster.local")),
        "{asked:?}"
    );
    assert!(
        !asked.iter().any(|name| name.starts_with("cart")),
        "{asked:?}"
    );
    assert_eq!(
        look_up(&server, &mesh, search, "outside.example."),
        ANSWER.to_string()
    );
}

/// Waits for `count` more lines with `part`.
fn more(lookups: &mut Process, part: &str, count: usize) {
    let before = lookups.printed().matches(part).count();
    lookups.lines(part, before + count);
}

/// Asserts that no more look-ups of an outside name failed than may be lost, and that none of a mesh name was
/// answered by somebody else.
fn check_lookups(lookups: &Process, server: &NameServer, lost: usize) {
    let printed = lookups.printed();
    let failed = printed.matches("outside.example failed").count();
    assert!(failed <= lost, "{printed}");
    assert!(!printed.contains(&format!("cart {ANSWER}")), "{printed}");
    let asked = server.asked();
    assert!(
        !asked.iter().any(|name| name.starts_with("cart")),
        "{asked:?}"
    );
}

/// Agent and proxy are killed: outside names go straight to their server, mesh names wait for the
/// next agent rather than leak.
#[test]
fn nothing_leaks_while_the_mesh_is_away() {
    let Some((mut mesh, address)) = mesh_with_cart("nothing_leaks_while_the_mesh_is_away") else {
        return;
    };
    let server = NameServer::start();
    let run = [
        "shop",
        "--",
        "/usr/bin/python3",
        LOOKUPS,
        "cart",
        "outside.example",
    ];
    let mut lookups = server.run(&mesh, HASTY, &run);
    let cart = format!("cart {address}");
    let outside = format!("outside.example {ANSWER}");
    lookups.line(&cart);
    lookups.line(&outside);

    mesh.kill_both();
    more(&mut lookups, "cart failed", 1);
    more(&mut lookups, &outside, 20);

    mesh.start_agent();
    more(&mut lookups, &cart, 3);
    more(&mut lookups, &outside, 3);
    // What the proxy was asked when it was killed is lost with it, and this program asks but once.
    check_lookups(&lookups, &server, 1);
}

/// A proxy that hangs is found out and replaced; until then the kernel's fallbacks serve.
#[test]
fn a_hanging_proxy_is_replaced() {
    let Some((mesh, address)) = mesh_with_cart("a_hanging_proxy_is_replaced") else {
        return;
    };
    let server = NameServer::start();
    // As glibc has it by default: one question may be lost, the next try finds a way.
    let patient = "options timeout:5 attempts:2";
    let run = [
        "shop",
        "--",
        "/usr/bin/python3",
        LOOKUPS,
        "cart",
        "outside.example",
    ];
    let mut lookups = server.run(&mesh, patient, &run);
    let cart = format!("cart {address}");
    lookups.line(&cart);

    let hanging = mesh.signal_proxy(Signal::STOP);
    let replaced = || {
        let proxy = mesh.status().proxy;
        proxy.state == "serving" && proxy.pid != Some(hanging)
    };
    assert!(eventually(replaced), "{:?}", mesh.status().proxy);
    more(&mut lookups, &cart, 3);
    more(&mut lookups, "outside.example", 3);
    check_lookups(&lookups, &server, 0);
}
