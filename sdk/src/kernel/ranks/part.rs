//! The part of a gang that is on this host, from its start to the end of its last rank: which epoch its ranks are in, and what
//! ends it.
//!
//! If ranks are on other nodes, theirs may be the first failure, and its consequences arrive here before the scheduler has
//! heard of it. So a rank that fails after one elsewhere has ended waits for a moment before it says so: if the scheduler ends
//! the epoch meanwhile, what is said here does not count.

use std::collections::{BTreeMap, BTreeSet};
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
/// How long ranks that are to go on after a loss wait to hear of another epoch: nobody but hosts may have noticed the loss, which may be
/// one of the network between them, and then all start again. So it is if those of an epoch did not meet. A scheduler that takes
/// over has to be borne with.
const NEXT_EPOCH_WAIT: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub(super) struct Part {
    progress: Mutex<Progress>,
    /// Rung when there is another epoch, when its ranks are together, and when a rank or all has ended.
    change: Condvar,
    /// See [`NEXT_EPOCH_WAIT`].
    patience: Duration,
}

struct Progress {
    /// The latest epoch.
    epoch: Arc<Epoch>,
    /// The latest that was announced.
    expected: u32,
    /// The epoch that each rank is in, or was in last; and whether it still is.
    ranks: BTreeMap<u64, (Arc<Epoch>, bool)>,
    /// Ranks of this host that have not succeeded yet.
    left: BTreeSet<u64>,
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
        Self::patient(gang, link, NEXT_EPOCH_WAIT)
    }

    fn patient(gang: HostGang, link: Option<Arc<GangLink>>, patience: Duration) -> Arc<Self> {
        let left = here(&gang).collect();
        let epoch = Epoch::new(gang, link);
        let part = Arc::new(Self {
            progress: Mutex::new(Progress {
                epoch: Arc::clone(&epoch),
                expected: 0,
                ranks: BTreeMap::new(),
                left,
                succeeded: None,
                grants: Vec::new(),
                failed: None,
                stopped: false,
            }),
            change: Condvar::new(),
            patience,
        });
        part.meet(&epoch);
        part
    }

    /// Lets its ranks go on to the next epoch, if they run on; whether they do. A rank that has returned cannot: all start again then,
    /// which is said as of something lost.
    pub(super) fn go_on(self: &Arc<Self>, gang: &HostGang, link: Option<&Arc<GangLink>>) -> bool {
        let runs_on = here(gang).any(|rank| !gang.placement.starting.contains(rank));
        let mut progress = lock(&self.progress);
        if !runs_on || progress.stopped || progress.left.is_empty() {
            return runs_on && progress.left.is_empty();
        }
        progress.left.extend(here(gang));

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
        let mut patience: Option<(u32, Instant)> = None;
        loop {
            if let Some(failed) = progress.over(rank) {
                return Err(failed);
            }
            let epoch = Arc::clone(&progress.epoch);
            let is_next = epoch.number > after;
            let message = match epoch.gang().filter(|_| is_next) {
                Some(Ok(gang)) => {
                    epoch.enter(u32::try_from(rank).unwrap_or(u32::MAX));
                    let entered = (gang.clone(), epoch.number);
                    progress.ranks.insert(rank, (epoch, true));
                    return Ok(entered);
                }
                Some(Err(failed)) if !epoch.respawns => return Err(failed.clone()),
                Some(Err((_, message))) => message.clone(),
                None => "nobody but ranks has heard that others are lost".to_owned(),
            };
            let is_expected = progress.expected > epoch.number.max(after);
            if is_expected || (is_next && epoch.gang().is_none()) {
                patience = None;
                progress = self.change.wait(progress).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let known = patience.filter(|(number, _)| *number == epoch.number);
            let (number, until) = known.unwrap_or((epoch.number, Instant::now() + self.patience));
            patience = Some((number, until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // nobody's fault here
                let failed = (FailureCause::Lost, message);
                progress.failed.get_or_insert((rank, failed));
                self.change.notify_all();
                continue;
            }
            let waited = self.change.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes in that an epoch comes, as soon as there is room for ranks that are lost.
    pub(super) fn expect(&self, epoch: u32) {
        let mut progress = lock(&self.progress);
        progress.expected = progress.expected.max(epoch);
        drop(progress);
        self.change.notify_all();
    }

    /// Notes that a rank needs the others no more.
    pub(super) fn leave(&self, rank: u64) {
        lock(&self.progress).leave(rank);
    }

    /// Notes that a rank has succeeded, and waits until all of this host have, or one has not.
    pub(super) fn await_others(&self, rank: u64) -> Result<(), Failed> {
        let mut progress = lock(&self.progress);
        progress.left.remove(&rank);
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
            if progress.left.is_empty() {
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

/// The ranks of this host.
fn here(gang: &HostGang) -> impl Iterator<Item = u64> {
    let ranks = (0..).zip(&gang.placement.node_of);
    let here = ranks.filter(|(_, node)| **node == gang.node);
    here.map(|(rank, _)| rank)
}

#[cfg(test)]
mod tests;
