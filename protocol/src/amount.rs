//! How much of a named resource: whole ones and parts of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Parts that one is made of.
const PARTS: u64 = 10_000;
/// Decimals that a part has.
const DECIMALS: usize = 4;

/// A count of something that may be shared, to a ten-thousandth: `2`, `0.25`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Amount(u64);

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a number with at most four decimals, as in 2 or 0.25")]
pub struct AmountError;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// A single one.
    pub const ONE: Self = Self(PARTS);

    /// So many whole ones; as many as can be counted, if that is less.
    pub const fn whole(count: u64) -> Self {
        Self(count.saturating_mul(PARTS))
    }

    /// How many whole ones are in it.
    pub const fn wholes(self) -> u64 {
        self.0 / PARTS
    }

    /// Whether nothing is left over beside whole ones.
    pub const fn is_whole(self) -> bool {
        self.0.is_multiple_of(PARTS)
    }

    /// The number, for people and other programs.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / PARTS as f64
    }

    /// How often `part` is in it; `u64::MAX` times if that is nothing.
    pub fn times(self, part: Self) -> u64 {
        self.0.checked_div(part.0).unwrap_or(u64::MAX)
    }

    /// How many slots there are that each take `part` of a single one, or several whole ones: no slot has parts of two.
    pub fn times_undivided(self, part: Self) -> u64 {
        if part.is_whole() {
            return Self::whole(self.wholes()).times(part);
        }
        let rest = Self(self.0 % PARTS);
        self.wholes()
            .saturating_mul(Self::ONE.times(part))
            .saturating_add(rest.times(part))
    }

    /// So many times this; as much as can be counted, if that is less.
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// Both together; as much as can be counted, if that is less.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left without `other`; nothing if that is more.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<u64> for Amount {
    fn from(count: u64) -> Self {
        Self::whole(count)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wholes, parts) = (self.wholes(), self.0 % PARTS);
        if parts == 0 {
            return write!(f, "{wholes}");
        }
        let decimals = format!("{parts:0DECIMALS$}");
        write!(f, "{wholes}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS {
            return Err(AmountError);
        }
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| AmountError);
        let parts = number(&format!("{decimals:0<DECIMALS$}"))?;
        let amount = number(whole)?
            .checked_mul(PARTS)
            .and_then(|whole| whole.checked_add(parts));
        amount.map(Self).ok_or(AmountError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for text in ["0", "2", "0.25", "1.5", "0.0001", "1844674407370955.1615"] {
            assert_eq!(amount(text).to_string(), text);
        }
        assert_eq!((amount("0.50"), amount("3.0")), (amount("0.5"), Amount::whole(3)));
        for text in [
            "",
            ".5",
            "1.",
            "-1",
            "+1",
            "1e3",
            "0.00001",
            "1,5",
            "1844674407370956",
        ] {
            assert_eq!(text.parse::<Amount>(), Err(AmountError), "{text}");
        }
    }

    #[test]
    fn no_slot_has_parts_of_two() {
        assert_eq!(amount("2").times(amount("0.6")), 3);
        assert_eq!(amount("2").times_undivided(amount("0.6")), 2);
        assert_eq!(amount("1.7").times_undivided(amount("0.3")), 5);
        assert_eq!(amount("2.9").times_undivided(amount("1")), 2);
        assert_eq!(amount("2").times_undivided(Amount::ZERO), u64::MAX);
    }
}
