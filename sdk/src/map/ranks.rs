//! A gang in the making: which function its ranks run, how many they are, with which wishes.

use std::marker::PhantomData;
use std::time::Duration;

use phalanx_protocol::gang::{Gang, OnLoss, RankMap};
use phalanx_protocol::{Encoding, Inputs, KernelWork, Request, Retries, codec};

use super::{Wishes, payload, submit};
use crate::cluster::{Cluster, JobHandle};
use crate::error::JobError;
use crate::kernel::RankKernel;
use crate::kernel::ranks::Ranked;
use crate::results::survivors;

/// A gang that is not submitted yet: made by [`Cluster::ranks`].
#[must_use = "ranks run only once `collect` submits them"]
pub struct Ranks<K> {
    cluster: Cluster,
    wishes: Wishes,
    ranks: u32,
    gang: Gang,
    input: Result<Vec<u8>, JobError>,
    kernel: PhantomData<K>,
}

impl<K> std::fmt::Debug for Ranks<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranks")
            .field("name", &self.wishes.name)
            .field("ranks", &self.ranks)
            .finish_non_exhaustive()
    }
}

impl<K: RankKernel> Ranks<K> {
    pub(crate) fn new(cluster: Cluster, ranks: u32, input: &K::Input) -> Self {
        let mut bytes = Vec::new();
        let encoded = codec::encode_into(input, &mut bytes);
        Self {
            cluster,
            wishes: Wishes::new(K::NAME),
            ranks,
            gang: Gang::default(),
            input: encoded.map(|()| bytes).map_err(|cause| JobError::Encode {
                what: format!("the input of the ranks of `{}`", K::NAME),
                cause,
            }),
            kernel: PhantomData,
        }
    }

