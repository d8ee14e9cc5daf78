//! Writing answers (RFC 1035, section 4): never longer than the program can take.

use super::message::{CLASS_IN, Edns, HEADER_BYTES, Header, Question, rtype};

/// What UDP always carries (RFC 1035, section 4.2.1).
pub(crate) const PLAIN_UDP_BYTES: usize = 512;

/// What this resolver says it takes, and the most it puts into a datagram: small enough that no
/// path fragments it.
pub(crate) const UDP_BYTES: u16 = 1232;

const OPT_BYTES: usize = 11;
const POINTER: u16 = 0xc000;

/// The section a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 1,
    Authority = 2,
    Additional = 3,
}

/// An answer under way.
///
/// Names are compressed by pointing at where they stand already: an owner is an offset into the
/// message, most often into the question.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    edns: Option<Edns>,
    rcode: u16,
    counts: [u16; 4],
    truncated: bool,
}

impl<'a> Writer<'a> {
    /// Begins an answer to `message` of at most `limit` bytes. With a question, it is repeated byte
    /// for byte, so that the case of its letters is kept.
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        message: &[u8],
        question: Option<&Question>,
        limit: usize,
    ) -> Self {
        let end = question.map_or(HEADER_BYTES, |question| question.end);
        out.clear();
        out.extend_from_slice(&message[..end]);
        Self {
            out,
            limit,
            edns: None,
            rcode: 0,
            counts: [question.is_some().into(), 0, 0, 0],
            truncated: false,
        }
    }

    /// Makes room for the OPT record, which an answer to a query with one must have.
    pub(crate) fn set_edns(&mut self, edns: Edns) {
        self.limit = self.limit.saturating_sub(OPT_BYTES);
        self.edns = Some(edns);
    }

    pub(crate) fn set_rcode(&mut self, rcode: u16) {
        self.rcode = rcode;
    }

    /// Adds a record whose data is `parts`, one after the other; gives where the data begins. One
    /// that has no room is left out, which the program is told of where it was to be the answer
    /// (RFC 2181, section 9): an SOA or an additional address is only a help.
    pub(crate) fn record(
        &mut self,
        section: Section,
        owner: usize,
        rtype: u16,
        ttl_s: u32,
        parts: &[&[u8]],
    ) -> Option<usize> {
        let data: usize = parts.iter().map(|part| part.len()).sum();
        let start = self.out.len() + 12;
        if self.truncated || start + data > self.limit {
            self.truncated |= section == Section::Answer;
            return None;
        }
        let owner = u16::try_from(owner).expect("owners are within the first 16 KiB");
        let length = u16::try_from(data).expect("record data is bounded by names");
        for word in [POINTER | owner, rtype, CLASS_IN] {
            self.out.extend_from_slice(&word.to_be_bytes());
        }
        self.out.extend_from_slice(&ttl_s.to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.counts[section as usize] += 1;
        Some(start)
    }

    /// Ends the answer: the OPT record and the header.
    pub(crate) fn finish(mut self, header: Header) {
        if let Some(edns) = self.edns.take() {
            self.opt(edns);
        }
        let flags = self.flags(header);
        self.out[2..4].copy_from_slice(&flags.to_be_bytes());
        for (count, place) in self.counts.iter().zip(self.out[4..].chunks_exact_mut(2)) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }

    /// RFC 6891, section 6.1.
    fn opt(&mut self, theirs: Edns) {
        let dnssec_ok = u8::from(theirs.dnssec_ok) << 7;
        let upper_rcode = u8::try_from(self.rcode >> 4).unwrap_or_default();
        self.out.push(0);
        self.out.extend_from_slice(&rtype::OPT.to_be_bytes());
        self.out.extend_from_slice(&UDP_BYTES.to_be_bytes());
        self.out
            .extend_from_slice(&[upper_rcode, 0, dnssec_ok, 0, 0, 0]);
        self.counts[Section::Additional as usize] += 1;
    }

    /// Response, authoritative, recursion available; opcode, RD and CD as asked
    /// (RFC 4035, section 3.1.6).
    fn flags(&self, header: Header) -> u16 {
        const RESPONSE: u16 = 1 << 15;
        const OPCODE: u16 = 0xf << 11;
        const AUTHORITATIVE: u16 = 1 << 10;
        const TRUNCATED: u16 = 1 << 9;
        const RECURSION_DESIRED: u16 = 1 << 8;
        const RECURSION_AVAILABLE: u16 = 1 << 7;
        const CHECKING_DISABLED: u16 = 1 << 4;
        let kept = header.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
        let authoritative = match self.rcode {
            super::message::rcode::NOERROR | super::message::rcode::NXDOMAIN => AUTHORITATIVE,
            _ => 0,
        };
        let truncated = if self.truncated { TRUNCATED } else { 0 };
        RESPONSE | RECURSION_AVAILABLE | kept | authoritative | truncated | (self.rcode & 0xf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claim: as many records as fit are written, and the cut is told. The length is the whole
    /// message's, the OPT record included.
    #[test]
    fn what_has_no_room_is_left_out_and_told() {
        let message = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let header = Header::parse(message).unwrap();
        let question = Question::parse(message).unwrap();
        let edns = Edns {
            udp_bytes: 512,
            version: 0,
            dnssec_ok: false,
        };
        for (section, truncated) in [(Section::Answer, true), (Section::Additional, false)] {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, message, Some(&question), PLAIN_UDP_BYTES);
            writer.set_edns(edns);
            for _ in 0..100 {
                writer.record(section, HEADER_BYTES, rtype::A, 5, &[&[127, 96, 0, 1]]);
            }
            writer.finish(header);
            // 512 bytes, less 19 of header and question and 11 of OPT, hold 30 records of 16.
            let counts = Header::parse(&out).unwrap().counts;
            assert_eq!(counts.iter().sum::<u16>(), 1 + 30 + 1, "{section:?}");
            assert_eq!(out.len(), 19 + 30 * 16 + OPT_BYTES);
            assert_eq!(out[2] & 2 != 0, truncated, "{section:?}");
        }
    }
}
