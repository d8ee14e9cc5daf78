//! Building queries and reading answers, independent of the code under test.

use std::fmt::Write as _;

pub(crate) const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const ANY: u16 = 255;

/// A query with RD set.
pub(crate) fn query(id: u16, name: &str, rtype: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&wire(name));
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// The same with an OPT record.
pub(crate) fn edns_query(
    name: &str,
    rtype: u16,
    udp_bytes: u16,
    version: u8,
    flags: u8,
) -> Vec<u8> {
    let mut message = query(7, name, rtype);
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&udp_bytes.to_be_bytes());
    message.extend_from_slice(&[0, version, flags, 0, 0, 0]);
    message
}

pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// An answer in words: response code and flags, then a line per record.
pub(crate) fn describe(message: &[u8]) -> String {
    let flags = u16::from_be_bytes([message[2], message[3]]);
    assert!(flags & 0x8000 != 0, "no response: {message:?}");
    let count = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    let names = [
        (0x0400, " aa"),
        (0x0200, " tc"),
        (0x0100, " rd"),
        (0x0080, " ra"),
        (0x0020, " ad"),
        (0x0010, " cd"),
    ];
    let mut text = format!("rcode {}", flags & 0xf);
    for (bit, word) in names {
        if flags & bit != 0 {
            text.push_str(word);
        }
    }
    let mut at = 12;
    for _ in 0..count(4) {
        at = name_at(message, at).1 + 4;
    }
    for (section, place) in [("answer", 6), ("authority", 8), ("additional", 10)] {
        for _ in 0..count(place) {
            let (line, end) = record_at(message, at);
            write!(text, "\n{section}: {line}").unwrap();
            at = end;
        }
    }
    assert_eq!(at, message.len(), "bytes after the last record");
    text
}

fn record_at(message: &[u8], at: usize) -> (String, usize) {
    let (owner, at) = name_at(message, at);
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let ttl = u32::from_be_bytes(message[at + 4..at + 8].try_into().unwrap());
    let (data, end) = (at + 10, at + 10 + usize::from(word(at + 8)));
    let bytes = &message[data..end];
    let text = match word(at) {
        A => {
            let octets: [u8; 4] = bytes.try_into().unwrap();
            format!("A {}", std::net::Ipv4Addr::from(octets))
        }
        AAAA => {
            let octets: [u8; 16] = bytes.try_into().unwrap();
            format!("AAAA {}", std::net::Ipv6Addr::from(octets))
        }
        PTR => format!("PTR {}", name_at(message, data).0),
        SRV => {
            let target = name_at(message, data + 6).0;
            format!(
                "SRV {} {} {} {target}",
                word(data),
                word(data + 2),
                word(data + 4)
            )
        }
        SOA => {
            let (primary, next) = name_at(message, data);
            let (mailbox, next) = name_at(message, next);
            let minimum = u32::from_be_bytes(message[next + 16..next + 20].try_into().unwrap());
            format!("SOA {primary} {mailbox} minimum {minimum}")
        }
        41 => {
            let [upper, version, flags, _] = message[at + 4..at + 8] else {
                unreachable!("four bytes")
            };
            let line = format!(
                "OPT size {} rcode {upper} version {version} flags {flags}",
                word(at + 2)
            );
            return (line, end);
        }
        other => format!("TYPE{other} {bytes:?}"),
    };
    (format!("{owner} {ttl} {text}"), end)
}

/// The name at `at`, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let (mut text, mut end, mut jumps) = (String::new(), None, 0);
    loop {
        let length = usize::from(message[at]);
        if length >= 0xc0 {
            end.get_or_insert(at + 2);
            at = usize::from(u16::from_be_bytes([message[at] & 0x3f, message[at + 1]]));
            jumps += 1;
            assert!(jumps < 10, "names go in circles");
        } else if length == 0 {
            if text.is_empty() {
                text.push('.');
            }
            return (text, end.unwrap_or(at + 1));
        } else {
            let label = &message[at + 1..at + 1 + length];
            text.push_str(&String::from_utf8_lossy(label));
            text.push('.');
            at += 1 + length;
        }
    }
}
