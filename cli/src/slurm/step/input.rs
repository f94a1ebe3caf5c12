//! What the ranks of a step read: nothing, files, or what this process is given, which goes to all of them or to one.

use std::convert::Infallible;

use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use super::far::FarInput;
use crate::batch::settings::BatchSettings;
use crate::commands::run::input::Input;

/// Where the input of the ranks comes from: `--input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::slurm) enum Source<'a> {
    /// `none`.
    Empty,
    /// Files, by the pattern of their names.
    Files(&'a str),
    /// This process's own, for each rank all of it: `all`, and if nothing is said.
    ToAll,
    /// The same for one rank, by its number; a file, if there is no such rank.
    ToOne(u32, &'a str),
}

/// What one rank reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads<'a> {
    Nothing,
    /// A file, by the pattern of its name.
    File(&'a str),
    /// What this process is given, and nobody else does.
    All,
    /// A copy of it.
    Copy,
}

impl<'a> Source<'a> {
    pub(in crate::slurm) fn of(settings: &'a BatchSettings) -> Self {
        match settings.input.as_deref() {
            None | Some("all") => Self::ToAll,
            Some("none") => Self::Empty,
            Some(text) => text
                .parse()
                .map_or(Self::Files(text), |rank| Self::ToOne(rank, text)),
        }
    }

    /// What a rank of so many reads.
    pub(super) fn for_rank(self, rank: u32, ranks: usize) -> Reads<'a> {
        match self {
            Self::Empty => Reads::Nothing,
            Self::Files(pattern) => Reads::File(pattern),
            Self::ToAll if ranks == 1 => Reads::All,
            Self::ToAll => Reads::Copy,
            Self::ToOne(one, _) if one == rank => Reads::All,
            Self::ToOne(one, _) if (one as usize) < ranks => Reads::Nothing,
            Self::ToOne(_, name) => Reads::File(name),
        }
    }
}

/// What one rank reads from.
#[derive(Debug)]
pub(super) enum Reader {
    Here(ChildStdin),
    There(FarInput),
}

impl Reader {
    /// Gives it all of that; whether it still reads.
    pub(super) async fn write_all(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::Here(stdin) => stdin.write_all(piece).await.is_ok(),
            Self::There(input) => input.write_all(piece).await,
        }
    }
}

/// Copies what this process is given to several ranks. The slowest sets the pace; who reads no more is left out.
#[derive(Debug, Default)]
pub(super) struct Broadcast {
    readers: Vec<Reader>,
}

impl Broadcast {
    /// Takes in a rank that has just been started and reads a copy.
    pub(super) fn add(&mut self, reader: Reader) {
        self.readers.push(reader);
    }

    /// Copies until all is copied, or nobody reads any more; then waits for ever. Dropped, it stops.
    pub(super) async fn run(mut self) -> Infallible {
        if !self.readers.is_empty() {
            let mut input = Input::start();
            // what cannot be read is at its end
            while let Ok(piece) = input.next().await {
                if piece.is_empty() || self.readers.is_empty() {
                    break;
                }
                let mut left = Vec::with_capacity(self.readers.len());
                for mut reader in self.readers.drain(..) {
                    if reader.write_all(&piece).await {
                        left.push(reader);
                    }
                }
                self.readers = left;
            }
            // the end of the input
            self.readers.clear();
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(input: Option<&str>, rank: u32, ranks: usize) -> String {
        let settings = BatchSettings {
            input: input.map(str::to_owned),
            ..BatchSettings::default()
        };
        format!("{:?}", Source::of(&settings).for_rank(rank, ranks))
    }

    #[test]
    fn each_rank_reads_a_copy_unless_it_is_said_who_reads_what() {
        for (input, rank, ranks, expected) in [
            (None, 0, 1, "All"),
            (None, 1, 2, "Copy"),
            (Some("all"), 0, 2, "Copy"),
            (Some("none"), 0, 1, "Nothing"),
            (Some("1"), 1, 2, "All"),
            (Some("1"), 0, 2, "Nothing"),
            (Some("7"), 0, 2, "File(\"7\")"),
            (Some("in.%t"), 0, 2, "File(\"in.%t\")"),
        ] {
            assert_eq!(reads(input, rank, ranks), expected, "{input:?} {rank} {ranks}");
        }
    }
}
