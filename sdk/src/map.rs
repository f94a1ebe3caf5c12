//! A job in the making: which kernel over what, with which wishes; its ends submit it.

mod items;
mod ranks;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::limits::{PARAMETERS_INLINE_BYTES_MAX, VALUE_BYTES_MAX};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::view::JobView;
use phalanx_protocol::{
    Amount, BlobId, Encoding, Feeding, Inputs, JobSpec, KernelWork, Payload, Pin, Request, Retries, Sharing,
    SubmissionId, Work, WorkerChoice, codec,
};

pub use self::ranks::Ranks;
use crate::cluster::{Cluster, JobHandle};
use crate::error::{ClientError, JobError};
use crate::kernel::{Kernel, ReduceKernel};
use crate::results::{AsCompleted, Callback, Results, check_outcome};

/// A job that is not submitted yet: made by [`Cluster::map`] or [`Cluster::map_items`].
///
/// ```no_run
/// # use phalanx::Cluster;
/// # #[phalanx::kernel]
/// # fn simulate(seed: u64) -> f64 { seed as f64 }
/// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// let energies = cluster
///     .map::<simulate>(0..10_000)
///     .name("night run")
///     .cpus(2)
///     .memory_bytes(1 << 30)
///     .failures_max(10)
///     .on_progress(|job| eprintln!("{} of {}", job.done, job.tasks))
///     .collect()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a job runs only once one of its ends submits it: `submit`, `run`, `results`, `collect`, ..."]
pub struct Map<K> {
    cluster: Cluster,
    wishes: Wishes,
    tasks: u64,
    /// What users call the first task.
    first: u64,
    /// The first thing that went wrong in the making is told by the end.
    inputs: Result<Source, JobError>,
    parameters: Option<Result<Vec<u8>, JobError>>,
    callbacks: Vec<Callback>,
    kernel: PhantomData<K>,
}

/// Where inputs come from, once they have.
enum Source {
    Index { first: u64 },
    Items { table: BlobId },
}

/// What a job asks for besides its work.
struct Wishes {
    name: String,
    request: Request,
    alternatives: Vec<Request>,
    choice: WorkerChoice,
    priority: i32,
    feeding: Feeding,
    failures_max: Option<u64>,
    retries: Retries,
    task_time_limit: Option<Duration>,
    time_limit: Option<Duration>,
    idempotent: bool,
}

impl<K> std::fmt::Debug for Map<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("name", &self.wishes.name)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

impl<K: Kernel> Map<K> {
    fn new(cluster: Cluster, tasks: u64, first: u64, inputs: Result<Source, JobError>) -> Self {
        Self {
            cluster,
            wishes: Wishes::new(K::NAME),
            tasks,
            first,
            inputs,
            parameters: None,
            callbacks: Vec::new(),
            kernel: PhantomData,
        }
    }

    pub(crate) fn over_indices(cluster: Cluster, indices: Range<u64>) -> Self {
        let tasks = indices.end.saturating_sub(indices.start);
        let first = indices.start;
        Self::new(cluster, tasks, first, Ok(Source::Index { first }))
    }

    pub(crate) fn over_items<I>(cluster: Cluster, items: I) -> Self
    where
        I: IntoIterator,
        I::Item: Borrow<K::Input>,
    {
        match items::upload::<K::Input, _>(&cluster, items) {
            Ok((table, tasks)) => Self::new(cluster, tasks, 0, Ok(Source::Items { table })),
            Err(error) => Self::new(cluster, 0, 0, Err(error)),
        }
    }

    /// Sets what all tasks share; it is sent once to each worker.
    pub fn parameters(mut self, parameters: &K::Parameters) -> Self {
        let mut bytes = Vec::new();
        let encoded = codec::encode_into(parameters, &mut bytes);
        self.parameters = Some(encoded.map(|()| bytes).map_err(|cause| JobError::Encode {
            what: format!("the parameters of kernel `{}`", K::NAME),
            cause,
        }));
        self
    }

