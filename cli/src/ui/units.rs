//! Numbers as people read them: times, rates, counts.

/// A count with its thousands set apart: `1,000,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 task`, `2 tasks`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A size: `80 B`, `1.5 KiB`, `64 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{} {}", three_digits(value), UNITS[unit]),
    }
}

/// A rate: `1.2 M/s`, `950 /s`, `0.25 /s`.
pub(crate) fn rate(per_second: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    if !per_second.is_finite() || per_second <= 0.0 {
        return "-".to_owned();
    }
    let mut value = per_second;
    let mut unit = 0;
    // 999.5 would be written as 1000
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}/s", three_digits(value), UNITS[unit])
}

fn three_digits(value: f64) -> String {
    match value {
        _ if value >= 99.5 => format!("{value:.0}"),
        _ if value >= 0.995 => trimmed(format!("{value:.1}")),
        _ => trimmed(format!("{value:.3}")),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A length of time: `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`, `4 d 3 h`.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{} s", trimmed(format!("{:.1}", (millis / 100) as f64 / 10.0))),
        60..3600 => two_units(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two_units(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two_units(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// How long ago a moment was: `3 min ago`. Both in milliseconds since 1970.
pub(crate) fn ago(then: u64, now: u64) -> String {
    // two machines' clocks may differ: what seems to come from the future has just happened
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..2 => "just now".to_owned(),
        2..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_set_apart() {
        let texts = [0, 999, 1000, 50_847_534].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "50,847,534"]);
        assert_eq!(
            (counted(1, "task"), counted(2, "task")),
            ("1 task".into(), "2 tasks".into())
        );
    }

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let texts = [0, 80, 1023, 1024, 1536, 1_048_000, 64 << 20, 5 << 50].map(size);
        let expected = [
            "0 B", "80 B", "1023 B", "1 KiB", "1.5 KiB", "1023 KiB", "64 MiB", "5120 TiB",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn rates_have_two_or_three_digits() {
        let texts = [0.25, 0.9999, 7.0, 83.26, 949.6, 999.9, 1_234_567.0, 2.5e13, 0.0].map(rate);
        let expected = [
            "0.25 /s", "1 /s", "7 /s", "83.3 /s", "950 /s", "1 k/s", "1.2 M/s", "25 T/s", "-",
        ];
        assert_eq!(texts, expected);
        assert_eq!(rate(f64::NAN), "-");
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let texts = [12, 1000, 3_450, 59_999, 60_000, 125_000, 12_000_000, 360_000_000].map(duration);
        assert_eq!(
            texts,
            [
                "12 ms",
                "1 s",
                "3.4 s",
                "59.9 s",
                "1 min",
                "2 min 5 s",
                "3 h 20 min",
                "4 d 4 h"
            ]
        );
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = 10 * 86_400_000;
        let texts = [0, 1500, 5_000, 200_000, 7_200_000, 259_200_000].map(|before| ago(now - before, now));
        assert_eq!(
            texts,
            [
                "just now",
                "just now",
                "5 s ago",
                "3 min ago",
                "2 h ago",
                "3 d ago"
            ]
        );
        assert_eq!(ago(now + 5_000, now), "just now");
    }
}
