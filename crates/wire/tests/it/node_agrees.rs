//! Claim: of what is taken here, Node's parser makes the same requests.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::pieces::pieces;
use crate::seen::{SOUND, Seen, dispute, ours};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/node.js");
const MIXTURES: usize = 1000;

fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("SELVEDGE_SKIP_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(log);
        writeln!(log.unwrap(), "{line}").unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// A line of the script.
fn parse(line: &str) -> (Vec<Seen>, bool) {
    let mut words = line.split(' ');
    let content = words.next() == Some("1");
    let requests = words.map(|request| {
        let mut parts = request.split(';');
        let mut part = || parts.next().unwrap();
        let method = part().to_owned();
        let fields = part().split(',').filter(|field| !field.is_empty());
        let fields = fields.map(|field| {
            let (name, value) = field.split_once('=').unwrap();
            (name.to_owned(), unhex(value))
        });
        let mut fields: Vec<_> = fields.collect();
        fields.sort();
        let body = unhex(part());
        Seen {
            method,
            fields,
            body,
        }
    });
    (requests.collect(), content)
}

#[test]
fn node_never_counts_differently() {
    let node = Command::new("node")
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut node) = node else {
        return skip("node_never_counts_differently", "no node on this host");
    };
    let mut runner = TestRunner::deterministic();
    let mixtures = (0..MIXTURES).map(|_| pieces().new_tree(&mut runner).unwrap().current());
    let sound = SOUND.iter().map(|bytes| bytes.to_vec());
    let connections: Vec<_> = sound.chain(mixtures).collect();
    let taken = connections.iter().map(|bytes| &bytes[..ours(bytes).1]);
    let input: String = taken.map(|bytes| hex(bytes) + "\n").collect();
    let mut stdin = node.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let found: Vec<_> = lines.lines().map(parse).collect();
    assert_eq!(found.len(), connections.len());
    assert!(found[..SOUND.len()].iter().all(|(_, content)| *content));
    let requests: usize = found.iter().map(|(requests, _)| requests.len()).sum();
    assert!(requests > MIXTURES / 10, "{requests} requests prove little");
    for (bytes, found) in connections.iter().zip(found) {
        assert_eq!(dispute(bytes, |_| found), None);
    }
}
