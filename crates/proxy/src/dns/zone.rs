//! Which names are the mesh's, and what is known of them. Pure.
//!
//! A service `cart` in namespace `shop` has four names: `cart` for workloads of its own namespace,
//! `cart.shop`, `cart.shop.svc` and `cart.shop.svc.cluster.local`. In front of each may stand a named
//! port, as `_http._tcp`.
//!
//! What is not there is of three kinds. Under the cluster domain, and under `NAMESPACE.svc` of a
//! namespace that has services, it is the mesh's to say no. A mesh name that the program's resolver
//! tries with its search suffixes first, since it has fewer dots than `ndots`, is answered no with
//! those as well, so that the bare name comes next: `cart` always. All else belongs to others:
//! `foo.shop` may well be a host of a domain `shop`, and `cart.shop.corp.example` one of a department.

use std::net::{Ipv4Addr, Ipv6Addr};

use selvedge_model::Protocol;

use super::message::HEADER_BYTES;
use super::name::{Labels, Name};
use crate::table::{Asker, Record, Table};

/// Whose a name is.
pub(crate) enum Verdict<'t> {
    /// Not the mesh's.
    Foreign,
    /// The mesh's.
    Mesh {
        found: Found<'t>,
        /// Where in the message the name begins that an SOA record would belong to.
        apex: usize,
    },
    /// Another's, but it reads like a mesh name with a search suffix.
    Shadowed {
        /// Where in the message the suffix begins.
        apex: usize,
    },
}

/// What a mesh name stands for.
pub(crate) enum Found<'t> {
    Service(&'t Record),
    /// A named port of a service, by number.
    Port(&'t Record, u16),
    /// The name of an address.
    Address(&'t Record),
    /// The cluster domain itself.
    Apex,
    /// A name with other names below it, and no data.
    Empty,
    /// No such name.
    Nothing,
}

/// Finds out whose `name` is.
pub(crate) fn find<'t>(table: &'t Table, asker: &Asker, name: &Name) -> Verdict<'t> {
    let labels = name.labels();
    if let Some(inner) = labels.strip_suffix(table.cluster_domain().labels()) {
        return Verdict::Mesh {
            found: in_cluster_domain(table, name, inner),
            apex: HEADER_BYTES + inner.len(),
        };
    }
    if let Some((address, apex)) = reverse(labels)
        && table.is_virtual(address)
    {
        let record = table.service_at(address);
        return Verdict::Mesh {
            found: record.map_or(Found::Nothing, Found::Address),
            apex: HEADER_BYTES + apex,
        };
    }
    if let Some((found, apex)) = relative(table, asker, labels) {
        let apex = HEADER_BYTES + apex;
        return Verdict::Mesh { found, apex };
    }
    match shadowing_suffix(table, asker, labels) {
        Some(suffix) => Verdict::Shadowed {
            apex: HEADER_BYTES + labels.len() - suffix.len(),
        },
        None => Verdict::Foreign,
    }
}

/// A shadowed name as text, for `status`.
pub fn shadowed_name(message: &[u8]) -> Option<String> {
    let (name, _) = Name::parse(message.get(HEADER_BYTES..)?)?;
    Some(name.labels().to_string())
}

/// `inner` is what stands before the cluster domain.
fn in_cluster_domain<'t>(table: &'t Table, name: &Name, inner: Labels<'_>) -> Found<'t> {
    if inner.is_empty() {
        return Found::Apex;
    }
    let Some(inner) = name.labels().strip_suffix(table.service_domain().labels()) else {
        return Found::Nothing;
    };
    match inner.count() {
        0 => Found::Empty,
        1 if table.has_namespace(inner.wire()) => Found::Empty,
        1 => Found::Nothing,
        count => {
            let (prefix, service) = inner.split_at(count - 2);
            match table.service(service.wire()) {
                Some(record) => below_service(record, prefix),
                None => Found::Nothing,
            }
        }
    }
}

