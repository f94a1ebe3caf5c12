//! What the cases of the corpus prove, as they say.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::options::{Command, OptionSpec, by_long, by_short};

/// Rows, and the cases that prove them, by name.
pub(super) struct Claims {
    by_row: BTreeMap<String, Vec<String>>,
    /// What a case claims without a word of it.
    empty: Vec<String>,
}

impl Claims {
    pub(super) fn read() -> Self {
        let folder = super::folder().join("tests/corpus");
        let mut claims = Self {
            by_row: BTreeMap::new(),
            empty: Vec::new(),
        };
        let paths = std::fs::read_dir(&folder).unwrap();
        let mut paths: Vec<_> = paths.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let document: toml::Table = text.parse().unwrap();
            let case = path.file_stem().unwrap().to_string_lossy().into_owned();
            let mut said = std::fs::read_to_string(path.with_extension("sh")).unwrap_or_default();
            for key in ["env", "given", "call"] {
                if let Some(value) = document.get(key) {
                    said.push_str(&value.to_string());
                }
            }
            if !document.contains_key("call") {
                said.push_str("sbatch --wait");
            }
            for claim in document["proves"].as_array().unwrap() {
                let claim = claim.as_str().unwrap();
                if !is_said(claim, &said) {
                    claims.empty.push(format!("{case} has no word of `{claim}`"));
                }
                let cases = claims.by_row.entry(row_of(claim)).or_default();
                if !cases.contains(&case) {
                    cases.push(case.clone());
                }
            }
        }
        claims
    }

    pub(super) fn of(&self, row: &str) -> &[String] {
        self.by_row.get(row).map_or(&[], Vec::as_slice)
    }

    /// All cases, in order.
    pub(super) fn cases(&self) -> BTreeSet<&String> {
        self.by_row.values().flatten().collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.by_row.keys()
    }

    pub(super) fn empty_words(&self) -> impl Iterator<Item = String> {
        self.empty.iter().cloned()
    }
}

/// The command and the option that a claim is about, if it is about one.
fn option(claim: &str) -> Option<(Command, &str)> {
    match claim.strip_prefix("srun ") {
        Some(rest) => rest.starts_with('-').then_some((Command::Srun, rest)),
        None => claim.starts_with('-').then_some((Command::Sbatch, claim)),
    }
}

fn spec(command: Command, name: &str) -> Option<&'static OptionSpec> {
    match name.strip_prefix("--") {
        Some(long) => by_long(command, long),
        None => by_short(command, name.chars().nth(1)?),
    }
}

/// The row of a claim: options by their long names.
fn row_of(claim: &str) -> String {
    let Some((command, name)) = option(claim) else {
        return claim.to_owned();
    };
    let long = spec(command, name).map_or(name.trim_start_matches('-'), |spec| spec.long);
    match command {
        Command::Srun => format!("srun --{long}"),
        Command::Sbatch | Command::Salloc => format!("--{long}"),
    }
}

/// Whether a case has the word that it claims; what is no word of Slurm's but a sentence about it is not looked for.
fn is_said(claim: &str, said: &str) -> bool {
    if claim.contains(": ") {
        return true;
    }
    if let Some((command, name)) = option(claim) {
        let spec = spec(command, name);
        let short = spec.and_then(|spec| spec.short);
        let short = short.is_some_and(|letter| said.contains(&format!(" -{letter}")));
        return short || spec.is_some_and(|spec| said.contains(&format!("--{}", spec.long)));
    }
    if let Some(rest) = claim.strip_prefix("PBS ") {
        return rest.split(' ').all(|word| said.contains(word)) && said.contains("#PBS");
    }
    // a digit may stand between the sign and the letter
    let is_pattern = claim.starts_with('%') && claim.len() == 2;
    if is_pattern {
        let letter = &claim[1..];
        let mut parts = said.split('%').skip(1);
        return said.contains(claim)
            || parts.any(|part| {
                part.trim_start_matches(|digit: char| digit.is_ascii_digit())
                    .starts_with(letter)
            });
    }
    said.contains(claim.trim_start_matches("srun "))
}
