//! The directives of a batch script: its `#SBATCH`, `#PBS` and `#PHALANX` lines, as words. What the words mean is not known
//! here; the script itself is not changed.

use std::fmt;

/// No more remarks than this are made about one script.
const REMARKS_MAX: usize = 20;

/// Whose words a directive is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `#SBATCH`
    Slurm,
    /// `#PBS`
    Pbs,
    /// `#PHALANX`: the same options as `#SBATCH`, which only we read.
    Phalanx,
}

const MARKS: [(&[u8], Dialect); 3] = [
    (b"#SBATCH", Dialect::Slurm),
    (b"#PBS", Dialect::Pbs),
    (b"#PHALANX", Dialect::Phalanx),
];

/// One line of directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    /// Its number in the file, from 1.
    pub(crate) line: usize,
    pub(crate) dialect: Dialect,
    /// Without quotes and comments.
    pub(crate) words: Vec<String>,
}

/// What is said about a script that runs all the same, or that must not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remark {
    /// Its first line does not say what runs it.
    NoShebang,
    /// Lines end as on Windows, from this one on.
    CarriageReturns { line: usize },
    /// A directive that stands behind the first command.
    AfterFirstCommand { line: usize, mark: &'static str },
    /// A directive that does not begin its line.
    Indented { line: usize, mark: &'static str },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShebang => {
                f.write_str("line 1 does not say what runs the script; begin it with #!/bin/bash")
            }
            Self::CarriageReturns { line } => write!(
                f,
                "line {line} ends with a carriage return, as on Windows; bash takes it as part of the line: \
                 remove them with sed -i 's/\\r$//' FILE"
            ),
            Self::AfterFirstCommand { line, mark } => write!(
                f,
                "line {line} comes after the first command and is not read; move {mark} lines to the top"
            ),
            Self::Indented { line, mark } => {
                write!(
                    f,
                    "line {line} is indented and is not read; {mark} must begin its line"
                )
            }
        }
    }
}

/// What a script says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// What its first line says runs it: `/bin/bash -l`.
    pub(crate) interpreter: Option<String>,
    /// In the order of the lines.
    pub(crate) directives: Vec<Directive>,
    /// The first few.
    pub(crate) remarks: Vec<Remark>,
}

/// Why a line of directives cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DirectiveError {
    #[error(
        "line {line} of the script: a {quote} is not closed; add the second one, or write \\{quote} for the sign itself"
    )]
    OpenQuote { line: usize, quote: char },
    #[error("line {line} of the script is not UTF-8; write its values in UTF-8 or plain ASCII")]
    NotUtf8 { line: usize },
}

/// Reads the directives of a script: those before its first line that is neither blank nor a comment.
///
/// # Errors
///
/// A directive has a quote that is not closed, or is not UTF-8; other lines may be any bytes.
pub(crate) fn read_directives(script: &[u8]) -> Result<Directives, DirectiveError> {
    let mut found = Directives {
        interpreter: interpreter(script),
        ..Directives::default()
    };
    if found.interpreter.is_none() {
        found.remark(Remark::NoShebang);
    }
    let lines = || (1..).zip(script.split(|&byte| byte == b'\n'));
    if let Some((line, _)) = lines().find(|(_, text)| text.ends_with(b"\r")) {
        found.remark(Remark::CarriageReturns { line });
    }
    let mut commands_began = false;
    let mut here_document: Option<Vec<u8>> = None;
    for (line, text) in lines() {
        let text = text.trim_ascii_end();
        if let Some(end) = &here_document {
            if text.trim_ascii_start() == end {
                here_document = None;
            }
            continue;
        }
        match directive(text) {
            Some((_, mark, _)) if commands_began => found.remark(Remark::AfterFirstCommand { line, mark }),
            Some((dialect, _, words)) => {
                let words = std::str::from_utf8(words).map_err(|_| DirectiveError::NotUtf8 { line })?;
                let words = split_words(words).map_err(|quote| DirectiveError::OpenQuote { line, quote })?;
                found.directives.push(Directive { line, dialect, words });
            }
            None => {
                let indented = text.trim_ascii_start();
                if let (false, Some((_, mark, _))) = (commands_began, directive(indented)) {
                    found.remark(Remark::Indented { line, mark });
                }
                let is_command = !indented.is_empty() && !indented.starts_with(b"#");
                commands_began |= is_command;
                if is_command {
                    here_document = here_document_end(text);
                }
            }
        }
    }
    Ok(found)
}

impl Directives {
    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }
}

