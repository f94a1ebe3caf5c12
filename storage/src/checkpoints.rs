//! Checkpoints of tasks: state from which the next attempt at a task goes on, `jobs/<id>/checkpoints/<index>/<attempt>`.
//!
//! An attempt at a task is the grant under which it runs, and a grant's id never repeats. An object is named
//! `<term>-<grant number>-<count>`, padded with zeros so that the order of names is that of attempts, and within one
//! attempt that of its checkpoints. Objects are created whole and never overwritten. So a *zombie*, an attempt that was
//! given up and still runs, cannot harm: whatever it writes comes before the first checkpoint of any later attempt, and
//! [`Checkpoints::newest`] takes the last one. Until a later attempt has written one, a zombie's work is as good as any.
//!
//! Each save leaves the last two whole checkpoints of its task: the newest, and one to fall back on should that be damaged.

use std::fmt;
use std::sync::Arc;

use phalanx_protocol::limits::CHECKPOINT_BYTES_MAX;
use phalanx_protocol::{GrantId, JobId, TaskId, Term};

use crate::store::{Put, Store, StoreError};

/// What a checkpoint begins with.
const MAGIC: [u8; 8] = *b"PHXCHKPT";
/// Version of the layout: magic, version (`u32`), payload length (`u64`), CRC32C of version, length and payload
/// (`u32`), payload. Numbers are little-endian.
const FORMAT_VERSION: u32 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 4 + 8 + 4;
/// Whole checkpoints that are kept of a task.
const KEPT: usize = 2;

/// A checkpoint as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Who wrote it.
    pub attempt: GrantId,
    /// Counts that attempt's checkpoints.
    pub count: u32,
    /// What was saved.
    pub payload: Vec<u8>,
}

/// Why a checkpoint could not be saved or looked for.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The attempt has used that count already.
    #[error("checkpoint `{key}` is there already")]
    Taken {
        /// Its key.
        key: String,
    },
    /// More than a checkpoint may have.
    #[error("a checkpoint of {bytes} bytes is larger than {CHECKPOINT_BYTES_MAX}")]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
}

/// The checkpoints on a storage.
#[derive(Clone)]
pub struct Checkpoints {
    store: Arc<dyn Store>,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// The checkpoints on that storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Saves the `count`-th checkpoint of an attempt; it is durable when this returns. Older ones are removed then, if
    /// they can be.
    ///
    /// # Errors
    /// [`CheckpointError`]; after one of the storage the checkpoint may be there all the same, and the next needs
    /// another count.
    pub fn save(
        &self,
        task: TaskId,
        attempt: GrantId,
        count: u32,
        payload: &[u8],
    ) -> Result<(), CheckpointError> {
        if payload.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLarge { bytes: payload.len() });
        }
        let key = Name { attempt, count }.key(task);
        if self.store.put_if_absent(&key, &encode(payload))? == Put::Exists {
            return Err(CheckpointError::Taken { key });
        }
        if let Err(error) = self.remove_old(task, attempt) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%task, error, "old checkpoints stay for now");
        }
        Ok(())
    }

    /// The newest whole checkpoint of a task; damaged ones are passed over with a warning.
    ///
    /// # Errors
    /// Says why they could not be listed or read.
    pub fn newest(&self, task: TaskId) -> Result<Option<Checkpoint>, StoreError> {
        for name in self.names(task)?.into_iter().rev() {
            if let Some(payload) = self.read(task, name)? {
                let Name { attempt, count } = name;
                return Ok(Some(Checkpoint {
                    attempt,
                    count,
                    payload,
                }));
            }
        }
        Ok(None)
    }

    /// Removes all checkpoints of a job that is over.
    ///
    /// # Errors
    /// Says why not all of them could be.
    pub fn clear(&self, job: JobId) -> Result<(), StoreError> {
        let keys = self.store.list(&format!("jobs/{job}/checkpoints/"), None)?;
        keys.iter().try_for_each(|key| self.store.delete(key))
    }

    /// Keeps the last whole checkpoints up to those of `attempt`, which has just written one. Later attempts' are theirs
    /// to judge. What an attempt reads back of itself is whole, others' are looked at.
    fn remove_old(&self, task: TaskId, attempt: GrantId) -> Result<(), StoreError> {
        let mut kept = 0;
        for name in self.names(task)?.into_iter().rev() {
            if name.attempt > attempt {
                continue;
            }
            if kept == KEPT {
                self.store.delete(&name.key(task))?;
            } else if name.attempt == attempt || self.read(task, name)?.is_some() {
                kept += 1;
            }
        }
        Ok(())
    }

    /// All of a task, in order.
    fn names(&self, task: TaskId) -> Result<Vec<Name>, StoreError> {
        let folder = folder(task);
        let keys = self.store.list(&folder, None)?;
        let mut names: Vec<Name> = keys
            .iter()
            .filter_map(|key| Name::parse(key.strip_prefix(&folder)?))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What one holds; `None` if it is gone or damaged.
    fn read(&self, task: TaskId, name: Name) -> Result<Option<Vec<u8>>, StoreError> {
        let key = name.key(task);
        let Some(bytes) = self.store.get(&key)? else {
            return Ok(None);
        };
        let payload = decode(bytes);
        if payload.is_none() {
            tracing::warn!(key, "a checkpoint is damaged and is passed over");
        }
        Ok(payload)
    }
}

