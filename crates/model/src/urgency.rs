//! How urgent a request is.

/// How urgent a request is, from 0, the most, to 7 (RFC 9218, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urgency(u8);

impl Urgency {
    /// The least urgent.
    pub const LEAST: Self = Self(7);

    /// None where the number is above 7.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            0..=7 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, from 0 to 7.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// What a `priority` field says, a dictionary whose member `u` is an integer; of several members the last counts.
    /// `None` where it says nothing about that, or nothing that can be (RFC 9218, sections 4 and 5).
    pub fn of_field(value: &[u8]) -> Option<Self> {
        let members = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let mut urgencies = members.filter_map(|member| {
            let (key, rest) = member.split_first_chunk::<2>()?;
            // Parameters of the member say nothing.
            let number = rest.split(|byte| *byte == b';').next()?.trim_ascii();
            (key == b"u=").then_some(number)
        });
        match urgencies.next_back()? {
            [digit @ b'0'..=b'7'] => Some(Self(digit - b'0')),
            _ => None,
        }
    }
}

impl Default for Urgency {
    fn default() -> Self {
        Self(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_how_urgent_something_is() {
        for (field, urgency) in [
            ("u=0", Some(0)),
            ("u=5, i", Some(5)),
            ("i,u=7;x=1", Some(7)),
            ("u=1, u=2", Some(2)),
            (" u=4 ", Some(4)),
            ("", None),
            ("i", None),
            ("u", None),
            ("u=", None),
            ("u=8", None),
            ("u=-1", None),
            ("u=1.0", None),
            ("u=10", None),
            ("U=1", None),
            ("xu=1", None),
            ("u=\u{ff}", None),
        ] {
            let found = Urgency::of_field(field.as_bytes());
            assert_eq!(found.map(Urgency::get), urgency, "{field}");
        }
        assert_eq!(Urgency::default().get(), 3);
        assert_eq!(Urgency::new(8), None);
    }
}
