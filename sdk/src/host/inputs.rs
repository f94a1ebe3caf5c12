//! Inputs of tasks that are items of a list: files in which each item is its length (`u32`, little-endian) and its
//! bytes. A file is read once and its items found once; a few files are kept, since grants and slots share them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use phalanx_protocol::range::IndexRange;

use super::lock;

/// Files that a job keeps in memory; each holds about [`phalanx_protocol::limits::INPUT_CHUNK_BYTES`].
const FILES_KEPT_MAX: usize = 16;

/// Items of a list, in memory.
#[derive(Debug)]
pub(crate) struct ItemFile {
    items: IndexRange,
    bytes: Vec<u8>,
    /// Where each item's bytes begin and end; of all items before the first that is damaged.
    places: Vec<(usize, usize)>,
    /// Why there are no more.
    damage: Option<String>,
}

impl ItemFile {
    /// Reads a file that should hold `items`. What is wrong with it becomes the error of the items concerned.
    fn read(items: IndexRange, path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(items, bytes),
            Err(error) => Self {
                items,
                bytes: Vec::new(),
                places: Vec::new(),
                damage: Some(format!("the input file cannot be read: {error}")),
            },
        }
    }

    fn parse(items: IndexRange, bytes: Vec<u8>) -> Self {
        let mut places = Vec::new();
        let mut damage = None;
        let mut offset = 0;
        while (places.len() as u64) < items.len() {
            let Some((start, end)) = place(&bytes, offset) else {
                damage = Some(format!("the input file ends or is damaged at byte {offset}"));
                break;
            };
            places.push((start, end));
            offset = end;
        }
        if damage.is_none() && offset < bytes.len() {
            damage = Some(format!(
                "{} bytes follow the last item of the input file",
                bytes.len() - offset
            ));
            // the items are not those that were meant
            places.clear();
        }
        Self {
            items,
            bytes,
            places,
            damage,
        }
    }

    /// The bytes of the item of task `index`.
    ///
    /// # Errors
    /// What is wrong with the file, with the item's number.
    pub(crate) fn item(&self, index: u64) -> Result<&[u8], String> {
        let position = index
            .checked_sub(self.items.start)
            .and_then(|position| usize::try_from(position).ok());
        let place = position.and_then(|position| self.places.get(position));
        place
            .and_then(|&(start, end)| self.bytes.get(start..end))
            .ok_or_else(|| {
                let damage = self
                    .damage
                    .as_deref()
                    .unwrap_or("the input file does not hold it");
                format!("item {index}: {damage}")
            })
    }
}

/// Where the item whose length field begins at `offset` begins and ends.
fn place(bytes: &[u8], offset: usize) -> Option<(usize, usize)> {
    let (len, _) = bytes.get(offset..)?.split_first_chunk::<4>()?;
    let start = offset + 4;
    let end = start.checked_add(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    (end <= bytes.len()).then_some((start, end))
}

/// The files of one job that were read last.
#[derive(Debug, Default)]
pub(crate) struct ItemFiles {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    path: PathBuf,
    items: IndexRange,
    file: Arc<OnceLock<Arc<ItemFile>>>,
}

impl ItemFiles {
    /// The file at `path`, read unless it is at hand; slots that want the same one wait for one read.
    pub(crate) fn get(&self, items: IndexRange, path: &Path) -> Arc<ItemFile> {
        let file = self.keep(items, path);
        Arc::clone(file.get_or_init(|| Arc::new(ItemFile::read(items, path))))
    }

    fn keep(&self, items: IndexRange, path: &Path) -> Arc<OnceLock<Arc<ItemFile>>> {
        let mut kept = lock(&self.kept);
        let found = kept
            .iter()
            .position(|kept| kept.path == path && kept.items == items);
        let entry = found
            .and_then(|position| kept.remove(position))
            .unwrap_or_else(|| Kept {
                path: path.to_owned(),
                items,
                file: Arc::default(),
            });
        let file = Arc::clone(&entry.file);
        kept.push_back(entry);
        if kept.len() > FILES_KEPT_MAX {
            kept.pop_front();
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(items: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for item in items {
            bytes.extend((item.len() as u32).to_le_bytes());
            bytes.extend(*item);
        }
        bytes
    }

    #[test]
    fn items_are_found_by_index() {
        let file = ItemFile::parse(IndexRange::new(5, 8), encoded(&[b"ab", b"", b"c"]));
        assert_eq!(file.item(5).unwrap(), b"ab");
        assert_eq!(file.item(6).unwrap(), b"");
        assert_eq!(file.item(7).unwrap(), b"c");
        assert!(file.item(4).is_err() && file.item(8).is_err());
    }

    #[test]
    fn a_damaged_file_fails_only_the_items_behind_the_damage() {
        let mut bytes = encoded(&[b"ab"]);
        bytes.extend(u32::MAX.to_le_bytes());
        let file = ItemFile::parse(IndexRange::new(0, 3), bytes);
        assert_eq!(file.item(0).unwrap(), b"ab");
        let error = file.item(2).unwrap_err();
        assert_eq!(error, "item 2: the input file ends or is damaged at byte 6");
    }

    #[test]
    fn a_file_with_too_many_items_is_not_the_one_that_was_meant() {
        let file = ItemFile::parse(IndexRange::new(0, 1), encoded(&[b"ab", b"c"]));
        assert!(file.item(0).unwrap_err().contains("5 bytes follow"));
    }

    #[test]
    fn a_missing_file_is_named_as_such() {
        let file = ItemFiles::default().get(IndexRange::new(0, 1), Path::new("/nonexistent/items"));
        assert!(
            file.item(0)
                .unwrap_err()
                .starts_with("item 0: the input file cannot be read")
        );
    }

    #[test]
    fn a_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items");
        std::fs::write(&path, encoded(&[b"x"])).unwrap();
        let files = ItemFiles::default();
        let first = files.get(IndexRange::new(0, 1), &path);
        std::fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &files.get(IndexRange::new(0, 1), &path)));
    }
}