/// What the first line says runs the script.
fn interpreter(script: &[u8]) -> Option<String> {
    let first = script.strip_prefix(b"#!")?;
    let line = first.split(|&byte| byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
    (!text.is_empty()).then_some(text)
}

/// The dialect of a line of directives, its mark, and what stands behind it.
fn directive(line: &[u8]) -> Option<(Dialect, &'static str, &[u8])> {
    MARKS.iter().find_map(|&(mark, dialect)| {
        let words = line.strip_prefix(mark)?;
        let ends = words
            .first()
            .is_none_or(|next| next.is_ascii_whitespace() || *next == b'-');
        let mark = match dialect {
            Dialect::Slurm => "#SBATCH",
            Dialect::Pbs => "#PBS",
            Dialect::Phalanx => "#PHALANX",
        };
        ends.then_some((dialect, mark, words))
    })
}

/// Splits a line into words as a shell does: quotes and backslashes, a `#` that begins a word ends the line; `$` is a
/// letter like any other.
///
/// # Errors
///
/// The quote that is not closed.
pub(crate) fn split_words(line: &str) -> Result<Vec<String>, char> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '#' if word.is_none() => break,
            '\'' => {
                let word = word.get_or_insert_default();
                word.push_str(&quoted(&mut letters, '\'')?);
            }
            '"' => {
                let word = word.get_or_insert_default();
                word.push_str(&quoted(&mut letters, '"')?);
            }
            // one at the end of the line is itself
            '\\' => word.get_or_insert_default().push(letters.next().unwrap_or('\\')),
            _ if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// What stands before the second quote; within double ones a backslash keeps quotes and itself from their meaning.
fn quoted(letters: &mut std::str::Chars<'_>, quote: char) -> Result<String, char> {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            _ if letter == quote => return Ok(text),
            '\\' if quote == '"' => match letters.next() {
                Some(next @ ('"' | '\\')) => text.push(next),
                Some(next) => text.extend(['\\', next]),
                None => break,
            },
            _ => text.push(letter),
        }
    }
    Err(quote)
}

