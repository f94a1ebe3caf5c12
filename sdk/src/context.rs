//! What a running task may ask about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_protocol::message::host::Place;
use phalanx_protocol::{GrantId, JobId, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::{CheckpointError, Desk, Vault};
use crate::host::board::{Line, Lines};
use crate::host::stops::Stops;

/// A running task's view of its job; a kernel receives it by writing a parameter `&TaskContext`.
///
/// ```
/// use phalanx::TaskContext;
///
/// #[phalanx::kernel]
/// fn walk(start: u64, context: &TaskContext) -> Result<u64, String> {
///     let mut sum = 0;
///     for step in 0..1_000 {
///         if context.is_cancelled() {
///             return Err(format!("gave up at step {step}"));
///         }
///         sum += start * step;
///     }
///     Ok(sum)
/// }
///
/// assert_eq!(walk(2, &TaskContext::standalone(7)), Ok(999_000));
/// ```
#[derive(Debug)]
pub struct TaskContext {
    job: JobId,
    /// Its index; written by the slot before each task, so that a panic or a crash is blamed on the right one.
    line: Line,
    stops: Arc<Stops>,
    desk: Desk,
    place: Option<Arc<Place>>,
}

impl TaskContext {
    /// A context outside any job, for calling a kernel directly: job 0, never cancelled, checkpoints in memory.
    pub fn standalone(index: u64) -> Self {
        Self::standalone_in(index, Arc::new(Vault::in_memory()))
    }

    /// The same, with checkpoints in a vault that others may have, too.
    pub(crate) fn standalone_in(index: u64, vault: Arc<Vault>) -> Self {
        let line = Lines::private(1).of_slot(0);
        let context = Self::new(JobId(0), Arc::default(), line, vault, None);
        context.running().store(index, Ordering::Relaxed);
        context
    }

    pub(crate) fn new(
        job: JobId,
        stops: Arc<Stops>,
        line: Line,
        vault: Arc<Vault>,
        place: Option<Arc<Place>>,
    ) -> Self {
        Self {
            job,
            line,
            stops,
            desk: Desk::new(vault),
            place,
        }
    }

    /// The context of the rank that runs in the slot, for the time of its life.
    pub(crate) fn of_rank(&self) -> Self {
        Self {
            job: self.job,
            line: self.line.clone(),
            stops: Arc::clone(&self.stops),
            desk: self.desk.of_rank(),
            place: self.place.clone(),
        }
    }

    /// Where its checkpoints go through.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The task's index in its job, from 0.
    #[inline]
    pub fn index(&self) -> u64 {
        self.line.word().load(Ordering::Relaxed)
    }

    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Whether the job, or this task alone, was ended; what the task returns from now on is not kept.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.stops.is_all() || (self.stops.are_some() && self.stops.has(self.desk.grant(), self.index()))
    }

    /// The gpus that the task has to itself, or a part of one, as `CUDA_VISIBLE_DEVICES` or `ROCR_VISIBLE_DEVICES` would
    /// name them: numbers in the order of the bus, or unique ids. Tasks of other slots in the same process have others, so
    /// no variable says it. None unless the job asks for some (`resource("gpu", 1)`).
    pub fn gpus(&self) -> impl Iterator<Item = &str> {
        let gpus = self.place.iter().flat_map(|place| &place.gpus);
        gpus.map(|gpu| gpu.id.as_str())
    }

    /// The cpus that the task's threads are kept to, by the system's numbers; empty unless the job asks for pinning.
    pub fn cpus(&self) -> &[u32] {
        self.place.as_ref().map_or(&[], |place| &place.cpus)
    }

    /// Saves the task's state to shared storage, where the next attempt at the task finds it, on whichever worker, should
    /// this one be lost. The state is durable when this returns, whole or not at all, and replaces what was saved before.
    /// An attempt that was given up and still runs cannot replace what a later one has saved.
    ///
    /// ```
    /// use phalanx::{CheckpointError, TaskContext};
    ///
    /// #[phalanx::kernel]
    /// fn simulate(seed: u64, context: &TaskContext) -> Result<u64, CheckpointError> {
    ///     let (mut step, mut value) = context.restore()?.unwrap_or((0_u64, seed));
    ///     while step < 1_000 {
    ///         value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    ///         step += 1;
    ///         if context.checkpoint_due() {
    ///             context.checkpoint(&(step, value))?;
    ///         }
    ///     }
    ///     Ok(value)
    /// }
    ///
    /// let context = TaskContext::standalone(0);
    /// let whole = simulate(7, &context)?;
    /// // from the middle on it comes to the same
    /// context.checkpoint(&(1_000_u64, whole))?;
    /// assert_eq!(simulate(7, &context)?, whole);
    /// # Ok::<(), CheckpointError>(())
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`] if the state has no byte form or shared storage does not take it; what was saved before is
    /// then still there.
    pub fn checkpoint(&self, state: &impl Serialize) -> Result<(), CheckpointError> {
        self.desk.save(self.task(), state)
    }

    /// The state that the task saved last, in this attempt or an earlier one; `None` if there is none. A checkpoint that
    /// was damaged is passed over for the one before. The bytes do not say what they are: `T` must be the type that was
    /// saved, to the width of its numbers.
    ///
    /// ```
    /// use phalanx::TaskContext;
    ///
    /// let context = TaskContext::standalone(0);
    /// assert_eq!(context.restore::<u64>()?, None);
    /// context.checkpoint(&17_u64)?;
    /// assert_eq!(context.restore()?, Some(17_u64));
    /// # Ok::<(), phalanx::CheckpointError>(())
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`] if it is of another type or shared storage does not give it.
    pub fn restore<T: DeserializeOwned>(&self) -> Result<Option<T>, CheckpointError> {
        self.desk.restore(self.task())
    }

    /// Whether a checkpoint is worth its cost now. The first one is due after about 10 s; then the time between two
    /// follows from what they have cost and from the mean time between failures (Young, 1974; Daly, 2006), 24 h unless
    /// the worker's environment says otherwise: `PHALANX_MTBF`, in seconds. It is due at once when the task or its worker
    /// is about to be ended. Asking takes some tens of nanoseconds.
    ///
    /// ```
    /// # use phalanx::TaskContext;
    /// assert!(!TaskContext::standalone(0).checkpoint_due(), "it has only begun");
    /// ```
    pub fn checkpoint_due(&self) -> bool {
        self.desk.is_due(self.index())
    }

    fn task(&self) -> TaskId {
        TaskId {
            job: self.job,
            index: self.index(),
        }
    }

    /// Where the task runs, if its job's tasks run in places.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// Notes that tasks of a grant begin.
    pub(crate) fn begin(&self, grant: GrantId) {
        self.desk.begin(grant);
    }

    /// Where the slot writes the index of the task that it begins.
    #[inline]
    pub(crate) fn running(&self) -> &AtomicU64 {
        self.line.word()
    }

    /// Notes that no task runs.
    pub(crate) fn ended(&self) {
        self.line.clear();
    }
}