    /// Names the job for people; it has the kernel's name unless this is called.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.wishes.name = name.into();
        self
    }

    /// Gives each task this many cpus, 1 unless called; a rayon pool inside a task has as many threads.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.wishes.request.cpus = cpus;
        self
    }

    /// Reserves this many bytes of memory for each task, and ends the process of tasks that use more; unless called,
    /// a task may use what there is.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.wishes.request.memory_bytes = bytes;
        self
    }

    /// Reserves `amount` of a named resource that workers offer (`--resource name=n`) for each task: a number, or a part
    /// of one such as `"0.25".parse()?`.
    pub fn resource(mut self, name: impl Into<String>, amount: impl Into<Amount>) -> Self {
        self.wishes.request.add(&name.into(), amount.into());
        self
    }

    /// Lets tasks have this instead on workers that have not what they need first; may be called several times, in order
    /// of preference. Pinning and sharing are those of the job.
    pub fn or(mut self, request: Request) -> Self {
        self.wishes.alternatives.push(request);
        self
    }

    /// Runs tasks on the workers of these names only, on any of them; may be called several times.
    pub fn on_workers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.wishes.choice.only.extend(names.into_iter().map(Into::into));
        self
    }

    /// Runs tasks on none of the workers of these names; may be called several times.
    pub fn not_on_workers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.wishes.choice.never.extend(names.into_iter().map(Into::into));
        self
    }

    /// Keeps each task's threads to cpus of its own; unless called, the system moves them as it sees fit.
    pub fn pin(mut self, pin: Pin) -> Self {
        self.wishes.request.pin = pin;
        self
    }

    /// Says who else may run on the same workers; anybody unless called.
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.wishes.request.sharing = sharing;
        self
    }

    /// Sets the priority: jobs with a higher one go first; 0 unless called.
    pub fn priority(mut self, priority: i32) -> Self {
        self.wishes.priority = priority;
        self
    }

    /// Stops the job once more than this many tasks have failed; unless called, it goes on to the end.
    pub fn failures_max(mut self, failures: u64) -> Self {
        self.wishes.failures_max = Some(failures);
        self
    }

    /// Says how often a task is run again, by what went wrong, and how long it rests before; [`Retries::default`] unless
    /// called: a task that crashes its process is failed after the third time, one that fails by itself at once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use phalanx::{Cluster, Retries};
    /// # #[phalanx::kernel]
    /// # fn fetch(page: u64) -> Result<u64, String> { Ok(page) }
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let retries = Retries {
    ///     errors: 5,
    ///     timeouts: 2,
    ///     ..Retries::default()
    /// };
    /// let minute = Duration::from_secs(60);
    /// let pages = cluster.map::<fetch>(0..100).retries(retries).task_time_limit(minute).collect()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(mut self, retries: Retries) -> Self {
        self.wishes.retries = retries;
        self
    }

    /// Runs a task up to this many times again after an `Err` or a panic; not once unless called.
    pub fn retry_errors(mut self, retries: u32) -> Self {
        self.wishes.retries.errors = retries;
        self
    }

    /// Ends a task that runs longer than this, with the process that it runs in; rounded down to milliseconds. Shortly
    /// before, [`crate::TaskContext::checkpoint_due`] becomes true. Unless called, a task may run for ever.
    pub fn task_time_limit(mut self, limit: Duration) -> Self {
        self.wishes.task_time_limit = Some(limit);
        self
    }

    /// Ends the job when it has taken longer than this from its first slot on; rounded down to milliseconds. Unless
    /// called, it may take for ever.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.wishes.time_limit = Some(limit);
        self
    }

    /// Says that a task may run twice at the same time without harm. What a slow or stopped worker holds at the end of
    /// the job is then run elsewhere too, once it takes much longer than tasks of the job usually do, and on at most 5 %
    /// of the job's slots; whichever ends first counts. Unless called, a task runs twice only if its worker is given up.
    ///
    /// ```no_run
    /// # use phalanx::Cluster;
    /// # #[phalanx::kernel]
    /// # fn simulate(seed: u64) -> f64 { seed as f64 }
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let energies = cluster.map::<simulate>(0..10_000).idempotent().collect()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn idempotent(mut self) -> Self {
        self.wishes.idempotent = true;
        self
    }

    /// Chooses how grants of work are sized; by weighted factoring unless called.
    pub fn feeding(mut self, feeding: Feeding) -> Self {
        self.wishes.feeding = feeding;
        self
    }

    /// Calls back when the job has moved on and when it has ended: on the thread that waits for it or takes its
    /// results, while it does, so that a slow callback delays nobody else. Changes in between are passed over.
    pub fn on_progress(mut self, callback: impl FnMut(&JobView) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Shows a progress bar on stderr while the job is followed; nothing if stderr is no terminal.
    #[cfg(feature = "progress")]
    pub fn progress_bar(self) -> Self {
        let mut bar = crate::progress_bar::ProgressBar::new();
        self.on_progress(move |job| bar.update(job))
    }

    /// Submits the job and returns once it is on durable storage.
    ///
    /// # Errors
    /// [`JobError`] if an input or the parameters cannot be encoded, or the scheduler refuses the job.
    pub fn submit(self) -> Result<JobHandle<K>, JobError> {
        self.submit_as(false)
    }

    /// Submits the job and returns its results in the order of the inputs, each as soon as it and all before it are
    /// there. Dropping the iterator early does not cancel the job.
    ///
    /// # Errors
    /// Like [`Map::submit`].
    pub fn results(self) -> Result<Results<K>, JobError> {
        Ok(self.submit()?.results())
    }

    /// Submits the job and returns its results with their indices, in the order in which they became durable.
    ///
    /// # Errors
    /// Like [`Map::submit`].
    pub fn as_completed(self) -> Result<AsCompleted<K>, JobError> {
        Ok(self.submit()?.as_completed())
    }

    /// Submits the job, waits for its end and returns all results in the order of the inputs. It waits for the end
    /// also when tasks fail; [`Map::failures_max`] ends such a job sooner.
    ///
    /// # Errors
    /// [`JobError::Failed`] with the first failure if any task failed, or another [`JobError`].
    pub fn collect(self) -> Result<Vec<K::Output>, JobError> {
        self.submit()?.collect()
    }

    /// Submits the job and waits for its end; results stay on the cluster.
    ///
    /// # Errors
    /// Like [`Map::collect`].
    pub fn run(self) -> Result<JobView, JobError> {
        let first = self.first;
        let view = self.submit()?.wait()?;
        check_outcome(&view, first)?;
        Ok(view)
    }

    /// Submits the job with results merged on the workers, and returns the merge of all of them, by index.
    ///
    /// ```no_run
    /// # use phalanx::Cluster;
    /// #[phalanx::kernel(reduce = add)]
    /// fn divisors(number: u64) -> u64 {
    ///     (1..=number).filter(|divisor| number % divisor == 0).count() as u64
    /// }
    ///
    /// fn add(left: u64, right: u64) -> u64 {
    ///     left + right
    /// }
    ///
    /// # fn example(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let all = cluster.map::<divisors>(1..100_000).reduce()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`JobError::Failed`] if any task failed, [`JobError::NothingToReduce`] if there is no task, or another
    /// [`JobError`].
    pub fn reduce(self) -> Result<K::Output, JobError>
    where
        K: ReduceKernel,
    {
        self.submit_as(true)?.fold()
    }

    fn submit_as(self, reduce: bool) -> Result<JobHandle<K>, JobError> {
        let parameters = match self.parameters {
            Some(encoded) => encoded?,
            // the type of "none" has an encoding of no bytes, any other one does not
            None if codec::decode::<K::Parameters>(&[]).is_ok() => Vec::new(),
            None => return Err(JobError::NoParameters { kernel: K::NAME }),
        };
        let inputs = match self.inputs? {
            Source::Index { first } => Inputs::Index { first },
            Source::Items { table } => Inputs::Items { table },
        };
        let cluster = self.cluster;
        let work = KernelWork {
            program: cluster.ensure_own_program(false)?,
            kernel: K::NAME.to_owned(),
            parameters: payload(&cluster, parameters)?,
            inputs,
            encoding: Encoding::Bincode,
            reduce,
        };
        let spec = self.wishes.into_spec(self.tasks, work);
        let job = submit(&cluster, spec)?;
        Ok(JobHandle::new(cluster, job, self.first, self.callbacks))
    }
}

