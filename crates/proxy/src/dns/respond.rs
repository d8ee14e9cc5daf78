//! What to do with one message of a program. Pure: bytes and a table in, bytes and a decision out.
//!
//! | message | what becomes of it |
//! |---|---|
//! | shorter than a header, or a response | dropped: answering would invite a ping-pong |
//! | the kernel has no record of who sent it | REFUSED: a proxy port is never an open resolver |
//! | opcode QUERY without exactly one readable question | FORMERR (RFC 9619) |
//! | other opcodes without a readable question, or about a mesh name | NOTIMP |
//! | about another's name, of whatever opcode, class and type | sent on as it is |
//! | about a mesh name, but not sound to its last byte | FORMERR |
//! | EDNS version above 0 | BADVERS (RFC 6891, section 6.1.3) |
//! | a class other than IN and ANY, or a zone transfer | REFUSED |
//! | other meta types | NOTIMP |
//! | ANY | the address alone (RFC 8482, section 4.1) |
//! | a type the name has | the record; TTL as set |
//! | a type it does not have | NOERROR without records, and an SOA |
//! | a mesh name that is not there | NXDOMAIN and an SOA |
//! | a mesh name with a search suffix | NXDOMAIN and an SOA |
//!
//! An SOA's owner is always an ending of the name that was asked for, and its last field is the TTL,
//! so that "no" is kept as short as "yes".

use std::net::SocketAddr;

use selvedge_feed::Counter;

use super::message::{
    CLASS_ANY, CLASS_IN, Edns, HEADER_BYTES as NAME, Header, Malformed, Question, edns, rcode,
    rtype,
};
use super::writer::{PLAIN_UDP_BYTES, Section, UDP_BYTES, Writer};
use super::zone::{self, Found, Verdict};
use crate::origin::Origin;
use crate::table::{Record, Table};

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As a datagram.
    Udp,
    /// Over a connection, where size is no matter.
    Tcp,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Drop,
    /// The answer is in the buffer; it is to be counted as this.
    Answer(Counter),
    /// It goes to the server the program addressed, as it is.
    Forward(SocketAddr),
}

/// Decides on `message`. An answer is written to `out`, whatever was there before.
pub fn respond(
    table: &Table,
    message: &[u8],
    origin: Option<Origin>,
    transport: Transport,
    out: &mut Vec<u8>,
) -> Action {
    let Some(header) = Header::parse(message).filter(|header| !header.is_response()) else {
        return Action::Drop;
    };
    let question = match header.counts[0] {
        1 => Question::parse(message),
        _ => None,
    };
    let mut asked = Asked {
        table,
        message,
        header,
        transport,
        out,
    };
    let Some(origin) = origin else {
        return asked.fail(question.as_ref(), rcode::REFUSED, Counter::Unrecorded);
    };
    let Some(question) = question else {
        let rcode = match header.opcode() {
            0 => rcode::FORMERR,
            _ => rcode::NOTIMP,
        };
        return asked.fail(None, rcode, Counter::Malformed);
    };
    let asker = table.asker(origin.workload);
    match zone::find(table, asker, &question.name) {
        Verdict::Foreign => Action::Forward(asker.with_scope(origin.server)),
        Verdict::Mesh { found, apex } => asked.answer(&question, &found, apex),
        Verdict::Shadowed { apex } => match asked.answer(&question, &Found::Nothing, apex) {
            Action::Answer(Counter::Answered) => Action::Answer(Counter::Shadowed),
            other => other,
        },
    }
}

/// Makes a SERVFAIL for a message that could not be sent on.
pub(super) fn server_failure(header_and_question: &[u8], out: &mut Vec<u8>) {
    let Some(header) = Header::parse(header_and_question) else {
        out.clear();
        return;
    };
    let question = Question::parse(header_and_question);
    let mut writer = Writer::new(out, header_and_question, question.as_ref(), PLAIN_UDP_BYTES);
    writer.set_rcode(rcode::SERVFAIL);
    writer.finish(header);
}

/// A message that is to be answered.
struct Asked<'a> {
    table: &'a Table,
    message: &'a [u8],
    header: Header,
    transport: Transport,
    out: &'a mut Vec<u8>,
}

