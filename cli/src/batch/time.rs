//! Lengths of time as batch scripts write them and as job lists show them.

use std::time::Duration;

/// 100 years, in seconds: nobody means more, and it keeps sums of times far from overflow.
const TIME_MAX_SECONDS: u64 = 100 * 365 * 86_400;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// How long a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeLimit {
    Limited(Duration),
    Unlimited,
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    #[error(
        "a time is written M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, as in 90 (minutes) or 1-12:00:00, or UNLIMITED"
    )]
    Form,
    #[error("a time has at most 100 years")]
    TooLong,
}

/// Reads a time limit: `90` is minutes, `90:30` minutes and seconds, `1:30:00`, `2-12` days and hours, `2-12:30`,
/// `2-12:30:15`; `UNLIMITED`, `INFINITE`, `-1` and 0 are no limit.
///
/// # Errors
///
/// The text has none of these forms, or is longer than 100 years.
pub(crate) fn parse_time_limit(text: &str) -> Result<TimeLimit, TimeError> {
    let text = text.trim();
    if ["unlimited", "infinite", "-1"].contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(TimeLimit::Unlimited);
    }
    let seconds = seconds(text)?;
    Ok(match seconds {
        0 => TimeLimit::Unlimited,
        _ => TimeLimit::Limited(Duration::from_secs(seconds)),
    })
}

/// Seconds of a time in any of the six forms.
fn seconds(text: &str) -> Result<u64, TimeError> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(whole(days)?), clock),
        None => (None, text),
    };
    let fields: Vec<u64> = clock.split(':').map(whole).collect::<Result<_, _>>()?;
    // what the first field counts depends on how many there are, and on whether days come before it
    let units: &[u64] = match (days, fields.len()) {
        (None, 1) => &[MINUTE],
        (None, 2) => &[MINUTE, 1],
        (None | Some(_), 3) => &[HOUR, MINUTE, 1],
        (Some(_), 1) => &[HOUR],
        (Some(_), 2) => &[HOUR, MINUTE],
        (None | Some(_), _) => return Err(TimeError::Form),
    };
    let parts = fields.iter().zip(units).map(|(&count, &unit)| (count, unit));
    let total = parts
        .chain([(days.unwrap_or(0), DAY)])
        .try_fold(0_u64, |total, (count, unit)| {
            total.checked_add(count.checked_mul(unit)?)
        });
    total
        .filter(|&seconds| seconds <= TIME_MAX_SECONDS)
        .ok_or(TimeError::TooLong)
}

/// A number without a sign, which `parse` would take.
fn whole(text: &str) -> Result<u64, TimeError> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // all that is left to go wrong is its size
        true => text.parse().map_err(|_| TimeError::TooLong),
        false => Err(TimeError::Form),
    }
}

