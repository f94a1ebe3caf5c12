//! Results as typed iterators. Whole blocks come from the cluster's thread; values are decoded here, on the caller's.
//!
//! The story: [`Events`] follows a job, [`values::Values`] turns its blocks into values, and [`Results`] and
//! [`AsCompleted`] give them out, once in the order of the inputs and once as they come. [`verdict`] decides what the
//! end of a job means.

mod events;
mod reduce;
#[cfg(test)]
mod tests;
mod values;
mod verdict;

use std::collections::{BTreeMap, VecDeque};

use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{IndexRange, JobId, RangeSet};

use crate::cluster::Cluster;
use crate::error::{ClientError, JobError, TaskCause, TaskError, chain};
use crate::kernel::Kernel;
use values::{Step, Values};
use verdict::Tally;

pub(crate) use events::{Callback, Events, Mode};
pub(crate) use reduce::fold;
pub(crate) use verdict::check_outcome;

/// What the iterators have in common.
struct Common<K: Kernel> {
    cluster: Cluster,
    job: JobId,
    /// What users call the first task.
    first: u64,
    values: Values<K::Output>,
    tally: Tally,
    /// The job's last view, or why there is none; nothing follows either.
    end: Option<Result<JobView, JobError>>,
    /// Whether it was told what is missing at the end.
    is_told: bool,
}

impl<K: Kernel> Common<K> {
    fn new(cluster: Cluster, job: JobId, first: u64, events: Events) -> Self {
        Self {
            cluster,
            job,
            first,
            values: Values::new(job, events),
            tally: Tally::default(),
            end: None,
            is_told: false,
        }
    }

    fn failure(&mut self, failure: TaskFailure) -> TaskError {
        let error = TaskError::of(failure, self.first);
        self.tally.fail(error.clone());
        error
    }

