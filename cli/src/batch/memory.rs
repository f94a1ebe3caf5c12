//! Amounts of memory as batch scripts write them and as job lists show them.

/// The units, from the smallest; each is 1024 times the one before it.
const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

/// Why a text is no amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("memory is a whole number of MiB, or one with a unit K, M, G or T, as in 4000 or 16G")]
    Form,
    #[error("memory is a whole number: write 1536M for 1.5G")]
    Fraction,
    #[error("there is no machine with so much memory")]
    TooLarge,
}

/// Reads an amount of memory and gives bytes: a bare number is MiB; `K`, `M`, `G`, `T` and `P` count in 1024s, in any
/// case, with or without a `B` or `iB` after them.
///
/// # Errors
///
/// The text is no whole number with one of these units, or too large for 64 bits.
pub(crate) fn parse_memory(text: &str) -> Result<u64, MemoryError> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if unit.starts_with('.') && !number.is_empty() {
        return Err(MemoryError::Fraction);
    }
    let unit = unit_bytes(unit).ok_or(MemoryError::Form)?;
    if number.is_empty() {
        return Err(MemoryError::Form);
    }
    let number: u64 = number.parse().map_err(|_| MemoryError::TooLarge)?;
    number.checked_mul(unit).ok_or(MemoryError::TooLarge)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    let Some(first) = unit.chars().next() else {
        return Some(1 << 20);
    };
    let power = UNITS.iter().position(|&known| known == first)? as u32 + 1;
    ["", "B", "IB"].contains(&&unit[1..]).then(|| 1024_u64.pow(power))
}

/// An amount of memory in bytes, as `squeue` shows it: the largest unit that leaves a whole number, `4G`, `1500M`; what is
/// no whole number of KiB is rounded up to one.
pub(crate) fn show_memory(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let mut amount = bytes.div_ceil(1024);
    let mut unit = 0;
    while amount.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount}{}", UNITS[unit])
}

/// A unit that amounts are to be shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryUnit(usize);

impl MemoryUnit {
    /// Reads the letter of a unit, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut letters = text.trim().chars().map(|letter| letter.to_ascii_uppercase());
        let (letter, None) = (letters.next()?, letters.next()) else {
            return None;
        };
        UNITS.iter().position(|&known| known == letter).map(Self)
    }

    /// An amount of memory in bytes in this unit, with two digits behind the point if it is no whole number: `2.50G`.
    pub(crate) fn show(self, bytes: u64) -> String {
        let (unit, letter) = (1024_u64.pow(self.0 as u32 + 1), UNITS[self.0]);
        match bytes % unit {
            0 => format!("{}{letter}", bytes / unit),
            _ => format!("{:.2}{letter}", bytes as f64 / unit as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_number_is_mebibytes() {
        for (text, bytes) in [
            ("0", 0),
            ("4000", 4000 << 20),
            ("512K", 512 << 10),
            ("100M", 100 << 20),
            ("16G", 16 << 30),
            ("16g", 16 << 30),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
            ("8GB", 8 << 30),
            ("8gb", 8 << 30),
            ("8GiB", 8 << 30),
            (" 8G ", 8 << 30),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        for text in [
            "", "G", "8X", "8GG", "8 G", "-1", "+1", "8Gi", "8B", "é", "8é", ".5G",
        ] {
            assert_eq!(parse_memory(text), Err(MemoryError::Form), "{text}");
        }
        assert_eq!(parse_memory("1.5G"), Err(MemoryError::Fraction));
        for text in ["16384P", "99999999999999999999", "18446744073709551615"] {
            assert_eq!(parse_memory(text), Err(MemoryError::TooLarge), "{text}");
        }
    }

    #[test]
    fn memory_is_shown_in_the_unit_that_leaves_a_whole_number() {
        let shown = [0, 1, 1024, 4 << 30, 1500 << 20, 3 << 60].map(show_memory);
        assert_eq!(shown, ["0", "1K", "1K", "4G", "1500M", "3072P"]);
    }

    #[test]
    fn memory_is_shown_in_the_unit_that_is_asked_for() {
        let show = |unit, bytes| MemoryUnit::parse(unit).unwrap().show(bytes);
        assert_eq!(show("M", 2 << 30), "2048M");
        assert_eq!(show("g", 2560 << 20), "2.50G");
        assert_eq!(show("K", 1536), "1.50K");
        assert_eq!(show("T", 0), "0T");
        for text in ["", "B", "MB", "1", "é"] {
            assert_eq!(MemoryUnit::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(kibibytes in 0..u64::MAX / 1024) {
            prop_assert_eq!(parse_memory(&show_memory(kibibytes * 1024)), Ok(kibibytes * 1024));
        }
    }
}
