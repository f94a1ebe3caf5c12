//! When a job may start at the earliest: `now+1hour`, `16:00`, `2027-01-31T12:00`. No clock is read here: whoever submits
//! knows what time it is, and where.

use std::time::Duration;

use jiff::civil::{self, DateTime};
use jiff::{Span, Timestamp, Zoned};

/// Waiting longer than this is meant by nobody: 100 years, in seconds.
const DELAY_MAX_SECONDS: u64 = 100 * 365 * 86_400;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    /// None if only month and day are given: the next such day.
    pub(crate) year: Option<u32>,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

/// Which day a time of day is meant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Day {
    /// The next time that the clock shows it.
    Next,
    Today,
    Tomorrow,
    On(Date),
}

/// When a job may start at the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    In(Duration),
    /// Local time of whoever submits.
    At {
        day: Day,
        /// Since midnight.
        seconds: u32,
    },
}

/// Why a text is no time to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time to begin at is written now+2hours, 16:00, tomorrow, noon, 2027-01-31 or 2027-01-31T16:00")]
pub(crate) struct BeginError;

/// Years in which the 29th of February is looked for.
const YEARS_AHEAD_MAX: i16 = 8;

/// Why a time to begin at is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that time is further ahead than calendars go")]
pub(crate) struct NoMomentError;

impl Begin {
    /// The moment that is meant, given the time here and now; it may be past. A time that the clock skips, as it does when
    /// summer time begins, is meant as the time after the gap; of one that it shows twice, the first is meant.
    ///
    /// # Errors
    ///
    /// There is no such moment.
    pub(crate) fn moment(self, now: &Zoned) -> Result<Timestamp, NoMomentError> {
        self.find(now).ok_or(NoMomentError)
    }

    fn find(self, now: &Zoned) -> Option<Timestamp> {
        let (day, seconds) = match self {
            Self::In(delay) => {
                let delay = Span::new()
                    .try_seconds(i64::try_from(delay.as_secs()).ok()?)
                    .ok()?;
                return now.timestamp().checked_add(delay).ok();
            }
            Self::At { day, seconds } => (day, i64::from(seconds)),
        };
        let shows = |date: civil::Date| -> Option<Timestamp> {
            // by the clock: a day may be longer than what its clock shows
            let midnight = DateTime::from_parts(date, civil::Time::midnight());
            let local = midnight.checked_add(Span::new().seconds(seconds)).ok()?;
            Some(local.to_zoned(now.time_zone().clone()).ok()?.timestamp())
        };
        let today = now.date();
        match day {
            Day::Today => shows(today),
            Day::Tomorrow => shows(today.tomorrow().ok()?),
            Day::Next => match shows(today)? {
                later if later > now.timestamp() => Some(later),
                _ => shows(today.tomorrow().ok()?),
            },
            Day::On(Date { year, month, day }) => {
                let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
                let in_year = |year: i16| shows(civil::Date::new(year, month, day).ok()?);
                if let Some(year) = year {
                    return in_year(i16::try_from(year).ok()?);
                }
                let mut years = now.year()..=now.year().checked_add(YEARS_AHEAD_MAX)?;
                years.find_map(|year| in_year(year).filter(|moment| *moment > now.timestamp()))
            }
        }
    }

    /// Reads a time to begin at.
    ///
    /// # Errors
    ///
    /// The text has none of the forms, or names an hour or a day that does not exist.
    pub(crate) fn parse(text: &str) -> Result<Self, BeginError> {
        let text = text.trim().to_ascii_lowercase();
        let parsed = match text.strip_prefix("now") {
            Some("") => Some(Self::In(Duration::ZERO)),
            Some(delay) => delay.strip_prefix('+').and_then(delay_of),
            None => at(&text),
        };
        parsed.ok_or(BeginError)
    }
}

