//! State that a task saves to resume from: where it lies, which attempt wrote it, and when the next is worth its cost.
//!
//! A job's slots share a [`Vault`]; each slot's context has a [`Desk`] that knows the attempt under way. What a kernel
//! sees of this are methods of [`crate::TaskContext`]. The rules by which one attempt's checkpoints outrank another's are
//! those of `phalanx_storage::checkpoints`. What ranks save together goes through [`gang`].

mod gang;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use phalanx_protocol::{GrantId, TaskId, Term, codec};
use phalanx_storage::{Checkpoints, Directory, GangCheckpoints, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::gang::PartsInMemory;
pub(crate) use self::gang::SavedPart;
use crate::ranks::CommError;

/// How long a task runs before its first checkpoint is due; from then on its measured cost decides.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// The time that is taken to lie between two failures, unless [`MTBF_VARIABLE`] says otherwise.
const MTBF: Duration = Duration::from_secs(24 * 3600);
/// The environment variable with the mean time between failures, in seconds.
const MTBF_VARIABLE: &str = "PHALANX_MTBF";

/// Why a checkpoint was not saved or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The state has no byte form.
    #[error("the state cannot be encoded")]
    Encode(#[source] codec::EncodeError),
    /// What was saved is of another type.
    #[error("the saved state is of another type")]
    Decode(#[source] codec::DecodeError),
    /// Shared storage cannot be opened.
    #[error("shared storage cannot be used")]
    Storage(#[source] StoreError),
    /// Shared storage did not take it.
    #[error("shared storage did not take the checkpoint")]
    Save(#[source] phalanx_storage::CheckpointError),
    /// Shared storage did not give it.
    #[error("shared storage did not give the checkpoint")]
    Read(#[source] StoreError),
    /// Ranks did not get through it together, since one of them has ended or the communicator was revoked.
    #[error("the ranks did not get through the checkpoint together")]
    Ranks(#[from] CommError),
    /// Another rank could not save or read its part, and says why.
    #[error("rank {rank} could not do its part of the checkpoint")]
    Elsewhere {
        /// Which one.
        rank: usize,
    },
    /// The communicator is not of all ranks of the gang.
    #[error("a checkpoint of a gang is of all its {of} ranks, the communicator has {ranks}")]
    NotAllRanks {
        /// How many the communicator has.
        ranks: usize,
        /// How many the gang has.
        of: usize,
    },
}

/// Where the tasks of a job keep their checkpoints.
#[derive(Debug)]
pub(crate) struct Vault {
    /// `None`: in memory, for a task outside any job.
    root: Option<PathBuf>,
    checkpoints: OnceLock<Checkpoints>,
    memory: Mutex<Option<Vec<u8>>>,
    /// The same for the ranks of a gang outside any job.
    parts_in_memory: Mutex<PartsInMemory>,
    gang_checkpoints: OnceLock<GangCheckpoints>,
    /// How often all tasks were asked to save what they have.
    calls: AtomicU64,
    mtbf: Duration,
}

impl Vault {
    /// On the shared storage at `root`, which is opened once a task needs it.
    pub(crate) fn on_storage(root: PathBuf) -> Self {
        let seconds = std::env::var(MTBF_VARIABLE).ok();
        let seconds = seconds.and_then(|text| text.parse::<f64>().ok());
        let mtbf = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self::new(Some(root), mtbf.unwrap_or(MTBF))
    }

    /// In memory, for one task.
    pub(crate) fn in_memory() -> Self {
        Self::new(None, MTBF)
    }

    fn new(root: Option<PathBuf>, mtbf: Duration) -> Self {
        Self {
            root,
            checkpoints: OnceLock::new(),
            memory: Mutex::default(),
            parts_in_memory: Mutex::default(),
            gang_checkpoints: OnceLock::new(),
            calls: AtomicU64::new(0),
            mtbf,
        }
    }

    /// Asks all tasks to save what they have.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn checkpoints(&self) -> Result<Option<&Checkpoints>, CheckpointError> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        if let Some(checkpoints) = self.checkpoints.get() {
            return Ok(Some(checkpoints));
        }
        let directory = Directory::open(root).map_err(CheckpointError::Storage)?;
        let opened = Checkpoints::new(Arc::new(directory));
        Ok(Some(self.checkpoints.get_or_init(|| opened)))
    }

    fn save(
        &self,
        task: TaskId,
        attempt: GrantId,
        count: u32,
        payload: Vec<u8>,
    ) -> Result<(), CheckpointError> {
        match self.checkpoints()? {
            Some(checkpoints) => checkpoints
                .save(task, attempt, count, &payload)
                .map_err(CheckpointError::Save),
            None => {
                *lock(&self.memory) = Some(payload);
                Ok(())
            }
        }
    }

    fn newest(&self, task: TaskId) -> Result<Option<Vec<u8>>, CheckpointError> {
        match self.checkpoints()? {
            Some(checkpoints) => {
                let newest = checkpoints.newest(task).map_err(CheckpointError::Read)?;
                Ok(newest.map(|checkpoint| checkpoint.payload))
            }
            None => Ok(lock(&self.memory).clone()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot's side: which attempt runs there, and what is known of its checkpoints.
#[derive(Debug)]
pub(crate) struct Desk {
    vault: Arc<Vault>,
    piece: Mutex<Piece>,
}

/// Tasks that a slot runs one after the other.
#[derive(Debug)]
struct Piece {
    grant: GrantId,
    /// Calls that came before its first task began.
    calls_before: u64,
    /// The task that has asked something last.
    task: Option<Progress>,
}

#[derive(Debug)]
struct Progress {
    index: u64,
    /// Checkpoints that it tried to save.
    count: u32,
    saved: u32,
    cost: Duration,
    /// When it began, as far as is known, or last saved.
    since: Instant,
    calls_answered: u64,
}

impl Desk {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        let grant = GrantId {
            term: Term(0),
            number: 0,
        };
        let piece = Mutex::new(Piece {
            grant,
            calls_before: 0,
            task: None,
        });
        Self { vault, piece }
    }

    /// Notes that tasks of a grant begin.
    pub(crate) fn begin(&self, grant: GrantId) {
        *lock(&self.piece) = Piece {
            grant,
            calls_before: self.vault.calls(),
            task: None,
        };
    }

    /// The grant whose tasks run.
    pub(crate) fn grant(&self) -> GrantId {
        lock(&self.piece).grant
    }

    /// Saves a task's state.
    pub(crate) fn save(&self, task: TaskId, state: &impl Serialize) -> Result<(), CheckpointError> {
        let began = Instant::now();
        let mut payload = Vec::new();
        codec::encode_into(state, &mut payload).map_err(CheckpointError::Encode)?;
        // a slot runs one task, and whoever else it has at work may wait
        let mut piece = lock(&self.piece);
        let (attempt, calls) = (piece.grant, self.vault.calls());
        let progress = piece.progress(task.index);
        progress.count += 1;
        self.vault.save(task, attempt, progress.count, payload)?;
        progress.saved(began, calls);
        Ok(())
    }

    /// The newest state of a task, of whichever attempt.
    pub(crate) fn restore<T: DeserializeOwned>(&self, task: TaskId) -> Result<Option<T>, CheckpointError> {
        let found = self.vault.newest(task)?;
        let state = found.map(|payload| codec::decode_checkpoint(&payload).map_err(CheckpointError::Decode));
        lock(&self.piece).progress(task.index);
        state.transpose()
    }

    /// Whether the task should save its state.
    pub(crate) fn is_due(&self, index: u64) -> bool {
        let mut piece = lock(&self.piece);
        let progress = piece.progress(index);
        progress.calls_answered < self.vault.calls()
            || progress.since.elapsed() >= progress.interval(self.vault.mtbf)
    }

    /// Whether the task was asked to save its state, and has not since.
    pub(crate) fn is_called(&self, index: u64) -> bool {
        lock(&self.piece).progress(index).calls_answered < self.vault.calls()
    }

    /// The same place and attempt, for what a task does on another thread's behalf.
    pub(crate) fn of_rank(&self) -> Self {
        let desk = Self::new(Arc::clone(&self.vault));
        desk.begin(self.grant());
        desk
    }
}

impl Piece {
    /// What is known of a task: nothing yet, unless it has asked before.
    fn progress(&mut self, index: u64) -> &mut Progress {
        let known = self.task.take().filter(|task| task.index == index);
        self.task.insert(known.unwrap_or_else(|| Progress {
            index,
            count: 0,
            saved: 0,
            cost: Duration::ZERO,
            since: Instant::now(),
            calls_answered: self.calls_before,
        }))
    }
}

impl Progress {
    /// Notes a checkpoint that was begun then, after so many calls.
    fn saved(&mut self, began: Instant, calls: u64) {
        self.saved += 1;
        self.cost += began.elapsed();
        self.since = Instant::now();
        self.calls_answered = calls;
    }

    /// The time between two checkpoints that costs least: `sqrt(2 C M)` for checkpoints that cost `C` each and a mean
    /// time `M` between failures (Young, 1974; Daly, 2006).
    fn interval(&self, mtbf: Duration) -> Duration {
        match self.saved {
            0 => FIRST_AFTER,
            saved => {
                let cost = self.cost.as_secs_f64() / f64::from(saved);
                Duration::try_from_secs_f64((2.0 * cost * mtbf.as_secs_f64()).sqrt()).unwrap_or(mtbf)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::JobId;

    use super::*;

    const TASK: TaskId = TaskId {
        job: JobId(1),
        index: 3,
    };

    fn grant(number: u64) -> GrantId {
        GrantId {
            term: Term(1),
            number,
        }
    }

    #[test]
    fn the_next_attempt_finds_the_last_state_and_an_earlier_one_cannot_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let desk = || Desk::new(Arc::new(Vault::on_storage(folder.path().into())));
        let (first, second) = (desk(), desk());
        first.begin(grant(1));
        assert_eq!(first.restore::<u64>(TASK).unwrap(), None);
        first.save(TASK, &10_u64).unwrap();
        second.begin(grant(2));
        assert_eq!(second.restore::<u64>(TASK).unwrap(), Some(10));
        second.save(TASK, &20_u64).unwrap();
        first.save(TASK, &11_u64).unwrap();
        assert_eq!(desk().restore::<u64>(TASK).unwrap(), Some(20));
        assert!(matches!(
            desk().restore::<String>(TASK),
            Err(CheckpointError::Decode(_))
        ));
    }

    #[test]
    fn the_interval_is_that_of_young_and_daly_once_the_cost_is_known() {
        let mut progress = Progress {
            index: 0,
            count: 0,
            saved: 0,
            cost: Duration::ZERO,
            since: Instant::now(),
            calls_answered: 0,
        };
        assert_eq!(progress.interval(MTBF), FIRST_AFTER);
        (progress.saved, progress.cost) = (2, Duration::from_secs(4));
        // sqrt(2 * 2 s * 86400 s)
        assert_eq!(progress.interval(MTBF).as_secs(), 587);
        assert_eq!(progress.interval(Duration::from_secs(1)), Duration::from_secs(2));
    }

    #[test]
    fn a_call_is_answered_by_one_checkpoint_and_is_not_for_tasks_that_begin_later() {
        let vault = Arc::new(Vault::in_memory());
        let desk = Desk::new(Arc::clone(&vault));
        desk.begin(grant(1));
        assert!(!desk.is_due(3));
        vault.call();
        assert!(desk.is_due(3) && desk.is_due(4), "both began before the call");
        desk.save(TASK, &1_u64).unwrap();
        assert!(!desk.is_due(3));
        desk.begin(grant(2));
        assert!(!desk.is_due(5));
    }
}
