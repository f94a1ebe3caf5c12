//! How this host meets the other hosts of a gang that is on several nodes: it listens, says where, is told of the others, and
//! joins them once. Who the members are that then talk, ranks or nodes, is for whoever joins to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use phalanx_protocol::gang::Peers;
use phalanx_protocol::message::host::HostGang;

use super::lock;
use crate::ranks::{GangPort, JoinError, RemoteGang};

/// How long a host waits to be told where the others are. The scheduler gives up before that who says nothing.
const ADDRESSES_WAIT: Duration = Duration::from_secs(360);
/// How long it looks for them then.
const MEETING_PATIENCE: Duration = Duration::from_secs(30);

/// Why a host did not meet the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The start of the gang is over.
    #[error("this start of the gang is over")]
    Over,
    /// Nothing was heard of the others.
    #[error("nobody said within {} s where the gang's other nodes listen", ADDRESSES_WAIT.as_secs())]
    Untold,
    /// What was heard is of no use.
    #[error("`{0}` is no address of a node of the gang")]
    Address(String),
    /// They were joined before.
    #[error("the gang's other nodes were joined before")]
    Joined,
    /// They were not met.
    #[error("the gang's other nodes were not met: {0}")]
    NotMet(#[source] JoinError),
}

/// What is known of where the others are.
#[derive(Debug)]
enum Told {
    Nothing,
    Addresses(Vec<String>),
    /// It does not matter any more.
    Over,
}

/// One start of a gang, as its hosts find each other.
#[derive(Debug)]
pub(crate) struct GangLink {
    epoch: u32,
    node: u32,
    address: SocketAddr,
    /// Until they are joined.
    port: Mutex<Option<GangPort>>,
    told: Mutex<Told>,
    /// Rung when that changes.
    change: Condvar,
}

impl GangLink {
    /// Begins to listen, if the gang has other nodes.
    ///
    /// # Errors
    /// [`JoinError`] if the credential is none or the port cannot be opened.
    pub(super) fn open(gang: &HostGang) -> Result<Option<Self>, JoinError> {
        let Some(credential) = gang
            .credential
            .as_ref()
            .filter(|_| gang.placement.nodes.len() > 1)
        else {
            return Ok(None);
        };
        let port = GangPort::open(listening_place(gang), credential)?;
        Ok(Some(Self {
            epoch: gang.placement.epoch,
            node: gang.node,
            address: port.address(),
            port: Mutex::new(Some(port)),
            told: Mutex::new(Told::Nothing),
            change: Condvar::new(),
        }))
    }

    /// Of which start of the gang it is.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The port at which it listens.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Takes in where all hosts listen, each as `host:port`, in the order of nodes.
    pub(super) fn found(&self, addresses: Vec<String>) {
        let mut told = lock(&self.told);
        if !matches!(*told, Told::Over) {
            *told = Told::Addresses(addresses);
        }
        self.change.notify_all();
    }

    /// Ends the wait in [`Self::join`], now or later.
    pub(crate) fn abandon(&self) {
        *lock(&self.told) = Told::Over;
        self.change.notify_all();
    }

