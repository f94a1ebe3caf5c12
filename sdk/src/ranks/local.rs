//! Gangs whose ranks are all threads of this process.

mod replacing;

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use self::replacing::Replacing;
use super::communicator::Communicator;
use super::error::Ending;
use super::gang::{Gang, Link, Member, Notice, Route};
use super::loopback::{Courier, Desk, Loopback};
use super::mailbox::Mailbox;
use super::quic::JoinError;
use super::remote::{RemoteGang, on_loopback};
use super::respawn::{Life, Standing};

/// A rank that panicked, or could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} failed: {message}")]
pub struct RankFailure {
    /// Which one.
    pub rank: usize,
    /// What it, or the system, said.
    pub message: String,
}

/// Runs `body` in `n_ranks` ranks, which are threads of this process, and returns what each returned, by rank.
///
/// A rank that panics ends alone; the operations of the others that need it fail.
///
/// # Panics
/// If there are more than `u32::MAX` ranks.
///
/// ```
/// let sums = phalanx::ranks::run(4, |comm| comm.all_reduce(comm.rank(), |a, b| a + b).unwrap());
/// assert!(sums.into_iter().all(|sum| sum == Ok(6)));
/// ```
pub fn run<R: Send>(n_ranks: usize, body: impl Fn(&Communicator) -> R + Sync) -> Vec<Result<R, RankFailure>> {
    LocalGang::new(n_ranks).run(body)
}

/// A gang of threads of this process, before its start.
#[derive(Debug, Clone, Copy)]
pub struct LocalGang {
    n_ranks: usize,
    per_node: usize,
    over_quic: bool,
    /// From what delays are drawn.
    delays: Option<u64>,
    replacements: u32,
}

/// A gang that has not begun.
struct Formed {
    /// As the node of each rank sees it.
    seats: Vec<Arc<Gang>>,
    /// Its hosts, if they talk over QUIC.
    hosts: Vec<RemoteGang>,
    /// Who takes messages to other nodes, if they are to be late.
    courier: Option<Courier>,
}

impl LocalGang {
    /// A gang on one node.
    pub fn new(n_ranks: usize) -> Self {
        LocalGang {
            n_ranks,
            per_node: n_ranks,
            over_quic: false,
            delays: None,
            replacements: 0,
        }
    }

    /// Pretends that each `ranks` ranks, in order, live on a node of their own: messages between nodes are encoded, and
    /// [`Communicator::split_by_node`] tells the nodes apart. So a program can be tried as it would run on several nodes.
    #[must_use]
    pub fn ranks_per_node(mut self, ranks: NonZeroUsize) -> Self {
        self.per_node = ranks.get();
        self
    }

    /// Lets the pretended nodes talk over QUIC on this machine's loopback, just as nodes do. A gang that cannot be made so is a
    /// failure of all its ranks.
    #[must_use]
    pub fn over_quic(mut self) -> Self {
        self.over_quic = true;
        self
    }

    /// Lets messages between the pretended nodes be late, each by a time of its own of up to a millisecond, drawn from this seed:
    /// a program that relies on more than the order of each rank's messages to each other then shows it. Where nodes talk over
    /// QUIC that comes on top of the network's own delays, and all messages of one node to another keep their order, but for
    /// large ones' bytes.
    ///
    /// ```
    /// # use phalanx::ranks::{LocalGang, Source};
    /// let each = std::num::NonZeroUsize::MIN;
    /// let gang = LocalGang::new(3).ranks_per_node(each).delayed(42);
    /// let sums = gang.run(|comm| match comm.rank() {
    ///     0 => (1..3).map(|_| comm.receive::<usize>(Source::Any, 0).unwrap()).sum(),
    ///     own => comm.send(0, 0, own).map(|()| 3).unwrap(),
    /// });
    /// assert!(sums.into_iter().all(|sum| sum == Ok(3)));
    /// ```
    #[must_use]
    pub fn delayed(mut self, seed: u64) -> Self {
        self.delays = Some(seed);
        self
    }

    /// Replaces ranks that panic, up to this many times in all, as if each had been lost with its node: how a program fares that
    /// [goes on with replacements](Communicator::respawn) can so be tried.
    #[must_use]
    pub fn respawn(mut self, times: u32) -> Self {
        self.replacements = times;
        self
    }

    /// Runs `body` in all ranks, and returns what each returned, by rank.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` ranks.
    pub fn run<R: Send>(self, body: impl Fn(&Communicator) -> R + Sync) -> Vec<Result<R, RankFailure>> {
        let replacing = match Replacing::begin(self) {
            Ok(replacing) => replacing,
            Err(error) => {
                let message = format!("no gang: {error}");
                let failure = |rank| RankFailure {
                    rank,
                    message: message.clone(),
                };
                return (0..self.n_ranks).map(|rank| Err(failure(rank))).collect();
            }
        };
        let life = |rank| replacing.live(rank, &body);
        // else those that were started would wait for it
        let lose = |rank| replacing.end(rank, Ending::Lost);
        let ends = run_ranks((0..self.n_ranks).collect(), &life, &lose);
        replacing.leave();
        ends
    }

    fn form(&self) -> Result<Formed, JoinError> {
        let nodes = |node: usize| (0..self.n_ranks).filter(move |rank| rank / self.per_node == node);
        let mut courier = None;
        let (gangs, hosts) = match self.over_quic {
            false => {
                courier = self.delays.map(Courier::start).transpose()?;
                (self.gangs(courier.as_ref().map(Courier::desk)), Vec::new())
            }
            true => {
                let hosts = on_loopback(self.n_ranks, self.per_node, self.delays)?;
                (hosts.iter().map(RemoteGang::gang).collect(), hosts)
            }
        };
        let seats = gangs.iter().enumerate();
        let seats = seats.flat_map(|(node, gang)| nodes(node).map(|_| Arc::clone(gang)));
        Ok(Formed {
            seats: seats.collect(),
            hosts,
            courier,
        })
    }

