//! Times as people write them.

use std::time::Duration;

/// Longest there is: a day.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads a number and a unit, as `500ms` or `1.5s`.
///
/// # Errors
/// In words, where it is none, or longer than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_s = match &text[number.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and a unit: 500ms, 10s, 2m, 1h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "not a number".to_owned())?;
    let time = Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())?;
    match time <= LONGEST {
        true => Ok(time),
        false => Err("more than 24 hours".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("20us"), Ok(Duration::from_micros(20)));
        for text in ["", "10", "s", "-1s", "25h", "1d", "nans"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
