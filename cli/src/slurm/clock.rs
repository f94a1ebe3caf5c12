//! Local time, as Slurm's commands read and show it. The system knows the rules of the place; no time of its own is kept
//! here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::batch::begin::{Begin, Date, Day};

/// Seconds of a day without a change of the clock.
const DAY_SECONDS: i64 = 86_400;

/// A moment in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    year: i32,
    /// From 1.
    month: i32,
    /// From 1.
    day: i32,
    /// Since midnight.
    seconds: i32,
}

/// Which moment is meant by a time that comes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    Next,
    Last,
}

/// Milliseconds since 1970, now.
pub(super) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment, in milliseconds since 1970, as `2027-01-31T16:00:00`.
pub(super) fn show(millis: u64) -> String {
    let civil = i64::try_from(millis / 1000).ok().and_then(local);
    let Some(Civil {
        year,
        month,
        day,
        seconds,
    }) = civil
    else {
        return "Unknown".to_owned();
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}")
}

/// The same as `Sun Jan 31 16:00:00 2027`.
pub(super) fn show_long(millis: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let civil = i64::try_from(millis / 1000).ok().and_then(local);
    let Some(Civil {
        year,
        month,
        day,
        seconds,
    }) = civil
    else {
        return "Unknown".to_owned();
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // the day of the week, by the rule of Sakamoto (1992): March is the first month of its year
    let offsets = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let position = usize::try_from(month - 1).unwrap_or(0).min(11);
    let its_year = if month < 3 { year - 1 } else { year };
    let sum = its_year + its_year / 4 - its_year / 100 + its_year / 400 + offsets[position] + day;
    let name = DAYS[usize::try_from(sum.rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS[position];
    format!("{name} {month} {day:>2} {hours:02}:{minutes:02}:{seconds:02} {year}")
}

/// The moment, in milliseconds since 1970, that is meant now; none if no clock can show it.
pub(super) fn resolve(begin: Begin, now_millis: u64, aim: Aim) -> Option<u64> {
    let (day, seconds) = match begin {
        Begin::In(delay) => return Some(now_millis.saturating_add(whole_millis(delay))),
        Begin::At { day, seconds } => (day, i32::try_from(seconds).ok()?),
    };
    let now = i64::try_from(now_millis / 1000).ok()?;
    let today = local(now)?;
    let at = |date: Civil| unix(Civil { seconds, ..date });
    let neighbour = |days: i64| {
        // at noon, a change of the clock does not lead into another day
        let noon = unix(Civil {
            seconds: 43_200,
            ..today
        })?;
        at(local(noon + days * DAY_SECONDS)?)
    };
    let moment = match day {
        Day::Today => at(today)?,
        Day::Tomorrow => neighbour(1)?,
        Day::Next => match (at(today)?, aim) {
            (passed, Aim::Next) if passed <= now => neighbour(1)?,
            (ahead, Aim::Last) if ahead > now => neighbour(-1)?,
            (moment, _) => moment,
        },
        Day::On(Date { year, month, day }) => {
            let of = |year: i32| {
                at(Civil {
                    year,
                    month: i32::try_from(month).ok()?,
                    day: i32::try_from(day).ok()?,
                    seconds,
                })
            };
            match year {
                Some(year) => of(i32::try_from(year).ok()?)?,
                None => match (of(today.year)?, aim) {
                    (passed, Aim::Next) if passed <= now => of(today.year + 1)?,
                    (ahead, Aim::Last) if ahead > now => of(today.year - 1)?,
                    (moment, _) => moment,
                },
            }
        }
    };
    u64::try_from(moment).ok()?.checked_mul(1000)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the clock here shows at a moment, in seconds since 1970.
#[expect(
    unsafe_code,
    reason = "the rules of time zones are the system's, and only libc gives them"
)]
fn local(unix: i64) -> Option<Civil> {
    let time: libc::time_t = unix;
    let mut fields = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to values of this function; a `tm` of zeros is a valid one; nobody changes this program's
    // environment, which is read meanwhile.
    let fields = unsafe {
        if libc::localtime_r(&raw const time, fields.as_mut_ptr()).is_null() {
            return None;
        }
        fields.assume_init()
    };
    Some(Civil {
        year: fields.tm_year.checked_add(1900)?,
        month: fields.tm_mon + 1,
        day: fields.tm_mday,
        // a leap second is the last one of its minute
        seconds: fields.tm_hour * 3600 + fields.tm_min * 60 + fields.tm_sec.min(59),
    })
}

/// When the clock here shows something, in seconds since 1970.
#[expect(
    unsafe_code,
    reason = "the rules of time zones are the system's, and only libc gives them"
)]
fn unix(civil: Civil) -> Option<i64> {
    // SAFETY: a `tm` of zeros is a valid one, and it lives as long as the call; nobody changes this program's environment,
    // which is read meanwhile.
    let time = unsafe {
        let mut fields = std::mem::zeroed::<libc::tm>();
        fields.tm_year = civil.year - 1900;
        fields.tm_mon = civil.month - 1;
        fields.tm_mday = civil.day;
        fields.tm_hour = civil.seconds / 3600;
        fields.tm_min = civil.seconds / 60 % 60;
        fields.tm_sec = civil.seconds % 60;
        // the system knows whether it is summer
        fields.tm_isdst = -1;
        libc::mktime(&raw mut fields)
    };
    (time != -1).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        resolve(Begin::parse(text).unwrap(), 0, Aim::Next).unwrap()
    }

    #[test]
    fn what_is_shown_is_what_was_meant() {
        for text in [
            "2027-01-31T16:00:00",
            "2026-07-01T00:00:05",
            "2024-02-29T23:59:59",
        ] {
            assert_eq!(show(at(text)), text);
        }
        assert_eq!(at("2027-01-02T12:00") - at("2027-01-01T12:00"), 86_400_000);
    }

    #[test]
    fn days_have_names() {
        for (text, shown) in [
            ("2026-11-26T08:05:04", "Thu Nov 26 08:05:04 2026"),
            ("2024-02-29T23:59:59", "Thu Feb 29 23:59:59 2024"),
            ("2027-01-03T00:00:00", "Sun Jan  3 00:00:00 2027"),
        ] {
            assert_eq!(show_long(at(text)), shown);
        }
    }

    #[test]
    fn what_comes_again_is_the_next_one_or_the_last() {
        let now = at("2026-11-26T12:00:00");
        for (text, next, last) in [
            ("16:00", "2026-11-26T16:00:00", "2026-11-25T16:00:00"),
            ("11:59", "2026-11-27T11:59:00", "2026-11-26T11:59:00"),
            ("tomorrow", "2026-11-27T00:00:00", "2026-11-27T00:00:00"),
            ("today", "2026-11-26T00:00:00", "2026-11-26T00:00:00"),
            ("12/31", "2026-12-31T00:00:00", "2025-12-31T00:00:00"),
            ("01/31", "2027-01-31T00:00:00", "2026-01-31T00:00:00"),
            (
                "2025-05-06T07:08:09",
                "2025-05-06T07:08:09",
                "2025-05-06T07:08:09",
            ),
            ("now+90", "2026-11-26T12:01:30", "2026-11-26T12:01:30"),
        ] {
            let begin = Begin::parse(text).unwrap();
            let shown = |aim| resolve(begin, now, aim).map(show);
            assert_eq!(shown(Aim::Next).as_deref(), Some(next), "{text}");
            assert_eq!(shown(Aim::Last).as_deref(), Some(last), "{text}");
        }
    }
}
