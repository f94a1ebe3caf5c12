//! Lists of nodes: `n[001-004,7],login1` to names and back. What names exist is not known here.

/// Lists of more names than this are refused: a range can ask for any number of them.
pub const HOSTS_MAX: usize = 65_536;

/// More digits than this are no number but part of a name.
const NUMBER_DIGITS_MAX: usize = 18;

/// Why a text is no list of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostListError {
    /// Brackets that do not match.
    #[error("`{text}` has a bracket without its partner; a range is written n[1-4,7]")]
    Bracket {
        /// The list.
        text: String,
    },
    /// A range with something else than digits.
    #[error("`{text}` is no range of numbers; one is written 1-4, with digits alone")]
    Range {
        /// The range.
        text: String,
    },
    /// A range of nothing.
    #[error("the range `{text}` ends before it begins")]
    Backwards {
        /// The range.
        text: String,
    },
    /// Two commas side by side, or one at an end.
    #[error("`{text}` has an empty name; names are separated by single commas")]
    EmptyName {
        /// The list.
        text: String,
    },
    /// A list that is too long.
    #[error("the list has more than {HOSTS_MAX} names")]
    TooMany,
}

/// The names that a list stands for, in its order, repeated where it repeats them; none for an empty text.
///
/// # Errors
///
/// Brackets that do not match, ranges that are none, empty names, more than [`HOSTS_MAX`] names.
pub fn expand(list: &str) -> Result<Vec<String>, HostListError> {
    let list = list.trim();
    let mut names = Vec::new();
    if list.is_empty() {
        return Ok(names);
    }
    for entry in entries(list)? {
        if entry.is_empty() {
            return Err(HostListError::EmptyName {
                text: list.to_owned(),
            });
        }
        expand_entry(entry, &mut names)?;
    }
    Ok(names)
}

