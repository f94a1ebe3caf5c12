//! One epoch of a gang, as far as it is on this host: how its ranks get together, and when the host leaves it.
//!
//! Ranks that run on from the epoch before come to it one by one, each once it has left that one; those that have not come when
//! the next epoch begins never will.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use phalanx_protocol::gang::GangNode;
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;

use crate::host::gang_link::GangLink;
use crate::host::lock;
use crate::kernel::runner::Failed;
use crate::ranks::{Ending, Hosted, RemoteGang};

/// See the module's documentation.
pub(super) struct Epoch {
    /// From 1.
    pub(super) number: u32,
    /// Whether ranks go on to a later epoch when others are lost.
    pub(super) respawns: bool,
    /// Ranks of this host.
    here: Vec<u32>,
    /// Set once the ranks can talk, or it is known that they never will.
    gang: OnceLock<Result<Hosted, Failed>>,
    far: Option<Far>,
    inside: Mutex<Inside>,
}

/// The gang's other nodes.
struct Far {
    link: Arc<GangLink>,
    here: u32,
    nodes: Vec<GangNode>,
    /// The node of each rank.
    node_of: Vec<u32>,
}

/// Who of this host is there.
#[derive(Default)]
struct Inside {
    /// Ranks that have come.
    came: Vec<u32>,
    /// Ranks that have left, or will never come.
    left: usize,
    /// Another epoch has begun.
    is_over: bool,
    /// From the moment at which the nodes have met until all of this host have left.
    joined: Option<RemoteGang>,
}

impl Epoch {
    /// An epoch whose ranks are not together yet, unless all are on this host.
    pub(super) fn new(gang: HostGang, link: Option<Arc<GangLink>>) -> Arc<Self> {
        let HostGang { placement, node, .. } = gang;
        let is_far = placement.nodes.len() > 1;
        let ranks = u32::try_from(placement.node_of.len()).unwrap_or(u32::MAX);
        let here = (0..).zip(&placement.node_of).filter(|(_, of)| **of == node);
        let here = here.map(|(rank, _)| rank).collect();
        let far = link.filter(|_| is_far).map(|link| Far {
            link,
            here: node,
            nodes: placement.nodes,
            node_of: placement.node_of,
        });
        let epoch = Self {
            number: placement.epoch,
            respawns: placement.respawns,
            here,
            gang: OnceLock::new(),
            far,
            inside: Mutex::default(),
        };
        if epoch.far.is_none() {
            let hosted = match is_far {
                true => Err(apart(&"this host has no port for them")),
                false => Hosted::new(ranks).ok_or_else(|| apart(&"it has no ranks")),
            };
            // nobody else has it yet
            let _ = epoch.gang.set(hosted);
        }
        Arc::new(epoch)
    }

    /// Meets the other nodes in the background, if there are some, and then calls `settled`.
    pub(super) fn meet(self: &Arc<Self>, settled: impl FnOnce() + Send + 'static) {
        if self.gang.get().is_some() {
            return settled();
        }
        let epoch = Arc::clone(self);
        let thread = thread::Builder::new().name("gang meeting".to_owned());
        let started = thread.spawn(move || {
            epoch.join();
            settled();
        });
        if let Err(error) = started {
            let _ = self.gang.set(Err(apart(&error)));
        }
    }

    fn join(&self) {
        let Some(far) = &self.far else { return };
        let met = far.link.join(far.node_of.clone());
        let hosted = met.map_err(|error| apart(&error)).map(|joined| {
            let hosted = joined.hosted();
            lock(&self.inside).joined = Some(joined);
            hosted
        });
        // set once, by whoever gets the ranks together
        let _ = self.gang.set(hosted);
        if lock(&self.inside).is_over {
            self.end_absent();
        }
    }

    /// Whether the ranks can talk, once that is known.
    pub(super) fn gang(&self) -> Option<&Result<Hosted, Failed>> {
        self.gang.get()
    }

    /// A rank of this host has come.
    pub(super) fn enter(&self, rank: u32) {
        lock(&self.inside).came.push(rank);
    }

    /// A rank that had come needs the others no more. With the last one, this host leaves: others may still receive what was sent
    /// here, so that is not waited for.
    pub(super) fn leave(&self) {
        lock(&self.inside).left += 1;
        self.leave_with_last();
    }

    /// Another epoch has begun: who has not come yet goes there.
    pub(super) fn end(&self) {
        if let Some(far) = &self.far {
            far.link.abandon();
        }
        lock(&self.inside).is_over = true;
        if self.gang.get().is_some() {
            self.end_absent();
        }
    }

    /// Tells the others of ranks that will not come.
    fn end_absent(&self) {
        let mut inside = lock(&self.inside);
        let absent = self.here.iter().filter(|rank| !inside.came.contains(rank));
        let absent: Vec<u32> = absent.copied().collect();
        inside.came.extend(&absent);
        inside.left += absent.len();
        drop(inside);
        if let Some(Ok(gang)) = self.gang.get() {
            absent.into_iter().for_each(|rank| gang.leave(rank));
        }
        self.leave_with_last();
    }

    fn leave_with_last(&self) {
        let mut inside = lock(&self.inside);
        let is_last = inside.left >= self.here.len();
        let joined = inside.joined.take_if(|_| is_last);
        drop(inside);
        if let Some(joined) = joined {
            let thread = thread::Builder::new().name("gang farewell".to_owned());
            if let Err(error) = thread.spawn(move || joined.leave()) {
                tracing::warn!(%error, "left a gang without a farewell");
            }
        }
    }

    /// The node of a rank that has ended elsewhere, and how: one that is lost, if there is one.
    pub(super) fn ended_elsewhere(&self) -> Option<(u32, Ending)> {
        let (far, gang) = (self.far.as_ref()?, self.gang.get()?.as_ref().ok()?);
        let ranks = (0..).zip(far.node_of.iter().copied());
        let elsewhere = ranks.filter(|&(_, node)| node != far.here);
        let ended = elsewhere.filter_map(|(rank, node)| Some((node, gang.ending(rank)?)));
        ended.max_by_key(|&(node, ending)| (ending == Ending::Lost, std::cmp::Reverse(node)))
    }

    /// What is to be said of a node if it is lost.
    pub(super) fn loss_of(&self, node: u32, ending: Ending) -> Option<Failed> {
        let at = self.far.as_ref()?.nodes.get(node as usize)?;
        let (worker, address) = (at.worker, &at.address);
        let message = format!(
            "node {node} of the gang was lost: worker {worker} at {address}; its worker's log says why, and `phalanx retry` \
             starts all ranks again"
        );
        (ending == Ending::Lost).then_some((FailureCause::Lost, message))
    }

    /// Ends what its ranks do together.
    pub(super) fn stop(&self) {
        if let Some(far) = &self.far {
            far.link.abandon();
        }
        self.disband();
    }

    /// Ends what its ranks wait for.
    pub(super) fn disband(&self) {
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
