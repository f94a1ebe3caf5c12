//! The file of `srun --multi-prog`: which ranks run which program.
//!
//! ```text
//! # ranks   program
//! 0         ./master --port 1
//! 1-3,7     ./worker --rank %t --number %o
//! *         ./idle
//! ```

use super::directives::split_words;

/// Which rank runs what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs(Vec<Program>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    /// First and last rank of each part; all that nobody else has if absent.
    ranks: Option<Vec<(u32, u32)>>,
    /// The program and its arguments.
    words: Vec<String>,
}

/// Why a file says of no rank what it runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProgramsError {
    #[error("line {line}: `{ranks}` are no ranks; they are written 0, 1-3, 0,4-7 or *")]
    Ranks { line: usize, ranks: String },
    #[error("line {line} names no program behind its ranks")]
    NoProgram { line: usize },
    #[error("line {line}: a {quote} is not closed")]
    OpenQuote { line: usize, quote: char },
}

impl Programs {
    /// Reads such a file; a backslash at the end of a line joins the next one to it.
    ///
    /// # Errors
    ///
    /// See [`ProgramsError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ProgramsError> {
        let mut programs = Vec::new();
        let mut joined = String::new();
        for (line, text) in (1..).zip(text.lines()) {
            joined.push_str(text);
            if joined.ends_with('\\') {
                joined.pop();
                continue;
            }
            let words = split_words(&std::mem::take(&mut joined));
            let words = words.map_err(|quote| ProgramsError::OpenQuote { line, quote })?;
            let mut words = words.into_iter();
            let Some(ranks) = words.next() else { continue };
            let words: Vec<String> = words.collect();
            if words.is_empty() {
                return Err(ProgramsError::NoProgram { line });
            }
            let ranks = match ranks.as_str() {
                "*" => None,
                _ => Some(read_ranks(&ranks).ok_or(ProgramsError::Ranks { line, ranks })?),
            };
            programs.push(Program { ranks, words });
        }
        Ok(Self(programs))
    }

    /// The program of a rank with its arguments, in which `%t` is the rank and `%o` its place among those of its line.
    pub(crate) fn of(&self, rank: u32) -> Option<Vec<String>> {
        let named = self
            .0
            .iter()
            .find_map(|program| Some((program, program.place(rank)?)));
        let (program, place) = named.or_else(|| {
            let rest = self.0.iter().find(|program| program.ranks.is_none())?;
            let others =
                (0..rank).filter(|&other| !self.0.iter().any(|program| program.place(other).is_some()));
            Some((rest, others.count()))
        })?;
        let fill = |word: &String| {
            word.replace("%t", &rank.to_string())
                .replace("%o", &place.to_string())
        };
        Some(program.words.iter().map(fill).collect())
    }
}

impl Program {
    /// How many of its ranks are before this one, if it has this one.
    fn place(&self, rank: u32) -> Option<usize> {
        let mut before = 0;
        for &(first, last) in self.ranks.as_deref()? {
            if (first..=last).contains(&rank) {
                return Some(before + (rank - first) as usize);
            }
            before += (last - first) as usize + 1;
        }
        None
    }
}

/// `0`, `1-3`, `0,4-7`.
fn read_ranks(text: &str) -> Option<Vec<(u32, u32)>> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some((first, last))
    };
    text.split(',').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, rank: u32) -> Option<String> {
        Some(Programs::parse(text).unwrap().of(rank)?.join("|"))
    }

    #[test]
    fn each_rank_has_the_program_of_its_line() {
        let text =
            "# ranks\n0 ./master 'a b'  # the first\n\n1-2,5 ./worker %t \\\n  -n %o\n* ./rest %o %t\n";
        for (rank, expected) in [
            (0, "./master|a b"),
            (1, "./worker|1|-n|0"),
            (2, "./worker|2|-n|1"),
            (5, "./worker|5|-n|2"),
            (3, "./rest|0|3"),
            (6, "./rest|2|6"),
        ] {
            assert_eq!(of(text, rank).as_deref(), Some(expected), "{rank}");
        }
        assert_eq!(of("0-1 true", 2), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line) in [
            ("0 a\n2-1 b", 2),
            ("x b", 1),
            ("-1 b", 1),
            ("\n\n0", 3),
            ("0 'a", 1),
            ("1,,2 b", 1),
        ] {
            let error = Programs::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line}")), "{text}: {error}");
        }
    }
}