impl Wishes {
    fn new(kernel: &str) -> Self {
        Self {
            name: kernel.to_owned(),
            request: Request::default(),
            alternatives: Vec::new(),
            choice: WorkerChoice::default(),
            priority: 0,
            feeding: Feeding::default(),
            failures_max: None,
            retries: Retries::default(),
            task_time_limit: None,
            time_limit: None,
            idempotent: false,
        }
    }

    fn into_spec(self, tasks: u64, work: KernelWork) -> JobSpec {
        let mut submission = [0; 16];
        // without randomness the hash of all else is as good a name for as long as no two jobs are alike
        if getrandom::fill(&mut submission).is_err() {
            let started = std::time::SystemTime::now();
            let text = format!("{started:?} {} {tasks} {work:?}", std::process::id());
            submission.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        }
        JobSpec {
            submission: SubmissionId(u128::from_le_bytes(submission)),
            name: self.name,
            tasks,
            work: Work::Kernel(work),
            alternatives: self
                .alternatives
                .into_iter()
                .map(|alternative| Request {
                    pin: self.request.pin,
                    sharing: self.request.sharing,
                    ..alternative
                })
                .collect(),
            request: self.request,
            choice: self.choice,
            priority: self.priority,
            feeding: self.feeding,
            failures_max: self.failures_max,
            retries: self.retries,
            task_time_limit_millis: self.task_time_limit.map(millis),
            time_limit_millis: self.time_limit.map(millis),
            idempotent: self.idempotent,
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
            gang: None,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Parameters as they travel: few with the job, many as a blob.
fn payload(cluster: &Cluster, bytes: Vec<u8>) -> Result<Payload, JobError> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(JobError::ParametersTooLarge { bytes: bytes.len() });
    }
    if bytes.len() <= PARAMETERS_INLINE_BYTES_MAX {
        return Ok(Payload::Inline(Bytes::from(bytes)));
    }
    let blob = cluster.block_on(|client| async move { client.ensure_blob(&bytes).await })?;
    Ok(Payload::Blob(blob))
}

fn submit(cluster: &Cluster, spec: JobSpec) -> Result<phalanx_protocol::JobId, ClientError> {
    let program = spec.work.program();
    let hand_in = |spec: JobSpec| cluster.block_on(|client| async move { client.submit(spec).await });
    match hand_in(spec.clone()) {
        // it was there once, and the storage was cleared since
        Err(ClientError::Refused(Refusal::BlobMissing(missing))) if Some(missing) == program => {
            cluster.ensure_own_program(true)?;
            hand_in(spec)
        }
        answer => answer,
    }
}
