//! Checkpoints of gangs: state of all ranks of the same moment, from which the next start of the gang goes on.
//!
//! Each rank writes its *part*, `jobs/<id>/checkpoints/ranks/<rank>/<part>`. Once all are durable, one rank writes the
//! *marker* that names them, `jobs/<id>/checkpoints/gang/<part>`: only with it a *generation* is complete. What was written
//! of others is of no use, and no generation is taken for another, since a marker names every part.
//!
//! A part is named as in [`crate::checkpoints`], by the grant under which its rank runs and a count, and a marker like the part of
//! the rank that wrote it. The grants of a later start of the gang come after all those of earlier ones. So ranks that were
//! given up and still run cannot harm: the generations that they complete come before the first one of a later start, and they
//! remove nothing of what came after them.
//!
//! The last two complete generations stay: the newest, and one to fall back on should a part of that be damaged. Of each
//! rank, parts go that are older than the older one of these.

use std::fmt;
use std::sync::Arc;

use phalanx_protocol::limits::CHECKPOINT_BYTES_MAX;
use phalanx_protocol::{GrantId, JobId, Term};

use crate::checkpoints::{CheckpointError, decode, encode, parse_segment, segment};
use crate::store::{Put, Store, StoreError};

/// Complete generations that are kept of a gang.
const KEPT: usize = 2;
/// Bytes of a name in a marker: term, number (`u64` each) and count (`u32`), little-endian.
const NAME_BYTES: usize = 8 + 8 + 4;

/// Which part of a rank's it is. The order is that in which the starts of the gang wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// The grant under which the rank ran.
    pub attempt: GrantId,
    /// Counts what the rank saved under it.
    pub count: u32,
}

impl PartName {
    fn segment(self) -> String {
        segment(self.attempt, self.count)
    }

    fn parse(text: &str) -> Option<Self> {
        parse_segment(text).map(|(attempt, count)| Self { attempt, count })
    }
}

/// A complete generation: the part of each rank, by rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// As many as the gang has ranks.
    pub parts: Vec<PartName>,
}

/// The checkpoints of gangs on a storage.
#[derive(Clone)]
pub struct GangCheckpoints {
    store: Arc<dyn Store>,
}

impl fmt::Debug for GangCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GangCheckpoints").finish_non_exhaustive()
    }
}

impl GangCheckpoints {
    /// Those on that storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Saves a part; it is durable when this returns.
    ///
    /// # Errors
    /// [`CheckpointError`]; after one of the storage the part may be there all the same, and the next needs another count.
    pub fn save_part(
        &self,
        job: JobId,
        rank: u64,
        name: PartName,
        payload: &[u8],
    ) -> Result<(), CheckpointError> {
        if payload.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLarge { bytes: payload.len() });
        }
        self.create(part_key(job, rank, name), payload)
    }

    /// Completes a generation of which all parts are durable, under the name that the part of the caller's rank has. Returns
    /// the oldest generation that is kept, whose parts are the floor for [`Self::remove_parts_before`]; nothing if older markers
    /// cannot be removed now.
    ///
    /// # Errors
    /// [`CheckpointError`]; after one of the storage the generation may be complete all the same.
    pub fn complete(
        &self,
        job: JobId,
        name: PartName,
        generation: &Generation,
    ) -> Result<Option<Generation>, CheckpointError> {
        self.create(marker_key(job, name), &encode_names(&generation.parts))?;
        Ok(self.remove_old_markers(job, name).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%job, error, "the markers of old checkpoints stay for now");
            None
        }))
    }

    /// Removes the parts of a rank that come before `floor`.
    ///
    /// # Errors
    /// Says why not all of them could be.
    pub fn remove_parts_before(&self, job: JobId, rank: u64, floor: PartName) -> Result<(), StoreError> {
        let folder = part_folder(job, rank);
        let old = self.names(&folder)?.into_iter().filter(|&name| name < floor);
        old.into_iter()
            .try_for_each(|name| self.store.delete(&part_key(job, rank, name)))
    }

    /// Removes a part of a generation that will not be complete.
    ///
    /// # Errors
    /// Says why it could not be.
    pub fn remove_part(&self, job: JobId, rank: u64, name: PartName) -> Result<(), StoreError> {
        self.store.delete(&part_key(job, rank, name))
    }

    /// The complete generations, the newest first; damaged markers are passed over with a warning.
    ///
    /// # Errors
    /// Says why they could not be listed or read.
    pub fn generations(&self, job: JobId) -> Result<Vec<Generation>, StoreError> {
        let mut generations = Vec::new();
        for name in self.names(&marker_folder(job))?.into_iter().rev() {
            generations.extend(self.generation(job, name)?);
        }
        Ok(generations)
    }

    /// What a part holds; `None` if it is gone or damaged.
    ///
    /// # Errors
    /// Says why it could not be read.
    pub fn part(&self, job: JobId, rank: u64, name: PartName) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&part_key(job, rank, name))
    }

    fn create(&self, key: String, payload: &[u8]) -> Result<(), CheckpointError> {
        match self.store.put_if_absent(&key, &encode(payload))? {
            Put::Created => Ok(()),
            Put::Exists => Err(CheckpointError::Taken { key }),
        }
    }

    /// Keeps the last whole markers up to that `name`; the oldest of these.
    fn remove_old_markers(&self, job: JobId, name: PartName) -> Result<Option<Generation>, StoreError> {
        let names = self.names(&marker_folder(job))?;
        let mut kept = Vec::new();
        for name in names.into_iter().rev().filter(|&other| other <= name) {
            if kept.len() == KEPT {
                self.store.delete(&marker_key(job, name))?;
            } else {
                kept.extend(self.generation(job, name)?);
            }
        }
        Ok(kept.pop())
    }

    fn generation(&self, job: JobId, name: PartName) -> Result<Option<Generation>, StoreError> {
        let payload = self.read(&marker_key(job, name))?;
        let parts = payload.and_then(|payload| decode_names(&payload));
        Ok(parts.map(|parts| Generation { parts }))
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bytes) = self.store.get(key)? else {
            return Ok(None);
        };
        let payload = decode(bytes);
        if payload.is_none() {
            tracing::warn!(key, "a checkpoint of a gang is damaged and is passed over");
        }
        Ok(payload)
    }

    /// What a folder holds, in order.
    fn names(&self, folder: &str) -> Result<Vec<PartName>, StoreError> {
        let keys = self.store.list(folder, None)?;
        let names = keys
            .iter()
            .filter_map(|key| PartName::parse(key.strip_prefix(folder)?));
        let mut names: Vec<PartName> = names.collect();
        names.sort_unstable();
        Ok(names)
    }
}

