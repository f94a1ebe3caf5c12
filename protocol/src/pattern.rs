//! Patterns of output files, as batch scripts write them: `slurm-%A_%a.out`.
//!
//! Text to text: no file is opened here, and a relative name stays relative. The client shows names with it, the worker
//! opens them. An array is one job here, whose elements have numbers of their own besides: see [`crate::command::element_number`].

use crate::id::JobId;

/// Where the output of a job goes if nothing is said.
pub const DEFAULT_PATTERN: &str = "slurm-%j.out";

/// Where the output of an array's element goes if nothing is said.
pub const DEFAULT_ARRAY_PATTERN: &str = "slurm-%A_%a.out";

/// More zeros than this are not put before a number.
const PADDING_MAX: usize = 10;

/// What `%a` gives in a job that is no array: the number that Slurm has for it.
const NO_ELEMENT: u64 = 4_294_967_294;

/// What a pattern's letters stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternValues<'a> {
    /// The job: `%A`.
    pub job: JobId,
    /// The number where a job's is expected, `%j`: the job's, or that of its element.
    pub number: u64,
    /// The array id of the element, as the user wrote it (`%a`); none in a job that is no array.
    pub element: Option<u64>,
    /// The number of the step (`%s`, and the second part of `%J`); none for the batch script itself.
    pub step: Option<u64>,
    /// The job's name: `%x`.
    pub name: &'a str,
    /// The name of the user who submitted it: `%u`.
    pub user: &'a str,
    /// The node's name: `%N`.
    pub node: &'a str,
    /// The node's position in the job, from 0: `%n`.
    pub node_index: u32,
    /// The rank of the task in its step, from 0: `%t`.
    pub rank: u32,
}

/// The name that `pattern` gives: its letters replaced, `%%` by `%`; letters that mean nothing stay as they are.
///
/// Digits after the `%` say how many digits the number has at least (`%4j`: `0042`); names are not filled up. A backslash
/// anywhere takes all letters their meaning, and is itself removed.
pub fn expand(pattern: &str, values: &PatternValues<'_>) -> String {
    if pattern.contains('\\') {
        return pattern.replace('\\', "");
    }
    let mut name = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let letter_at = after
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(after.len());
        let width = after[..letter_at].parse().unwrap_or(0_usize).min(PADDING_MAX);
        let letter = after[letter_at..].chars().next();
        match letter.and_then(|letter| value(letter, width, values)) {
            Some(text) => {
                name.push_str(&text);
                // every letter that means something is one byte long
                rest = &after[letter_at + 1..];
            }
            None => {
                name.push('%');
                rest = after;
            }
        }
    }
    name.push_str(rest);
    name
}

/// What one letter stands for.
fn value(letter: char, width: usize, values: &PatternValues<'_>) -> Option<String> {
    let padded = |number: u64| format!("{number:0width$}");
    Some(match letter {
        '%' if width == 0 => "%".to_owned(),
        'A' => padded(values.job.0),
        'a' => padded(values.element.unwrap_or(NO_ELEMENT)),
        'b' => padded(values.element.unwrap_or(NO_ELEMENT) % 10),
        'j' => padded(values.number),
        'J' => match values.step {
            Some(step) => format!("{}.{step}", padded(values.number)),
            None => padded(values.number),
        },
        's' => values.step.map_or_else(|| "batch".to_owned(), padded),
        'n' => padded(u64::from(values.node_index)),
        't' => padded(u64::from(values.rank)),
        'N' => values.node.to_owned(),
        'u' => values.user.to_owned(),
        'x' => values.name.to_owned(),
        _ => return None,
    })
}

/// Whether the pattern names a file for each task of a step, so that tasks do not write into the same one.
pub fn names_each_rank(pattern: &str) -> bool {
    has_letter(pattern, 't')
}

