//! Reads the words of those commands whose options are no job's, so that clap can: each declares its own. The options of
//! `sbatch`, `srun` and `salloc` are in [`crate::batch::options`].

use clap::Parser;
use clap::error::ErrorKind;

use super::{Complaint, Name};
use crate::ui::print_line;

/// What the words say; none if they only asked for help or the version, which is printed.
///
/// # Errors
///
/// What clap has to say about them, in Slurm's form.
pub(super) fn read<T: Parser>(name: Name, words: &[String]) -> Result<Option<T>, Complaint> {
    let all = std::iter::once(name.text()).chain(words.iter().map(String::as_str));
    let error = match T::try_parse_from(all) {
        Ok(arguments) => return Ok(Some(arguments)),
        Err(error) => error,
    };
    let text = error.render().to_string();
    // the kinds are clap's, and it may have more one day
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print_line(text.trim_end())?;
        return Ok(None);
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Err(Complaint {
        lines: lines.map(str::to_owned).collect(),
        code: 1,
    })
}

/// The parts of lists between commas, of all words together, without blanks and empty ones.
pub(super) fn parts(lists: &[String]) -> impl Iterator<Item = &str> {
    let parts = lists.iter().flat_map(|list| list.split(','));
    parts.map(str::trim).filter(|part| !part.is_empty())
}
