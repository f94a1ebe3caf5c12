//! The ranks of a gang on this node: what each of them is told of itself, and the exchange by which MPI libraries find each
//! other (PMI-1), on this node and on others. If one leaves the others behind, these are ended, and say because of whom.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use phalanx_pmi::{Departure, Event, Exchange, Layout, Missed, OpenMpi, Server};
use phalanx_protocol::message::host::HostGang;
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::{JobId, RangeSet};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use super::last_words::LastWords;
use super::nodes::{self, Cause};
use super::orphans::Running;
use super::program::Program;
use crate::host::gang_link::{GangLink, LinkError};
use crate::host::lock;
use crate::kernel::runner::Failed;

/// Set in all numbers of starts. The library takes those that fit into 31 bits.
const NUMBER_BIT: u32 = 1 << 30;
/// Bits of such a number that tell the starts of a gang from each other.
const EPOCH_BITS: u32 = 6;

/// Why other nodes are not met by one that does not listen.
const NO_PORT: &str = "this node has no port at which they could be met";

/// How long after the socket of a rank its process is expected to end. Some close it and live on until they are killed.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// A number for a start of a gang, the same on all of its nodes, beyond those of processes, by which steps call theirs.
fn start_number(job: JobId, epoch: u32) -> u32 {
    let start = (job.0 << EPOCH_BITS) ^ u64::from(epoch);
    NUMBER_BIT | u32::try_from(start & u64::from(NUMBER_BIT - 1)).unwrap_or_default()
}

/// One start of a gang, as far as it is here.
pub(super) struct Ranks {
    job: JobId,
    gang: HostGang,
    /// The ranks of this node, ascending.
    local: RangeSet,
    /// Serves until it is dropped.
    _server: Server,
    /// Of the ranks of this node, ascending; closed when its process has been started.
    ends: Mutex<BTreeMap<u64, Option<OwnedFd>>>,
    /// Why the others were left behind first.
    cause: Arc<OnceLock<Cause>>,
    /// How the rank of this node ended that did so, if one did.
    words: Arc<LastWords>,
    /// By which the other nodes are met.
    link: Option<Arc<GangLink>>,
    open_mpi: Option<OpenMpi>,
}

impl Ranks {
    /// Readies the exchange, given which of the programs that run side by side each rank is of; those of `running` are told to end when one leaves in the middle of things.
    ///
    /// # Errors
    /// No sockets or threads are left.
    pub(super) fn begin(
        job: JobId,
        gang: HostGang,
        sections: &[u32],
        link: Option<Arc<GangLink>>,
        running: &Arc<Running>,
    ) -> io::Result<Self> {
        let placement = &gang.placement;
        let epoch = placement.epoch;
        let local = placement.ranks_by_node().into_iter().nth(gang.node as usize);
        let local = local.unwrap_or_default();
        let cause = Arc::<OnceLock<Cause>>::default();
        let words = Arc::<LastWords>::default();
        // libraries name their shared memory after it, and leave that behind when they are killed: jobs of other clusters have
        // the same number
        let name = format!("phalanx-{job}-{epoch}-{}", std::process::id());
        let layout = Layout {
            node_of: placement.node_of.clone(),
        };
        let exchange = Exchange::on_node(gang.node, &name, &layout, sections);
        let (told, running) = (Arc::clone(&cause), Arc::clone(running));
        let tell = move |cause| {
            let is_first = told.set(cause).is_ok();
            if is_first {
                running.end_all();
            }
            is_first
        };
        let (server, connected) = match u32::try_from(placement.nodes.len()) {
            Ok(n_nodes @ 2..) => {
                let link = link.clone();
                let join = move |members| {
                    let link = link.ok_or_else(|| Some(NO_PORT.to_owned()))?;
                    link.join(members)
                        .map_err(|error| (!matches!(error, LinkError::Over)).then(|| error.to_string()))
                };
                nodes::start(exchange, (gang.node, n_nodes), join, tell, Arc::clone(&words))?
            }
            Ok(_) | Err(_) => Server::start(exchange, move |event| match event {
                Event::Departed(departure) => drop(tell(Cause::Rank(departure, None))),
                Event::Waiting(_) | Event::Absent(_) | Event::Deserted => {}
            })?,
        };
        let ranks = local.iter().flat_map(|range| range.start..range.end);
        Ok(Self {
            job,
            ends: Mutex::new(ranks.zip(connected.ends.into_iter().map(Some)).collect()),
            local,
            gang,
            _server: server,
            cause,
            words,
            link,
            // there may be several workers, and several clusters, on this machine
            open_mpi: OpenMpi::find(
                &format!("{name}-{}", std::process::id()),
                start_number(job, epoch),
            ),
        })
    }

