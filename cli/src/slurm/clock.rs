//! Local time, as Slurm's commands read and show it.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned, civil};

use crate::batch::begin::{Begin, Date, Day};

/// Milliseconds since 1970, now.
pub(super) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment, in milliseconds since 1970, as `2027-01-31T16:00:00`.
pub(super) fn show(millis: u64) -> String {
    show_as(millis, "%Y-%m-%dT%H:%M:%S")
}

/// The same as `Sun Jan 31 16:00:00 2027`.
pub(super) fn show_long(millis: u64) -> String {
    show_as(millis, "%a %b %e %H:%M:%S %Y")
}

fn show_as(millis: u64, form: &str) -> String {
    let shown = local(millis).map(|moment| moment.strftime(form).to_string());
    shown.unwrap_or_else(|| "Unknown".to_owned())
}

fn local(millis: u64) -> Option<Zoned> {
    let moment = Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()?;
    Some(moment.to_zoned(TimeZone::system()))
}

/// The moment, in milliseconds since 1970, that somebody means who looks back: of a time that comes again and again, the
/// last one. None if no clock can show it.
pub(super) fn last(begin: Begin, now_millis: u64) -> Option<u64> {
    let (day, seconds) = match begin {
        Begin::In(delay) => {
            let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            return Some(now_millis.saturating_add(delay));
        }
        Begin::At { day, seconds } => (day, i64::from(seconds)),
    };
    let now = local(now_millis)?;
    let at = |date: civil::Date| {
        let time = date
            .at(0, 0, 0, 0)
            .checked_add(jiff::Span::new().seconds(seconds))
            .ok()?;
        time.to_zoned(now.time_zone().clone()).ok()
    };
    let today = now.date();
    let moment = match day {
        Day::Today => at(today)?,
        Day::Tomorrow => at(today.tomorrow().ok()?)?,
        Day::Next => at(today)
            .filter(|moment| *moment <= now)
            .or_else(|| at(today.yesterday().ok()?))?,
        Day::On(Date { year, month, day }) => {
            let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
            let of = |year: i16| at(civil::Date::new(year, month, day).ok()?);
            match year {
                Some(year) => of(i16::try_from(year).ok()?)?,
                None => of(today.year())
                    .filter(|moment| *moment <= now)
                    .or_else(|| of(today.year() - 1))?,
            }
        }
    };
    u64::try_from(moment.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        last(Begin::parse(text).unwrap(), 0).unwrap()
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
        assert_eq!(show(u64::MAX), "Unknown");
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
    fn of_what_comes_again_the_last_one_is_meant() {
        let now = at("2026-11-26T12:00:00");
        for (text, expected) in [
            ("16:00", "2026-11-25T16:00:00"),
            ("11:59", "2026-11-26T11:59:00"),
            ("tomorrow", "2026-11-27T00:00:00"),
            ("today", "2026-11-26T00:00:00"),
            ("12/31", "2025-12-31T00:00:00"),
            ("01/31", "2026-01-31T00:00:00"),
            ("2025-05-06T07:08:09", "2025-05-06T07:08:09"),
            ("now+90", "2026-11-26T12:01:30"),
        ] {
            let moment = last(Begin::parse(text).unwrap(), now);
            assert_eq!(moment.map(show).as_deref(), Some(expected), "{text}");
        }
    }
}