impl Asked<'_> {
    fn fail(&mut self, question: Option<&Question>, rcode: u16, counter: Counter) -> Action {
        let mut writer = Writer::new(self.out, self.message, question, PLAIN_UDP_BYTES);
        writer.set_rcode(rcode);
        writer.finish(self.header);
        Action::Answer(counter)
    }

    fn answer(&mut self, question: &Question, found: &Found<'_>, apex: usize) -> Action {
        if self.header.opcode() != 0 {
            return self.fail(Some(question), rcode::NOTIMP, Counter::Answered);
        }
        let edns = match edns(self.message, self.header, question) {
            Ok(edns) => edns,
            Err(Malformed) => {
                return self.fail(Some(question), rcode::FORMERR, Counter::Malformed);
            }
        };
        let limit = self.limit(edns);
        let mut writer = Writer::new(self.out, self.message, Some(question), limit);
        if let Some(edns) = edns {
            writer.set_edns(edns);
        }
        match refusal(question, edns) {
            Some(rcode) => writer.set_rcode(rcode),
            None => Answer {
                table: self.table,
                rtype: question.rtype,
                writer: &mut writer,
            }
            .write(found, apex),
        }
        writer.finish(self.header);
        Action::Answer(Counter::Answered)
    }

    fn limit(&self, edns: Option<Edns>) -> usize {
        match (self.transport, edns) {
            (Transport::Tcp, _) => u16::MAX.into(),
            (Transport::Udp, None) => PLAIN_UDP_BYTES,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.udp_bytes.min(UDP_BYTES)).max(PLAIN_UDP_BYTES)
            }
        }
    }
}

/// Why a sound question about a mesh name is not answered with data.
fn refusal(question: &Question, edns: Option<Edns>) -> Option<u16> {
    if edns.is_some_and(|edns| edns.version > 0) {
        return Some(rcode::BADVERS);
    }
    if ![CLASS_IN, CLASS_ANY].contains(&question.class) {
        return Some(rcode::REFUSED);
    }
    match question.rtype {
        rtype::OPT => Some(rcode::FORMERR),
        rtype::AXFR | rtype::IXFR => Some(rcode::REFUSED),
        rtype::ANY => None,
        rtype::FIRST_META..=255 => Some(rcode::NOTIMP),
        _ => None,
    }
}

/// The records of an answer.
struct Answer<'a, 'w, 'b> {
    table: &'a Table,
    rtype: u16,
    writer: &'w mut Writer<'b>,
}

impl Answer<'_, '_, '_> {
    fn write(&mut self, found: &Found<'_>, apex: usize) {
        let written = match found {
            Found::Service(record) => self.address(record),
            Found::Port(record, port) if self.wants(rtype::SRV) => self.port(record, *port),
            Found::Address(record) if self.wants(rtype::PTR) => {
                self.put(NAME, rtype::PTR, &[&record.full_name])
            }
            Found::Apex if self.wants(rtype::SOA) => {
                self.put(NAME, rtype::SOA, &[self.table.soa()])
            }
            Found::Nothing => {
                self.writer.set_rcode(rcode::NXDOMAIN);
                false
            }
            Found::Port(..) | Found::Address(_) | Found::Apex | Found::Empty => false,
        };
        if !written {
            let (ttl_s, soa) = (self.table.ttl_s(), self.table.soa());
            self.writer
                .record(Section::Authority, apex, rtype::SOA, ttl_s, &[soa]);
        }
    }

    fn wants(&self, rtype: u16) -> bool {
        self.rtype == rtype || self.rtype == rtype::ANY
    }

    fn address(&mut self, record: &Record) -> bool {
        if self.wants(rtype::A) {
            return self.put(NAME, rtype::A, &[&record.address.octets()]);
        }
        match self.table.ipv6(record) {
            Some(ipv6) if self.rtype == rtype::AAAA => {
                self.put(NAME, rtype::AAAA, &[&ipv6.octets()])
            }
            _ => false,
        }
    }

    /// SRV (RFC 2782), its target written out as that RFC asks, and the target's addresses.
    fn port(&mut self, record: &Record, port: u16) -> bool {
        const PRIORITY_AND_WEIGHT: [u8; 4] = [0, 0, 0, 100];
        let parts: [&[u8]; 3] = [&PRIORITY_AND_WEIGHT, &port.to_be_bytes(), &record.full_name];
        let ttl_s = self.table.ttl_s();
        let srv = self
            .writer
            .record(Section::Answer, NAME, rtype::SRV, ttl_s, &parts);
        let Some(data) = srv else { return true };
        let target = data + 6;
        let (ipv4, ipv6) = (record.address.octets(), self.table.ipv6(record));
        let section = Section::Additional;
        self.writer
            .record(section, target, rtype::A, ttl_s, &[&ipv4]);
        if let Some(ipv6) = ipv6 {
            self.writer
                .record(section, target, rtype::AAAA, ttl_s, &[&ipv6.octets()]);
        }
        true
    }

    /// Adds to the answer section; true even where there was no room, since the answer is then
    /// marked as cut and not as empty.
    fn put(&mut self, owner: usize, rtype: u16, parts: &[&[u8]]) -> bool {
        let ttl_s = self.table.ttl_s();
        self.writer
            .record(Section::Answer, owner, rtype, ttl_s, parts);
        true
    }
}
