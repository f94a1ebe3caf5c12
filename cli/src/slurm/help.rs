//! What `sbatch` and `srun` say about themselves.

use crate::batch::meaning::{Standing, meaning};
use crate::batch::options::{Argument, Command, OptionSpec, of_command};
use crate::batch::settings::Question;

/// Columns before what an option does.
const NAME_COLUMNS: usize = 31;
/// Columns of the names of options that change nothing.
const LINE_COLUMNS: usize = 96;

/// The answer, without the end of its last line.
pub(super) fn answer(command: Command, question: Question) -> String {
    let usage = match command {
        Command::Sbatch => "Usage: sbatch [OPTIONS...] executable [args...]",
        Command::Srun => "Usage: srun [OPTIONS...] executable [args...]",
        Command::Salloc => "Usage: salloc [OPTIONS...] [executable [args...]]",
    };
    match question {
        Question::Usage => usage.to_owned(),
        Question::Version => concat!("phalanx ", env!("CARGO_PKG_VERSION")).to_owned(),
        Question::Help => help(command, usage),
    }
}

fn help(command: Command, usage: &str) -> String {
    let mut lines = vec![usage.to_owned(), String::new()];
    let with = |standing: Standing| {
        of_command(command).filter(move |spec| meaning(command, spec).standing == standing)
    };
    lines.extend(with(Standing::Honoured).map(|spec| line(command, spec)));
    let told: Vec<String> = with(Standing::Warned).map(|spec| line(command, spec)).collect();
    if !told.is_empty() {
        let title = "Accepted, with a warning that they change nothing here:".to_owned();
        lines.extend([String::new(), title]);
        lines.extend(told);
    }
    lines.extend([
        String::new(),
        "Accepted and recorded; they change nothing here:".to_owned(),
    ]);
    let mut row = String::from(" ");
    for spec in with(Standing::Recorded) {
        if row.len() + spec.long.len() + 3 > LINE_COLUMNS {
            lines.push(std::mem::replace(&mut row, String::from(" ")));
        }
        row.push_str(" --");
        row.push_str(spec.long);
    }
    lines.push(row);
    lines.join("\n")
}

fn line(command: Command, spec: &OptionSpec) -> String {
    let short = spec
        .short
        .map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let value = match spec.argument {
        Argument::Flag => "",
        Argument::Required => "=VALUE",
        Argument::Optional => "[=VALUE]",
    };
    let name = format!("{short}--{}{value}", spec.long);
    format!("  {name:<NAME_COLUMNS$}{}", meaning(command, spec).text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_each_option_once_and_no_line_is_wide() {
        for command in [Command::Sbatch, Command::Srun] {
            let text = answer(command, Question::Help);
            let words: Vec<&str> = text
                .split(|letter: char| letter.is_whitespace() || "=[,".contains(letter))
                .collect();
            for spec in of_command(command) {
                let name = format!("--{}", spec.long);
                // a text may name another one besides
                assert!(words.contains(&name.as_str()), "{name}");
            }
            for line in text.lines() {
                assert!(line.len() <= 110, "{line}");
            }
        }
    }
}
