//! How the hosts of a gang that is on several nodes learn where the others are: each says at which port it listens, and all are
//! told once all have said so.
//!
//! Nothing of it is kept: workers say it again to a leader that takes over, and it goes on from there. Only the current epoch
//! counts. A gang whose hosts are not all heard of in [`MEETING_WAIT`] has lost the worker that is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::limits::GANG_HOSTS_MAX;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{JobId, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::losses::Loss;

/// How long hosts have to open their ports: programs may have to be fetched first.
pub(crate) const MEETING_WAIT: Duration = Duration::from_secs(300);

/// What a worker says of its host's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// In which epoch of the gang.
    pub epoch: u32,
    /// The position of the worker among the gang's nodes.
    pub node: u32,
    /// How many nodes there are.
    pub nodes: u32,
    /// The port.
    pub port: u16,
}

/// The hosts of one epoch, as far as they were heard of.
#[derive(Debug, Default)]
pub(crate) struct Meeting {
    epoch: u32,
    nodes: u32,
    /// By node: the worker, and where its host listens.
    hosts: BTreeMap<u32, (WorkerId, String)>,
    /// When whoever is missing then is given up. Of an epoch that an earlier leader started, nobody is.
    until: Option<Duration>,
}

impl Meeting {
    /// A meeting of as many hosts, if there is more than one.
    pub(crate) fn begin(epoch: u32, nodes: usize, now: Duration) -> Self {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        Self {
            epoch,
            nodes,
            hosts: BTreeMap::new(),
            until: (nodes > 1).then(|| now.saturating_add(MEETING_WAIT)),
        }
    }

    /// When it is to be looked at.
    pub(crate) fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Whether several hosts were told of each other.
    pub(crate) fn is_met(&self) -> bool {
        self.nodes > 1 && self.is_complete()
    }

    fn is_complete(&self) -> bool {
        self.hosts.len() == self.nodes as usize
    }

    fn addresses(&self) -> Vec<String> {
        self.hosts.values().map(|(_, address)| address.clone()).collect()
    }
}

impl Core {
    /// A host of a gang listens.
    pub(crate) fn host_listens(
        &mut self,
        worker: WorkerId,
        id: JobId,
        said: HostPort,
        effects: &mut Vec<Effect>,
    ) {
        let address = self.workers.get(&worker).map(|worker| worker.address.as_str());
        let Some(address) = address.map(|address| at_port(address, said.port)) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.takes(worker, &said)) else {
            return;
        };
        let meeting = &mut job.gang.meeting;
        if meeting.epoch != said.epoch {
            *meeting = Meeting {
                epoch: said.epoch,
                nodes: said.nodes,
                ..Meeting::default()
            };
        }
        let was_complete = meeting.is_complete();
        let host = (worker, address);
        let is_news = meeting.hosts.insert(said.node, host.clone()) != Some(host);
        if !meeting.is_complete() {
            return;
        }
        meeting.until = None;
        let addresses = meeting.addresses();
        let all = meeting.hosts.values().map(|(worker, _)| *worker);
        let told: Vec<WorkerId> = match was_complete && !is_news {
            true => vec![worker],
            false => all.collect(),
        };
        for worker in told {
            let message = ToWorker::GangAddresses {
                job: id,
                epoch: said.epoch,
                addresses: addresses.clone(),
            };
            effects.push(Effect::Send { worker, message });
        }
    }

    /// Ends the epoch of a gang whose hosts have not all been heard of in time.
    pub(crate) fn end_if_unmet(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_gang()) else {
            return;
        };
        let meeting = &mut job.gang.meeting;
        if meeting.until.take_if(|until| *until <= now.elapsed).is_none() {
            return;
        }
        let Some(placement) = &job.gang.placement else {
            return;
        };
        let is_missing = |node: u32| !meeting.hosts.contains_key(&node);
        let mut ranks = (0..).zip(placement.node_of.iter().copied());
        let missing = ranks.find(|&(rank, node)| is_missing(node) && !job.ended.contains(rank));
        let lost = missing.and_then(|(rank, node)| Some((placement.nodes.get(node as usize)?.worker, rank)));
        if let Some((worker, rank)) = lost {
            self.gang_lost(now, id, &Loss::Unmet { worker, rank }, effects);
        }
    }
}

impl Job {
    /// Whether a worker may say that of a host of this gang.
    fn takes(&self, worker: WorkerId, said: &HostPort) -> bool {
        let most = self.spec.tasks.min(GANG_HOSTS_MAX as u64);
        let is_possible = said.node < said.nodes && u64::from(said.nodes) <= most;
        let is_current = self.is_active() && self.is_gang() && said.epoch == self.epoch();
        let is_placed = match &self.gang.placement {
            Some(placement) => {
                let node = placement.nodes.get(said.node as usize);
                placement.nodes.len() == said.nodes as usize && node.is_some_and(|node| node.worker == worker)
            }
            // an earlier leader placed it: whoever speaks first says how many they are
            None => {
                let meeting = &self.gang.meeting;
                meeting.epoch != said.epoch || meeting.nodes == said.nodes
            }
        };
        is_possible && is_current && is_placed
    }
}

/// The address of something else at the same place.
fn at_port(address: &str, port: u16) -> String {
    let place = address.rsplit_once(':').map_or(address, |(place, _)| place);
    format!("{place}:{port}")
}
