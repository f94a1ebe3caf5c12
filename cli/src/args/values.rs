//! Values that people write on the command line: sizes, times, ranges, resources. Each error says what would be right.

use std::str::FromStr;
use std::time::Duration;

use phalanx_protocol::{Amount, IndexRange};

/// 100 years, in seconds.
const YEARS_100_SECONDS: f64 = 100.0 * 365.25 * 86_400.0;

/// Why a text is no value of the kind that was asked for; clap puts the text and the option before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("a size is a number with an optional unit, as in 8G, 512MiB or 1.5T")]
    Size,
    #[error("a size has at most 16 EiB")]
    SizeTooLarge,
    #[error("a range is written A..B, as in 0..1000 (0 to 999), or A..=B with B included")]
    Range,
    #[error("the range ends before it begins")]
    RangeBackwards,
    #[error("a time is a number with an optional unit, as in 90s, 10m, 1.5h or 500ms, or [DAYS-]HH:MM:SS")]
    Time,
    #[error("it is `forever`, or a number with an optional unit, as in 90s, 10m, 1.5h or 500ms")]
    EndlessTime,
    #[error("a time has at most 100 years")]
    TimeTooLong,
    #[error("a resource is written name=amount, as in licence=2 or disk=0.25")]
    Resource,
    #[error("a scheduler's name has letters, digits, - and _ only")]
    SchedulerName,
    #[error("{name} have an option of their own, --{option}")]
    ReservedResource {
        name: &'static str,
        option: &'static str,
    },
}

/// Reads a number of bytes: `8G` and `8GiB` count in 1024s, as batch systems do, `8GB` in 1000s; `8` is bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, ValueError> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit_bytes(unit.trim()).ok_or(ValueError::Size)?;
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or(ValueError::SizeTooLarge);
    }
    let fraction: f64 = number.parse().map_err(|_| ValueError::Size)?;
    let bytes = fraction * unit as f64;
    match bytes < u64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(ValueError::SizeTooLarge),
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let power = "kmgtpe".find(unit.chars().next()?)? as u32 + 1;
    match &unit[1..] {
        "" | "i" | "ib" => Some(1024_u64.pow(power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// Reads a range of numbers: `0..1000`, `1..=10`, `0..1_000_000`.
pub(crate) fn parse_range(text: &str) -> Result<IndexRange, ValueError> {
    let (start, end) = text.split_once("..").ok_or(ValueError::Range)?;
    let number = |text: &str| -> Result<u64, ValueError> {
        let text = text.trim().replace('_', "");
        // `parse` would take a sign
        match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map_err(|_| ValueError::Range),
            false => Err(ValueError::Range),
        }
    };
    let start = number(start)?;
    let end = match end.strip_prefix('=') {
        Some(last) => number(last)?.checked_add(1).ok_or(ValueError::Range)?,
        None => number(end)?,
    };
    match start <= end {
        true => Ok(IndexRange::new(start, end)),
        false => Err(ValueError::RangeBackwards),
    }
}

/// Reads a time: `90s`, `10m`, `1.5h`, `2d`, `500ms`; a plain number is seconds; as batch systems write it, `1:30:00` and
/// `2-12:00:00`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, ValueError> {
    let text = text.trim();
    let seconds = match text.contains(':') {
        true => clock_seconds(text).ok_or(ValueError::Time)?,
        false => {
            let digits = text
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '_')
                .unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            let unit_seconds = match unit.trim() {
                "ms" => 0.001,
                "" | "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(ValueError::Time),
            };
            let number: f64 = number.replace('_', "").parse().map_err(|_| ValueError::Time)?;
            number * unit_seconds
        }
    };
    match seconds <= YEARS_100_SECONDS {
        // what people write has no more than three decimals of a second
        true => Ok(Duration::from_millis((seconds * 1000.0).round() as u64)),
        false => Err(ValueError::TimeTooLong),
    }
}

/// Reads a time, or `forever`, which is [`Duration::MAX`].
pub(crate) fn parse_endless_time(text: &str) -> Result<Duration, ValueError> {
    match text.trim() {
        "forever" => Ok(Duration::MAX),
        time => parse_time(time).map_err(|error| match error == ValueError::Time {
            true => ValueError::EndlessTime,
            false => error,
        }),
    }
}

/// Seconds of `[DAYS-]HH:MM:SS`.
fn clock_seconds(text: &str) -> Option<f64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (whole(days)?, clock),
        None => (0, text),
    };
    let mut parts = clock.split(':').map(whole);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let fits = parts.next().is_none() && minutes < 60 && seconds < 60;
    fits.then(|| {
        ((f64::from(days) * 24.0 + f64::from(hours)) * 60.0 + f64::from(minutes)) * 60.0 + f64::from(seconds)
    })
}