/// Whether a letter of the pattern's stands for something in it: `has_letter("%4a.out", 'a')`.
pub fn has_letter(pattern: &str, letter: char) -> bool {
    if pattern.contains('\\') {
        return false;
    }
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let after = rest[at + 1..].trim_start_matches(|letter: char| letter.is_ascii_digit());
        if after.starts_with(letter) {
            return true;
        }
        rest = after.strip_prefix('%').unwrap_or(after);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOB: PatternValues<'static> = PatternValues {
        job: JobId(42),
        number: 42,
        element: None,
        step: None,
        name: "water 300K",
        user: "ada",
        node: "n01",
        node_index: 1,
        rank: 3,
    };
    const ELEMENT: PatternValues<'static> = PatternValues {
        number: 8_000_000_042,
        element: Some(7),
        ..JOB
    };
    const STEP: PatternValues<'static> = PatternValues { step: Some(0), ..JOB };

    #[test]
    fn each_letter_stands_for_its_value() {
        for (pattern, expected) in [
            (DEFAULT_PATTERN, "slurm-42.out"),
            ("logs/%x-%j.out", "logs/water 300K-42.out"),
            ("%A", "42"),
            ("%J", "42"),
            ("%s", "batch"),
            ("%N.%n", "n01.1"),
            ("%t", "3"),
            ("/home/%u/%x", "/home/ada/water 300K"),
            ("%a", "4294967294"),
        ] {
            assert_eq!(expand(pattern, &JOB), expected, "{pattern}");
        }
        for (pattern, expected) in [("%J", "42.0"), ("%s", "0"), ("o.%J.%t", "o.42.0.3")] {
            assert_eq!(expand(pattern, &STEP), expected, "{pattern}");
        }
    }

    #[test]
    fn elements_of_an_array_have_files_of_their_own() {
        for (pattern, expected) in [
            (DEFAULT_ARRAY_PATTERN, "slurm-42_7.out"),
            ("%j.out", "8000000042.out"),
            ("%A_%a-%J", "42_7-8000000042"),
            ("%A.out", "42.out"),
            ("%b", "7"),
            ("%4a", "0007"),
            ("%4j", "8000000042"),
        ] {
            assert_eq!(expand(pattern, &ELEMENT), expected, "{pattern}");
        }
    }

    #[test]
    fn digits_fill_numbers_up_and_leave_names_alone() {
        for (pattern, expected) in [
            ("%4j", "0042"),
            ("%1j", "42"),
            ("%0j", "42"),
            ("%20j", "0000000042"),
            ("%99999999999999999999999j", "42"),
            ("%5N|%3t", "n01|003"),
        ] {
            assert_eq!(expand(pattern, &JOB), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_letter_stays_as_it_is() {
        for (pattern, expected) in [
            ("100%", "100%"),
            ("%", "%"),
            ("%4", "%4"),
            ("%z-%4z", "%z-%4z"),
            ("%é%j", "%é42"),
            ("100%%j", "100%j"),
            ("%%%j", "%42"),
            ("%4%j", "%442"),
            ("", ""),
            ("plain.txt", "plain.txt"),
        ] {
            assert_eq!(expand(pattern, &JOB), expected, "{pattern}");
        }
    }

    #[test]
    fn a_backslash_takes_all_letters_their_meaning() {
        assert_eq!(expand("\\%x-%j.out", &JOB), "%x-%j.out");
        assert_eq!(expand("%j\\\\%x", &JOB), "%j%x");
    }

    #[test]
    fn a_letter_is_found_where_it_means_something() {
        assert!(has_letter("%x-%4a.out", 'a') && has_letter("%N", 'N'));
        assert!(!has_letter("%%a", 'a') && !has_letter("\\%a", 'a') && !has_letter("a%x", 'a'));
    }

    #[test]
    fn only_the_rank_names_a_file_for_each_task() {
        for pattern in ["%t", "o.%2t", "%%%t", "%j-%t"] {
            assert!(names_each_rank(pattern), "{pattern}");
        }
        for pattern in ["%j", "%%t", "\\%t", "t", "%n", "%"] {
            assert!(!names_each_rank(pattern), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_percent_sign_is_its_own_name(text in "[^%\\\\]*") {
            prop_assert_eq!(expand(&text, &ELEMENT), text);
        }

        #[test]
        fn any_text_is_a_pattern(text in ".*") {
            let name = expand(&text, &ELEMENT);
            prop_assert_eq!(names_each_rank(&text) && !name.contains('3'), false);
        }
    }
}