    /// Notes that all of its ranks have ended: who has not said farewell is missed by nobody.
    pub(super) fn retire(&self) {
        // somebody may have left the others behind before
        let _ = self.cause.set(Cause::Over);
        self.words.say(None);
        if let Some(link) = &self.link {
            link.abandon();
        }
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
        if let Some(Some(end)) = lock(&self.ends).get(&rank) {
            program.env("PMI_FD", end.as_raw_fd().to_string());
            program.env("PMI_RANK", rank.to_string());
            program.env("PMI_SIZE", ranks.to_string());
            program.env("PMI_SPAWNED", "0");
            // by which programs choose their gpus under MPICH's own launcher
            program.env("MPI_LOCALRANKID", local_rank.to_string());
            program.env("MPI_LOCALNRANKS", self.local.len().to_string());
            // Intel MPI asks for a library otherwise
            program.env("I_MPI_PMI", "pmi1");
            for (name, value) in self.open_mpi.iter().flat_map(OpenMpi::variables) {
                program.env(name, value);
            }
        }
    }

    /// Starts a rank, which inherits its end of the socket and no other's: one after the other.
    ///
    /// # Errors
    /// Says why it is not started; it may be tried again.
    pub(super) fn start(&self, rank: u64, start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Pid> {
        let mut ends = lock(&self.ends);
        let Some(end) = ends.get_mut(&rank) else {
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
        match self.cause.get() {
            None | Some(Cause::Over) => ended,
            Some(Cause::Rank(Departure::Aborted { rank: by, code }, _)) => {
                // a code that a process cannot exit with is still none of success
                let status = u8::try_from(code & 0xff).ok().filter(|&status| status != 0);
                let message = format!("rank {by} called MPI_Abort with {code}: all were ended");
                Err((FailureCause::Exit(status.unwrap_or(1)), message))
            }
            Some(Cause::Rank(
                Departure::Lost {
                    rank: by,
                    nonsense: Some(nonsense),
                },
                _,
            )) => {
                let message = format!(
                    "rank {by} asked for what is no PMI-1: {nonsense}: all were ended; build it with MPICH, Intel MPI or \
                     Open MPI 4"
                );
                Err((FailureCause::Error, message))
            }
            Some(Cause::Rank(
                Departure::Lost {
                    rank: by,
                    nonsense: None,
                },
                end,
            )) => self.judge_by_loss(rank, ended, u64::from(*by), end.clone()),
            Some(Cause::Rank(Departure::Missed(missed), _)) => self.judge_by_absence(rank, ended, missed),
            Some(Cause::Node(node)) => {
                let (whose, job) = (self.whose(*node), self.job);
                let message = format!(
                    "node {node} of the gang was lost{whose}; its worker's log says why, and `phalanx retry {job}` starts \
                     all ranks again"
                );
                Err((FailureCause::Lost, message))
            }
            Some(Cause::Apart(why)) => {
                let message = format!("the ranks on other nodes cannot be reached: {why}");
                Err((FailureCause::Error, message))
            }
        }
    }

    /// What becomes of a rank that has ended after the rank `by` did without a word; of one on another node also its `end` may be
    /// known. Which of them is reported first does not matter: all say the same.
    fn judge_by_loss(
        &self,
        rank: u64,
        ended: Result<(), Failed>,
        by: u64,
        end: Option<Failed>,
    ) -> Result<(), Failed> {
        if by == rank {
            self.words.say(ended.clone().err());
            // its own end says more
            ended?;
        }
        let is_here = by != rank && self.local.contains(by);
        let end = end.or_else(|| is_here.then(|| self.words.wait_for(LAST_WORDS_WAIT)).flatten());
        let left = format!("rank {by} ended without MPI_Finalize");
        let job = self.job;
        let next = format!("`phalanx logs {job}.{by}` shows what it printed");
        Err(match end {
            Some((cause, reason)) if reason.is_empty() => {
                (cause, format!("{left} ({cause}): all were ended; {next}"))
            }
            Some((cause, reason)) => (
                cause,
                format!("{left} ({cause}: {reason}): all were ended; {next}"),
            ),
            None => (
                FailureCause::Error,
                format!("{left}: all were ended; {next}, and it must call MPI_Finalize before it ends"),
            ),
        })
    }

    /// What becomes of a rank that has ended where others waited for one in vain: that one may have ended as it did for a reason.
    fn judge_by_absence(&self, rank: u64, ended: Result<(), Failed>, missed: &Missed) -> Result<(), Failed> {
        let by = u64::from(missed.absence.rank);
        let end = if by == rank {
            let end = ended.err();
            self.words.say(end.clone());
            end
        } else {
            let is_here = self.local.contains(by);
            is_here.then(|| self.words.wait_for(LAST_WORDS_WAIT)).flatten()
        };
        let (story, next) = (missed.story("rank"), missed.next_step());
        Err(match end {
            Some((cause, _)) => (cause, format!("{story} ({cause}): all were ended; {next}")),
            None => (FailureCause::Error, format!("{story}: all were ended; {next}")),
        })
    }

    /// Whose node that is, to be put behind its number.
    fn whose(&self, node: u32) -> String {
        let node = self.gang.placement.nodes.get(node as usize);
        node.map(|node| format!(": worker {} at {}", node.worker, node.address))
            .unwrap_or_default()
    }
}