/// A number without a sign, which `parse` would take.
fn whole(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Reads the name of a scheduler, which is also part of file names.
pub(crate) fn parse_scheduler_name(text: &str) -> Result<String, ValueError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::SchedulerName),
    }
}

/// A count of something that has a name: a worker's, or what a task needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedResource {
    pub(crate) name: String,
    pub(crate) amount: Amount,
}

impl FromStr for NamedResource {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, amount) = text.split_once('=').ok_or(ValueError::Resource)?;
        let name = name.trim();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(ValueError::Resource);
        }
        let reserved = |name, option| Err(ValueError::ReservedResource { name, option });
        match name {
            "cpu" | "cpus" => return reserved("cpus", "cpus"),
            "mem" | "memory" => return reserved("bytes of memory", "memory"),
            _ => {}
        }
        let amount = amount.trim().parse().map_err(|_| ValueError::Resource)?;
        Ok(Self {
            name: name.to_owned(),
            amount,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_1024s_unless_the_unit_says_otherwise() {
        assert_eq!(parse_size("8G"), Ok(8 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("512 mib"), Ok(512 << 20));
        assert_eq!(parse_size("1.5T"), Ok(3 << 39));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("1_000b"), Ok(1000));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "8X", "8GiBs", "1.2.3G", "-1G", "8é"] {
            assert_eq!(parse_size(text), Err(ValueError::Size), "{text}");
        }
        assert_eq!(parse_size("16E"), Err(ValueError::SizeTooLarge));
        assert_eq!(parse_size("99999999999.5E"), Err(ValueError::SizeTooLarge));
    }

    #[test]
    fn ranges_are_written_as_in_rust() {
        assert_eq!(parse_range("0..1000"), Ok(IndexRange::new(0, 1000)));
        assert_eq!(parse_range("1..=10"), Ok(IndexRange::new(1, 11)));
        assert_eq!(parse_range("5..1_000_000"), Ok(IndexRange::new(5, 1_000_000)));
        assert_eq!(parse_range("7..7"), Ok(IndexRange::new(7, 7)));
        assert_eq!(parse_range("9..3"), Err(ValueError::RangeBackwards));
        for text in [
            "10",
            "..5",
            "a..b",
            "1..-3",
            "+1..3",
            "0-9",
            "0..=18446744073709551615",
        ] {
            assert_eq!(parse_range(text), Err(ValueError::Range), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_a_unit_or_as_a_clock_shows_them() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs_f64());
        for (text, expected) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("0.25", 0.25),
            ("500ms", 0.5),
            ("10m", 600.0),
            ("10 min", 600.0),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("00:00:05", 5.0),
            ("1:30:00", 5400.0),
            ("100:00:00", 360_000.0),
            ("2-12:00:01", 216_001.0),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "", "s", "-5", "10x", "1h30m", "5:00", "1:60:00", "1:00:60", "1-2", "+1:00:00", "-1:00:00",
            "1:2:3:4",
        ] {
            assert_eq!(seconds(text), Err(ValueError::Time), "{text}");
        }
        assert_eq!(seconds("40000d"), Err(ValueError::TimeTooLong));
    }

    #[test]
    fn a_time_that_may_be_endless_says_so_when_it_is_neither() {
        assert_eq!(parse_endless_time("forever"), Ok(Duration::MAX));
        assert_eq!(parse_endless_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_endless_time("never"), Err(ValueError::EndlessTime));
        assert_eq!(parse_endless_time("40000d"), Err(ValueError::TimeTooLong));
    }

    #[test]
    fn the_name_of_a_scheduler_is_no_path() {
        assert_eq!(parse_scheduler_name("head-1_a"), Ok("head-1_a".to_owned()));
        for text in ["", "../x", "a.b", "é"] {
            assert_eq!(
                parse_scheduler_name(text),
                Err(ValueError::SchedulerName),
                "{text}"
            );
        }
    }

    #[test]
    fn resources_have_a_name_and_a_count() {
        let gpu: NamedResource = "gpu=2".parse().unwrap();
        assert_eq!((gpu.name.as_str(), gpu.amount), ("gpu", 2.into()));
        for text in ["gpu", "=2", "gpu=", "gpu=-1", "g pu=1"] {
            assert_eq!(text.parse::<NamedResource>(), Err(ValueError::Resource), "{text}");
        }
        assert_eq!(
            "memory=5".parse::<NamedResource>().unwrap_err().to_string(),
            "bytes of memory have an option of their own, --memory"
        );
    }
}
