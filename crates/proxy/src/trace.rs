//! Who belongs to whom: trace contexts and request ids, passed on where they come and made where
//! they do not.

use selvedge_model::{FieldChanges, Rng};
use selvedge_wire::http1::{FieldName, Message, write};

/// The trace of a request (W3C Trace Context, section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The trace id.
    id: u128,
    /// Whether it came with the request.
    came: bool,
}

impl Trace {
    /// The trace that a request belongs to, or a new one. More than one `traceparent`, or one that is
    /// none, is as good as nothing (section 3.2.3).
    pub(crate) fn of(request: &Message<'_>, rng: &mut Rng) -> Self {
        let mut values = request.values(FieldName::Traceparent);
        match (values.next().and_then(trace_id), values.next()) {
            (Some(id), None) if !is_named(request, b"traceparent") => Self { id, came: true },
            _ => Self {
                id: random(rng),
                came: false,
            },
        }
    }

    /// 64 bits that are the same for the requests of a trace, and never 0.
    pub(crate) fn key(&self) -> u64 {
        let folded = self.id ^ (self.id >> 64);
        (folded & u128::from(u64::MAX)) as u64 | 1
    }

    /// The trace id, as 32 hexadecimal digits have it.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    /// Whether the `traceparent` fields that came are passed on.
    pub(crate) fn came(&self) -> bool {
        self.came
    }

    /// Puts the fields that did not come and about which the rule says nothing: a parent that nobody has
    /// sampled, and a request id. Gives the request id that was made.
    pub(crate) fn write_missing(
        &self,
        out: &mut Vec<u8>,
        request: &Message<'_>,
        changes: &FieldChanges,
        rng: &mut Rng,
    ) -> Option<[u8; 36]> {
        if !self.came && !changes.are_about("traceparent") {
            let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
            value[3..19].copy_from_slice(&hex((self.id >> 64) as u64));
            value[19..35].copy_from_slice(&hex(self.id as u64));
            value[36..52].copy_from_slice(&hex(rng.next_u64() | 1));
            write::field(out, b"traceparent", &value);
        }
        let came = request.values(FieldName::XRequestId).next().is_some();
        let came = came && !is_named(request, b"x-request-id");
        if came || changes.are_about("x-request-id") {
            return None;
        }
        let made = uuid(random(rng));
        write::field(out, b"x-request-id", &made);
        Some(made)
    }
}

/// Whether Connection names a field: then it goes no further.
fn is_named(request: &Message<'_>, name: &[u8]) -> bool {
    let mut options = request.connection_options();
    options.any(|option| option.eq_ignore_ascii_case(name))
}

/// The trace id of a `traceparent` of any version (section 3.2.2.1 and, for others, 3.2.4).
fn trace_id(value: &[u8]) -> Option<u128> {
    let is_shaped = value.len() >= 55 && [2, 35, 52].iter().all(|at| value[*at] == b'-');
    let is_version =
        is_shaped && &value[..2] != b"ff" && (&value[..2] != b"00" || value.len() == 55);
    if !is_version {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u128, |number, digit| {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(number << 4 | u128::from(digit))
        })
    };
    let (id, parent) = (number(&value[3..35])?, number(&value[36..52])?);
    number(&value[..2])?;
    number(&value[53..55])?;
    (id != 0 && parent != 0).then_some(id)
}

fn random(rng: &mut Rng) -> u128 {
    u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64() | 1)
}

/// 16 hexadecimal digits, eight bits of a word to each: many are made, and a loop takes longer.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&hex_half((number >> 32) as u32).to_be_bytes());
    digits[8..].copy_from_slice(&hex_half(number as u32).to_be_bytes());
    digits
}

fn hex_half(number: u32) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Ten and more reach the fifth bit when six is added: those are letters.
    let letters = (nibbles + 6 * ONES) >> 4 & ONES;
    nibbles + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)
}

/// A random UUID (RFC 9562, section 5.4).
fn uuid(random: u128) -> [u8; 36] {
    // Version 4 in the 13th digit, variant 10 in the two upper bits of the 17th.
    const FIXED: u128 = 0xf000_c000_0000_0000_0000;
    let bits = random & !FIXED | 0x4000_8000_0000_0000_0000;
    let (high, low) = (hex((bits >> 64) as u64), hex(bits as u64));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&high[..8]);
    text[9..13].copy_from_slice(&high[8..12]);
    text[14..18].copy_from_slice(&high[12..]);
    text[19..23].copy_from_slice(&low[..4]);
    text[24..].copy_from_slice(&low[4..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_parent_is_taken() {
        let sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        assert_eq!(trace_id(sound.as_bytes()), Some(id));
        let later = sound.replacen("00", "cc", 1) + "-more";
        assert_eq!(trace_id(later.as_bytes()), Some(id));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(hex(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn made_ids_have_their_form() {
        let text = String::from_utf8(uuid(u128::MAX).to_vec()).unwrap();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let text = String::from_utf8(uuid(0).to_vec()).unwrap();
        assert_eq!(text, "00000000-0000-4000-8000-000000000000");
    }
}