/// The parts of a list between the commas that lie outside brackets.
fn entries(list: &str) -> Result<Vec<&str>, HostListError> {
    let mut entries = Vec::new();
    let mut inside = false;
    let mut start = 0;
    for (position, letter) in list.char_indices() {
        match letter {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => {
                return Err(HostListError::Bracket {
                    text: list.to_owned(),
                });
            }
            ',' if !inside => {
                entries.push(list[start..position].trim());
                start = position + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(HostListError::Bracket {
            text: list.to_owned(),
        });
    }
    entries.push(list[start..].trim());
    Ok(entries)
}

/// Adds the names of one entry, whose brackets are known to match: each range multiplies what stands before it.
fn expand_entry(entry: &str, names: &mut Vec<String>) -> Result<(), HostListError> {
    let mut stems = vec![String::new()];
    let mut rest = entry;
    while let Some((before, after)) = rest.split_once('[') {
        let (ranges, after) = after.split_once(']').unwrap_or((after, ""));
        let numbers = numbers(ranges, HOSTS_MAX - names.len())?;
        if stems.len() * numbers.len() > HOSTS_MAX - names.len() {
            return Err(HostListError::TooMany);
        }
        let combine = |stem: &String| -> Vec<String> {
            numbers
                .iter()
                .map(|number| format!("{stem}{before}{number}"))
                .collect()
        };
        stems = stems.iter().flat_map(combine).collect();
        rest = after;
    }
    if stems.len() > HOSTS_MAX - names.len() {
        return Err(HostListError::TooMany);
    }
    names.extend(stems.into_iter().map(|stem| stem + rest));
    Ok(())
}

/// The numbers between two brackets, with the zeros that they are written with; at most `most`.
fn numbers(ranges: &str, most: usize) -> Result<Vec<String>, HostListError> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let range = range.trim();
        let (first_text, last_text) = range.split_once('-').unwrap_or((range, range));
        let wrong = || HostListError::Range {
            text: range.to_owned(),
        };
        let first = number(first_text).ok_or_else(wrong)?;
        let last = number(last_text).ok_or_else(wrong)?;
        if last < first {
            return Err(HostListError::Backwards {
                text: range.to_owned(),
            });
        }
        if last - first >= (most - numbers.len()) as u64 {
            return Err(HostListError::TooMany);
        }
        let width = first_text.len();
        numbers.extend((first..=last).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

fn number(text: &str) -> Option<u64> {
    let plain =
        !text.is_empty() && text.len() <= NUMBER_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// The shortest list that [`expand`] turns into these names, in this order, without putting any apart from its neighbour:
/// `n1`, `n2`, `n4`, `login` give `n[1-2,4],login`.
pub fn compress<S: AsRef<str>>(names: &[S]) -> String {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for name in names {
        let (stem, digits) = split_number(name.as_ref());
        match groups.last_mut() {
            Some(group) if group.stem == stem && !group.runs.is_empty() && !digits.is_empty() => {
                group.push(digits);
            }
            _ => groups.push(Group::new(stem, digits)),
        }
    }
    let texts: Vec<String> = groups.iter().map(Group::text).collect();
    texts.join(",")
}

/// Orders names by the numbers at their ends, so that those that [`compress`] can join are neighbours: `n2`, `n10`, not `n10`, `n2`.
pub fn order(name: &str) -> impl Ord + '_ {
    let (stem, digits) = split_number(name);
    (stem, number(digits).unwrap_or(0), name)
}

/// A name before its trailing number, and the number as it is written; empty if there is none.
fn split_number(name: &str) -> (&str, &str) {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = &name[stem.len()..];
    match digits.len() <= NUMBER_DIGITS_MAX {
        true => (stem, digits),
        false => (name, ""),
    }
}

/// Neighbours in a list that differ in their number alone.
struct Group<'a> {
    stem: &'a str,
    runs: Vec<Run<'a>>,
}

/// Consecutive numbers, written with at least `first.len()` digits.
struct Run<'a> {
    first: &'a str,
    last: u64,
    count: u64,
}

impl<'a> Group<'a> {
    fn new(stem: &'a str, digits: &'a str) -> Self {
        let mut group = Self {
            stem,
            runs: Vec::new(),
        };
        if !digits.is_empty() {
            group.push(digits);
        }
        group
    }

    fn push(&mut self, digits: &'a str) {
        if let Some(run) = self.runs.last_mut() {
            let width = run.first.len();
            let next = run.last + 1;
            if format!("{next:0width$}") == digits {
                run.last = next;
                run.count += 1;
                return;
            }
        }
        let Some(number) = number(digits) else { return };
        self.runs.push(Run {
            first: digits,
            last: number,
            count: 1,
        });
    }

    fn text(&self) -> String {
        let run = |run: &Run<'_>| match run.count {
            1 => run.first.to_owned(),
            _ => format!("{}-{:0width$}", run.first, run.last, width = run.first.len()),
        };
        match self.runs.as_slice() {
            [] => self.stem.to_owned(),
            [only] if only.count == 1 => format!("{}{}", self.stem, only.first),
            runs => {
                let texts: Vec<String> = runs.iter().map(run).collect();
                format!("{}[{}]", self.stem, texts.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(list: &str) -> String {
        expand(list).unwrap().join(" ")
    }

    #[test]
    fn a_list_stands_for_its_names() {
        for (list, names) in [
            ("n1", "n1"),
            ("n[001-004,7],login1", "n001 n002 n003 n004 n7 login1"),
            ("gpu[1-2]x[01-02]", "gpu1x01 gpu1x02 gpu2x01 gpu2x02"),
            ("n[9-11]", "n9 n10 n11"),
            ("n[08-11]", "n08 n09 n10 n11"),
            ("n[1-2]-ib,n3", "n1-ib n2-ib n3"),
            ("[1-3]", "1 2 3"),
            ("n1,n1", "n1 n1"),
            (" n1 , n[2, 3] ", "n1 n2 n3"),
            ("n[5]", "n5"),
            ("a-b.c", "a-b.c"),
            ("", ""),
        ] {
            assert_eq!(expanded(list), names, "{list}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let text = |text: &str| text.to_owned();
        for list in ["n[1-2", "n1-2]", "n[[1]]", "]n[", "n[1],["] {
            assert_eq!(expand(list), Err(HostListError::Bracket { text: text(list) }));
        }
        for (list, range) in [
            ("n[]", ""),
            ("n[1,]", ""),
            ("n[a-b]", "a-b"),
            ("n[1-2-3]", "1-2-3"),
            ("n[-3]", "-3"),
            ("n[+1-3]", "+1-3"),
            ("n[1-9999999999999999999]", "1-9999999999999999999"),
        ] {
            assert_eq!(
                expand(list),
                Err(HostListError::Range { text: text(range) }),
                "{list}"
            );
        }
        assert_eq!(
            expand("n[3-1]"),
            Err(HostListError::Backwards { text: text("3-1") })
        );
        for list in ["n1,,n2", ",n1", "n1,"] {
            assert_eq!(expand(list), Err(HostListError::EmptyName { text: text(list) }));
        }
    }

    #[test]
    fn no_list_has_more_names_than_the_bound() {
        assert_eq!(expand("n[1-65536]").map(|names| names.len()), Ok(HOSTS_MAX));
        for list in [
            "n[1-65537]",
            "n[0-999999999999999999]",
            "n[1-256]x[1-257]",
            "n[1-65536],login",
            "n[1-65536],m[1-1]",
            "n[1-65535,7,8]",
            "[1-200][1-200][1-200][1-200]",
        ] {
            assert_eq!(expand(list), Err(HostListError::TooMany), "{list}");
        }
    }

    #[test]
    fn neighbours_share_a_stem() {
        for (names, list) in [
            ("n1 n2 n3 login1", "n[1-3],login1"),
            ("n001 n002 n003 n004 n7 login1", "n[001-004,7],login1"),
            ("n9 n10 n11", "n[9-11]"),
            ("n09 n10", "n[09-10]"),
            ("n9 n010", "n[9,010]"),
            ("n1 n3 n5", "n[1,3,5]"),
            ("n2 n1", "n[2,1]"),
            ("n1 n1", "n[1,1]"),
            ("a b", "a,b"),
            ("a a1 a", "a,a1,a"),
            ("localhost", "localhost"),
            ("n1-ib n2-ib", "n1-ib,n2-ib"),
            ("1 2 3", "[1-3]"),
            ("", ""),
        ] {
            let names: Vec<&str> = names.split_whitespace().collect();
            assert_eq!(compress(&names), list);
        }
    }

    #[test]
    fn a_name_with_too_many_digits_is_kept_as_it_is() {
        let names = ["x1234567890123456789", "x1234567890123456790"];
        assert_eq!(compress(&names), names.join(","));
        assert_eq!(expand(&compress(&names)).unwrap(), names);
    }

    proptest! {
        #[test]
        fn a_list_made_of_names_stands_for_them(
            names in prop::collection::vec(("[a-c]{0,2}", 0u32..30, 0usize..4), 0..40)
        ) {
            let names: Vec<String> = names
                .into_iter()
                .map(|(stem, number, width)| match width {
                    3 if !stem.is_empty() => stem,
                    _ => format!("{stem}{number:0width$}"),
                })
                .collect();
            prop_assert_eq!(expand(&compress(&names)).unwrap(), names);
        }

        #[test]
        fn any_text_is_a_list_or_refused(list in "[a-b0-9,\\[\\]\\- é]{0,24}") {
            if let Ok(names) = expand(&list) {
                prop_assert_eq!(expand(&compress(&names)), Ok(names));
            }
        }
    }
}
