//! The ranks of a gang on this node: what each of them is told of itself, and the exchange by which MPI libraries find each
//! other (PMI-1), also across nodes ([`meeting`]). If one leaves the others behind, those of its node are ended, and say
//! because of whom; those of other nodes are ended by the scheduler then.

mod meeting;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};

use phalanx_pmi::{Departure, Event, Exchange, Layout, Server};
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{JobId, RangeSet};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use super::orphans::Running;
use super::program::Program;
use crate::host::gang_link::GangLink;
use crate::host::lock;
use crate::kernel::runner::Failed;

/// One start of a gang, as far as it is here.
pub(super) struct Ranks {
    gang: HostGang,
    /// The ranks of this node, ascending.
    local: RangeSet,
    /// Serves until it is dropped; `None` if the other nodes cannot be met.
    _server: Option<Server>,
    /// By which they are met.
    link: Option<Arc<GangLink>>,
    /// By rank; closed when its process has been started.
    ends: Mutex<BTreeMap<u64, OwnedFd>>,
    /// Why the ranks of this node were ended.
    cause: Arc<OnceLock<Cause>>,
}

/// Why all ranks of a node are ended.
#[derive(Debug)]
enum Cause {
    /// One of them left the others behind.
    Departed(Departure),
    /// They waited for those of other nodes, in vain.
    Apart(String),
}

impl Ranks {
    /// Readies the exchange; those of `running` are told to end when one leaves in the middle of things, or waits in vain for
    /// those of other nodes, which are met by way of `link`.
    ///
    /// # Errors
    /// No sockets or threads are left.
    pub(super) fn begin(
        job: JobId,
        gang: HostGang,
        link: Option<Arc<GangLink>>,
        running: &Arc<Running>,
    ) -> io::Result<Self> {
        let local = gang.placement.ranks_by_node().into_iter().nth(gang.node as usize);
        let mut begun = Self {
            local: local.unwrap_or_default(),
            gang,
            _server: None,
            link,
            ends: Mutex::default(),
            cause: Arc::default(),
        };
        if begun.gang.placement.nodes.len() == 1 || begun.link.is_some() {
            begun.serve(job, running)?;
        }
        Ok(begun)
    }

    fn serve(&mut self, job: JobId, running: &Arc<Running>) -> io::Result<()> {
        let placement = &self.gang.placement;
        // libraries name their shared memory after it
        let name = format!("phalanx-{job}-{}", placement.epoch);
        let layout = Layout {
            node_of: placement.node_of.clone(),
        };
        let exchange = Exchange::new(&name, &layout, self.gang.node, &[]);
        let (cause, running) = (Arc::clone(&self.cause), Arc::clone(running));
        let end_all = Arc::new(move |why| {
            if cause.set(why).is_ok() {
                running.end_all();
            }
        });
        let (entered, barriers) = channel();
        let end_others = Arc::clone(&end_all);
        let (server, connected) = Server::start(exchange, move |event| match event {
            Event::Departed(departure) => end_others(Cause::Departed(departure)),
            // if nobody listens, they have been told that they wait in vain
            Event::Barrier(news) => drop(entered.send(news)),
        })?;
        if let Some(link) = &self.link {
            let nodes = placement.nodes.len() as u32;
            let fail = move |why| end_all(Cause::Apart(why));
            meeting::begin(Arc::clone(link), nodes, barriers, server.gate(), fail)?;
        }
        self._server = Some(server);
        let ends = connected.ends.into_iter();
        self.ends = Mutex::new(ends.map(|(rank, end)| (rank.into(), end)).collect());
        Ok(())
    }

    /// Notes that all of its ranks have ended: who has not said farewell is missed by nobody.
    pub(super) fn retire(&self) {
        let nobody = Departure::Lost {
            rank: u32::MAX,
            nonsense: None,
        };
        // somebody may have left the others behind before
        let _ = self.cause.set(Cause::Departed(nobody));
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
        if let Some(end) = lock(&self.ends).get(&rank) {
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
        let Some(end) = ends.get(&rank) else {
            return start();
        };
        fcntl_setfd(end, FdFlags::empty())?;
        let started = start();
        match started {
            // else its end is never noticed
            Ok(_) => drop(ends.remove(&rank)),
            Err(_) => fcntl_setfd(end, FdFlags::CLOEXEC)?,
        }
        started
    }

    /// What becomes of a rank that has ended, given who left the others behind.
    pub(super) fn judge(&self, rank: u64, ended: Result<(), Failed>) -> Result<(), Failed> {
        let departure = match self.cause.get() {
            None => return ended,
            Some(Cause::Departed(departure)) => departure,
            Some(Cause::Apart(why)) => {
                let message = format!("the gang's other nodes cannot be reached: {why}");
                return Err((FailureCause::Lost, message));
            }
        };
        match departure {
            Departure::Aborted { rank: by, code } => {
                // a code that a process cannot exit with is still none of success
                let status = u8::try_from(code & 0xff).ok().filter(|&status| status != 0);
                let message = format!("rank {by} called MPI_Abort with {code}: all were ended");
                Err((FailureCause::Exit(status.unwrap_or(1)), message))
            }
            // its own end says more
            Departure::Lost {
                rank: by,
                nonsense: None,
            } if u64::from(*by) == rank && ended.is_err() => ended,
            Departure::Lost { rank: by, nonsense } => {
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

impl Drop for Ranks {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.abandon();
        }
    }
}