/// The last segment of a checkpoint's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    attempt: GrantId,
    count: u32,
}

impl Name {
    fn key(self, task: TaskId) -> String {
        format!("{}{}", folder(task), segment(self.attempt, self.count))
    }

    fn parse(text: &str) -> Option<Self> {
        parse_segment(text).map(|(attempt, count)| Self { attempt, count })
    }
}

/// What the `count`-th checkpoint of an attempt is called, so that the order of names is theirs.
pub(crate) fn segment(attempt: GrantId, count: u32) -> String {
    let (term, number) = (attempt.term.0, attempt.number);
    format!("{term:020}-{number:020}-{count:010}")
}

/// Whose checkpoint is called so, and which it is.
pub(crate) fn parse_segment(text: &str) -> Option<(GrantId, u32)> {
    let mut parts = text.split('-');
    let mut part = || parts.next()?.parse::<u64>().ok();
    let attempt = GrantId {
        term: Term(part()?),
        number: part()?,
    };
    let count = u32::try_from(part()?).ok()?;
    parts.next().is_none().then_some((attempt, count))
}

fn folder(task: TaskId) -> String {
    format!("jobs/{}/checkpoints/{}/", task.job, task.index)
}

/// The object that holds a payload.
pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(checksum(&bytes[MAGIC.len()..], payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of an object that is whole.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (head, payload) = bytes.split_at_checked(HEAD_BYTES)?;
    let (described, crc) = head[MAGIC.len()..].split_at(4 + 8);
    let (version, length) = described.split_at(4);
    let is_whole = head.starts_with(&MAGIC)
        && version == FORMAT_VERSION.to_le_bytes()
        && length == (payload.len() as u64).to_le_bytes()
        && crc == checksum(described, payload).to_le_bytes();
    is_whole.then(|| bytes.split_off(HEAD_BYTES))
}

fn checksum(described: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(described), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Fault, MemoryStore};

    const TASK: TaskId = TaskId {
        job: JobId(42),
        index: 7,
    };

    fn attempt(term: u64, number: u64) -> GrantId {
        GrantId {
            term: Term(term),
            number,
        }
    }

    struct Fixture {
        store: Arc<MemoryStore>,
        checkpoints: Checkpoints,
    }

    impl Fixture {
        fn new() -> Self {
            let store = Arc::new(MemoryStore::default());
            let checkpoints = Checkpoints::new(Arc::clone(&store) as _);
            Self { store, checkpoints }
        }

        fn save(&self, attempt: GrantId, count: u32, payload: &str) {
            self.checkpoints
                .save(TASK, attempt, count, payload.as_bytes())
                .unwrap();
        }

        fn newest(&self) -> Option<String> {
            let found = self.checkpoints.newest(TASK).unwrap();
            found.map(|found| String::from_utf8(found.payload).unwrap())
        }

        fn damage(&self, attempt: GrantId, count: u32, change: impl Fn(&mut Vec<u8>)) {
            let key = Name { attempt, count }.key(TASK);
            let mut bytes = self.store.get(&key).unwrap().unwrap();
            change(&mut bytes);
            self.store.replace(&key, &bytes).unwrap();
        }

        fn kept(&self) -> Vec<(u64, u32)> {
            let names = self.checkpoints.names(TASK).unwrap();
            names
                .iter()
                .map(|name| (name.attempt.number, name.count))
                .collect()
        }
    }

    #[test]
    fn the_newest_checkpoint_is_that_of_the_latest_attempt_whatever_a_zombie_writes() {
        let fixture = Fixture::new();
        assert_eq!(fixture.newest(), None);
        fixture.save(attempt(2, 9), 1, "first");
        fixture.save(attempt(2, 9), 2, "second");
        assert_eq!(fixture.newest().as_deref(), Some("second"));
        fixture.save(attempt(2, 10), 1, "later");
        fixture.save(attempt(2, 9), 3, "zombie");
        fixture.save(attempt(1, 99), 1, "older zombie");
        assert_eq!(fixture.newest().as_deref(), Some("later"));
        fixture.save(attempt(3, 1), 1, "of a new term");
        assert_eq!(fixture.newest().as_deref(), Some("of a new term"));
    }

    #[test]
    fn a_task_keeps_its_last_two_checkpoints() {
        let fixture = Fixture::new();
        (1..=4).for_each(|count| fixture.save(attempt(1, 1), count, "x"));
        assert_eq!(fixture.kept(), [(1, 3), (1, 4)]);
        fixture.save(attempt(1, 2), 1, "y");
        assert_eq!(fixture.kept(), [(1, 4), (2, 1)]);
        // a zombie removes nothing of what came after it
        (5..=7).for_each(|count| fixture.save(attempt(1, 1), count, "z"));
        assert_eq!(fixture.kept(), [(1, 6), (1, 7), (2, 1)]);
        fixture.save(attempt(1, 2), 2, "y");
        assert_eq!(fixture.kept(), [(2, 1), (2, 2)]);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_and_does_not_count_as_one_to_fall_back_on() {
        let fixture = Fixture::new();
        fixture.save(attempt(1, 1), 1, "good");
        fixture.save(attempt(1, 1), 2, "soon bad");
        fixture.damage(attempt(1, 1), 2, |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_eq!(fixture.newest().as_deref(), Some("good"));
        fixture.save(attempt(1, 2), 1, "new");
        assert_eq!(fixture.kept(), [(1, 1), (1, 2), (2, 1)]);
        fixture.damage(attempt(1, 2), 1, Vec::clear);
        assert_eq!(fixture.newest().as_deref(), Some("good"));
        fixture.damage(attempt(1, 1), 1, |bytes| bytes.truncate(bytes.len() - 1));
        assert_eq!(fixture.newest(), None);
    }

    #[test]
    fn any_change_to_a_checkpoint_is_noticed() {
        let whole = encode(b"state");
        assert_eq!(decode(whole.clone()).as_deref(), Some(&b"state"[..]));
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x10;
            assert_eq!(decode(bytes), None, "byte {position}");
            assert_eq!(decode(whole[..position].to_vec()), None);
        }
        assert_eq!(decode([whole, vec![0]].concat()), None);
    }

    #[test]
    fn the_layout_of_a_checkpoint_is_fixed() {
        let golden = [
            b"PHXCHKPT".as_slice(),
            &[1, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &checksum(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], b"ab").to_le_bytes(),
            b"ab",
        ];
        assert_eq!(encode(b"ab"), golden.concat());
        assert_eq!(
            Name {
                attempt: attempt(17, 3),
                count: 5
            }
            .key(TASK),
            "jobs/42/checkpoints/7/00000000000000000017-00000000000000000003-0000000005"
        );
    }

    #[test]
    fn a_checkpoint_that_storage_did_not_take_leaves_the_last_one() {
        let fixture = Fixture::new();
        fixture.save(attempt(1, 1), 1, "good");
        fixture.store.on_put(|_| Fault::Full);
        let failed = fixture.checkpoints.save(TASK, attempt(1, 1), 2, b"lost");
        assert!(matches!(
            failed,
            Err(CheckpointError::Store(StoreError::Full { .. }))
        ));
        assert_eq!(fixture.newest().as_deref(), Some("good"));
    }

    #[test]
    fn the_checkpoints_of_a_finished_job_are_cleared_and_no_others() {
        let fixture = Fixture::new();
        fixture.save(attempt(1, 1), 1, "x");
        let other = TaskId {
            job: JobId(421),
            index: 7,
        };
        fixture.checkpoints.save(other, attempt(1, 1), 1, b"y").unwrap();
        fixture.checkpoints.clear(TASK.job).unwrap();
        assert_eq!(fixture.newest(), None);
        assert!(fixture.checkpoints.newest(other).unwrap().is_some());
    }
}
