//! Gangs whose ranks live in several hosts, as one host takes part in them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phalanx_protocol::gang::{Peers, host_name};
use phalanx_transport::{Authority, Role};

use super::communicator::Communicator;
use super::error::Ending;
use super::gang::{Gang, Notice};
use super::local::{Hosted, RankFailure, run_ranks};
use super::quic::{GangPort, JoinError, Joined, Loss};
use super::respawn::Standing;
use crate::checkpoint::Vault;
use crate::context::TaskContext;

/// What the authority of a gang is called whose hosts are all in this process.
const LOOPBACK_NAME: &str = "loopback";
/// How long these look for each other.
const LOOPBACK_PATIENCE: Duration = Duration::from_secs(30);

/// This host's part of a gang that has met. Dropping it is, to the others, as if this process died.
pub struct RemoteGang {
    places: Vec<u32>,
    joined: Joined,
    thread: JoinHandle<()>,
}

/// What became of a gang at one host.
#[derive(Debug)]
pub struct HostOutcome<R> {
    /// What the ranks of this host returned, ascending by rank.
    pub ranks: Vec<(usize, Result<R, RankFailure>)>,
    /// Hosts that were lost meanwhile, in the order in which that was noticed here.
    pub losses: Vec<Loss>,
}

impl fmt::Debug for RemoteGang {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RemoteGang(ranks {:?} here)", self.places)
    }
}

impl GangPort {
    /// Meets the other hosts, for `patience` at the most.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(self, peers: Peers, patience: Duration) -> Result<RemoteGang, JoinError> {
        let places = peers.ranks_of(peers.here).collect();
        let (joined, thread) = self.meet(peers, patience)?;
        Ok(RemoteGang {
            places,
            joined,
            thread,
        })
    }
}

impl RemoteGang {
    /// Runs `body` in all ranks of this host. Returns once all ranks of the gang have ended, wherever they live: until then
    /// others may receive what was sent here.
    pub fn run<R: Send>(self, body: impl Fn(&Communicator) -> R + Sync) -> HostOutcome<R> {
        let ranks: Vec<usize> = self.places.iter().map(|&place| place as usize).collect();
        let (hosted, vault) = (self.hosted(), Arc::new(Vault::in_memory()));
        let life = |rank: usize| {
            let standing = Standing {
                context: TaskContext::standalone_in(rank as u64, Arc::clone(&vault)),
                epoch: 1,
                succession: None,
            };
            hosted.live(rank, standing, &body)
        };
        let lose = |rank: usize| {
            // else those that were started would wait for it
            let (place, ending) = (rank as u32, Ending::Lost);
            self.joined.gang.announce(Notice::Ended { place, ending });
        };
        let ends = run_ranks(ranks.clone(), &life, &lose);
        let ranks = ranks.into_iter().zip(ends).collect();
        let losses = self.leave();
        HostOutcome { ranks, losses }
    }

    /// The same gang for threads that others have started. Who runs ranks there leaves once all of this host have ended.
    pub(crate) fn hosted(&self) -> Hosted {
        Hosted::of(self.joined.gang.clone())
    }

    /// The same, for threads of this process.
    pub(super) fn gang(&self) -> Arc<Gang> {
        Arc::clone(&self.joined.gang)
    }

    /// Waits for the gang's end, after that of this host's ranks. Gives the hosts that were lost.
    pub(crate) fn leave(self) -> Vec<Loss> {
        let Joined { losses, leave, .. } = self.joined;
        // fails only if the thread has ended, and so has the gang
        let _ = leave.send(());
        let _ = self.thread.join();
        std::mem::take(&mut *losses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All hosts of a gang in this process, each with `per_host` ranks, in order. What comes to them is late by random times from
/// the seed `delays`, if there is one.
///
/// # Errors
/// [`JoinError`].
pub(crate) fn on_loopback(
    n_ranks: usize,
    per_host: usize,
    delays: Option<u64>,
) -> Result<Vec<RemoteGang>, JoinError> {
    let n_hosts = n_ranks.div_ceil(per_host.max(1));
    let authority = Authority::create(LOOPBACK_NAME)?;
    let ports = (0..n_hosts as u32).map(|host| {
        let credential = authority.issue(Role::Worker, &host_name(host))?;
        let port = GangPort::open((Ipv4Addr::LOCALHOST, 0).into(), credential.to_pem())?;
        Ok(match delays {
            Some(seed) => port.delayed(seed),
            None => port,
        })
    });
    let ports = ports.collect::<Result<Vec<_>, JoinError>>()?;
    let addresses: Vec<SocketAddr> = ports.iter().map(GangPort::address).collect();
    let hosts: Vec<u32> = (0..n_ranks).map(|rank| (rank / per_host) as u32).collect();
    thread::scope(|scope| {
        let joins = (0..).zip(ports).map(|(here, port)| {
            let peers = Peers {
                here,
                addresses: addresses.clone(),
                hosts: hosts.clone(),
            };
            scope.spawn(|| port.join(peers, LOOPBACK_PATIENCE))
        });
        let joins: Vec<_> = joins.collect();
        let joined = joins.into_iter().map(|join| {
            let ended = join.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}
