//! One start of a gang, as far as its ranks are on this host: how they get together, and what ends it.
//!
//! If ranks are on other nodes, theirs may be the first failure, and its consequences arrive here before the scheduler has
//! heard of it. So a rank that fails after one elsewhere has ended waits for a moment before it says so: if the scheduler ends
//! the epoch meanwhile, what is said here does not count.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use phalanx_protocol::gang::GangNode;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;

use crate::host::gang_link::GangLink;
use crate::host::lock;
use crate::kernel::runner::Failed;
use crate::ranks::{Ending, Hosted, RemoteGang};

/// How long a rank that fails after one on another node has ended lets that one be heard first. The loss of a process is
/// noticed before; that of a machine counts the same, whoever tells it.
const OTHERS_FIRST: Duration = Duration::from_secs(3);

/// See the module's documentation.
pub(super) struct Epoch {
    number: u32,
    /// Set once the ranks can talk, or it is known that they never will.
    gang: OnceLock<Result<Hosted, Failed>>,
    far: Option<Far>,
    progress: Mutex<Progress>,
    /// Rung when the gang is there, and when a rank or the epoch has ended.
    change: Condvar,
}

/// The gang's other nodes.
struct Far {
    link: Arc<GangLink>,
    here: u32,
    nodes: Vec<GangNode>,
    /// The node of each rank.
    node_of: Vec<u32>,
    /// From the moment they are met until the last rank here has ended.
    joined: Mutex<Option<RemoteGang>>,
}

struct Progress {
    /// Ranks of this host that have not succeeded yet.
    left: usize,
    /// Ranks of this host that may still need the others.
    living: usize,
    /// Grants of which ranks have begun.
    grants: Vec<GrantId>,
    /// Why the epoch is over, and by which rank.
    failed: Option<(u64, Failed)>,
    stopped: bool,
}

impl Epoch {
    /// Gets the ranks together, in the background if some are elsewhere.
    pub(super) fn begin(gang: HostGang, link: Option<Arc<GangLink>>) -> Arc<Self> {
        let HostGang { placement, node, .. } = gang;
        let is_far = placement.nodes.len() > 1;
        let here = placement.node_of.iter().filter(|&&of| of == node).count();
        let ranks = u32::try_from(placement.node_of.len()).unwrap_or(u32::MAX);
        let far = link.filter(|_| is_far).map(|link| Far {
            link,
            here: node,
            nodes: placement.nodes,
            node_of: placement.node_of,
            joined: Mutex::default(),
        });
        let epoch = Arc::new(Self {
            number: placement.epoch,
            gang: OnceLock::new(),
            far,
            progress: Mutex::new(Progress {
                left: here,
                living: here,
                grants: Vec::new(),
                failed: None,
                stopped: false,
            }),
            change: Condvar::new(),
        });
        if epoch.far.is_some() {
            let meeting = Arc::clone(&epoch);
            let thread = thread::Builder::new().name("gang meeting".to_owned());
            if let Err(error) = thread.spawn(move || meeting.meet()) {
                epoch.settle(Err(apart(&error)));
            }
        } else if is_far {
            epoch.settle(Err(apart(&"this host has no port for them")));
        } else {
            epoch.settle(Hosted::new(ranks).ok_or_else(|| apart(&"it has no ranks")));
        }
        epoch
    }

    /// Which start of the gang it is, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Waits until the other nodes are met.
    fn meet(&self) {
        let Some(far) = &self.far else { return };
        let met = far.link.join(far.node_of.clone());
        self.settle(met.map_err(|error| apart(&error)).map(|joined| {
            let hosted = joined.hosted();
            *lock(&far.joined) = Some(joined);
            hosted
        }));
    }

    fn settle(&self, gang: Result<Hosted, Failed>) {
        // set once, by whoever gets the ranks together
        let _ = self.gang.set(gang);
        let stopped = lock(&self.progress).stopped;
        self.change.notify_all();
        if stopped {
            self.disband();
        }
    }

