//! A case: how a script is called, and what must be there afterwards. `tests/corpus/README.md` says how one is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What stands in `NAME.toml`, beside the script `NAME.sh`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    /// What it shows, for people.
    about: String,
    /// Rows of the reference; read where that is made.
    #[serde(default)]
    proves: Vec<String>,
    /// Programs without which it cannot run.
    #[serde(default)]
    needs: Vec<String>,
    /// Variables of all calls.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Other files that are there before.
    #[serde(default)]
    given: BTreeMap<String, String>,
    /// One after the other.
    #[serde(default)]
    call: Vec<Call>,
    /// Files that are there afterwards, and nothing besides.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The same; their lines may have any order.
    #[serde(default)]
    unordered: BTreeMap<String, String>,
}

/// One line for a shell, and what comes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) run: String,
    #[serde(default)]
    pub(super) stdout: String,
    #[serde(default)]
    pub(super) stderr: String,
    #[serde(default)]
    pub(super) code: i32,
}

/// A case of the corpus.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The script, if it has one.
    pub(super) script: Option<PathBuf>,
    /// Programs without which it cannot run.
    pub(super) needs: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) given: BTreeMap<String, String>,
    pub(super) calls: Vec<Call>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) unordered: BTreeMap<String, String>,
}

/// All cases, by name.
pub(super) fn read_all(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Case {
    let shown = path.display();
    let text = std::fs::read_to_string(path).unwrap();
    let document: Document = toml::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(!document.about.is_empty(), "{shown}: what is it about?");
    assert!(!document.proves.is_empty(), "{shown}: what does it prove?");
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let script = path.with_extension("sh");
    let mut calls = document.call;
    if calls.is_empty() {
        calls.push(Call {
            run: format!("sbatch --wait {name}.sh"),
            stdout: "Submitted batch job {job}\n".to_owned(),
            stderr: String::new(),
            code: 0,
        });
    }
    Case {
        name,
        script: script.exists().then_some(script),
        needs: document.needs,
        env: document.env,
        given: document.given,
        calls,
        files: document.files,
        unordered: document.unordered,
    }
}