    /// Names the job for people; it has the function's name unless this is called.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.wishes.name = name.into();
        self
    }

    /// Gives each rank this many cpus, 1 unless called.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.wishes.request.cpus = cpus;
        self
    }

    /// Reserves this many bytes of memory for each rank.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.wishes.request.memory_bytes = bytes;
        self
    }

    /// Sets the whole request of each rank.
    pub fn request(mut self, request: Request) -> Self {
        self.wishes.request = request;
        self
    }

    /// Sets the priority: jobs with a higher one go first; 0 unless called.
    pub fn priority(mut self, priority: i32) -> Self {
        self.wishes.priority = priority;
        self
    }

    /// Spreads the ranks evenly over this many nodes; over as few as have room unless called. Ranks on different nodes talk over
    /// QUIC.
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.gang.nodes = Some(nodes);
        self
    }

    /// Puts this many ranks on each node, the last may have fewer; at most as many if [`Self::nodes`] is called, too.
    pub fn ranks_per_node(mut self, ranks: u32) -> Self {
        self.gang.ranks_per_node = Some(ranks);
        self
    }

    /// Says which rank is on which node; [`RankMap::Block`] unless called.
    pub fn rank_map(mut self, map: RankMap) -> Self {
        self.gang.map = map;
        self
    }

    /// Lets the job fail when a worker or a host of its ranks is lost; unless called, all ranks start again.
    pub fn fail_on_loss(mut self) -> Self {
        self.gang.on_loss = OnLoss::Fail;
        self
    }

    /// Lets the other ranks go on when a worker or a host of some is lost; unless called, all ranks start again. Operations that
    /// need a lost rank fail with an error that names it; the others [revoke](crate::Communicator::revoke) the communicator,
    /// make one of those that are left with [`shrink`](crate::Communicator::shrink), and go on with that. What they return is had by
    /// [`Self::collect_survivors`]. A rank that returns the error instead fails the job. If nobody is left, all start again.
    ///
    /// ```no_run
    /// use phalanx::ranks::CommError;
    /// use phalanx::{Cluster, Communicator};
    ///
    /// #[phalanx::ranks]
    /// fn total(comm: &Communicator, own: u64) -> Result<u64, CommError> {
    ///     comm.all_reduce(own, |a, b| a + b).or_else(|_| {
    ///         comm.revoke();
    ///         comm.shrink().all_reduce(own, |a, b| a + b)
    ///     })
    /// }
    ///
    /// # fn example(cluster: Cluster) -> Result<(), phalanx::JobError> {
    /// let ranks = cluster.ranks::<total>(8, &1).nodes(4).shrink_on_loss();
    /// for (rank, total) in ranks.collect_survivors()? {
    ///     println!("rank {rank}: {total} are left");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn shrink_on_loss(mut self) -> Self {
        self.gang.on_loss = OnLoss::Shrink;
        self
    }

    /// Lets only those ranks start again whose worker or host is lost, wherever there is room, while the others run on; unless
    /// called, all ranks start again. Operations that need a lost rank fail with an error that names it; the others meet the
    /// replacements with [`respawn`](crate::Communicator::respawn), and all go on from the last complete
    /// [checkpoint](crate::Communicator::checkpoint). A rank that returns such an error instead lets all start again. If nobody is
    /// left, or a rank has returned already, all start again, too.
    ///
    /// ```no_run
    /// use phalanx::{CheckpointError, Cluster, Communicator};
    ///
    /// #[phalanx::ranks]
    /// fn simulate(comm: &Communicator, steps: u64) -> Result<f64, CheckpointError> {
    ///     match advance(comm, steps) {
    ///         Err(_) if !comm.failed().is_empty() => simulate(&comm.respawn()?, steps),
    ///         result => result,
    ///     }
    /// }
    ///
    /// fn advance(comm: &Communicator, steps: u64) -> Result<f64, CheckpointError> {
    ///     let (mut step, mut value) = comm.restore()?.unwrap_or((0_u64, 1.0));
    ///     while step < steps {
    ///         value = comm.all_reduce(value, |a, b| (a + b) / 2.0)?;
    ///         step += 1;
    ///         if comm.checkpoint_due()? {
    ///             comm.checkpoint(&(step, value))?;
    ///         }
    ///     }
    ///     Ok(value)
    /// }
    ///
    /// # fn example(cluster: Cluster) -> Result<(), phalanx::JobError> {
    /// let ranks = cluster.ranks::<simulate>(8, &10_000).nodes(4).respawn_on_loss();
    /// println!("{:?}", ranks.collect()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn respawn_on_loss(mut self) -> Self {
        self.gang.on_loss = OnLoss::Respawn;
        self
    }

    /// Says how often all ranks start again, by what went wrong with one of them; [`Retries::default`] unless called: not
    /// once after an error or a panic.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.wishes.retries = retries;
        self
    }

    /// Starts all ranks again up to this many times after an `Err` or a panic of one; not once unless called.
    pub fn retry_errors(mut self, retries: u32) -> Self {
        self.wishes.retries.errors = retries;
        self
    }

    /// Ends the job when it has taken longer than this; rounded down to milliseconds. Unless called, it may take for ever.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.wishes.time_limit = Some(limit);
        self
    }

    /// Submits the job, waits for its end and returns what the ranks returned, by rank.
    ///
    /// # Errors
    /// [`JobError::Failed`] with the failure of a rank, also of one that was lost to a gang that went on, or another [`JobError`] if
    /// the input cannot be encoded or the scheduler refuses the job.
    pub fn collect(self) -> Result<Vec<K::Output>, JobError> {
        self.submit()?.collect()
    }

    /// Submits the job, waits for its end and returns what those ranks returned that were not lost, each with its rank, ascending.
    /// For gangs that [go on without what they lose](Self::shrink_on_loss); of others, that is all ranks.
    ///
    /// # Errors
    /// Like [`Self::collect`], but ranks that were lost to a gang that went on are no failure.
    pub fn collect_survivors(self) -> Result<Vec<(usize, K::Output)>, JobError> {
        survivors(self.submit()?.as_completed())
    }

    fn submit(self) -> Result<JobHandle<Ranked<K>>, JobError> {
        let cluster = self.cluster;
        let work = KernelWork {
            program: cluster.ensure_own_program(false)?,
            kernel: K::NAME.to_owned(),
            parameters: payload(&cluster, self.input?)?,
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        };
        let mut spec = self.wishes.into_spec(self.ranks.into(), work);
        spec.gang = Some(Box::new(self.gang));
        let job = submit(&cluster, spec)?;
        Ok(JobHandle::new(cluster, job, 0, Vec::new()))
    }
}
