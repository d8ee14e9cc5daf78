//! Claim: no input that a fuzzer found worth keeping brings the resolver down. The committed corpus
//! is read as the fuzz target does.

use std::fs;
use std::path::Path;

use selvedge_proxy::Origin;
use selvedge_proxy::dns::{Action, Transport, respond};

use crate::answers::{SHOPPER, table};

#[test]
fn dns_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dns_message");
    let table = table();
    let origin = Origin {
        server: "192.0.2.53:53".parse().unwrap(),
        workload: SHOPPER,
    };
    let (mut answered, mut out) = (0, Vec::new());
    for file in fs::read_dir(folder).unwrap() {
        let message = fs::read(file.unwrap().path()).unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let action = respond(&table, &message, Some(origin), transport, &mut out);
            answered += u32::from(matches!(action, Action::Answer(_)));
        }
    }
    assert!(answered >= 10, "the corpus has good messages too");
}