/// The line that ends the text which a command is given on the lines after it (`<<EOF`): scripts that write scripts have
/// directives there that are not theirs.
fn here_document_end(command: &[u8]) -> Option<Vec<u8>> {
    let at = command.windows(2).position(|pair| pair == b"<<")?;
    let rest = &command[at + 2..];
    if rest.starts_with(b"<") {
        return None;
    }
    let rest = rest.strip_prefix(b"-").unwrap_or(rest).trim_ascii_start();
    let word: Vec<u8> = rest
        .iter()
        .copied()
        .take_while(|&byte| !byte.is_ascii_whitespace() && !b";|&><)".contains(&byte))
        .filter(|byte| !b"'\"\\".contains(byte))
        .collect();
    let begins = word
        .first()
        .is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_');
    begins.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(script: &str) -> Directives {
        read_directives(script.as_bytes()).unwrap()
    }

    /// The directives as `line: word|word`.
    fn lines(script: &str) -> Vec<String> {
        let line = |directive: Directive| format!("{}: {}", directive.line, directive.words.join("|"));
        read(script).directives.into_iter().map(line).collect()
    }

    #[test]
    fn directives_end_at_the_first_command() {
        let script = "#!/bin/bash\n\n#SBATCH -n 4\n# a comment\n   \n##SBATCH -n 5\n# SBATCH -n 6\n#SBATCH\t--time=5\n\
                      echo\n#SBATCH -N 2\n";
        assert_eq!(lines(script), ["3: -n|4", "8: --time=5"]);
        let remarks = read(script).remarks;
        let mark = "#SBATCH";
        assert_eq!(remarks, [Remark::AfterFirstCommand { line: 10, mark }]);
        assert_eq!(
            remarks[0].to_string(),
            "line 10 comes after the first command and is not read; move #SBATCH lines to the top"
        );
    }

    #[test]
    fn each_dialect_has_its_mark() {
        let script = "#!/bin/sh\n#PBS -N x\n#SBATCH -J y\n#PHALANX --nice=1\n#SBATCHES -J z\n#SBATCH-n4\n";
        let found: Vec<(Dialect, String)> = read(script)
            .directives
            .into_iter()
            .map(|directive| (directive.dialect, directive.words.join(" ")))
            .collect();
        let expected = [
            (Dialect::Pbs, "-N x"),
            (Dialect::Slurm, "-J y"),
            (Dialect::Phalanx, "--nice=1"),
            (Dialect::Slurm, "-n4"),
        ];
        assert_eq!(
            found,
            expected.map(|(dialect, words)| (dialect, words.to_owned()))
        );
    }

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, words) in [
            ("-t 5   # five minutes", "-t|5"),
            ("--job-name=a#b", "--job-name=a#b"),
            ("-n 4 -N 2 --mem=1G", "-n|4|-N|2|--mem=1G"),
            ("--job-name=\"two words\"", "--job-name=two words"),
            ("--job-name='two # words' # x", "--job-name=two # words"),
            ("--comment \"a \\\"b\\\" \\\\ \\n\"", "--comment|a \"b\" \\ \\n"),
            ("--output=$HOME/%j-${USER}.out", "--output=$HOME/%j-${USER}.out"),
            ("--comment=a\\ b", "--comment=a b"),
            ("-J ''", "-J|"),
            ("--wrap 'a'\"b\"c", "--wrap|abc"),
            ("-J Übung", "-J|Übung"),
            ("trailing\\", "trailing\\"),
            ("#", ""),
            ("", ""),
        ] {
            assert_eq!(split_words(line).unwrap().join("|"), words, "{line}");
        }
        assert_eq!(split_words("-J ''").unwrap().len(), 2);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_told_with_its_line() {
        let read = |line: &str| read_directives(format!("#!/bin/sh\n#SBATCH {line}\n").as_bytes());
        assert_eq!(
            read("-J \"a"),
            Err(DirectiveError::OpenQuote { line: 2, quote: '"' })
        );
        assert_eq!(
            read("-J it's").unwrap_err().to_string(),
            "line 2 of the script: a ' is not closed; add the second one, or write \\' for the sign itself"
        );
        assert!(read("-J x # it's").is_ok());
    }

    #[test]
    fn windows_line_ends_are_read_and_told() {
        let found = read("#!/bin/bash\r\n#SBATCH -n 4\r\n\r\n#SBATCH -J x # y\r\necho\r\n");
        let words: Vec<String> = found
            .directives
            .iter()
            .map(|found| found.words.join("|"))
            .collect();
        assert_eq!(words, ["-n|4", "-J|x"]);
        assert_eq!(found.remarks, [Remark::CarriageReturns { line: 1 }]);
        assert_eq!(found.interpreter.as_deref(), Some("/bin/bash"));
    }

    #[test]
    fn what_runs_the_script_is_told_or_missed() {
        for (script, interpreter) in [
            ("#!/bin/bash -l\n", Some("/bin/bash -l")),
            ("#! /usr/bin/env bash\n", Some("/usr/bin/env bash")),
            ("#!/bin/bash", Some("/bin/bash")),
            ("#!\n", None),
            ("\n#!/bin/bash\n", None),
            ("#SBATCH -n 4\necho\n", None),
            ("", None),
        ] {
            let found = read(script);
            assert_eq!(found.interpreter.as_deref(), interpreter, "{script}");
            assert_eq!(found.remarks.contains(&Remark::NoShebang), interpreter.is_none());
        }
        assert_eq!(lines("#SBATCH -n 4\n"), ["1: -n|4"]);
    }

    #[test]
    fn an_indented_directive_is_a_comment_and_told() {
        let found = read("#!/bin/sh\n  #SBATCH -n 4\n#SBATCH -J x\n");
        let mark = "#SBATCH";
        assert_eq!(found.remarks, [Remark::Indented { line: 2, mark }]);
        assert_eq!(found.directives.len(), 1);
    }

    #[test]
    fn a_script_that_writes_a_script_is_left_alone() {
        for begin in [
            "cat > job.sh <<EOF",
            "cat <<-'EOF' > job.sh",
            "sbatch << \"EOF\"",
            "a <<\\EOF | b",
        ] {
            let script = format!("#!/bin/sh\n{begin}\n#!/bin/bash\n#SBATCH -n 4\n\tEOF\n#SBATCH -n 5\n");
            let mark = "#SBATCH";
            assert_eq!(
                read(&script).remarks,
                [Remark::AfterFirstCommand { line: 6, mark }],
                "{begin}"
            );
        }
        for command in ["wc <<< EOF", "echo $((1 << 3))", "a << 5"] {
            let script = format!("#!/bin/sh\n{command}\n#SBATCH -n 4\n");
            assert_eq!(read(&script).remarks.len(), 1, "{command}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_matter_in_directives_only() {
        let script = b"#!/bin/sh\n# caf\xe9\n#SBATCH -n 4\necho \xff\n";
        assert_eq!(read_directives(script).unwrap().directives.len(), 1);
        assert_eq!(
            read_directives(b"#!/bin/sh\n#SBATCH -J caf\xe9\n"),
            Err(DirectiveError::NotUtf8 { line: 2 })
        );
    }

    #[test]
    fn remarks_about_a_script_are_few() {
        let script = format!("echo\n{}", "#SBATCH -n 4\n".repeat(1000));
        assert_eq!(read(&script).remarks.len(), REMARKS_MAX);
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[a-z $#'\\\\=]{0,8}", 0..6)) {
            let line: Vec<String> =
                words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\"))).collect();
            prop_assert_eq!(split_words(&line.join(" ")), Ok(words));
        }

        #[test]
        fn any_bytes_are_a_script_or_refused(script in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_directives(&[b"#SBATCH ", script.as_slice()].concat());
        }
    }
}
