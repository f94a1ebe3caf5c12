//! What a running task may ask about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phalanx_protocol::JobId;

use crate::host::board::{Line, Lines};

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
    cancelled: Arc<AtomicBool>,
}

impl TaskContext {
    /// A context outside any job, for calling a kernel directly: job 0, never cancelled.
    pub fn standalone(index: u64) -> Self {
        let context = Self::new(JobId(0), Arc::default(), Lines::private(1).of_slot(0));
        context.running().store(index, Ordering::Relaxed);
        context
    }

    pub(crate) fn new(job: JobId, cancelled: Arc<AtomicBool>, line: Line) -> Self {
        Self {
            job,
            line,
            cancelled,
        }
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

    /// Whether the job was ended; what the task returns from now on is not kept.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
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
