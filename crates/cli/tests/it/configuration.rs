//! Configuration from outside: what is wrong is said, all of it, and changes nothing.

use crate::mesh::Mesh;

const GOOD: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{name: http, port: 80}]}
";

/// Wrong in five places, on the lines that [`WRONG_LINES`] names.
const BAD: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: Cart_1
spec:
  ports:
  - prot: 80
---
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  type: LoadBalancer
  ports:
  - port: 70000
---
apiVersion: selvedge.dev/v1alpha1
kind: Worklod
metadata:
  name: one
";
const WRONG_LINES: [u32; 5] = [4, 7, 14, 16, 19];

#[test]
fn every_error_of_a_set_is_said_at_once() {
    let Some(mesh) = Mesh::start("every_error_of_a_set_is_said_at_once", &[]) else {
        return;
    };
    mesh.apply(GOOD);
    let before = mesh.status().configuration.generation;
    let file = mesh.file("bad.yaml", BAD);
    for command in ["check", "apply"] {
        let (status, errors) = mesh.refused(&[command, "-f", &file]);
        assert_eq!(status, 1, "{errors}");
        for line in WRONG_LINES {
            let place = format!("bad.yaml:{line}");
            assert!(
                errors.contains(&place),
                "nothing is said of {place}:\n{errors}"
            );
        }
    }
    let (_, errors) = mesh.refused(&["apply", "-f", &file]);
    assert!(
        errors.contains("`port`"),
        "the nearest known field is named:\n{errors}"
    );
    assert_eq!(mesh.status().configuration.generation, before);
    assert_eq!(
        mesh.status().services.len(),
        1,
        "what was in force still is"
    );
}

/// A service behind which nobody listens refuses at once, under its reason.
#[test]
fn a_service_without_endpoints_refuses_and_counts() {
    let test = "a_service_without_endpoints_refuses_and_counts";
    let Some(mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    mesh.apply(GOOD);
    let script = "import socket\n\
                  try: socket.socket().connect(('cart', 80))\n\
                  except OSError as error: print(type(error).__name__)";
    let (status, printed) = mesh.run_to_end("shop", &["/usr/bin/python3", "-c", script]);
    assert_eq!((status, printed.trim()), (0, "ConnectionRefusedError"));
    let graph = mesh.graph();
    let edges = graph.edges.iter();
    let mut edge = edges.filter(|edge| edge.destination.starts_with("cart"));
    let edge = edge.next().expect("the attempt is an edge");
    assert_eq!(edge.refused.get("no_endpoint"), Some(&1), "{edge:?}");
    assert_eq!(edge.connections, 0);
}