    /// After the end, once: says for the task `index`, of which nothing is known, what is missing.
    fn last_item(&mut self, index: u64) -> Option<TaskError> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let (cause, message) = match self.end.as_ref()? {
            Ok(view) => (TaskCause::Unfinished, chain(&self.tally.shortfall(view)?)),
            Err(error @ JobError::Decode { .. }) => (TaskCause::Unreadable, chain(error)),
            Err(error) => (TaskCause::Disconnected, chain(error)),
        };
        Some(TaskError {
            index: self.first.saturating_add(index),
            cause,
            message,
        })
    }

    fn view(&self) -> Option<&JobView> {
        self.end.as_ref().and_then(|end| end.as_ref().ok())
    }

    fn into_verdict(self) -> Result<(), JobError> {
        match self.end {
            Some(Ok(view)) => self.tally.verdict(&view),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// The same where tasks may have been lost.
    fn into_verdict_of_survivors(self) -> Result<(), JobError> {
        match self.end {
            Some(Ok(view)) => self.tally.verdict_of_survivors(&view),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// The results of a job in the order of its inputs.
///
/// Each task gives one item: its value, or the [`TaskError`] that says why there is none. If the job ends without some of
/// its tasks (it was cancelled, say), those without a result are passed over. One last item then says so, as it does if
/// the cluster can't be reached any longer, for the first task of which nothing is known ([`TaskCause::Unfinished`], [`TaskCause::Disconnected`]): a stream that is cut short never
/// looks complete.
///
/// Dropping the iterator early does not cancel the job: [`Results::cancel`] does.
///
/// ```no_run
/// # use phalanx::Cluster;
/// # #[phalanx::kernel]
/// # fn square(number: u64) -> u64 { number * number }
/// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// let mut results = cluster.map::<square>(0..1000).results()?;
/// for result in results.by_ref() {
///     match result {
///         Ok(value) => println!("{value}"),
///         Err(error) => eprintln!("{error}"),
///     }
/// }
/// println!("{:?}", results.view().map(|job| job.state()));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// `next` blocks, and panics if it is called inside an async runtime: use [`crate::Client::results`] there.
pub struct Results<K: Kernel> {
    common: Common<K>,
    /// The task after the last one told.
    next: u64,
    /// Tasks before it that were passed over.
    gaps: RangeSet,
    /// Failures of tasks whose turn has not come.
    failures: BTreeMap<u64, TaskFailure>,
    /// A value that came while failures of tasks before it are still to be told.
    waiting: Option<(u64, K::Output)>,
}

impl<K: Kernel> Results<K> {
    pub(crate) fn new(cluster: Cluster, job: JobId, first: u64, events: Events) -> Self {
        Self {
            common: Common::new(cluster, job, first, events),
            next: 0,
            gaps: RangeSet::new(),
            failures: BTreeMap::new(),
            waiting: None,
        }
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.common.job
    }

    /// Ends the job, its unstarted tasks unrun.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.common.cluster.cancel(self.common.job)
    }

    /// The job as it ended, once all items were taken.
    pub fn view(&self) -> Option<&JobView> {
        self.common.view()
    }

    /// A failure whose turn has come: before `index`, or next in line.
    fn due_failure(&mut self, index: u64) -> Option<TaskError> {
        let entry = self.failures.first_entry()?;
        if *entry.key() >= index {
            return None;
        }
        let failure = entry.remove();
        self.tell(failure.index);
        Some(self.common.failure(failure))
    }

    /// Notes that the item of a task is given out, usually the next one's.
    #[inline]
    fn tell(&mut self, index: u64) {
        match index == self.next {
            true => self.next += 1,
            false => self.tell_out_of_line(index),
        }
    }

    /// A job that ended early has gaps, and a failure may come after the results behind it.
    #[cold]
    fn tell_out_of_line(&mut self, index: u64) {
        let end = index.saturating_add(1);
        if index > self.next {
            self.gaps.insert(IndexRange::new(self.next, index));
        }
        self.gaps.remove(IndexRange::new(index, end));
        self.next = self.next.max(end);
    }
}

impl<K: Kernel> Iterator for Results<K> {
    type Item = Result<K::Output, TaskError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failures.is_empty()
            && self.waiting.is_none()
            && let Some((index, value)) = self.common.values.next_in_block()
        {
            self.tell(index);
            self.common.tally.values += 1;
            return Some(Ok(value));
        }
        self.next_slowly()
    }
}

impl<K: Kernel> Results<K> {
    /// The next item where more than the current block counts.
    fn next_slowly(&mut self) -> Option<Result<K::Output, TaskError>> {
        loop {
            let next_in_line = self.next.saturating_add(1);
            let before = self.waiting.as_ref().map_or(next_in_line, |(index, _)| *index);
            if let Some(error) = self.due_failure(before) {
                return Some(Err(error));
            }
            if let Some((index, value)) = self.waiting.take() {
                self.tell(index);
                self.common.tally.values += 1;
                return Some(Ok(value));
            }
            if self.common.end.is_some() {
                let failure = self.due_failure(u64::MAX);
                let unknown = self.gaps.first().unwrap_or(self.next);
                return failure.or_else(|| self.common.last_item(unknown)).map(Err);
            }
            match self.common.values.next() {
                Step::Value(index, value) => self.waiting = Some((index, value)),
                Step::Failed(failures) => {
                    let by_index = failures.into_iter().map(|failure| (failure.index, failure));
                    self.failures.extend(by_index);
                }
                Step::End(end) => self.common.end = Some(*end),
            }
        }
    }
}

/// The results of a job with their indices, in the order in which they became durable; otherwise like [`Results`].
///
/// ```no_run
/// # use phalanx::Cluster;
/// # #[phalanx::kernel]
/// # fn square(number: u64) -> u64 { number * number }
/// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// for (index, value) in cluster.map::<square>(0..1000).as_completed()? {
///     println!("{index}: {}", value?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Like [`Results`].
pub struct AsCompleted<K: Kernel> {
    common: Common<K>,
    failures: VecDeque<TaskFailure>,
}

impl<K: Kernel> AsCompleted<K> {
    pub(crate) fn new(cluster: Cluster, job: JobId, first: u64, events: Events) -> Self {
        Self {
            common: Common::new(cluster, job, first, events),
            failures: VecDeque::new(),
        }
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.common.job
    }

    /// Ends the job, its unstarted tasks unrun.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.common.cluster.cancel(self.common.job)
    }

    /// The job as it ended, once all items were taken.
    pub fn view(&self) -> Option<&JobView> {
        self.common.view()
    }
}

impl<K: Kernel> Iterator for AsCompleted<K> {
    type Item = (u64, Result<K::Output, TaskError>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((index, value)) = self.common.values.next_in_block() {
                self.common.tally.values += 1;
                return Some((self.common.first.saturating_add(index), Ok(value)));
            }
            if let Some(failure) = self.failures.pop_front() {
                let error = self.common.failure(failure);
                return Some((error.index, Err(error)));
            }
            if self.common.end.is_some() {
                // which tasks are missing is not known here, so it is told for the first one
                let error = self.common.last_item(0)?;
                return Some((error.index, Err(error)));
            }
            match self.common.values.next() {
                Step::Value(index, value) => {
                    self.common.tally.values += 1;
                    return Some((self.common.first.saturating_add(index), Ok(value)));
                }
                Step::Failed(failures) => self.failures.extend(failures),
                Step::End(end) => self.common.end = Some(*end),
            }
        }
    }
}

impl<K: Kernel> std::fmt::Debug for Results<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Results")
            .field("job", &self.common.job)
            .finish_non_exhaustive()
    }
}

impl<K: Kernel> std::fmt::Debug for AsCompleted<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsCompleted")
            .field("job", &self.common.job)
            .finish_non_exhaustive()
    }
}

/// Takes all results; fails with what the job's end means if there is not one for each task.
pub(crate) fn gather<K: Kernel>(mut results: Results<K>) -> Result<Vec<K::Output>, JobError> {
    let mut values = Vec::new();
    let mut all_well = true;
    for result in results.by_ref() {
        match result {
            Ok(value) if all_well => values.push(value),
            Ok(_) => {}
            Err(_) => {
                all_well = false;
                values = Vec::new();
            }
        }
    }
    results.common.into_verdict()?;
    Ok(values)
}

/// Takes what the ranks of a gang returned, by rank; fails with what the job's end means unless it has succeeded without the
/// others.
pub(crate) fn survivors<K: Kernel>(
    mut completed: AsCompleted<K>,
) -> Result<Vec<(usize, K::Output)>, JobError> {
    let values = completed
        .by_ref()
        .filter_map(|(index, result)| Some((usize::try_from(index).ok()?, result.ok()?)));
    let values: BTreeMap<usize, K::Output> = values.collect();
    completed.common.into_verdict_of_survivors()?;
    Ok(values.into_iter().collect())
}