fn part_folder(job: JobId, rank: u64) -> String {
    format!("jobs/{job}/checkpoints/ranks/{rank}/")
}

fn part_key(job: JobId, rank: u64, name: PartName) -> String {
    format!("{}{}", part_folder(job, rank), name.segment())
}

fn marker_folder(job: JobId) -> String {
    format!("jobs/{job}/checkpoints/gang/")
}

fn marker_key(job: JobId, name: PartName) -> String {
    format!("{}{}", marker_folder(job), name.segment())
}

/// What a marker holds: the names, one after the other.
fn encode_names(names: &[PartName]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(names.len() * NAME_BYTES);
    for PartName { attempt, count } in names {
        bytes.extend(attempt.term.0.to_le_bytes());
        bytes.extend(attempt.number.to_le_bytes());
        bytes.extend(count.to_le_bytes());
    }
    bytes
}

fn decode_names(bytes: &[u8]) -> Option<Vec<PartName>> {
    let names = bytes.chunks(NAME_BYTES).map(|bytes| {
        let (term, bytes) = bytes.split_first_chunk()?;
        let (number, count) = bytes.split_first_chunk()?;
        let attempt = GrantId {
            term: Term(u64::from_le_bytes(*term)),
            number: u64::from_le_bytes(*number),
        };
        let count = u32::from_le_bytes(count.try_into().ok()?);
        Some(PartName { attempt, count })
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Fault, MemoryStore};

    const JOB: JobId = JobId(42);

    fn name(grant: u64, count: u32) -> PartName {
        let attempt = GrantId {
            term: Term(1),
            number: grant,
        };
        PartName { attempt, count }
    }

    /// Two ranks; in each start of the gang rank 1 runs under the grant after that of rank 0.
    struct Fixture {
        store: Arc<MemoryStore>,
        gangs: GangCheckpoints,
    }

    impl Fixture {
        fn new() -> Self {
            let store = Arc::new(MemoryStore::default());
            let gangs = GangCheckpoints::new(Arc::clone(&store) as _);
            Self { store, gangs }
        }

        fn save(&self, grant: u64, count: u32) -> [PartName; 2] {
            let parts = [name(grant, count), name(grant + 1, count)];
            for (rank, part) in (0..).zip(parts) {
                let payload = format!("{grant}.{count} of {rank}");
                self.gangs.save_part(JOB, rank, part, payload.as_bytes()).unwrap();
            }
            parts
        }

        fn complete(&self, parts: [PartName; 2]) {
            let generation = Generation {
                parts: parts.to_vec(),
            };
            let floor = self.gangs.complete(JOB, parts[0], &generation).unwrap().unwrap();
            for (rank, floor) in (0..).zip(floor.parts) {
                self.gangs.remove_parts_before(JOB, rank, floor).unwrap();
            }
        }

        /// What is found of rank 1 in the newest generation of which it is whole.
        fn newest(&self) -> Option<String> {
            let generations = self.gangs.generations(JOB).unwrap();
            let part = |generation: &Generation| self.gangs.part(JOB, 1, generation.parts[1]).unwrap();
            let found = generations.iter().find_map(part);
            found.map(|payload| String::from_utf8(payload).unwrap())
        }

        fn kept(&self, folder: &str) -> Vec<(u64, u32)> {
            let names = self.gangs.names(folder).unwrap();
            let short = |name: &PartName| (name.attempt.number, name.count);
            names.iter().map(short).collect()
        }
    }

    #[test]
    fn a_generation_of_which_a_part_is_missing_does_not_count() {
        let fixture = Fixture::new();
        fixture.save(1, 1);
        assert_eq!(fixture.newest(), None, "no marker names the parts");
        fixture.complete(fixture.save(1, 2));
        // rank 1 died before it saved
        fixture.gangs.save_part(JOB, 0, name(1, 3), b"torn").unwrap();
        assert_eq!(fixture.newest().as_deref(), Some("1.2 of 1"));
    }

    #[test]
    fn a_torn_generation_of_any_number_of_starts_does_not_push_out_the_last_complete_one() {
        let fixture = Fixture::new();
        fixture.complete(fixture.save(1, 1));
        for grant in [3, 5, 7] {
            fixture.save(grant, 1);
        }
        assert_eq!(fixture.newest().as_deref(), Some("1.1 of 1"));
        fixture.complete(fixture.save(9, 1));
        fixture.complete(fixture.save(9, 2));
        assert_eq!(fixture.kept(&part_folder(JOB, 1)), [(10, 1), (10, 2)]);
        assert_eq!(fixture.kept(&marker_folder(JOB)), [(9, 1), (9, 2)]);
    }

    #[test]
    fn ranks_that_were_given_up_complete_nothing_that_outranks_a_later_start() {
        let fixture = Fixture::new();
        fixture.complete(fixture.save(1, 1));
        fixture.complete(fixture.save(3, 1));
        for count in 2..=4 {
            fixture.complete(fixture.save(1, count));
        }
        assert_eq!(fixture.newest().as_deref(), Some("3.1 of 1"));
        assert_eq!(fixture.kept(&part_folder(JOB, 1)), [(2, 3), (2, 4), (4, 1)]);
    }

    #[test]
    fn a_damaged_marker_is_passed_over_and_is_none_to_fall_back_on() {
        let fixture = Fixture::new();
        for count in 1..=2 {
            fixture.complete(fixture.save(1, count));
        }
        let key = marker_key(JOB, name(1, 2));
        let mut bytes = fixture.store.get(&key).unwrap().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fixture.store.replace(&key, &bytes).unwrap();
        assert_eq!(fixture.newest().as_deref(), Some("1.1 of 1"));
        fixture.complete(fixture.save(3, 1));
        let key = part_key(JOB, 1, name(4, 1));
        fixture.store.replace(&key, b"damaged").unwrap();
        assert_eq!(fixture.newest().as_deref(), Some("1.1 of 1"));
    }

    #[test]
    fn a_marker_that_storage_did_not_take_leaves_the_generation_before() {
        let fixture = Fixture::new();
        fixture.complete(fixture.save(1, 1));
        let parts = fixture.save(1, 2).to_vec();
        fixture.store.on_put(|_| Fault::Full);
        let failed = fixture.gangs.complete(JOB, name(1, 2), &Generation { parts });
        assert!(matches!(
            failed,
            Err(CheckpointError::Store(StoreError::Full { .. }))
        ));
        assert_eq!(fixture.newest().as_deref(), Some("1.1 of 1"));
    }

    #[test]
    fn the_layout_of_a_marker_is_fixed() {
        let bytes = encode_names(&[name(3, 5)]);
        let golden = [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0];
        assert_eq!(bytes, golden);
        assert_eq!(decode_names(&bytes), Some(vec![name(3, 5)]));
        assert_eq!(decode_names(&bytes[..NAME_BYTES - 1]), None);
        assert_eq!(
            marker_key(JOB, name(3, 5)),
            "jobs/42/checkpoints/gang/00000000000000000001-00000000000000000003-0000000005"
        );
        assert_eq!(
            part_key(JOB, 7, name(3, 5)),
            "jobs/42/checkpoints/ranks/7/00000000000000000001-00000000000000000003-0000000005"
        );
    }

    #[test]
    fn they_go_with_the_other_checkpoints_of_their_job() {
        let fixture = Fixture::new();
        fixture.complete(fixture.save(1, 1));
        let store = Arc::clone(&fixture.store) as Arc<dyn Store>;
        crate::Checkpoints::new(store).clear(JOB).unwrap();
        assert_eq!(fixture.store.list("jobs/", None).unwrap(), Vec::<String>::new());
    }
}
