//! Checkpoints that all ranks of a gang make together, and what else a rank may ask about itself.
//!
//! Each rank saves its own part. Rank 0 hears from all; if all have saved theirs, it writes the marker that makes the
//! generation complete, and tells the others. To resume, rank 0 names the newest complete generation, and all read their parts
//! of it; if one of them is damaged, all go to the generation before. So all ranks resume from the same moment, or none.

use phalanx_protocol::{GrantId, TaskId, codec};
use phalanx_storage::PartName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::communicator::Communicator;
use super::error::CommError;
use crate::checkpoint::{CheckpointError, SavedPart};
use crate::context::TaskContext;

/// Who decides.
const ROOT: usize = 0;

/// A [`PartName`] on its way.
type Named = (GrantId, u32);

/// What has become of a generation, for one rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Verdict {
    /// It is complete; the rank's parts before that one are of no use any more.
    Complete(Option<Named>),
    /// A rank has not saved its part.
    PartMissing(usize),
    /// The root could not say that it is complete.
    Unmarked,
}

/// From what a rank is to resume.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Offer {
    Part(Named),
    /// There is nothing, or nothing else.
    Nothing,
    /// The root cannot tell.
    Unknown,
}

/// How the worst of the ranks fared with its part; the order is that of how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Fared {
    Well,
    /// It is gone or damaged.
    Missing,
    Failed(usize),
}

impl Communicator {
    /// The rank as a task of its job: whether it is cancelled, what it has to itself. Outside any job a
    /// [standalone](TaskContext::standalone) one. Its checkpoints are the rank's alone; those of all ranks together are
    /// [`Self::checkpoint`]'s.
    ///
    /// ```
    /// phalanx::ranks::run(2, |comm| {
    ///     assert_eq!(comm.context().index(), comm.rank() as u64);
    ///     assert!(!comm.context().is_cancelled());
    /// });
    /// ```
    pub fn context(&self) -> &TaskContext {
        self.endpoint().life().context()
    }

    /// Which start of the gang this is, or of ranks that it lost, from 1: that of the communicator, as
    /// [respawning](Self::respawn) gives one of the next.
    pub fn epoch(&self) -> u32 {
        self.endpoint().epoch()
    }

