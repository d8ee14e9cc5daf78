//! Virtual addresses: one for each service, the same after every restart.
//!
//! An address is a hash of the service's name, moved on while it is taken; so even a lost state
//! mostly gives the same addresses again. Pure. Read next: `objects.rs`, which stores them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use selvedge_model::ServiceName;

/// The range that virtual addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRange {
    first: Ipv4Addr,
    prefix: u8,
}

impl VirtualRange {
    /// The range used unless the user says otherwise: on loopback, so that nothing leaves the host
    /// when the kernel path is off, and away from 127.0.0.1 and the addresses resolvers use.
    pub const DEFAULT: Self = Self {
        first: Ipv4Addr::new(127, 96, 0, 0),
        prefix: 12,
    };

    /// The range of `first` with a prefix of 8 to 24 bits; `None` for any other.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Option<Self> {
        if !(8..=24).contains(&prefix) {
            return None;
        }
        let range = Self { first, prefix };
        (first.to_bits() & (range.size() - 1) == 0).then_some(range)
    }

    /// First address and prefix length.
    pub fn parts(self) -> (Ipv4Addr, u8) {
        (self.first, self.prefix)
    }

    /// Whether `address` lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & !(self.size() - 1) == self.first.to_bits()
    }

    /// An address for `service` that is not `taken`; `None` when the range is full.
    pub fn choose(self, service: &ServiceName, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let start = hash(service) % self.size();
        let candidates = (0..self.size()).map(|step| (start + step) % self.size());
        let addresses = candidates.map(|offset| Ipv4Addr::from_bits(self.first.to_bits() + offset));
        addresses
            .into_iter()
            .find(|address| is_plain(*address) && !taken.contains(address))
    }

    fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }
}

/// Not one that looks like a network or a broadcast address to a program.
fn is_plain(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [_, _, 0, 0] | [_, _, 255, 255])
}

/// FNV-1a over `namespace/name`, its two halves folded: fixed for ever, since addresses hang on it.
fn hash(service: &ServiceName) -> u32 {
    let text = format!("{}/{}", service.namespace, service.name);
    let wide = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (wide ^ (wide >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_fixed_and_unique_until_the_range_is_full() {
        let range = VirtualRange::new(Ipv4Addr::new(127, 96, 0, 0), 24).unwrap();
        let mut taken = BTreeSet::new();
        let mut service = |number: usize| {
            let name: ServiceName = format!("s{number}").parse().unwrap();
            let address = range.choose(&name, &taken)?;
            assert!(range.contains(address) && taken.insert(address));
            Some(address)
        };
        let all: Vec<_> = (0..256).map_while(&mut service).collect();
        assert_eq!(all.len(), 255, "all but .0.0");
        let cart = "cart".parse().unwrap();
        let chosen = VirtualRange::DEFAULT.choose(&cart, &BTreeSet::new());
        assert_eq!(
            chosen,
            Some(Ipv4Addr::new(127, 97, 172, 107)),
            "pinned: users may have noted it"
        );
    }

    #[test]
    fn odd_ranges_are_refused() {
        for (first, prefix) in [
            ([127, 96, 0, 1], 12),
            ([127, 0, 0, 0], 7),
            ([127, 0, 0, 0], 25),
        ] {
            assert_eq!(VirtualRange::new(Ipv4Addr::from(first), prefix), None);
        }
    }
}
