//! What hosts of one gang need for each other and the core does not make: credentials, and addresses that others can reach.
//! It knows of no gang more than the one that was asked for last.

use std::net::{IpAddr, SocketAddr};

use phalanx_protocol::gang::host_name;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{JobId, WorkerId};
use phalanx_transport::{Authority, IdentityError, Role};

/// The authority of the gang that starts. Messages to its workers follow each other, so one is enough; what it has issued
/// is worth something among those who got it, and to nobody else.
#[derive(Debug, Default)]
pub(crate) struct GangHosts {
    current: Option<(JobId, u32, Authority)>,
}

impl GangHosts {
    /// Adds what the core leaves out of a message to `worker`. `own` are the addresses of this scheduler.
    pub(crate) fn complete(&mut self, worker: WorkerId, message: &mut ToWorker, own: &[String]) {
        if let ToWorker::Gang {
            job,
            placement,
            credential,
        } = message
            && placement.nodes.len() > 1
        {
            let node = placement.nodes.iter().position(|node| node.worker == worker);
            let Some(node) = node.and_then(|node| u32::try_from(node).ok()) else {
                return;
            };
            match self.issue(*job, placement.epoch, node) {
                Ok(issued) => *credential = Some(issued),
                // the core gives up an epoch whose hosts do not meet
                Err(error) => tracing::error!(%job, %error, "no credential for a host of a gang"),
            }
        } else if let ToWorker::GangAddresses { addresses, .. } = message {
            make_reachable(addresses, own);
        }
    }

    fn issue(&mut self, job: JobId, epoch: u32, node: u32) -> Result<String, IdentityError> {
        let current = self
            .current
            .take()
            .filter(|(of, start, _)| (*of, *start) == (job, epoch));
        let authority = match current {
            Some((_, _, authority)) => authority,
            None => Authority::create(&format!("gang-{job}-{epoch}"))?,
        };
        let issued = authority.issue(Role::Worker, &host_name(node));
        self.current = Some((job, epoch, authority));
        Ok(issued?.to_pem().to_owned())
    }
}

/// Workers beside the scheduler have joined over loopback, where hosts on other nodes do not find them: they are found where
/// the scheduler is.
fn make_reachable(addresses: &mut [String], own: &[String]) {
    let place = |address: &String| {
        address
            .parse()
            .ok()
            .map(|address: SocketAddr| address.ip().to_canonical())
    };
    let is_near = |address: &String| place(address).is_some_and(|place: IpAddr| place.is_loopback());
    let is_far = |place: &IpAddr| !place.is_loopback() && !place.is_unspecified();
    let Some(here) = own.iter().filter_map(place).find(is_far) else {
        return;
    };
    if addresses.iter().all(is_near) {
        return;
    }
    for address in addresses.iter_mut().filter(|address| is_near(address)) {
        if let Ok(near) = address.parse::<SocketAddr>() {
            *address = SocketAddr::new(here, near.port()).to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::RangeSet;
    use phalanx_protocol::gang::{GangNode, Placement};
    use phalanx_transport::Credential;

    use super::*;

    fn gang(epoch: u32, workers: &[u64]) -> ToWorker {
        let node = |&worker: &u64| GangNode {
            worker: WorkerId(worker),
            address: String::new(),
            name: String::new(),
        };
        ToWorker::Gang {
            job: JobId(7),
            placement: Box::new(Placement {
                epoch,
                nodes: workers.iter().map(node).collect(),
                node_of: (0..workers.len() as u32).collect(),
                is_led: false,
                starting: RangeSet::new(),
                respawns: false,
            }),
            credential: None,
        }
    }

    fn credential(hosts: &mut GangHosts, worker: u64, mut message: ToWorker) -> Option<Credential> {
        hosts.complete(WorkerId(worker), &mut message, &[]);
        let ToWorker::Gang { credential, .. } = message else {
            panic!("another message");
        };
        credential.map(|pem| Credential::from_pem(&pem).unwrap())
    }

    /// The last certificate in a credential is its authority's.
    fn authority(credential: &Credential) -> &str {
        let last = credential.to_pem().rsplit("BEGIN CERTIFICATE").next();
        last.and_then(|last| last.split("END CERTIFICATE").next())
            .unwrap()
    }

    #[test]
    fn each_host_of_several_has_a_credential_of_its_epoch_in_its_own_name() {
        let mut hosts = GangHosts::default();
        let first = credential(&mut hosts, 4, gang(1, &[4, 9])).unwrap();
        let second = credential(&mut hosts, 9, gang(1, &[4, 9])).unwrap();
        assert_eq!(
            (first.identity().name.as_str(), second.identity().name.as_str()),
            ("0", "1")
        );
        assert_eq!(authority(&first), authority(&second));
        let later = credential(&mut hosts, 4, gang(2, &[4, 9])).unwrap();
        assert_ne!(authority(&later), authority(&first));
        assert!(
            credential(&mut hosts, 4, gang(1, &[4])).is_none(),
            "one host has nobody to meet"
        );
    }

    #[test]
    fn a_host_beside_the_scheduler_is_found_where_the_scheduler_is() {
        let own = ["0.0.0.0:1".to_owned(), "10.0.0.1:7878".to_owned()];
        let mut mixed = ["127.0.0.1:50".to_owned(), "10.0.0.2:60".to_owned()];
        make_reachable(&mut mixed, &own);
        assert_eq!(mixed, ["10.0.0.1:50", "10.0.0.2:60"]);
        let mut near = ["127.0.0.1:50".to_owned(), "127.0.0.1:60".to_owned()];
        make_reachable(&mut near, &own);
        assert_eq!(near, ["127.0.0.1:50", "127.0.0.1:60"]);
    }
}