    /// Saves the state of all ranks to shared storage, each its own, where the next start of the gang finds it, on whichever
    /// workers, should a rank or a node be lost. Collective, among all ranks of the gang. The checkpoint is complete and durable
    /// when this returns at any rank, and replaces the one before; of one that was interrupted nothing is ever seen. Ranks that were
    /// given up and still run cannot replace what a later start has saved. Outside any job it is kept in memory, as long as
    /// the ranks live.
    ///
    /// ```
    /// use phalanx::{CheckpointError, Communicator};
    ///
    /// #[phalanx::ranks]
    /// fn count(comm: &Communicator, steps: u64) -> Result<u64, CheckpointError> {
    ///     let (mut step, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
    ///     while step < steps {
    ///         sum += comm.all_reduce(step * comm.rank() as u64, |a, b| a + b)?;
    ///         step += 1;
    ///         if comm.checkpoint_due()? {
    ///             comm.checkpoint(&(step, sum))?;
    ///         }
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// phalanx::ranks::run(3, |comm| {
    ///     let whole = count(comm, 10).unwrap();
    ///     // from the middle on it comes to the same
    ///     comm.checkpoint(&(4_u64, 18_u64)).unwrap();
    ///     assert_eq!(count(comm, 10).unwrap(), whole);
    /// });
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`], at all ranks if at one; what was saved before is then still there.
    /// [`CheckpointError::NotAllRanks`] at once if the communicator is only of some ranks, such as those that are left.
    pub fn checkpoint(&self, state: &impl Serialize) -> Result<(), CheckpointError> {
        self.check_all_ranks()?;
        let task = self.task();
        let desk = self.context().desk();
        let own = desk.save_part(task, state);
        let named = own.as_ref().ok().map(|part| named(part.name));
        let parts = self.gather(ROOT, named)?;
        let (verdicts, at_root) = match parts {
            Some(parts) => self.complete(parts),
            None => (None, Ok(())),
        };
        match (self.scatter(ROOT, verdicts)?, own) {
            (Verdict::Complete(floor), Ok(part)) => {
                desk.part_counts(task, &part, floor.map(unnamed));
                Ok(())
            }
            (Verdict::PartMissing(rank), Ok(part)) => {
                desk.drop_part(task, &part);
                Err(CheckpointError::Elsewhere { rank })
            }
            // whether it is complete is not known, so the part stays
            (Verdict::Unmarked, Ok(SavedPart { .. })) => {
                at_root.and(Err(CheckpointError::Elsewhere { rank: ROOT }))
            }
            (Verdict::Complete(_) | Verdict::PartMissing(_) | Verdict::Unmarked, Err(error)) => Err(error),
        }
    }

    /// The root's part in [`Self::checkpoint`]: what each rank is to hear, and what the root itself makes of it.
    fn complete(&self, parts: Vec<Option<Named>>) -> (Option<Vec<Verdict>>, Result<(), CheckpointError>) {
        let ranks = parts.len();
        let told = |verdict: Verdict| Some(vec![verdict; ranks]);
        if let Some(rank) = parts.iter().position(Option::is_none) {
            return (told(Verdict::PartMissing(rank)), Ok(()));
        }
        let parts: Vec<PartName> = parts.into_iter().flatten().map(unnamed).collect();
        let own = parts[ROOT];
        match self.context().desk().complete(self.task().job, own, parts) {
            Ok(Some(floors)) if floors.len() == ranks => {
                let floors = floors.into_iter().map(named);
                let verdicts = floors.map(|floor| Verdict::Complete(Some(floor)));
                (Some(verdicts.collect()), Ok(()))
            }
            Ok(_) => (told(Verdict::Complete(None)), Ok(())),
            Err(error) => (told(Verdict::Unmarked), Err(error)),
        }
    }

    /// What this rank saved in the last complete [`Self::checkpoint`], in this start of the gang or an earlier one; `None` if
    /// there is none. Collective, among all ranks of the gang, which all get their part of the same checkpoint: if one of it was
    /// damaged, of the one before. The bytes do not say what they are: `T` must be the type that was saved, to the width
    /// of its numbers.
    ///
    /// ```
    /// phalanx::ranks::run(2, |comm| {
    ///     assert_eq!(comm.restore::<usize>().unwrap(), None);
    ///     comm.checkpoint(&(comm.rank() + 10)).unwrap();
    ///     assert_eq!(comm.restore().unwrap(), Some(comm.rank() + 10));
    /// });
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`], at all ranks if at one: if it is of another type or shared storage does not give it, if a rank has
    /// ended, or if the communicator is only of some ranks.
    pub fn restore<T: DeserializeOwned>(&self) -> Result<Option<T>, CheckpointError> {
        self.check_all_ranks()?;
        let desk = self.context().desk();
        let mut found = match self.rank() {
            ROOT => desk.generations(self.task().job, self.size()).map(Vec::into_iter),
            _ => Ok(Vec::new().into_iter()),
        };
        loop {
            let offers = (self.rank() == ROOT).then(|| match &mut found {
                Ok(generations) => generations.next().map_or_else(
                    || vec![Offer::Nothing; self.size()],
                    |parts| parts.into_iter().map(|part| Offer::Part(named(part))).collect(),
                ),
                Err(_) => vec![Offer::Unknown; self.size()],
            });
            let part = match self.scatter(ROOT, offers)? {
                Offer::Part(part) => desk.part(self.task(), unnamed(part)),
                Offer::Nothing => return Ok(None),
                Offer::Unknown => return found.and(Err(CheckpointError::Elsewhere { rank: ROOT })),
            };
            let decode = |bytes: Vec<u8>| codec::decode_checkpoint(&bytes).map_err(CheckpointError::Decode);
            let state = part.and_then(|part| part.map(decode).transpose());
            let fared = match &state {
                Ok(Some(_)) => Fared::Well,
                Ok(None) => Fared::Missing,
                Err(_) => Fared::Failed(self.rank()),
            };
            match (self.all_reduce(fared, Fared::max)?, state) {
                (Fared::Well, state) => return state,
                (Fared::Missing, _) => {}
                (Fared::Failed(_), Err(error)) => return Err(error),
                (Fared::Failed(rank), Ok(_)) => return Err(CheckpointError::Elsewhere { rank }),
            }
        }
    }

    /// Whether a checkpoint is worth its cost now: the same at all ranks. It is once rank 0 finds it due, as
    /// [`TaskContext::checkpoint_due`] says, and at once when the job or the worker of any rank is about to be ended.
    /// Collective: one [`Self::all_reduce`] among the ranks, so ask between steps that take longer than that.
    ///
    /// ```
    /// phalanx::ranks::run(2, |comm| {
    ///     assert!(!comm.checkpoint_due().unwrap(), "they have only begun");
    /// });
    /// ```
    ///
    /// # Errors
    /// Like [`Communicator::barrier`].
    pub fn checkpoint_due(&self) -> Result<bool, CommError> {
        let (desk, index) = (self.context().desk(), self.task().index);
        let own = match self.rank() {
            ROOT => desk.is_due(index),
            _ => desk.is_called(index),
        };
        self.all_reduce(own, |a, b| a | b)
    }

    fn task(&self) -> TaskId {
        TaskId {
            job: self.context().job(),
            index: self.own_place().into(),
        }
    }

    fn check_all_ranks(&self) -> Result<(), CheckpointError> {
        let (ranks, of) = (self.size(), self.endpoint().gang().size());
        match ranks == of {
            true => Ok(()),
            false => Err(CheckpointError::NotAllRanks { ranks, of }),
        }
    }
}

fn named(name: PartName) -> Named {
    (name.attempt, name.count)
}

fn unnamed((attempt, count): Named) -> PartName {
    PartName { attempt, count }
}

#[cfg(test)]
mod tests;