    /// Notes that a rank begins, unless the epoch is over, and waits until it can talk to the others.
    pub(super) fn enter(&self, rank: u64, grant: GrantId) -> Result<&Hosted, Failed> {
        let mut progress = lock(&self.progress);
        if !progress.grants.contains(&grant) {
            progress.grants.push(grant);
        }
        loop {
            if let Some(failed) = progress.over(rank) {
                return Err(failed);
            }
            if let Some(gang) = self.gang.get() {
                return gang.as_ref().map_err(Clone::clone);
            }
            progress = self.change.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a rank needs the others no more. With the last one, this host leaves: others may still receive what was
    /// sent here, so that is not waited for.
    pub(super) fn leave(&self) {
        let mut progress = lock(&self.progress);
        progress.living = progress.living.saturating_sub(1);
        let is_last = progress.living == 0;
        drop(progress);
        let joined = self.far.as_ref().filter(|_| is_last);
        if let Some(joined) = joined.and_then(|far| lock(&far.joined).take()) {
            let thread = thread::Builder::new().name("gang farewell".to_owned());
            if let Err(error) = thread.spawn(move || joined.leave()) {
                tracing::warn!(%error, "left a gang without a farewell");
            }
        }
    }

    /// Notes that a rank has succeeded, and waits until all of this host have, or one has not.
    pub(super) fn await_others(&self, rank: u64) -> Result<(), Failed> {
        let mut progress = lock(&self.progress);
        progress.left = progress.left.saturating_sub(1);
        self.change.notify_all();
        loop {
            if progress.left == 0 {
                return Ok(());
            }
            if let Some(failed) = progress.over(rank) {
                return Err(failed);
            }
            progress = self.change.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a rank has failed, or what that comes from.
    pub(super) fn fail(&self, rank: u64, failed: Failed) {
        let elsewhere = self.ended_elsewhere();
        let mut progress = lock(&self.progress);
        if elsewhere.is_some() {
            let until = Instant::now() + OTHERS_FIRST;
            while progress.over(rank).is_none() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.change.wait_timeout(progress, left);
                progress = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let lost = elsewhere.and_then(|(node, ending)| self.loss_of(node, ending));
        progress.failed.get_or_insert((rank, lost.unwrap_or(failed)));
        drop(progress);
        self.change.notify_all();
    }

    /// The node of a rank that has ended elsewhere, and how: one that is lost, if there is one.
    fn ended_elsewhere(&self) -> Option<(u32, Ending)> {
        let (far, gang) = (self.far.as_ref()?, self.gang.get()?.as_ref().ok()?);
        let ranks = (0..).zip(far.node_of.iter().copied());
        let elsewhere = ranks.filter(|&(_, node)| node != far.here);
        let ended = elsewhere.filter_map(|(rank, node)| Some((node, gang.ending(rank)?)));
        ended.max_by_key(|&(node, ending)| (ending == Ending::Lost, std::cmp::Reverse(node)))
    }

    /// What is to be said of a node if it is lost.
    fn loss_of(&self, node: u32, ending: Ending) -> Option<Failed> {
        let at = self.far.as_ref()?.nodes.get(node as usize)?;
        let (worker, address) = (at.worker, &at.address);
        let message = format!("node {node} of the gang was lost: worker {worker} at {address}");
        (ending == Ending::Lost).then_some((FailureCause::Lost, message))
    }

    /// Why a rank has failed, if that is known.
    pub(super) fn blame(&self, rank: u64) -> Option<Failed> {
        lock(&self.progress).over(rank)
    }

    /// Whether ranks of a grant have begun.
    pub(super) fn concerns(&self, grant: GrantId) -> bool {
        lock(&self.progress).grants.contains(&grant)
    }

    /// Ends the epoch before its time.
    pub(super) fn stop(&self) {
        lock(&self.progress).stopped = true;
        self.change.notify_all();
        if let Some(far) = &self.far {
            far.link.abandon();
        }
        self.disband();
    }

    fn disband(&self) {
        if let Some(Ok(gang)) = self.gang.get() {
            gang.disband();
        }
    }
}

/// What ranks fail of that cannot talk to each other.
fn apart(why: &dyn std::fmt::Display) -> Failed {
    (
        FailureCause::Error,
        format!("the ranks did not get together: {why}"),
    )
}

impl Progress {
    /// What a rank has failed of, if the epoch is over.
    fn over(&self, rank: u64) -> Option<Failed> {
        match &self.failed {
            Some((by, failed)) if *by == rank => Some(failed.clone()),
            // no rank's doing
            Some((_, failed)) if failed.0 == FailureCause::Lost => Some(failed.clone()),
            Some((by, (cause, message))) => Some((*cause, format!("rank {by} failed: {message}"))),
            None if self.stopped => Some((FailureCause::Error, "it was ended".to_owned())),
            None => None,
        }
    }
}
