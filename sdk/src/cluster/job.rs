//! A job that was submitted by this program.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use phalanx_protocol::JobId;
use phalanx_protocol::view::JobView;

use super::Cluster;
use crate::error::{ClientError, JobError, ProtocolError};
use crate::kernel::{Kernel, ReduceKernel};
use crate::results::{AsCompleted, Callback, Events, Mode, Results, fold, gather};

/// A job in the cluster. Dropping the handle changes nothing about the job.
///
/// ```no_run
/// # use phalanx::Cluster;
/// # #[phalanx::kernel]
/// # fn square(number: u64) -> u64 { number * number }
/// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// let job = cluster.map::<square>(0..1000).submit()?;
/// println!("job {} is {}", job.id(), job.view()?.state());
/// let squares = job.collect()?;
/// # Ok(())
/// # }
/// ```
pub struct JobHandle<K> {
    cluster: Cluster,
    job: JobId,
    /// What users call the first task.
    first: u64,
    /// Taken by the first call that follows the job.
    callbacks: Mutex<Vec<Callback>>,
    kernel: PhantomData<K>,
}

impl<K> std::fmt::Debug for JobHandle<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobHandle")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

impl<K: Kernel> JobHandle<K> {
    pub(crate) fn new(cluster: Cluster, job: JobId, first: u64, callbacks: Vec<Callback>) -> Self {
        Self {
            cluster,
            job,
            first,
            callbacks: Mutex::new(callbacks),
            kernel: PhantomData,
        }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.job
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn view(&self) -> Result<JobView, ClientError> {
        self.cluster.job(self.job)
    }

    /// Ends the job, its unstarted tasks unrun; started ones are told.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.cluster.cancel(self.job)
    }

    /// Waits until the job is over, however it ended; progress callbacks run here.
    ///
    /// # Errors
    /// [`ClientError`] if that cannot be found out.
    pub fn wait(&self) -> Result<JobView, ClientError> {
        let mut events = self.follow(Mode::Changes);
        match events.next() {
            Some(Ok(crate::client::ResultEvent::Ended(view))) => Ok(view),
            Some(Ok(_)) => Err(ClientError::Protocol(ProtocolError::WrongReply)),
            Some(Err(error)) => Err(error),
            None => Err(ClientError::Stopped),
        }
    }

    /// The results in the order of the inputs, as they arrive; progress callbacks run in the iterator's `next`.
    /// Dropping the iterator early does not cancel the job.
    pub fn results(&self) -> Results<K> {
        let events = self.follow(Mode::Results { in_order: true });
        Results::new(self.cluster.clone(), self.job, self.first, events)
    }

    /// The results with their indices, in the order in which they became durable; otherwise like
    /// [`JobHandle::results`].
    pub fn as_completed(&self) -> AsCompleted<K> {
        let events = self.follow(Mode::Results { in_order: false });
        AsCompleted::new(self.cluster.clone(), self.job, self.first, events)
    }

    /// Waits for the end and returns all results in the order of the inputs.
    ///
    /// # Errors
    /// [`JobError::Failed`] with the first failure if any task failed, or another [`JobError`].
    pub fn collect(&self) -> Result<Vec<K::Output>, JobError> {
        gather(self.results())
    }

    fn follow(&self, mode: Mode) -> Events {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        Events::start(&self.cluster, self.job, mode, std::mem::take(&mut *callbacks))
    }

    /// Waits for the end and merges the values of all ranges by index; only for a job that reduces.
    pub(crate) fn fold(&self) -> Result<K::Output, JobError>
    where
        K: ReduceKernel,
    {
        fold::<K>(
            self.follow(Mode::Results { in_order: true }),
            self.job,
            self.first,
        )
    }
}