/// `60`, `2hours`, `1 day`.
fn delay_of(text: &str) -> Option<Begin> {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit.trim() {
        "" | "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        "week" | "weeks" => 7 * 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit_seconds)?;
    (seconds <= DELAY_MAX_SECONDS).then(|| Begin::In(Duration::from_secs(seconds)))
}

fn at(text: &str) -> Option<Begin> {
    let at = |day, seconds| Some(Begin::At { day, seconds });
    match text {
        "today" => return at(Day::Today, 0),
        "tomorrow" => return at(Day::Tomorrow, 0),
        _ => {}
    }
    if let Some(seconds) = time_of_day(text) {
        return at(Day::Next, seconds);
    }
    let (date, time) = match text.split_once(['t', ' ']) {
        Some((date, time)) => (date, time_of_day(time)?),
        None => (text, 0),
    };
    at(Day::On(date_of(date)?), time)
}

/// Seconds since midnight of `16:00`, `16:00:30`, `4:00pm`, `noon`.
fn time_of_day(text: &str) -> Option<u32> {
    match text {
        "midnight" => return Some(0),
        "noon" => return Some(12 * 3600),
        "fika" => return Some(15 * 3600),
        "teatime" => return Some(16 * 3600),
        _ => {}
    }
    let (clock, afternoon) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(clock), _) => (clock, Some(false)),
        (_, Some(clock)) => (clock, Some(true)),
        (None, None) => (text, None),
    };
    let fields: Vec<u32> = clock.trim().split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match *fields.as_slice() {
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let hours = match afternoon {
        None => hours,
        Some(_) if !(1..=12).contains(&hours) => return None,
        Some(false) => hours % 12,
        Some(true) => hours % 12 + 12,
    };
    (hours < 24 && minutes < 60 && seconds < 60).then(|| (hours * 60 + minutes) * 60 + seconds)
}

/// `2027-01-31`, `01/31`, `01/31/27`, `0131`, `013127`.
fn date_of(text: &str) -> Option<Date> {
    let of = |year, month, day| Some(Date { year, month, day }).filter(|date| date.exists());
    let century = |year: u32| if year < 100 { 2000 + year } else { year };
    if let Some((year, rest)) = text.split_once('-') {
        let (month, day) = rest.split_once('-')?;
        return of(Some(number(year)?), number(month)?, number(day)?);
    }
    let fields: Vec<u32> = text.split('/').map(number).collect::<Option<_>>()?;
    match *fields.as_slice() {
        [month, day] => of(None, month, day),
        [month, day, year] => of(Some(century(year)), month, day),
        [packed] if text.len() == 4 => of(None, packed / 100, packed % 100),
        [packed] if text.len() == 6 => of(Some(century(packed % 100)), packed / 10_000, packed / 100 % 100),
        _ => None,
    }
}

impl Date {
    /// Whether the calendar has this day; without a year, in some year.
    fn exists(self) -> bool {
        let leaps =
            |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if self.year.is_none_or(leaps) => 29,
            2 => 28,
            _ => 0,
        };
        (1..=days).contains(&self.day) && self.year.is_none_or(|year| (1970..10_000).contains(&year))
    }
}

