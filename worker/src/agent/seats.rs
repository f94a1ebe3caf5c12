//! The kernel hosts of this worker, by what they are doing. A host serves one program of one user, one job at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use phalanx_protocol::JobId;

use super::{HostId, HostProgram, IDLE_HOST_KEPT, IDLE_HOSTS_MAX};

/// What a host may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostKey {
    pub(super) program: HostProgram,
    pub(super) user: String,
    /// Its slots may use that much each; 0: as much as there is. What a process used once, it may keep.
    pub(super) memory_bytes: u64,
}

#[derive(Debug)]
struct Host {
    key: HostKey,
    doing: Doing,
}

/// What a host is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its process starts, for a job, unless that was closed meanwhile.
    Starting(Option<JobId>),
    /// It serves a job.
    Serving(JobId),
    /// It closes its last job, and is killed then.
    Closing(Instant),
    /// It has no job, and is ended then.
    Idle(Instant),
    /// It was killed and is not known to be dead.
    Killed,
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Seats {
    hosts: BTreeMap<HostId, Host>,
    last_host: u64,
}

impl Seats {
    /// A new host, to be started for a job.
    pub(super) fn start(&mut self, key: HostKey, job: JobId) -> HostId {
        self.last_host += 1;
        let host = HostId(self.last_host);
        self.hosts.insert(
            host,
            Host {
                key,
                doing: Doing::Starting(Some(job)),
            },
        );
        host
    }

    /// What a host is doing; `None` for one that is gone.
    pub(super) fn doing(&self, host: HostId) -> Option<Doing> {
        self.hosts.get(&host).map(|host| host.doing)
    }

    /// The job that a host serves or starts for.
    pub(super) fn job_of(&self, host: HostId) -> Option<JobId> {
        match self.doing(host)? {
            Doing::Serving(job) => Some(job),
            Doing::Starting(job) => job,
            Doing::Closing(_) | Doing::Idle(_) | Doing::Killed => None,
        }
    }

    /// The program of a host.
    pub(super) fn key(&self, host: HostId) -> Option<&HostKey> {
        self.hosts.get(&host).map(|host| &host.key)
    }

    /// An idle host for that key, the one that was busy last.
    pub(super) fn idle(&self, key: &HostKey) -> Option<HostId> {
        let idle = self.hosts.iter().filter_map(|(&id, host)| match host.doing {
            Doing::Idle(until) if host.key == *key => Some((until, id)),
            Doing::Idle(_) | Doing::Starting(_) | Doing::Serving(_) | Doing::Closing(_) | Doing::Killed => {
                None
            }
        });
        idle.max().map(|(_, id)| id)
    }

    /// Whether a host of that key is closing its job.
    pub(super) fn is_closing(&self, key: &HostKey) -> bool {
        self.hosts
            .values()
            .any(|host| matches!(host.doing, Doing::Closing(_)) && host.key == *key)
    }

    /// Notes that a host serves a job.
    pub(super) fn serve(&mut self, host: HostId, job: JobId) {
        self.set(host, Doing::Serving(job));
    }

    /// Notes that a host was told to close its job; returns whether it was: one that only starts has none.
    pub(super) fn close(&mut self, now: Instant, host: HostId) -> bool {
        let is_serving = matches!(self.doing(host), Some(Doing::Serving(_)));
        let doing = if is_serving {
            let grace = self
                .key(host)
                .map_or(Duration::ZERO, |key| key.program.close_grace());
            Doing::Closing(now + grace)
        } else {
            Doing::Starting(None)
        };
        self.set(host, doing);
        is_serving
    }

    /// Notes that a host has no job; returns the one that must go for it, if there are too many.
    pub(super) fn rest(&mut self, now: Instant, host: HostId) -> Option<HostId> {
        self.set(host, Doing::Idle(now + IDLE_HOST_KEPT));
        let idle = self.hosts.iter().filter_map(|(&id, host)| match host.doing {
            Doing::Idle(until) => Some((until, id)),
            Doing::Starting(_) | Doing::Serving(_) | Doing::Closing(_) | Doing::Killed => None,
        });
        let idle: Vec<_> = idle.collect();
        idle.iter()
            .min()
            .filter(|_| idle.len() > IDLE_HOSTS_MAX)
            .map(|&(_, id)| id)
    }

    /// Notes that a host was killed: it is forgotten once it is known to be dead.
    pub(super) fn kill(&mut self, host: HostId) {
        self.set(host, Doing::Killed);
    }

    /// Forgets a host.
    pub(super) fn remove(&mut self, host: HostId) {
        self.hosts.remove(&host);
    }

    /// Forgets and returns all hosts.
    pub(super) fn take_all(&mut self) -> Vec<HostId> {
        std::mem::take(&mut self.hosts).into_keys().collect()
    }

    /// Hosts that serve a job.
    pub(super) fn serving(&self) -> impl Iterator<Item = HostId> + '_ {
        let serving = |host: &Host| matches!(host.doing, Doing::Serving(_));
        self.hosts
            .iter()
            .filter(move |(_, host)| serving(host))
            .map(|(&id, _)| id)
    }

    /// When the next host has to be killed or ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|host| host.doing.deadline()).min()
    }

    /// The hosts whose time is over.
    pub(super) fn expired(&self, now: Instant) -> Vec<HostId> {
        let over = |host: &Host| host.doing.deadline().is_some_and(|deadline| deadline <= now);
        self.hosts
            .iter()
            .filter(|(_, host)| over(host))
            .map(|(&id, _)| id)
            .collect()
    }

    fn set(&mut self, host: HostId, doing: Doing) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.doing = doing;
        }
    }
}

impl Doing {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Closing(at) | Self::Idle(at) => Some(at),
            Self::Starting(_) | Self::Serving(_) | Self::Killed => None,
        }
    }
}
