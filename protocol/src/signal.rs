//! The names of signals, by their numbers on Linux.

/// Without `SIG` in front, by number.
const NAMES: [(&str, i32); 26] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("WINCH", 28),
    ("SYS", 31),
];

/// `SIGSEGV` for 11; `None` for a number without a name.
pub fn name(number: i32) -> Option<String> {
    let found = NAMES.iter().find(|(_, known)| *known == number);
    found.map(|(name, _)| format!("SIG{name}"))
}

/// The number of a name in capital letters, with `SIG` in front or without.
pub fn number(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    let found = NAMES.iter().find(|(known, _)| *known == bare);
    found.map(|&(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_find_each_other() {
        for (bare, known) in NAMES {
            assert_eq!(number(bare), Some(known));
            assert_eq!(name(known).as_deref().and_then(number), Some(known));
        }
        assert_eq!(
            (name(11).as_deref(), name(64), number("segv")),
            (Some("SIGSEGV"), None, None)
        );
    }
}
