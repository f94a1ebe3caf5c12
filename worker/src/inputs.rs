//! Where the inputs of tasks lie: the chunks of an input list as files on shared storage. Pure; `preparation` reads it.

use std::path::PathBuf;

use phalanx_protocol::job::InputTable;
use phalanx_protocol::{BlobId, IndexRange};

/// The chunk files of an input list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputFiles {
    /// Neighbours, the first begins at item 0.
    chunks: Vec<(IndexRange, PathBuf)>,
}

impl InputFiles {
    /// The files of `table`, each where `path` says; `None` if the chunks are not neighbours that begin at item 0.
    pub(crate) fn new(table: &InputTable, path: impl Fn(BlobId) -> PathBuf) -> Option<Self> {
        let mut next = 0;
        let mut chunks = Vec::with_capacity(table.chunks.len());
        for chunk in &table.chunks {
            if chunk.items.start != next || chunk.items.is_empty() {
                return None;
            }
            next = chunk.items.end;
            chunks.push((chunk.items, path(chunk.blob)));
        }
        Some(Self { chunks })
    }

    /// How many items there are.
    pub(crate) fn item_count(&self) -> u64 {
        self.chunks.last().map_or(0, |(items, _)| items.end)
    }

    /// The files that cover `range`, in order; `None` if it goes past the last item.
    pub(crate) fn covering(&self, range: IndexRange) -> Option<Vec<(IndexRange, PathBuf)>> {
        if range.end > self.item_count() {
            return None;
        }
        let first = self.chunks.partition_point(|(items, _)| items.end <= range.start);
        let files = self.chunks[first..]
            .iter()
            .take_while(|(items, _)| items.start < range.end);
        Some(files.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_protocol::job::InputChunk;

    fn table(ranges: &[(u64, u64)]) -> InputTable {
        let chunk = |&(start, end): &(u64, u64)| InputChunk {
            items: IndexRange::new(start, end),
            blob: BlobId([start as u8; 32]),
        };
        InputTable {
            chunks: ranges.iter().map(chunk).collect(),
        }
    }

    fn path(blob: BlobId) -> PathBuf {
        PathBuf::from(blob.0[0].to_string())
    }

    #[test]
    fn a_grant_gets_the_chunks_that_cover_it() {
        let files = InputFiles::new(&table(&[(0, 10), (10, 20), (20, 25)]), path).unwrap();
        let covering = |start, end| {
            let files = files.covering(IndexRange::new(start, end));
            files.map(|files| files.iter().map(|(items, _)| items.start).collect::<Vec<_>>())
        };
        assert_eq!(covering(0, 1), Some(vec![0]));
        assert_eq!(covering(9, 11), Some(vec![0, 10]));
        assert_eq!(covering(10, 20), Some(vec![10]));
        assert_eq!(covering(5, 25), Some(vec![0, 10, 20]));
        assert_eq!(covering(20, 26), None);
    }

    #[test]
    fn a_table_with_a_gap_is_no_table() {
        assert_eq!(InputFiles::new(&table(&[(0, 10), (11, 20)]), path), None);
        assert_eq!(InputFiles::new(&table(&[(1, 10)]), path), None);
        assert_eq!(InputFiles::new(&table(&[]), path).unwrap().item_count(), 0);
    }
}
