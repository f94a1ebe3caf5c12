//! A host's port: the network's thread and the endpoint, from the moment at which it listens to the gang's end.
//!
//! Each pair of hosts has one connection, which the one with the higher number makes. A host begins to send when it has met all
//! others. It stays until all ranks of the gang have ended: until then others may need what it holds.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phalanx_protocol::gang::{Peers, PeersError};
use phalanx_transport::{
    BindError, CloseReason, Credential, Dialer, EndpointOptions, IdentityError, Listener, Role,
};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::helm::Helm;
use super::inlet::Inlet;
use super::link::QuicLink;
use super::meeting::{Met, meet};
use super::session::{Cause, Session};
use super::wire::PROTOCOL;
use crate::ranks::delays::Delays;
use crate::ranks::error::Ending;
use crate::ranks::gang::{Gang, Link, Member, Notice, Route};
use crate::ranks::mailbox::Mailbox;

/// How long a host that leaves waits for the others to hear its last words.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// Why a host takes no part in a gang.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The credential cannot be used.
    #[error("the credential cannot be used")]
    Credential(#[from] IdentityError),
    /// The endpoint cannot be made.
    #[error("the port cannot be opened")]
    Bind(#[from] BindError),
    /// The system gives no thread or no address.
    #[error("the port cannot be opened")]
    System(#[from] io::Error),
    /// The peers make no gang.
    #[error("the gang is impossible")]
    Peers(#[from] PeersError),
    /// Not all hosts were met in time.
    #[error("host {host} was not met: {cause}")]
    NotMet {
        /// The first of those.
        host: u32,
        /// What is known of that.
        cause: String,
    },
}

/// A host that was lost while ranks of it lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Its number.
    pub host: u32,
    /// How that was noticed.
    pub cause: String,
}

/// What the thread is to do.
struct Order {
    peers: Peers,
    patience: Duration,
    delays: Option<u64>,
    reply: mpsc::Sender<Result<Joined, JoinError>>,
}

/// A host that listens, and does not know the others yet.
pub struct GangPort {
    address: SocketAddr,
    /// From what delays are drawn.
    delays: Option<u64>,
    order: oneshot::Sender<Order>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for GangPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GangPort({})", self.address)
    }
}

/// A gang that has met, as seen from this host's thread.
pub(in crate::ranks) struct Joined {
    pub gang: Arc<Gang>,
    pub losses: Arc<Mutex<Vec<Loss>>>,
    /// Ends the host's part: in good order if something is sent, else as if the process died.
    pub leave: oneshot::Sender<()>,
}

impl GangPort {
    /// Listens on `address` (port 0: any free one) with a credential as PEM that the gang's authority has issued to this host:
    /// see [`phalanx_protocol::gang`].
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn open(address: SocketAddr, credential: &str) -> Result<Self, JoinError> {
        let credential = Credential::from_pem(credential)?;
        let (order, orders) = oneshot::channel();
        let (opened, is_open) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("gang network".to_owned())
            .spawn(move || serve(address, credential, opened, orders))?;
        let gone = || io::Error::other("the network's thread has ended");
        let address = is_open.recv().map_err(|_| gone())??;
        Ok(GangPort {
            address,
            delays: None,
            order,
            thread,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets what comes from other hosts be late, by random times from this seed.
    pub(in crate::ranks) fn delayed(mut self, seed: u64) -> Self {
        self.delays = Some(seed);
        self
    }

    /// Meets the other hosts, for `patience` at the most. Returns the thread, too, which ends after the gang.
    pub(in crate::ranks) fn meet(
        self,
        peers: Peers,
        patience: Duration,
    ) -> Result<(Joined, JoinHandle<()>), JoinError> {
        peers.check()?;
        let gone = || io::Error::other("the network's thread has ended");
        let (reply, replies) = mpsc::channel();
        let order = Order {
            peers,
            patience,
            delays: self.delays,
            reply,
        };
        self.order.send(order).map_err(|_| gone())?;
        let joined = replies.recv().map_err(|_| gone())??;
        Ok((joined, self.thread))
    }
}

/// The settings of all endpoints of gangs.
pub(super) fn options() -> EndpointOptions {
    EndpointOptions {
        protocol: PROTOCOL.to_owned(),
        dialled_role: Role::Worker,
        ..EndpointOptions::default()
    }
}

/// The thread's work.
fn serve(
    address: SocketAddr,
    credential: Credential,
    opened: mpsc::Sender<Result<SocketAddr, JoinError>>,
    orders: oneshot::Receiver<Order>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // whoever opens the port waits for it
            let _ = opened.send(Err(error.into()));
            return;
        }
    };
    let helm = Arc::new(Helm::new());
    let steered = Arc::clone(&helm);
    helm.keep(runtime, async move {
        let open = || -> Result<_, JoinError> {
            let listener = Listener::bind_with(address, &credential, &options(), None)?;
            let dialer = Dialer::with_options(&credential, options())?;
            let address = listener.local_address()?;
            Ok((listener, dialer, address))
        };
        match open() {
            Ok((listener, dialer, address)) => {
                let _ = opened.send(Ok(address));
                if let Ok(order) = orders.await {
                    take_part(listener, dialer, order, steered).await;
                }
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        }
    });
}

async fn take_part(mut listener: Listener, dialer: Dialer, order: Order, helm: Arc<Helm>) {
    let Order {
        peers,
        patience,
        delays,
        reply,
    } = order;
    let peers = Arc::new(peers);
    let met = match meet(&mut listener, &dialer, &peers, patience).await {
        Ok(met) => met,
        Err(error) => {
            let _ = reply.send(Err(error));
            dialer.close(CloseReason::Refused, "not all hosts were met").await;
            return;
        }
    };
    let links: Vec<Option<Arc<QuicLink>>> = (0..peers.addresses.len() as u32)
        .map(|host| (host != peers.here).then(|| Arc::new(QuicLink::new(Arc::clone(&helm)))))
        .collect();
    let mut gang = gang_of(&peers, &links);
    if peers.ranks_of(peers.here).count() == 1 {
        helm.share();
        gang = gang.waiting_in(helm);
    }
    let gang = Arc::new(gang);
    let losses = Arc::<Mutex<Vec<Loss>>>::default();
    let (leave, leaving) = oneshot::channel();
    let joined = Joined {
        gang: Arc::clone(&gang),
        losses: Arc::clone(&losses),
        leave,
    };
    let part = Part {
        peers,
        gang,
        links: Arc::new(links),
        losses,
        delays,
        ended: Arc::default(),
    };
    if reply.send(Ok(joined)).is_ok() && part.attend(met, leaving).await {
        let text = "all ranks have ended";
        tokio::join!(
            dialer.close(CloseReason::Done, text),
            listener.close(CloseReason::Done, text)
        );
    }
}

/// The gang as this host sees it.
fn gang_of(peers: &Peers, links: &[Option<Arc<QuicLink>>]) -> Gang {
    let here = peers.ranks_of(peers.here).count();
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let member = |&host: &u32| {
        let route = match &links[host as usize] {
            None => Route::Near(Mailbox::new(here, here <= cores)),
            Some(link) => Route::Far(Arc::clone(link) as Arc<dyn Link>),
        };
        Member::new(route, host)
    };
    let others = links.iter().flatten();
    Gang::new(
        peers.hosts.iter().map(member).collect(),
        others.map(|link| Arc::clone(link) as Arc<dyn Link>).collect(),
    )
}

/// This host's part in the gang.
struct Part {
    peers: Arc<Peers>,
    gang: Arc<Gang>,
    links: Arc<Vec<Option<Arc<QuicLink>>>>,
    losses: Arc<Mutex<Vec<Loss>>>,
    /// From what delays are drawn.
    delays: Option<u64>,
    /// Rung when a rank of another host has ended.
    ended: Arc<Notify>,
}

impl Part {
    /// Keeps up the sessions until this host is to leave and no rank of another lives. Says whether it ends in good order.
    async fn attend(&self, met: Vec<Met>, mut leaving: oneshot::Receiver<()>) -> bool {
        let mut sessions = JoinSet::new();
        for met in met {
            let Some(link) = &self.links[met.host as usize] else {
                continue;
            };
            let session = Arc::new(Session {
                inlet: Inlet {
                    host: met.host,
                    peers: Arc::clone(&self.peers),
                    gang: Arc::clone(&self.gang),
                    links: Arc::clone(&self.links),
                    link: Arc::clone(link),
                    ended: Arc::clone(&self.ended),
                },
                connection: met.connection,
                delays: self.delays_of(met.host),
            });
            sessions.spawn(async move { (session.inlet.host, session.run(met.writer, met.reader).await) });
        }
        let mut is_leaving = false;
        while !(is_leaving && self.all_have_ended()) {
            tokio::select! {
                left = &mut leaving, if !is_leaving => match left {
                    Ok(()) => is_leaving = true,
                    Err(_) => return false,
                },
                Some(ended) = sessions.join_next() => match ended {
                    Ok((host, cause)) => self.lose(host, &cause),
                    // never aborted while this goes on, so this is a panic: pass it on
                    Err(error) => if let Ok(panic) = error.try_into_panic() { std::panic::resume_unwind(panic) },
                },
                () = self.ended.notified() => {}
            }
        }
        for link in self.links.iter().flatten() {
            link.finish();
        }
        let farewell = async {
            while let Some(ended) = sessions.join_next().await {
                // of a loss that another host has told, and that is not noted yet
                if let Ok((host, cause)) = ended {
                    self.lose(host, &cause);
                }
            }
        };
        // whoever does not answer needs nothing of this host any more
        let _ = timeout(FAREWELL_WAIT, farewell).await;
        true
    }

    /// The delays of what comes from that host, which are others than those of any other two.
    fn delays_of(&self, host: u32) -> Option<Mutex<Delays>> {
        let both = u64::from(self.peers.here) << 32 | u64::from(host);
        let seed = self.delays.map(|seed| seed ^ both);
        seed.map(|seed| Mutex::new(Delays::new(seed)))
    }

    fn all_have_ended(&self) -> bool {
        (0..self.gang.size() as u32).all(|place| self.gang.ending(place).is_some())
    }

    /// The session with a host has ended: its ranks are lost, for all hosts.
    fn lose(&self, host: u32, cause: &Cause) {
        let Some(link) = &self.links[host as usize] else {
            return;
        };
        // whoever was told has closed it, and noted no loss
        let is_told = link.is_closed();
        link.close();
        let lives = |place: &u32| self.gang.ending(*place).is_none();
        let lost: Vec<u32> = self.peers.ranks_of(host).filter(lives).collect();
        let is_over = lost.is_empty() && !is_told;
        if is_over || matches!(cause, Cause::Finished) {
            return;
        }
        tracing::warn!(host, ranks = ?lost, %cause, "a host of the gang is lost");
        let loss = Loss {
            host,
            cause: cause.to_string(),
        };
        self.losses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(loss);
        for place in lost {
            let ending = Ending::Lost;
            self.gang.announce(Notice::Ended { place, ending });
        }
    }
}
