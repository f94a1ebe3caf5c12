//! The file behind `srun --multi-prog`: lines of ranks and the program that they run, as `0-3,7 ./solver %t`.

use std::path::Path;

use super::Program;
use crate::slurm::Complaint;

/// Reads the file.
///
/// # Errors
/// It cannot be read, a line is none, or a rank has no program or two.
pub(super) fn read(path: &Path, ranks: u32) -> Result<Vec<Program>, Complaint> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Complaint::new(format!("cannot read `{}`: {error}", path.display())))?;
    parse(&text, ranks).map_err(|reason| Complaint::new(format!("`{}`: {reason}", path.display())))
}

/// What each of so many ranks runs.
fn parse(text: &str, ranks: u32) -> Result<Vec<Program>, String> {
    let mut programs: Vec<Option<Program>> = vec![None; ranks as usize];
    let mut section = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: String| format!("line {number}: {reason}");
        let words = words(line).map_err(wrong)?;
        let Some((who, program)) = words.split_first().filter(|(_, program)| !program.is_empty()) else {
            return Err(wrong(
                "no program behind the ranks; write it as 0-3 ./solver".to_owned(),
            ));
        };
        for (offset, rank) in (0..).zip(members(who, ranks).map_err(wrong)?) {
            let slot = programs
                .get_mut(rank as usize)
                .ok_or_else(|| wrong(format!("there is no rank {rank} among {ranks}")))?;
            if slot.is_some() {
                return Err(wrong(format!("rank {rank} has a program already")));
            }
            let replaced = |word: &String| {
                word.replace("%t", &rank.to_string())
                    .replace("%o", &u32::to_string(&offset))
            };
            *slot = Some(Program {
                words: program.iter().map(replaced).collect(),
                section,
                ..Program::default()
            });
        }
        section += 1;
    }
    let each = (0..).zip(programs);
    each.map(|(rank, program): (u32, _)| program.ok_or_else(|| format!("rank {rank} has no program")))
        .collect()
}

/// `0-3,7`, or `*` for all.
fn members(text: &str, ranks: u32) -> Result<Vec<u32>, String> {
    if text == "*" {
        return Ok((0..ranks).collect());
    }
    let mut members = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number: Option<u32> = text.parse().ok();
            number.ok_or_else(|| format!("`{text}` is no rank; write ranks as 0-3,7 or *"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if last >= ranks {
            return Err(format!("there is no rank {last} among {ranks}"));
        }
        members.extend(first..=last);
    }
    Ok(members)
}

/// The words of a line; quotes keep blanks together, a backslash keeps the next character as it is.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => word.get_or_insert_default().extend(letters.next()),
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is never closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_by(text: &str, ranks: u32) -> Result<Vec<(u32, String)>, String> {
        let programs = parse(text, ranks)?.into_iter();
        Ok(programs
            .map(|program| (program.section, program.words.join("|")))
            .collect())
    }

    #[test]
    fn each_rank_runs_its_own_program() {
        let text = "\
# a master and its helpers
0      ./master --out 'a b'

1-2,3  ./helper %t:%o \"\"
";
        let expected = [
            (0, "./master|--out|a b"),
            (1, "./helper|1:0|"),
            (1, "./helper|2:1|"),
            (1, "./helper|3:2|"),
        ];
        assert_eq!(
            run_by(text, 4).unwrap(),
            expected.map(|(section, words)| (section, words.to_owned()))
        );
        assert_eq!(run_by("* hostname", 2).unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let said = |text: &str| run_by(text, 3).unwrap_err();
        assert_eq!(
            said("0-2"),
            "line 1: no program behind the ranks; write it as 0-3 ./solver"
        );
        assert_eq!(said("\n0,5 ./a"), "line 2: there is no rank 5 among 3");
        assert_eq!(said("a ./b"), "line 1: `a` is no rank; write ranks as 0-3,7 or *");
        assert_eq!(said("0 ./a\n0-1 ./b"), "line 2: rank 0 has a program already");
        assert_eq!(said("0-1 ./a"), "rank 2 has no program");
        assert_eq!(said("* 'a"), "line 1: a ' is never closed");
    }
}
