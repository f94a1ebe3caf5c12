//! Where the ranks of a gang live: what each of its hosts is told so that they find each other. Nothing here connects.
//!
//! A *host* is a process in which ranks are threads; hosts are numbered from 0. Each gets a credential by the gang's own
//! authority, made for one start of the gang, in the name of [`host_name`] and with the role of a worker. It opens a port with
//! it, says where that is, and gets [`Peers`] once the addresses of all are known.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::RANKS_MAX;
use crate::limits::GANG_HOSTS_MAX;

/// The name in the credential of the host with this number.
pub fn host_name(host: u32) -> String {
    host.to_string()
}

/// The hosts of a gang and their ranks, as one of the hosts is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Which host is told.
    pub here: u32,
    /// Where each host listens; its own address is of no meaning to a host.
    pub addresses: Vec<SocketAddr>,
    /// The host of each rank.
    pub hosts: Vec<u32>,
}

/// Why peers make no gang.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    /// None at all, or more than are allowed.
    #[error("a gang of {ranks} ranks on {hosts} hosts: at most {RANKS_MAX} on {GANG_HOSTS_MAX} are possible")]
    Size {
        /// How many ranks.
        ranks: usize,
        /// How many hosts.
        hosts: usize,
    },
    /// A host's number that no host has.
    #[error("there is no host {host} among {hosts}")]
    NoSuchHost {
        /// The number.
        host: u32,
        /// How many there are.
        hosts: usize,
    },
}

impl Peers {
    /// Checks that the numbers fit each other and the limits.
    ///
    /// # Errors
    /// [`PeersError`].
    pub fn check(&self) -> Result<(), PeersError> {
        let (ranks, hosts) = (self.hosts.len(), self.addresses.len());
        if !(1..=RANKS_MAX).contains(&(ranks as u64)) || !(1..=GANG_HOSTS_MAX).contains(&hosts) {
            return Err(PeersError::Size { ranks, hosts });
        }
        let mut named = self.hosts.iter().chain([&self.here]);
        match named.find(|&&host| host as usize >= hosts) {
            Some(&host) => Err(PeersError::NoSuchHost { host, hosts }),
            None => Ok(()),
        }
    }

    /// The ranks that live on `host`, ascending.
    pub fn ranks_of(&self, host: u32) -> impl Iterator<Item = u32> + '_ {
        let ranks = (0..).zip(&self.hosts);
        ranks
            .filter(move |(_, theirs)| **theirs == host)
            .map(|(rank, _)| rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn peers() -> Peers {
        Peers {
            here: 1,
            addresses: vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
            hosts: vec![0, 1, 0],
        }
    }

    #[test]
    fn peers_know_each_hosts_ranks_and_survive_their_byte_form() {
        let peers = peers();
        peers.check().unwrap();
        assert_eq!(peers.ranks_of(0).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(codec::decode::<Peers>(&codec::encode(&peers)).unwrap(), peers);
    }

    #[test]
    fn a_host_that_is_not_there_is_named() {
        let mut wrong = peers();
        wrong.hosts.push(2);
        let error = wrong.check().unwrap_err();
        assert_eq!(error, PeersError::NoSuchHost { host: 2, hosts: 2 });
        wrong = Peers { here: 7, ..peers() };
        assert_eq!(
            wrong.check().unwrap_err().to_string(),
            "there is no host 7 among 2"
        );
        wrong = Peers {
            hosts: Vec::new(),
            ..peers()
        };
        assert!(matches!(wrong.check(), Err(PeersError::Size { .. })));
    }
}
