//! Expected text with places: `{job}` is the number that a job got, `{*}` any letters of a line; [`Values::know`] gives the others.

use std::collections::BTreeMap;

/// What stands for any letters of one line.
const ANY: &str = "*";
/// Places whose names begin so are bound to the first number found there.
const JOB: &str = "job";
/// As an element of an array has it, `command::element_number`.
const ELEMENT_DISTANCE: u64 = 1_000_000_000;

/// What places stand for.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<String, String>);

enum Part<'a> {
    Text(&'a str),
    Place(&'a str),
}

impl Values {
    pub(super) fn know(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// The text with values in its places; those that are bound to nothing stay.
    pub(super) fn fill(&self, text: &str) -> String {
        let parts = parts(text).into_iter().map(|part| match part {
            Part::Text(text) => text.to_owned(),
            Part::Place(name) => self.value(name).unwrap_or_else(|| format!("{{{name}}}")),
        });
        parts.collect()
    }

    /// Whether a text is what was expected; binds places for jobs that were not bound.
    pub(super) fn is_match(&mut self, expected: &str, found: &str) -> bool {
        let mut rest = found;
        let mut parts = parts(expected).into_iter().peekable();
        while let Some(part) = parts.next() {
            let place = match part {
                Part::Text(text) => match rest.strip_prefix(text) {
                    Some(after) => {
                        rest = after;
                        continue;
                    }
                    None => return false,
                },
                Part::Place(name) => name,
            };
            if let Some(value) = self.value(place) {
                match rest.strip_prefix(value.as_str()) {
                    Some(after) => rest = after,
                    None => return false,
                }
            } else if place == ANY {
                // up to what is expected next
                let line = rest.find('\n').unwrap_or(rest.len());
                let end = match parts.peek() {
                    Some(Part::Text(next)) => rest.find(next).filter(|&at| at <= line),
                    Some(Part::Place(_)) | None => Some(line),
                };
                match end {
                    Some(end) => rest = &rest[end..],
                    None => return false,
                }
            } else {
                let digits = rest.find(|letter: char| !letter.is_ascii_digit());
                let (number, after) = rest.split_at(digits.unwrap_or(rest.len()));
                if number.is_empty() {
                    return false;
                }
                self.know(place, number);
                rest = after;
            }
        }
        rest.is_empty()
    }

    /// The value of a place; `{job#2}` is the number of its element at index 2.
    fn value(&self, name: &str) -> Option<String> {
        match name.split_once('#') {
            Some((job, index)) => {
                let job: u64 = self.0.get(job)?.parse().ok()?;
                let index: u64 = index.parse().ok()?;
                Some((job + (index + 1) * ELEMENT_DISTANCE).to_string())
            }
            None => self.0.get(name).cloned(),
        }
    }
}

/// The places of a text, and what is between them. Other braces are text.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(at) = rest[from..].find('{').map(|at| at + from) {
        let name = rest[at + 1..].split('}').next().unwrap_or_default();
        if is_place(name) && rest[at + 1 + name.len()..].starts_with('}') {
            parts.push(Part::Text(&rest[..at]));
            parts.push(Part::Place(name));
            rest = &rest[at + name.len() + 2..];
            from = 0;
        } else {
            from = at + 1;
        }
    }
    parts.push(Part::Text(rest));
    parts
}

fn is_place(name: &str) -> bool {
    let is_word = name
        .chars()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '#');
    let known = ["dir", "host", "node", "user", "uid", "gid"];
    name == ANY || is_word && (name.starts_with(JOB) || known.contains(&name))
}

#[test]
fn places_are_bound_once_and_compared_afterwards() {
    let mut values = Values::default();
    values.know("user", "ada");
    assert!(values.is_match("{user}: job {job} of {*}.\n", "ada: job 12 of many, many.\n"));
    assert!(values.is_match("{job}-{job#1}{", "12-2000000012{"));
    assert!(!values.is_match("{job}", "13"));
    assert!(!values.is_match("a {*} b", "a \n b"));
    assert!(!values.is_match("{user}", "adam"));
    assert_eq!(
        values.fill("{job} ${HOME} {jobs} {other}"),
        "12 ${HOME} {jobs} {other}"
    );
}
