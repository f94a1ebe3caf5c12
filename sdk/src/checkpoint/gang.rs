//! A rank's part of its gang's checkpoints: saved, then kept or dropped, as all ranks together have fared. Who decides that,
//! and how ranks hear of it, is `crate::ranks::checkpoint`'s; the rules of what counts are `phalanx_storage::gang_checkpoints`'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use phalanx_protocol::{JobId, TaskId, codec};
use phalanx_storage::{Directory, GangCheckpoints, Generation, PartName};
use serde::Serialize;

use super::{CheckpointError, Desk, Vault, lock};

/// Complete generations that are kept in memory, as on storage.
const KEPT_IN_MEMORY: usize = 2;

/// The checkpoints of a gang outside any job.
#[derive(Debug, Default)]
pub(super) struct PartsInMemory {
    /// By rank.
    parts: BTreeMap<(u64, PartName), Vec<u8>>,
    /// The complete generations, the oldest first.
    generations: Vec<Vec<PartName>>,
}

impl PartsInMemory {
    /// Keeps a generation, and gives the oldest that is kept.
    fn complete(&mut self, parts: Vec<PartName>) -> Vec<PartName> {
        self.generations.push(parts);
        let excess = self.generations.len().saturating_sub(KEPT_IN_MEMORY);
        self.generations.drain(..excess);
        self.generations[0].clone()
    }
}

/// A part that was saved, of a generation that is not complete yet.
#[derive(Debug)]
pub(crate) struct SavedPart {
    /// Which one.
    pub(crate) name: PartName,
    began: Instant,
    calls: u64,
}

impl Vault {
    fn gang_checkpoints(&self) -> Result<Option<&GangCheckpoints>, CheckpointError> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        if let Some(checkpoints) = self.gang_checkpoints.get() {
            return Ok(Some(checkpoints));
        }
        let directory = Directory::open(root).map_err(CheckpointError::Storage)?;
        let opened = GangCheckpoints::new(Arc::new(directory));
        Ok(Some(self.gang_checkpoints.get_or_init(|| opened)))
    }
}

impl Desk {
    /// Saves a rank's part, which counts once its generation is complete.
    pub(crate) fn save_part(
        &self,
        rank: TaskId,
        state: &impl Serialize,
    ) -> Result<SavedPart, CheckpointError> {
        let (began, calls) = (Instant::now(), self.vault.calls());
        let mut payload = Vec::new();
        codec::encode_into(state, &mut payload).map_err(CheckpointError::Encode)?;
        let name = {
            let mut piece = lock(&self.piece);
            let attempt = piece.grant;
            let progress = piece.progress(rank.index);
            progress.count += 1;
            PartName {
                attempt,
                count: progress.count,
            }
        };
        match self.vault.gang_checkpoints()? {
            Some(checkpoints) => checkpoints
                .save_part(rank.job, rank.index, name, &payload)
                .map_err(CheckpointError::Save)?,
            None => drop(
                lock(&self.vault.parts_in_memory)
                    .parts
                    .insert((rank.index, name), payload),
            ),
        }
        Ok(SavedPart { name, began, calls })
    }

    /// Completes the generation of these parts, of which `own` was saved here. Gives the oldest parts that are still of use,
    /// by rank, if there are some that are not.
    pub(crate) fn complete(
        &self,
        job: JobId,
        own: PartName,
        parts: Vec<PartName>,
    ) -> Result<Option<Vec<PartName>>, CheckpointError> {
        let Some(checkpoints) = self.vault.gang_checkpoints()? else {
            return Ok(Some(lock(&self.vault.parts_in_memory).complete(parts)));
        };
        let kept = checkpoints.complete(job, own, &Generation { parts });
        Ok(kept
            .map_err(CheckpointError::Save)?
            .map(|generation| generation.parts))
    }

    /// Notes that the generation of a saved part is complete, and removes the rank's parts before `floor`.
    pub(crate) fn part_counts(&self, rank: TaskId, part: &SavedPart, floor: Option<PartName>) {
        let removed = match (self.vault.gang_checkpoints(), floor) {
            (Ok(Some(checkpoints)), Some(floor)) => {
                checkpoints.remove_parts_before(rank.job, rank.index, floor)
            }
            (Ok(None), Some(floor)) => {
                let mut memory = lock(&self.vault.parts_in_memory);
                let is_old = |(of, name): &(u64, PartName)| *of == rank.index && *name < floor;
                memory.parts.retain(|part, _| !is_old(part));
                Ok(())
            }
            (Err(_), _) | (Ok(_), None) => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(task = %rank, %error, "old checkpoints of a rank stay for now");
        }
        lock(&self.piece)
            .progress(rank.index)
            .saved(part.began, part.calls);
    }

    /// Removes a part of a generation that will not be complete.
    pub(crate) fn drop_part(&self, rank: TaskId, part: &SavedPart) {
        lock(&self.vault.parts_in_memory)
            .parts
            .remove(&(rank.index, part.name));
        let removed = match self.vault.gang_checkpoints() {
            Ok(Some(checkpoints)) => checkpoints.remove_part(rank.job, rank.index, part.name),
            Ok(None) | Err(_) => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(task = %rank, %error, "a part of an incomplete checkpoint stays");
        }
    }

    /// The parts of the complete generations of a gang of so many ranks, the newest generation first.
    pub(crate) fn generations(
        &self,
        job: JobId,
        ranks: usize,
    ) -> Result<Vec<Vec<PartName>>, CheckpointError> {
        let Some(checkpoints) = self.vault.gang_checkpoints()? else {
            let memory = lock(&self.vault.parts_in_memory);
            let newest_first = memory.generations.iter().rev();
            return Ok(newest_first
                .filter(|parts| parts.len() == ranks)
                .cloned()
                .collect());
        };
        let found = checkpoints.generations(job).map_err(CheckpointError::Read)?;
        let parts = found.into_iter().map(|generation| generation.parts);
        Ok(parts.filter(|parts| parts.len() == ranks).collect())
    }

    /// What a part holds; `None` if it is gone or damaged.
    pub(crate) fn part(&self, rank: TaskId, name: PartName) -> Result<Option<Vec<u8>>, CheckpointError> {
        match self.vault.gang_checkpoints()? {
            Some(checkpoints) => {
                let part = checkpoints.part(rank.job, rank.index, name);
                part.map_err(CheckpointError::Read)
            }
            None => {
                let memory = lock(&self.vault.parts_in_memory);
                Ok(memory.parts.get(&(rank.index, name)).cloned())
            }
        }
    }
}