/// `name`, `name.namespace` or `name.namespace.svc`, perhaps with a port before it. Gives where the
/// service's name begins among the labels too.
fn relative<'t>(table: &'t Table, asker: &Asker, labels: Labels<'_>) -> Option<(Found<'t>, usize)> {
    let prefixes = labels.iter().take(2);
    let prefixes = prefixes.take_while(|label| label.starts_with(b"_")).count();
    let (prefix, rest) = labels.split_at(prefixes);
    let in_svc = rest
        .strip_suffix(Labels::SVC)
        .filter(|rest| rest.count() == 2);
    let (first, rest) = match in_svc {
        Some(pair) => (pair, Labels::EMPTY),
        None => rest.split_at(2),
    };
    if !rest.is_empty() {
        return None;
    }
    let record = match first.count() {
        1 => in_own_namespace(table, asker, first),
        2 => table.service(first.wire()),
        _ => return None,
    };
    match record {
        Some(record) => Some((below_service(record, prefix), prefix.len())),
        None if in_svc.is_some() => {
            let (name, namespace) = first.split_at(1);
            table
                .has_namespace(namespace.wire())
                .then(|| (Found::Nothing, prefix.len() + name.len()))
        }
        None => None,
    }
}

fn in_own_namespace<'t>(table: &'t Table, asker: &Asker, name: Labels<'_>) -> Option<&'t Record> {
    const LONGEST: usize = 2 * 64;
    let mut key = [0; LONGEST];
    let end = name.len() + asker.namespace.len();
    let key = key.get_mut(..end)?;
    let (first, second) = key.split_at_mut(name.len());
    first.copy_from_slice(name.wire());
    second.copy_from_slice(&asker.namespace);
    table.service(key)
}

/// The name of a service, or one of a port of it.
fn below_service<'t>(record: &'t Record, prefix: Labels<'_>) -> Found<'t> {
    let mut labels = prefix.iter();
    match (labels.next(), labels.next(), labels.next()) {
        (None, ..) => Found::Service(record),
        (Some(protocol), None, _) => {
            let wanted = protocol_of(protocol);
            let mut ports = record.ports.iter();
            match ports.any(|(_, protocol, _)| Some(*protocol) == wanted) {
                true => Found::Empty,
                false => Found::Nothing,
            }
        }
        (Some(name), Some(protocol), None) => {
            let wanted = (name.strip_prefix(b"_"), protocol_of(protocol));
            let mut ports = record.ports.iter();
            let port = ports.find(|(name, protocol, _)| {
                wanted == (Some(name.as_str().as_bytes()), Some(*protocol))
            });
            port.map_or(Found::Nothing, |(.., number)| Found::Port(record, *number))
        }
        _ => Found::Nothing,
    }
}

fn protocol_of(label: &[u8]) -> Option<Protocol> {
    match label {
        b"_tcp" => Some(Protocol::Tcp),
        b"_udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// The search suffix of the asker that makes an outside name out of a mesh name.
fn shadowing_suffix<'a>(table: &Table, asker: &'a Asker, labels: Labels<'_>) -> Option<Labels<'a>> {
    let suffixes = asker.shadowing.iter().map(Name::labels);
    suffixes.into_iter().find(|suffix| {
        labels.strip_suffix(*suffix).is_some_and(|inner| {
            // Whatever else is in there, the cluster domain belongs to nobody but the mesh.
            let cluster_domain = table.cluster_domain().labels();
            if inner.strip_suffix(cluster_domain).is_some() {
                return true;
            }
            let dots = inner.count().saturating_sub(1);
            dots < asker.ndots
                && matches!(
                    relative(table, asker, inner),
                    Some((Found::Service(_) | Found::Port(..) | Found::Empty, _))
                )
        })
    })
}

/// The IPv4 address that a reverse name stands for, plain (RFC 1035, section 3.5) or v4-mapped
/// (RFC 3596, section 2.5), and where among the labels the zone for such addresses begins.
fn reverse(labels: Labels<'_>) -> Option<(Ipv4Addr, usize)> {
    if let Some(octets) = labels.strip_suffix(Labels::IN_ADDR_ARPA) {
        let (host, _) = octets.split_at(3);
        let mut address = [0; 4];
        let places = address.iter_mut().rev();
        if octets.count() != places.len() {
            return None;
        }
        for (place, label) in places.zip(octets.iter()) {
            *place = decimal(label)?;
        }
        return Some((address.into(), host.len()));
    }
    let nibbles = labels.strip_suffix(Labels::IP6_ARPA)?;
    const NIBBLES: usize = 32;
    if nibbles.count() != NIBBLES {
        return None;
    }
    let mut bits = 0_u128;
    for (index, label) in nibbles.iter().enumerate() {
        let [digit] = label else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        bits |= u128::from(nibble) << (4 * index);
    }
    let address = Ipv6Addr::from_bits(bits).to_ipv4_mapped()?;
    // The eight nibbles of the IPv4 address, each with its length byte.
    Some((address, 8 * 2))
}

/// An octet without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let leading_zero = label.len() > 1 && label[0] == b'0';
    if leading_zero || !label.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok()
}