    /// The gang as each of its nodes sees it. Messages between them are given to `desk`, if there is one.
    fn gangs(&self, desk: Option<&Arc<Desk>>) -> Vec<Arc<Gang>> {
        assert!(
            u32::try_from(self.n_ranks).is_ok(),
            "more than {} ranks",
            u32::MAX
        );
        let n_nodes = self.n_ranks.div_ceil(self.per_node.max(1));
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let core_each = self.n_ranks <= cores;
        let link = |node| Arc::new(Loopback::new(node, desk.cloned()));
        let links: Vec<Arc<Loopback>> = (0..n_nodes).map(link).collect();
        let gang = |here: usize| {
            let ranks_here = (0..self.n_ranks)
                .filter(|rank| rank / self.per_node == here)
                .count();
            let members = (0..self.n_ranks).map(|rank| {
                let node = rank / self.per_node;
                let route = if node == here {
                    Route::Near(Mailbox::new(ranks_here, core_each))
                } else {
                    Route::Far(Arc::clone(&links[node]) as Arc<dyn Link>)
                };
                Member::new(route, node as u32)
            });
            let others = links.iter().enumerate().filter(|(node, _)| *node != here);
            let others = others.map(|(_, link)| Arc::clone(link) as Arc<dyn Link>);
            Arc::new(Gang::new(members.collect(), others.collect()))
        };
        let gangs: Vec<Arc<Gang>> = (0..n_nodes).map(gang).collect();
        for (link, gang) in links.iter().zip(&gangs) {
            link.lead_to(gang);
        }
        if let Some(desk) = desk {
            desk.serve(&gangs);
        }
        gangs
    }
}

/// A gang of this process whose ranks live on threads that others have started.
#[derive(Clone)]
pub(crate) struct Hosted {
    gang: Arc<Gang>,
}

impl Hosted {
    /// A gang on one node; none without ranks.
    pub(crate) fn new(n_ranks: u32) -> Option<Self> {
        let gang = LocalGang::new(n_ranks as usize).gangs(None).into_iter().next();
        gang.map(|gang| Self { gang })
    }

    /// A gang whose other ranks may live elsewhere.
    pub(super) fn of(gang: Arc<Gang>) -> Self {
        Self { gang }
    }

    pub(super) fn into_gang(self) -> Arc<Gang> {
        self.gang
    }

    /// Lets the others know that a rank of this process, which never came to this gang, goes on in another.
    pub(crate) fn leave(&self, rank: u32) {
        let (place, ending) = (rank, Ending::Left);
        self.gang.announce(Notice::Ended { place, ending });
    }

    /// How a rank has ended, wherever it lived.
    pub(crate) fn ending(&self, rank: u32) -> Option<Ending> {
        self.gang.ending(rank)
    }

    /// Runs `body` on this thread as the life of a rank, which is lived once.
    pub(crate) fn live<R>(
        &self,
        rank: usize,
        standing: Standing,
        body: &(impl Fn(&Communicator) -> R + Sync),
    ) -> thread::Result<R> {
        live(Arc::clone(&self.gang), rank, standing, body)
    }

    /// Ends what ranks wait for: to each of them all others are lost.
    pub(crate) fn disband(&self) {
        for place in 0..self.gang.size() as u32 {
            let ending = Ending::Lost;
            self.gang.announce(Notice::Ended { place, ending });
        }
    }
}

/// Runs `life` for all these ranks, on a thread each, and returns what each returned, in their order; `lose` is told of those
/// that have no thread.
pub(super) fn run_ranks<R: Send>(
    ranks: Vec<usize>,
    life: &(impl Fn(usize) -> thread::Result<R> + Sync),
    lose: &impl Fn(usize),
) -> Vec<Result<R, RankFailure>> {
    thread::scope(|scope| {
        let start = |rank: usize| {
            let builder = thread::Builder::new().name(format!("rank {rank}"));
            let started = builder.spawn_scoped(scope, move || life(rank));
            if started.is_err() {
                lose(rank);
            }
            (rank, started)
        };
        let started: Vec<_> = ranks.into_iter().map(start).collect();
        let ends = started.into_iter().map(|(rank, thread)| {
            let end = thread.map_err(|cause| cause.to_string());
            let end = end.and_then(|thread| {
                let end = thread.join().unwrap_or_else(Err);
                end.map_err(|payload| panic_text(&*payload))
            });
            end.map_err(|message| RankFailure { rank, message })
        });
        ends.collect()
    })
}

/// A rank's life on its thread.
fn live<R>(
    gang: Arc<Gang>,
    rank: usize,
    standing: Standing,
    body: &(impl Fn(&Communicator) -> R + Sync),
) -> thread::Result<R> {
    let place = rank as u32;
    let (life, world) = Life::begin(gang, place, standing);
    let end = catch_unwind(AssertUnwindSafe(|| {
        let world = world;
        body(&world)
    }));
    let ending = match end {
        Ok(_) => Ending::Returned,
        Err(_) => Ending::Panicked,
    };
    if let Some(mailbox) = life.leave(ending).mailbox(place) {
        mailbox.clear();
    }
    end
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    }
}
