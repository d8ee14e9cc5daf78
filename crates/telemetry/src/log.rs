//! Log lines: one event, one line, on standard error.
//!
//! Under systemd the lines begin with their syslog priority and the journal adds the time; elsewhere
//! they begin with the time (UTC). A line that cannot be written is lost: logging never fails and
//! never panics. Use the macros [`error!`](crate::error), [`warn!`](crate::warn),
//! [`info!`](crate::info) and [`debug!`](crate::debug).

use std::error::Error;
use std::fmt::{self, Display};
use std::io::Write as _;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work and somebody has to act.
    Error,
    /// Something works in part, or was refused.
    Warn,
    /// Something worth knowing happened.
    Info,
    /// For whoever looks for a fault.
    Debug,
}

impl Level {
    const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Priority of syslog (RFC 5424, section 6.2.1), as systemd's journal reads it.
    const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.into_iter().find(|level| level.word() == text);
        found.ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// A text that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown log level {0:?}; known are error, warn, info and debug")]
pub struct UnknownLevel(String);

/// How a process writes its lines.
#[derive(Clone, Debug)]
struct Setup {
    level: Level,
    process: String,
    for_journal: bool,
}

static SETUP: OnceLock<Setup> = OnceLock::new();

/// Says how this process logs: which lines, and under which name. The first call counts; until then
/// nothing is logged.
pub fn set_up(level: Level, process: &str) {
    let for_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let process = process.to_owned();
    let _ = SETUP.set(Setup {
        level,
        process,
        for_journal,
    });
}

/// Whether lines of this level are written.
pub fn is_enabled(level: Level) -> bool {
    SETUP.get().is_some_and(|setup| level <= setup.level)
}

/// Writes a line; the macros call this.
#[doc(hidden)]
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    let Some(setup) = SETUP.get().filter(|setup| level <= setup.level) else {
        return;
    };
    let line = line(setup, level, SystemTime::now(), message);
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The whole line, made before it is written so that lines of threads do not mix. What comes from
/// outside cannot forge lines: control characters are escaped.
fn line(setup: &Setup, level: Level, now: SystemTime, message: fmt::Arguments<'_>) -> String {
    let begin = if setup.for_journal {
        format!("<{}>", level.priority())
    } else {
        format!("{} {level:5} {}: ", Timestamp(now), setup.process)
    };
    let mut line = begin;
    for character in message.to_string().chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line
}

/// An error and everything that caused it, on one line.
pub fn chain(error: &dyn Error) -> impl Display {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A moment as `2026-01-31T23:59:59.123Z` (RFC 3339).
pub struct Timestamp(pub SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = civil(since.as_secs() / 86_400);
        let second = since.as_secs() % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let milli = since.subsec_millis();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

/// Year, month and day of a number of days since 1970 (proleptic Gregorian calendar). Counts in
/// years that begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// Logs that something does not work and somebody has to act.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log::write($crate::Level::Error, format_args!($($message)+)) };
}

/// Logs that something works in part, or was refused.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log::write($crate::Level::Warn, format_args!($($message)+)) };
}

/// Logs something worth knowing.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log::write($crate::Level::Info, format_args!($($message)+)) };
}

/// Logs for whoever looks for a fault.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log::write($crate::Level::Debug, format_args!($($message)+)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_as_people_read_them() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199, "2023-12-31T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Timestamp(moment).to_string(), want);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let mut setup = Setup {
            level: Level::Info,
            process: "agent".to_owned(),
            for_journal: false,
        };
        let written = line(
            &setup,
            Level::Warn,
            UNIX_EPOCH,
            format_args!("a\nb\u{1b}[31m"),
        );
        assert_eq!(
            written,
            "1970-01-01T00:00:00.000Z warn  agent: a\\nb\\u{1b}[31m\n"
        );
        setup.for_journal = true;
        let written = line(&setup, Level::Error, UNIX_EPOCH, format_args!("x"));
        assert_eq!(written, "<3>x\n");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn chains_name_every_cause() {
        let error = Outer(std::io::Error::other("the disk is full"));
        assert_eq!(chain(&error).to_string(), "cannot store: the disk is full");
    }

    #[test]
    fn levels_are_read_as_written() {
        for level in Level::ALL {
            assert_eq!(level.word().parse(), Ok(level));
        }
        let error = "loud".parse::<Level>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown log level \"loud\"; known are error, warn, info and debug"
        );
    }
}
