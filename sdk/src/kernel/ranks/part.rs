//! The part of a gang that is on this host, from its start to the end of its last rank: which epoch its ranks are in, and what
//! ends it.
//!
//! If ranks are on other nodes, theirs may be the first failure, and its consequences arrive here before the scheduler has
//! heard of it. So a rank that fails after one elsewhere has ended waits for a moment before it says so: if the scheduler ends
//! the epoch meanwhile, what is said here does not count.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use phalanx_protocol::id::GrantId;
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;

use super::epoch::Epoch;
use crate::host::gang_link::GangLink;
use crate::host::lock;
use crate::kernel::runner::Failed;
use crate::ranks::{CommError, Hosted, Succession};

/// How long a rank that fails after one on another node has ended lets that one be heard first. The loss of a process is
/// noticed before; that of a machine counts the same, whoever tells it.
const OTHERS_FIRST: Duration = Duration::from_secs(3);
/// How long ranks that go on after a loss, and did not meet, wait for another epoch: a host that was lost meanwhile is replaced.
const NEXT_EPOCH_WAIT: Duration = Duration::from_secs(30);

/// See the module's documentation.
pub(super) struct Part {
    progress: Mutex<Progress>,
    /// Rung when there is another epoch, when its ranks are together, and when a rank or all has ended.
    change: Condvar,
}

struct Progress {
    /// The latest epoch.
    epoch: Arc<Epoch>,
    /// The epoch that each rank is in, or was in last; and whether it still is.
    ranks: BTreeMap<u64, (Arc<Epoch>, bool)>,
    /// Ranks of this host that have not succeeded yet.
    left: usize,
    /// One that has.
    succeeded: Option<u64>,
    /// Grants of which ranks have begun.
    grants: Vec<GrantId>,
    /// Why it is over, and by which rank.
    failed: Option<(u64, Failed)>,
    stopped: bool,
}

impl Part {
    /// The part of a gang that starts, or of its ranks that start with an epoch.
    pub(super) fn begin(gang: HostGang, link: Option<Arc<GangLink>>) -> Arc<Self> {
        let left = starting_here(&gang);
        let epoch = Epoch::new(gang, link);
        let part = Arc::new(Self {
            progress: Mutex::new(Progress {
                epoch: Arc::clone(&epoch),
                ranks: BTreeMap::new(),
                left,
                succeeded: None,
                grants: Vec::new(),
                failed: None,
                stopped: false,
            }),
            change: Condvar::new(),
        });
        part.meet(&epoch);
        part
    }

    /// Lets its ranks go on to the next epoch, if they run on; whether they do. A rank that has returned cannot: all start again then,
    /// which is said as of something lost.
    pub(super) fn go_on(self: &Arc<Self>, gang: &HostGang, link: Option<&Arc<GangLink>>) -> bool {
        let here = (0..).zip(&gang.placement.node_of);
        let mut here = here.filter(|(_, node)| **node == gang.node);
        let runs_on = here.any(|(rank, _)| !gang.placement.starting.contains(rank));
        let mut progress = lock(&self.progress);
        if !runs_on || progress.stopped || progress.left == 0 {
            return runs_on && progress.left == 0;
        }
        progress.left += starting_here(gang);
        if let Some(rank) = progress.succeeded {
            let message = format!("rank {rank} had returned when others were lost, so all start again");
            progress
                .failed
                .get_or_insert((rank, (FailureCause::Lost, message)));
        }
        let epoch = Epoch::new(gang.clone(), link.cloned());
        let before = std::mem::replace(&mut progress.epoch, Arc::clone(&epoch));
        before.end();
        drop(progress);
        self.change.notify_all();
        self.meet(&epoch);
        true
    }

    fn meet(self: &Arc<Self>, epoch: &Arc<Epoch>) {
        let (part, met) = (Arc::clone(self), Arc::clone(epoch));
        epoch.meet(move || part.settled(&met));
        self.change.notify_all();
    }

    fn settled(&self, epoch: &Epoch) {
        let stopped = lock(&self.progress).stopped;
        self.change.notify_all();
        if stopped {
            epoch.disband();
        }
    }

    /// Notes that a rank begins, unless all is over, and waits until it can talk to the others: its gang and the epoch.
    pub(super) fn enter(&self, rank: u64, grant: GrantId) -> Result<(Hosted, u32), Failed> {
        let mut progress = lock(&self.progress);
        if !progress.grants.contains(&grant) {
            progress.grants.push(grant);
        }
        self.await_epoch(progress, rank, 0)
    }

