//! How long whoever asks waits, as the field `grpc-timeout` says it (grpc/grpc, "gRPC over HTTP2", `Timeout`): up to eight
//! digits and a unit. It is what standards have for a deadline that travels, and needs no clocks that agree.

use std::time::Duration;

use selvedge_model::{FieldChanges, Instant};
use selvedge_wire::http1::{FieldName, Message, write};

const NAME: &str = "grpc-timeout";
/// What is put at first: its digits follow with each attempt.
const UNKNOWN: &[u8; 9] = b"99999999m";

/// Where the value stands in a head that goes to endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLeft(usize);

/// How long the sender of a request waits, if it says so. What cannot be read is not there, and a rule that changes the
/// field has it for its own.
pub(crate) fn of(request: &Message<'_>, changes: &FieldChanges) -> Option<Duration> {
    let mut values = request.values(FieldName::GrpcTimeout);
    let first = values.next()?;
    match values.next() {
        None if !is_ruled(changes) => parse(first),
        _ => None,
    }
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !matches!(digits.len(), 1..=8) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether the field is a rule's own.
pub(crate) fn is_ruled(changes: &FieldChanges) -> bool {
    changes.are_about(NAME)
}

/// Puts the field into a head.
pub(crate) fn write(out: &mut Vec<u8>) -> TimeLeft {
    write::field(out, NAME.as_bytes(), UNKNOWN);
    TimeLeft(out.len() - b"\r\n".len() - UNKNOWN.len())
}

impl TimeLeft {
    /// Has an attempt say what is left until its deadline.
    pub(crate) fn say(self, head: &mut [u8], now: Instant, deadline: Instant) {
        let value = format(deadline.since(now));
        if let Some(place) = head.get_mut(self.0..self.0 + value.len()) {
            place.copy_from_slice(&value);
        }
    }
}

/// In microseconds up to a minute and a half, then in milliseconds, and never more than there is.
fn format(time: Duration) -> [u8; 9] {
    const MOST: u128 = 99_999_999;
    let (mut number, unit) = match time.as_micros() {
        micros @ ..=MOST => (micros, b'u'),
        _ => (time.as_millis().min(MOST), b'm'),
    };
    let mut value = *UNKNOWN;
    for digit in value[..8].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    value[8] = unit;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for micros in [0, 1, 250_000, 99_999_999] {
            let time = Duration::from_micros(micros);
            assert_eq!(parse(&format(time)), Some(time));
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(parse(&format(hour)), Some(hour));
        assert_eq!(&format(Duration::MAX), UNKNOWN);
    }

    #[test]
    fn all_units_are_read_and_nothing_else() {
        for (value, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5000),
            ("6n", 6),
            ("0n", 0),
        ] {
            let read = parse(value.as_bytes());
            assert_eq!(read, Some(Duration::from_nanos(nanos)), "{value}");
        }
        for value in [
            "",
            "S",
            "5",
            "123456789S",
            "-1S",
            "+1S",
            "1.5S",
            "1s",
            "1 S",
            "1Sx",
            "18446744073709551615H",
        ] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
        assert!(parse(b"99999999H").is_some());
    }

    #[test]
    fn each_attempt_says_what_is_left_for_it() {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        let time_left = write(&mut head);
        head.extend_from_slice(b"\r\nbody");
        let deadline = Instant::from_nanos(5_000_000_000);
        for (seconds, value) in [(0, "05000000u"), (2, "03000000u"), (9, "00000000u")] {
            time_left.say(
                &mut head,
                Instant::from_nanos(seconds * 1_000_000_000),
                deadline,
            );
            let expected = format!("GET / HTTP/1.1\r\ngrpc-timeout: {value}\r\n\r\nbody");
            assert_eq!(std::str::from_utf8(&head).unwrap(), expected);
        }
        // Where there is no such place nothing is written.
        time_left.say(&mut head[..20], Instant::default(), deadline);
    }
}
