//! `docs/reference/slurm.md`: what Slurm's words do here, made from the options themselves, the tables in [`rows`], and what
//! the cases of `tests/corpus` prove. `BLESS=1 cargo test -p phalanx-cli reference` writes it anew.

mod claims;
mod rows;

use std::fmt::Write;
use std::path::PathBuf;

use self::claims::Claims;
use self::rows::{Here, Row, Section};

/// No more cases are named in one row.
const CASES_SHOWN_MAX: usize = 3;

const HEAD: &str = "\
# Slurm's words, and what they do here

Batch scripts run as they are. This page lists each word that they and their callers use, what becomes of it, and which scripts of
the [corpus](../../cli/tests/corpus) show it: these are run for real by the tests, and this page is made from them. The words mean:

- **yes**: as under Slurm, but for what is said;
- **recorded**: accepted; it changes nothing here, and is kept with the job where there is one;
- **told**: accepted with a warning that it changes nothing;
- **refused**: an error with a reason;
- **not there**.

*No case*: no script of the corpus shows it; other tests do.
";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(sections: &[Section], claims: &Claims) -> String {
    let mut page = HEAD.to_owned();
    for section in sections {
        let _ = write!(page, "\n## {}\n\n", section.title);
        if !section.text.is_empty() {
            let _ = write!(page, "{}\n\n", section.text);
        }
        page.push_str("| | here | | shown by |\n|---|---|---|---|\n");
        for row in &section.rows {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} |",
                row.shown,
                row.here.word(),
                row.text.replace('|', "\\|"),
                shown_by(row, claims)
            );
        }
    }
    page.push('\n');
    for case in claims.cases() {
        let _ = writeln!(page, "[{case}]: ../../cli/tests/corpus/{case}.toml");
    }
    page
}

fn shown_by(row: &Row, claims: &Claims) -> String {
    let cases = claims.of(&row.name);
    if cases.is_empty() {
        return if row.here == Here::Yes { "*no case*" } else { "" }.to_owned();
    }
    let shown = cases.iter().take(CASES_SHOWN_MAX);
    shown
        .map(|case| format!("[{case}]"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn each_row_that_is_honoured_is_shown_by_a_case() {
    let sections = rows::all();
    let claims = Claims::read();
    let mut wrong = Vec::new();
    for row in sections.iter().flat_map(|section| &section.rows) {
        let is_open = rows::WITHOUT_CASE.contains(&row.name.as_str());
        match (row.here, claims.of(&row.name).is_empty(), is_open) {
            (Here::Yes, true, false) => wrong.push(format!("no case proves `{}`", row.name)),
            (_, false, true) => wrong.push(format!("a case proves `{}`; it is no more without", row.name)),
            (Here::Absent, false, false) => wrong.push(format!("`{}` is proven, and not there", row.name)),
            (_, _, _) => {}
        }
    }
    let known: Vec<&String> = sections
        .iter()
        .flat_map(|section| section.rows.iter().map(|row| &row.name))
        .collect();
    for name in claims.names().filter(|name| !known.contains(name)) {
        wrong.push(format!("`{name}` is proven by {:?}, and no row", claims.of(name)));
    }
    for name in rows::WITHOUT_CASE {
        if !known.iter().any(|known| known == name) {
            wrong.push(format!("`{name}` has no case and no row"));
        }
    }
    wrong.extend(claims.empty_words());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reference_says_what_the_tables_and_the_corpus_say() {
    let path = folder().join("../docs/reference/slurm.md");
    let page = page(&rows::all(), &Claims::read());
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let different = page
        .lines()
        .zip(written.lines())
        .find(|(line, written)| line != written);
    assert!(
        written == page,
        "docs/reference/slurm.md is not up to date: BLESS=1 cargo test -p phalanx-cli reference writes it. The first difference \
         (or its length): {different:#?}"
    );
}