    /// Waits until the ranks of an epoch after that one are together, and lets the rank in.
    fn await_epoch(
        &self,
        mut progress: MutexGuard<'_, Progress>,
        rank: u64,
        after: u32,
    ) -> Result<(Hosted, u32), Failed> {
        let mut give_up: Option<(u32, Instant)> = None;
        loop {
            if let Some(failed) = progress.over(rank) {
                return Err(failed);
            }
            let epoch = Arc::clone(&progress.epoch);
            let mut wait = None;
            match epoch.gang().filter(|_| epoch.number > after) {
                Some(Ok(gang)) => {
                    epoch.enter(u32::try_from(rank).unwrap_or(u32::MAX));
                    let entered = (gang.clone(), epoch.number);
                    progress.ranks.insert(rank, (epoch, true));
                    return Ok(entered);
                }
                Some(Err(failed)) if !epoch.respawns => return Err(failed.clone()),
                Some(Err((_, message))) => {
                    let known = give_up.filter(|(number, _)| *number == epoch.number);
                    let (_, until) =
                        *give_up.insert(known.unwrap_or((epoch.number, Instant::now() + NEXT_EPOCH_WAIT)));
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        // nobody's fault here
                        return Err((FailureCause::Lost, message.clone()));
                    }
                    wait = Some(left);
                }
                None => {}
            }
            progress = match wait {
                Some(left) => {
                    let waited = self.change.wait_timeout(progress, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.change.wait(progress).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Notes that a rank needs the others no more.
    pub(super) fn leave(&self, rank: u64) {
        lock(&self.progress).leave(rank);
    }

    /// Notes that a rank has succeeded, and waits until all of this host have, or one has not.
    pub(super) fn await_others(&self, rank: u64) -> Result<(), Failed> {
        let mut progress = lock(&self.progress);
        progress.left = progress.left.saturating_sub(1);
        progress.succeeded = Some(rank);
        if progress.has_moved_on(rank) {
            let message = format!("rank {rank} returned when others had been lost, so all start again");
            progress
                .failed
                .get_or_insert((rank, (FailureCause::Lost, message)));
        }
        self.change.notify_all();
        loop {
            if let Some(failed) = progress.over(rank) {
                return Err(failed);
            }
            if progress.left == 0 {
                return Ok(());
            }
            progress = self.change.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a rank has failed, or what that comes from.
    pub(super) fn fail(&self, rank: u64, failed: Failed) {
        let mut progress = lock(&self.progress);
        let epoch = progress.ranks.get(&rank).map(|(epoch, _)| Arc::clone(epoch));
        let elsewhere = epoch.as_ref().and_then(|epoch| epoch.ended_elsewhere());
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
        let lost = elsewhere.and_then(|(node, ending)| epoch?.loss_of(node, ending));
        progress.failed.get_or_insert((rank, lost.unwrap_or(failed)));
        drop(progress);
        self.change.notify_all();
    }

    /// Why a rank has failed, if that is known.
    pub(super) fn blame(&self, rank: u64) -> Option<Failed> {
        lock(&self.progress).over(rank)
    }

    /// Whether ranks of a grant have begun.
    pub(super) fn concerns(&self, grant: GrantId) -> bool {
        lock(&self.progress).grants.contains(&grant)
    }

    /// Ends all before its time.
    pub(super) fn stop(&self) {
        let mut progress = lock(&self.progress);
        progress.stopped = true;
        let known = progress.ranks.values().map(|(epoch, _)| Arc::clone(epoch));
        let epochs: Vec<Arc<Epoch>> = known.chain([Arc::clone(&progress.epoch)]).collect();
        drop(progress);
        self.change.notify_all();
        epochs.iter().for_each(|epoch| epoch.stop());
    }
}

impl Succession for Part {
    fn next(&self, place: u32) -> Result<(Hosted, u32), CommError> {
        let rank = u64::from(place);
        let mut progress = lock(&self.progress);
        if !progress.epoch.respawns {
            return Err(CommError::NotReplaced);
        }
        let before = progress.leave(rank);
        self.await_epoch(progress, rank, before)
            .map_err(|_| CommError::Over)
    }
}

impl Progress {
    /// A rank leaves the epoch that it is in; which it was in last.
    fn leave(&mut self, rank: u64) -> u32 {
        let Some((epoch, is_inside)) = self.ranks.get_mut(&rank) else {
            return 0;
        };
        if std::mem::take(is_inside) {
            epoch.leave();
        }
        epoch.number
    }

    /// Whether there is a later epoch than a rank has ever been in.
    fn has_moved_on(&self, rank: u64) -> bool {
        let last = self.ranks.get(&rank);
        last.is_some_and(|(epoch, _)| epoch.number < self.epoch.number)
    }

    /// What a rank has failed of, if all is over.
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

/// How many ranks of this host start with an epoch.
fn starting_here(gang: &HostGang) -> usize {
    let here = (0..).zip(&gang.placement.node_of);
    let here = here.filter(|(_, node)| **node == gang.node);
    here.filter(|(rank, _)| gang.placement.starting.contains(*rank))
        .count()
}
