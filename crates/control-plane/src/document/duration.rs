//! Durations as Gateway API writes them (GEP-2257): `1h30m`, `10s`, `250ms`.

use std::time::Duration;

use super::cursor::Cursor;

/// Units, largest first, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Most numbers in one duration, and most digits of each.
const MAX_NUMBERS: usize = 4;
const MAX_DIGITS: usize = 5;
/// Longest duration: what one number of hours can say.
const MAX_MILLIS: u64 = 99_999 * 3_600_000;

/// Reads a duration, which may be zero.
pub(super) fn read(cursor: &Cursor<'_>) -> Option<Duration> {
    let text = cursor.text()?;
    let duration = parse(&text);
    if duration.is_none() {
        cursor.error(format!(
            "expected a duration such as 1s500ms (at most four numbers of at most five digits, each \
             with h, m, s or ms), found {text:?}"
        ));
    }
    duration
}

/// Reads a duration that is not zero.
pub(super) fn read_positive(cursor: &Cursor<'_>) -> Option<Duration> {
    let duration = read(cursor)?;
    if duration.is_zero() {
        cursor.error("must be longer than zero");
        return None;
    }
    Some(duration)
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis: u64 = 0;
    for _ in 0..MAX_NUMBERS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=MAX_DIGITS).contains(&digits) {
            return None;
        }
        let (number, behind) = rest.split_at(digits);
        let unit = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(unit);
        let (_, each) = UNITS.iter().find(|(word, _)| *word == unit)?;
        millis += number.parse::<u64>().ok()? * each;
        if behind.is_empty() {
            return (millis <= MAX_MILLIS).then_some(Duration::from_millis(millis));
        }
        rest = behind;
    }
    None
}

/// The duration as text, to the millisecond.
pub(super) fn to_text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, each) in UNITS {
        if left >= each {
            text.push_str(&format!("{}{unit}", left / each));
            left %= each;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_proposal() {
        for (text, millis) in [
            ("0h", Some(0)),
            ("1h30m10s250ms", Some(5_410_250)),
            ("250ms1s", Some(1250)),
            ("99999h", Some(MAX_MILLIS)),
            ("99999h1ms", None),
            ("1s1s1s1s", Some(4000)),
            ("1s1s1s1s1s", None),
            ("100000s", None),
            ("1", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1us", None),
            ("1S", None),
            ("1s ", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
        for text in ["0s", "1h30m10s250ms", "99999h", "61ms", "1m1ms"] {
            assert_eq!(to_text(parse(text).unwrap()), text);
        }
    }
}