/// A time as `squeue` shows it: `0:05`, `12:30`, `1:00:00`, `2-03:00:00`.
pub(crate) fn short_clock(time: Duration) -> String {
    let Clock {
        days,
        hours,
        minutes,
        seconds,
    } = Clock::of(time);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (_, _) => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// A time as `sacct` and `scontrol` show it: `00:00:05`, `01:00:00`, `2-03:00:00`.
pub(crate) fn full_clock(time: Duration) -> String {
    let Clock {
        days,
        hours,
        minutes,
        seconds,
    } = Clock::of(time);
    match days {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Cpu time as `sacct` shows it: `00:05.123`, and whole seconds from an hour on, `01:00:05`.
pub(crate) fn cpu_clock(time: Duration) -> String {
    let Clock {
        days,
        hours,
        minutes,
        seconds,
    } = Clock::of(time);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}.{:03}", time.subsec_millis()),
        (_, _) => full_clock(time),
    }
}

/// A time limit as `squeue` shows it.
pub(crate) fn short_limit(limit: TimeLimit) -> String {
    match limit {
        TimeLimit::Limited(time) => short_clock(time),
        TimeLimit::Unlimited => "UNLIMITED".to_owned(),
    }
}

/// A time limit as `sacct` and `scontrol` show it.
pub(crate) fn full_limit(limit: TimeLimit) -> String {
    match limit {
        TimeLimit::Limited(time) => full_clock(time),
        TimeLimit::Unlimited => "UNLIMITED".to_owned(),
    }
}

/// A time, cut into what a clock shows.
struct Clock {
    days: u64,
    hours: u64,
    minutes: u64,
    seconds: u64,
}

impl Clock {
    fn of(time: Duration) -> Self {
        let total = time.as_secs();
        Self {
            days: total / DAY,
            hours: total % DAY / HOUR,
            minutes: total % HOUR / MINUTE,
            seconds: total % MINUTE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limited(seconds: u64) -> Result<TimeLimit, TimeError> {
        Ok(TimeLimit::Limited(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_time_has_one_of_six_forms() {
        for (text, seconds) in [
            ("90", 5400),
            ("5:30", 330),
            ("1:30:00", 5400),
            ("48:00:00", 172_800),
            ("0:00:30", 30),
            ("2-12", 216_000),
            ("2-12:30", 217_800),
            ("2-12:30:15", 217_815),
            ("1-0", 86_400),
            ("90:00", 5400),
            ("00:90:00", 5400),
            (" 10 ", 600),
        ] {
            assert_eq!(parse_time_limit(text), limited(seconds), "{text}");
        }
    }

    #[test]
    fn cpu_time_has_milliseconds_below_an_hour() {
        for (millis, shown) in [
            (0, "00:00.000"),
            (256, "00:00.256"),
            (61_005, "01:01.005"),
            (3_599_999, "59:59.999"),
            (3_600_999, "01:00:00"),
            (90_000_000, "1-01:00:00"),
        ] {
            assert_eq!(cpu_clock(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn no_limit_has_several_names() {
        for text in ["UNLIMITED", "unlimited", "INFINITE", "-1", "0", "00:00:00", "0-0"] {
            assert_eq!(parse_time_limit(text), Ok(TimeLimit::Unlimited), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            ":",
            "1:",
            ":1",
            "1:2:3:4",
            "1-",
            "-5",
            "1-2-3",
            "1-2:3:4:5",
            "1h",
            "+5",
            "1.5",
            "é",
            "unlimit",
            "1 2",
        ] {
            assert_eq!(parse_time_limit(text), Err(TimeError::Form), "{text}");
        }
        for text in [
            "99999999999",
            "36501-0",
            "18446744073709551616",
            "18446744073709551615-0",
        ] {
            assert_eq!(parse_time_limit(text), Err(TimeError::TooLong), "{text}");
        }
    }

    #[test]
    fn lists_show_no_more_than_it_takes() {
        let shown =
            [0, 5, 750, 3600, 97_200, 200_000].map(|seconds| short_clock(Duration::from_secs(seconds)));
        assert_eq!(
            shown,
            ["0:00", "0:05", "12:30", "1:00:00", "1-03:00:00", "2-07:33:20"]
        );
        assert_eq!(short_limit(TimeLimit::Unlimited), "UNLIMITED");
    }

    #[test]
    fn accounts_show_hours_always() {
        let shown = [0, 5, 3600, 97_200].map(|seconds| full_clock(Duration::from_secs(seconds)));
        assert_eq!(shown, ["00:00:00", "00:00:05", "01:00:00", "1-03:00:00"]);
        assert_eq!(full_limit(TimeLimit::Unlimited), "UNLIMITED");
    }

    proptest! {
        #[test]
        fn what_accounts_show_can_be_read_back(seconds in 1..TIME_MAX_SECONDS) {
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(parse_time_limit(&full_clock(time)), Ok(TimeLimit::Limited(time)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse_time_limit(&text);
        }
    }
}