/// A short number without a sign, which `parse` would take.
fn number(text: &str) -> Option<u32> {
    let plain = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// What is meant by a text at a moment in Berlin, as its clocks show it.
    fn meant(now: &str, text: &str) -> String {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: DateTime = now.parse().unwrap();
        let now = now.to_zoned(zone.clone()).unwrap();
        let moment = Begin::parse(text).unwrap().moment(&now).unwrap();
        moment.to_zoned(zone).datetime().to_string()
    }

    #[test]
    fn a_time_is_meant_as_the_clock_here_shows_it() {
        for (text, expected) in [
            ("now", "2026-12-23T15:30:00"),
            ("now+90minutes", "2026-12-23T17:00:00"),
            ("now+1week", "2026-12-30T15:30:00"),
            ("16:00", "2026-12-23T16:00:00"),
            ("15:30", "2026-12-24T15:30:00"),
            ("8:00am", "2026-12-24T08:00:00"),
            ("teatime", "2026-12-23T16:00:00"),
            ("noon", "2026-12-24T12:00:00"),
            ("midnight", "2026-12-24T00:00:00"),
            ("today", "2026-12-23T00:00:00"),
            ("tomorrow", "2026-12-24T00:00:00"),
            ("2026-12-24T08:00", "2026-12-24T08:00:00"),
            ("2026-12-24T08:00:00", "2026-12-24T08:00:00"),
            ("2026-01-01", "2026-01-01T00:00:00"),
            ("12/24", "2026-12-24T00:00:00"),
            ("01/31", "2027-01-31T00:00:00"),
            ("02/29", "2028-02-29T00:00:00"),
            ("12/23 16:00", "2026-12-23T16:00:00"),
            ("12/23 15:00", "2027-12-23T15:00:00"),
        ] {
            assert_eq!(meant("2026-12-23T15:30:00", text), expected, "{text}");
        }
    }

    #[test]
    fn clocks_that_are_put_forward_and_back_are_followed() {
        // from 2:00 to 3:00
        assert_eq!(
            meant("2026-03-28T12:00:00", "2026-03-29T02:30"),
            "2026-03-29T03:30:00"
        );
        assert_eq!(meant("2026-03-28T12:00:00", "tomorrow"), "2026-03-29T00:00:00");
        assert_eq!(meant("2026-03-29T01:00:00", "noon"), "2026-03-29T12:00:00");
        // 24 hours are not the next day's same time
        assert_eq!(meant("2026-03-28T12:00:00", "now+1day"), "2026-03-29T13:00:00");
        // 2:30 comes twice
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: DateTime = "2026-10-24T12:00:00".parse().unwrap();
        let now = now.to_zoned(zone).unwrap();
        let moment = Begin::parse("2026-10-25T02:30").unwrap().moment(&now).unwrap();
        assert_eq!(
            moment.to_string(),
            "2026-10-25T00:30:00Z",
            "the first, in summer time"
        );
    }

    #[test]
    fn a_moment_that_no_calendar_has_is_refused() {
        let now = Timestamp::MAX.to_zoned(TimeZone::UTC);
        assert_eq!(
            Begin::In(Duration::from_secs(86_400)).moment(&now),
            Err(NoMomentError)
        );
    }

    fn on(year: Option<u32>, month: u32, day: u32, seconds: u32) -> Begin {
        let day = Day::On(Date { year, month, day });
        Begin::At { day, seconds }
    }

    #[test]
    fn a_delay_is_counted_from_now() {
        for (text, seconds) in [
            ("now", 0),
            ("now+60", 60),
            ("now+1hour", 3600),
            ("now+2hours", 7200),
            ("now+10 minutes", 600),
            ("NOW+1week", 604_800),
            ("now+3days", 259_200),
            ("now+30seconds", 30),
        ] {
            assert_eq!(
                Begin::parse(text),
                Ok(Begin::In(Duration::from_secs(seconds))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_of_day_is_meant_on_the_next_day_that_has_it() {
        let next = |seconds| {
            Ok(Begin::At {
                day: Day::Next,
                seconds,
            })
        };
        for (text, seconds) in [
            ("16:00", 57_600),
            ("16:00:30", 57_630),
            ("4:00pm", 57_600),
            ("12:30am", 1800),
            ("12:30 PM", 45_000),
            ("noon", 43_200),
            ("midnight", 0),
            ("teatime", 57_600),
        ] {
            assert_eq!(Begin::parse(text), next(seconds), "{text}");
        }
        let day = Day::Tomorrow;
        assert_eq!(Begin::parse("tomorrow"), Ok(Begin::At { day, seconds: 0 }));
    }

    #[test]
    fn a_date_has_one_of_several_forms() {
        for (text, expected) in [
            ("2027-01-31", on(Some(2027), 1, 31, 0)),
            ("2027-01-31T16:00", on(Some(2027), 1, 31, 57_600)),
            ("2027-01-31T16:00:01", on(Some(2027), 1, 31, 57_601)),
            ("01/31/27", on(Some(2027), 1, 31, 0)),
            ("01/31", on(None, 1, 31, 0)),
            ("0131", on(None, 1, 31, 0)),
            ("013127", on(Some(2027), 1, 31, 0)),
            ("2028-02-29", on(Some(2028), 2, 29, 0)),
        ] {
            assert_eq!(Begin::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_to_begin_at_is_refused() {
        for text in [
            "",
            "now+",
            "now-1",
            "now+1fortnight",
            "now+9999999999999",
            "24:00",
            "12:60",
            "13:00pm",
            "0:30am",
            "16",
            "2027-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01",
            "soon",
            "2027-01-31T",
            "-1:00",
            "+1:00",
            "é",
        ] {
            assert_eq!(Begin::parse(text), Err(BeginError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(now\\+)?[0-9:/t apm\\-]{0,12}") {
            let _ = Begin::parse(&text);
        }
    }
}
