//! Reading DNS messages (RFC 1035, section 4; EDNS: RFC 6891).
//!
//! A foreign query is read no further than its question: what comes after is between the program
//! and its server. A query for a mesh name is read to its last byte.

use super::Name;

pub(crate) const HEADER_BYTES: usize = 12;

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BADVERS: u16 = 16;
}

/// Record and query types.
pub(crate) mod rtype {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
    /// Types from here to 255 are questions about something else than data (RFC 6895, section 3.1).
    pub(crate) const FIRST_META: u16 = 128;
}

pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_ANY: u16 = 255;

/// The first twelve bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Entries in question, answer, authority and additional section.
    pub(crate) counts: [u16; 4],
}

impl Header {
    const RESPONSE: u16 = 1 << 15;

    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let header = message.first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self {
            id: word(0),
            flags: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    pub(crate) fn is_response(self) -> bool {
        self.flags & Self::RESPONSE != 0
    }

    /// 0 for a query.
    pub(crate) fn opcode(self) -> u16 {
        (self.flags >> 11) & 0xf
    }

    pub(crate) fn rcode(self) -> u16 {
        self.flags & 0xf
    }
}

/// The one question of a message.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// Where it ends in the message; it begins after the header.
    pub(crate) end: usize,
}

impl Question {
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let (name, length) = Name::parse(message.get(HEADER_BYTES..)?)?;
        let fixed = HEADER_BYTES + length;
        Some(Self {
            name,
            rtype: word_at(message, fixed)?,
            class: word_at(message, fixed + 2)?,
            end: fixed + 4,
        })
    }
}

/// What the program says of itself by EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// Largest UDP payload it takes, in bytes.
    pub(crate) udp_bytes: u16,
    pub(crate) version: u8,
    /// DNSSEC records are welcome.
    pub(crate) dnssec_ok: bool,
}

/// The records after the question were not as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads everything after the question, to the last byte.
pub(crate) fn edns(
    message: &[u8],
    header: Header,
    question: &Question,
) -> Result<Option<Edns>, Malformed> {
    let mut at = question.end;
    let [_, answers, authorities, additionals] = header.counts;
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        let record = Record::parse(message, at).ok_or(Malformed)?;
        // OPT is for the additional section alone (RFC 6891, section 6.1.1).
        if record.rtype == rtype::OPT {
            return Err(Malformed);
        }
        at = record.end;
    }
    let mut found = None;
    for _ in 0..additionals {
        let record = Record::parse(message, at).ok_or(Malformed)?;
        at = record.end;
        if record.rtype == rtype::OPT {
            if found.is_some() || !record.owner_is_root {
                return Err(Malformed);
            }
            found = Some(record.edns(message)?);
        }
    }
    if at != message.len() {
        return Err(Malformed);
    }
    Ok(found)
}

/// A record, located and not looked into.
struct Record {
    owner_is_root: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    data: usize,
    end: usize,
}

impl Record {
    fn parse(message: &[u8], start: usize) -> Option<Self> {
        let fixed = skip_name(message, start)?;
        let ttl = message.get(fixed + 4..)?.first_chunk::<4>()?;
        let data = fixed + 10;
        let end = data + usize::from(word_at(message, fixed + 8)?);
        (end <= message.len()).then_some(Self {
            owner_is_root: fixed == start + 1,
            rtype: word_at(message, fixed)?,
            class: word_at(message, fixed + 2)?,
            ttl: *ttl,
            data,
            end,
        })
    }

    fn edns(&self, message: &[u8]) -> Result<Edns, Malformed> {
        let mut options = &message[self.data..self.end];
        while let Some((option, rest)) = options.split_first_chunk::<4>() {
            let length = u16::from_be_bytes([option[2], option[3]]);
            options = rest.get(usize::from(length)..).ok_or(Malformed)?;
        }
        if !options.is_empty() {
            return Err(Malformed);
        }
        Ok(Edns {
            udp_bytes: self.class,
            version: self.ttl[1],
            dnssec_ok: self.ttl[2] & 0x80 != 0,
        })
    }
}

/// Where the name that begins at `at` ends. A pointer may only lead backwards, to before the name it
/// ends: followed or not, no name can then go in circles (RFC 1035, section 4.1.4).
fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => {
                let target = usize::from(word_at(message, at)? & 0x3fff);
                let backwards = (HEADER_BYTES..start).contains(&target);
                return backwards.then_some(at + 2);
            }
            _ => return None,
        }
    }
}

fn word_at(message: &[u8], at: usize) -> Option<u16> {
    let word = message.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*word))
}