    /// Waits to be told where the others listen, and meets them. `hosts` has the node of each member, by its position among
    /// the gang's nodes, and is the same at all hosts. Blocks for minutes if others are late.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(crate) fn join(&self, hosts: Vec<u32>) -> Result<RemoteGang, LinkError> {
        let addresses = self.await_addresses()?;
        let parse = |text: &String| canonical(text).ok_or_else(|| LinkError::Address(text.clone()));
        let peers = Peers {
            here: self.node,
            addresses: addresses.iter().map(parse).collect::<Result<_, _>>()?,
            hosts,
        };
        let port = lock(&self.port).take().ok_or(LinkError::Joined)?;
        port.join(peers, MEETING_PATIENCE).map_err(LinkError::NotMet)
    }

    fn await_addresses(&self) -> Result<Vec<String>, LinkError> {
        let until = Instant::now() + ADDRESSES_WAIT;
        let mut told = lock(&self.told);
        loop {
            match &*told {
                Told::Addresses(addresses) => return Ok(addresses.clone()),
                Told::Over => return Err(LinkError::Over),
                Told::Nothing => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::Untold);
            }
            let waited = self.change.wait_timeout(told, left);
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An address as its own family writes it: of IPv4 also where it was seen through a socket of IPv6.
fn canonical(address: &str) -> Option<SocketAddr> {
    let address: SocketAddr = address.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Where to listen: on loopback if all nodes are this machine, else wherever others may come from.
fn listening_place(gang: &HostGang) -> SocketAddr {
    let place = |address: &str| canonical(address).map(|address| address.ip());
    let nodes = &gang.placement.nodes;
    let places: Vec<Option<IpAddr>> = nodes.iter().map(|node| place(&node.address)).collect();
    let own = places.get(gang.node as usize).copied().flatten();
    let is_near = |place: &Option<IpAddr>| place.is_some_and(|place| place.is_loopback());
    let place = match own {
        Some(own) if places.iter().all(is_near) => own,
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Some(IpAddr::V4(_)) | None => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(place, 0)
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::RangeSet;
    use phalanx_protocol::gang::{GangNode, Placement, host_name};
    use phalanx_protocol::id::WorkerId;
    use phalanx_transport::{Authority, Role};

    use super::*;

    fn gang(node: u32, addresses: &[&str], authority: &Authority) -> HostGang {
        let nodes = addresses.iter().map(|address| GangNode {
            worker: WorkerId(1),
            address: (*address).to_owned(),
            name: String::new(),
        });
        let credential = authority.issue(Role::Worker, &host_name(node)).unwrap();
        HostGang {
            placement: Placement {
                epoch: 3,
                nodes: nodes.collect(),
                node_of: (0..addresses.len() as u32).collect(),
                is_led: false,
                starting: RangeSet::new(),
                respawns: false,
            },
            node,
            credential: Some(credential.to_pem().to_owned()),
        }
    }

    const NEAR: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

    #[test]
    fn hosts_that_are_told_of_each_other_meet() {
        let authority = Authority::create("gang").unwrap();
        let links = [0, 1].map(|node| GangLink::open(&gang(node, &NEAR, &authority)).unwrap().unwrap());
        let addresses: Vec<String> = links.iter().map(|link| link.address.to_string()).collect();
        let sums = std::thread::scope(|scope| {
            let hosts = links.iter().map(|link| {
                let join = || {
                    link.join(vec![0, 1])
                        .unwrap()
                        .run(|comm| comm.all_reduce(comm.rank(), |a, b| a + b))
                };
                scope.spawn(join)
            });
            let hosts: Vec<_> = hosts.collect();
            links.iter().for_each(|link| link.found(addresses.clone()));
            let ends = hosts.into_iter().map(|host| host.join().unwrap().ranks);
            ends.flatten()
                .map(|(_, sum)| sum.unwrap().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(sums, [1, 1]);
        assert!(matches!(links[0].join(vec![0, 1]), Err(LinkError::Joined)));
    }

    #[test]
    fn whoever_waits_for_others_hears_that_it_is_over() {
        let authority = Authority::create("gang").unwrap();
        let link = GangLink::open(&gang(0, &NEAR, &authority)).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| link.join(vec![0, 1]));
            link.abandon();
            assert!(matches!(waiting.join().unwrap(), Err(LinkError::Over)));
        });
        link.found(NEAR.map(str::to_owned).to_vec());
        assert!(matches!(link.join(vec![0, 1]), Err(LinkError::Over)));
    }

    #[test]
    fn it_listens_to_other_machines_only_if_there_are_some() {
        let authority = Authority::create("gang").unwrap();
        let place = |addresses: &[&str]| listening_place(&gang(0, addresses, &authority)).to_string();
        assert_eq!(place(&NEAR), "127.0.0.1:0");
        assert_eq!(place(&["127.0.0.1:1", "10.0.0.2:9"]), "0.0.0.0:0");
        assert_eq!(place(&["[::ffff:10.0.0.1]:1", "10.0.0.2:9"]), "0.0.0.0:0");
        assert_eq!(place(&["[fd00::1]:1", "[fd00::2]:9"]), "[::]:0");
    }
}
