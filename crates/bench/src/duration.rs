//! Times as people write them.

use std::time::Duration;

use selvedge_scenario::ServiceTime;

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

/// Reads how long a service works, as `20ms`, `exponential:20ms` or `lognormal:20ms:0.8`.
///
/// # Errors
/// In words, where it is no such law.
pub fn service_time(text: &str) -> Result<ServiceTime, String> {
    let mean = |text: &str| match duration(text)? {
        Duration::ZERO => Err("work takes more than no time".to_owned()),
        mean => Ok(mean),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [fixed] => mean(fixed).map(ServiceTime::Fixed),
        ["exponential", text] => mean(text).map(ServiceTime::Exponential),
        ["lognormal", text, sigma] => {
            let mean = mean(text)?;
            let sigma = sigma.parse().ok().filter(|it| (0.0..=5.0).contains(it));
            let sigma = sigma.ok_or("expected a deviation from 0 to 5 behind the mean")?;
            Ok(ServiceTime::Lognormal { mean, sigma })
        }
        _ => Err("write 20ms, exponential:20ms or lognormal:20ms:0.8".to_owned()),
    }
}

/// The same in the words that [`service_time`] reads.
pub(crate) fn written(law: ServiceTime) -> String {
    let micros = |mean: Duration| format!("{}us", mean.as_micros());
    match law {
        ServiceTime::Fixed(mean) => micros(mean),
        ServiceTime::Exponential(mean) => format!("exponential:{}", micros(mean)),
        ServiceTime::Lognormal { mean, sigma } => format!("lognormal:{}:{sigma}", micros(mean)),
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

    #[test]
    fn laws_are_read_as_they_are_written() {
        let mean = Duration::from_millis(20);
        for (text, law) in [
            ("20ms", ServiceTime::Fixed(mean)),
            ("exponential:0.02s", ServiceTime::Exponential(mean)),
            (
                "lognormal:20ms:0.8",
                ServiceTime::Lognormal { mean, sigma: 0.8 },
            ),
        ] {
            assert_eq!(service_time(text), Ok(law));
            assert_eq!(service_time(&written(law)), Ok(law));
        }
        for text in [
            "",
            "0ms",
            "normal:20ms",
            "lognormal:20ms",
            "lognormal:20ms:x",
            "20",
        ] {
            assert!(service_time(text).is_err(), "{text}");
        }
    }
}
