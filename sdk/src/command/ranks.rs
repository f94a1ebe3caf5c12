//! The ranks of a gang on this node: what each of them is told of itself, and the exchange by which MPI libraries find each
//! other (PMI-1). If one leaves the others behind, these are ended, and say because of whom.
//!
//! MPI programs meet only if all ranks are on one node: the exchange does not reach others.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use phalanx_pmi::{Departure, Exchange, Layout, Server};
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{JobId, RangeSet};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use super::orphans::Running;
use super::program::Program;
use crate::host::lock;
use crate::kernel::runner::Failed;

/// One start of a gang, as far as it is here.
pub(super) struct Ranks {
    gang: HostGang,
    /// The ranks of this node, ascending.
    local: RangeSet,
    /// Serves until it is dropped; `None` if some ranks are on other nodes.
    _server: Option<Server>,
    /// By rank; closed when its process has been started.
    ends: Mutex<Vec<Option<OwnedFd>>>,
    /// Who left the others behind first.
    departure: Arc<OnceLock<Departure>>,
}

impl Ranks {
    /// Readies the exchange; those of `running` are told to end when one leaves in the middle of things.
    ///
    /// # Errors
    /// No sockets or threads are left.
    pub(super) fn begin(job: JobId, gang: HostGang, running: &Arc<Running>) -> io::Result<Self> {
        let placement = &gang.placement;
        let local = placement.ranks_by_node().into_iter().nth(gang.node as usize);
        let departure = Arc::<OnceLock<Departure>>::default();
        let (mut server, mut ends) = (None, Vec::new());
        if let Ok(ranks) = u32::try_from(placement.node_of.len())
            && placement.nodes.len() == 1
        {
            // libraries name their shared memory after it
            let name = format!("phalanx-{job}-{}", placement.epoch);
            let exchange = Exchange::new(&name, &Layout::one_node(ranks), &[]);
            let (told, running) = (Arc::clone(&departure), Arc::clone(running));
            let (serving, connected) = Server::start(exchange, move |departure| {
                if told.set(departure).is_ok() {
                    running.end_all();
                }
            })?;
            server = Some(serving);
            ends = connected.ends.into_iter().map(Some).collect();
        }
        Ok(Self {
            local: local.unwrap_or_default(),
            gang,
            _server: server,
            ends: Mutex::new(ends),
            departure,
        })
    }

    /// Notes that all of its ranks have ended: who has not said farewell is missed by nobody.
    pub(super) fn retire(&self) {
        let nobody = Departure::Lost {
            rank: u32::MAX,
            nonsense: None,
        };
        // somebody may have left the others behind before
        let _ = self.departure.set(nobody);
    }

    /// Tells a rank who it is.
    pub(super) fn set(&self, program: &mut Program<'_>, rank: u64) {
        let placement = &self.gang.placement;
        let before = self.local.iter().take_while(|range| range.start <= rank);
        let local_rank: u64 = before.map(|range| rank.min(range.end) - range.start).sum();
        let ranks = placement.node_of.len();
        for (name, value) in [
            ("PHALANX_RANK", rank),
            ("PHALANX_RANKS", ranks as u64),
            ("PHALANX_LOCAL_RANK", local_rank),
            ("PHALANX_LOCAL_RANKS", self.local.len()),
            ("PHALANX_NODE_INDEX", self.gang.node.into()),
            ("PHALANX_NODES", placement.nodes.len() as u64),
            ("PHALANX_EPOCH", placement.epoch.into()),
        ] {
            program.env(name, value.to_string());
        }
        let ends = lock(&self.ends);
        let end = usize::try_from(rank)
            .ok()
            .and_then(|rank| ends.get(rank)?.as_ref());
        if let Some(end) = end {
            program.env("PMI_FD", end.as_raw_fd().to_string());
            program.env("PMI_RANK", rank.to_string());
            program.env("PMI_SIZE", ranks.to_string());
            program.env("PMI_SPAWNED", "0");
            // Intel MPI asks for a library otherwise
            program.env("I_MPI_PMI", "pmi1");
        }
    }

    /// Starts a rank, which inherits its end of the socket and no other's: one after the other.
    ///
    /// # Errors
    /// Says why it is not started; it may be tried again.
    pub(super) fn start(&self, rank: u64, start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Pid> {
        let mut ends = lock(&self.ends);
        let end = usize::try_from(rank).ok().and_then(|rank| ends.get_mut(rank));
        let Some(end) = end else {
            return start();
        };
        if let Some(end) = &end {
            fcntl_setfd(end, FdFlags::empty())?;
        }
        let started = start();
        match (&started, &end) {
            // else its end is never noticed
            (Ok(_), _) => *end = None,
            (Err(_), Some(end)) => fcntl_setfd(end, FdFlags::CLOEXEC)?,
            (Err(_), None) => {}
        }
        started
    }

    /// What becomes of a rank that has ended, given who left the others behind.
    pub(super) fn judge(&self, rank: u64, ended: Result<(), Failed>) -> Result<(), Failed> {
        match self.departure.get() {
            None => ended,
            Some(Departure::Aborted { rank: by, code }) => {
                // a code that a process cannot exit with is still none of success
                let status = u8::try_from(code & 0xff).ok().filter(|&status| status != 0);
                let message = format!("rank {by} called MPI_Abort with {code}: all were ended");
                Err((FailureCause::Exit(status.unwrap_or(1)), message))
            }
            // its own end says more
            Some(Departure::Lost {
                rank: by,
                nonsense: None,
            }) if u64::from(*by) == rank && ended.is_err() => ended,
            Some(Departure::Lost { rank: by, nonsense }) => {
                let why = match nonsense {
                    Some(nonsense) => format!("asked for what is no PMI-1: {nonsense}"),
                    None => "ended without MPI_Finalize".to_owned(),
                };
                let message = format!("rank {by} {why}: all were ended");
                Err((FailureCause::Error, message))
            }
        }
    }
}
