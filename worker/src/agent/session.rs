//! What the scheduler says, and how a session with it begins.

use std::time::{Duration, Instant};

use phalanx_protocol::gang::Placement;
use phalanx_protocol::limits::GRANT_TASKS_MAX;
use phalanx_protocol::message::host::{HostGang, ToHost};
use phalanx_protocol::message::worker::{FromWorker, HeldGrant, Join, ToWorker};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet};

use super::job::{Grant, Job};
use super::{Agent, Effect, GRANTS_PER_JOB_MAX, HELD_RANGES_MAX, JOBS_OPEN_MAX, Obstacle, Opening, Presence};

/// A grant as it comes in.
#[derive(Debug, Clone, Copy)]
struct Granted {
    grant: GrantId,
    range: IndexRange,
    restarts: u32,
}

impl Agent {
    /// Introduces this worker with what it holds. Jobs of which nothing is said are closed: the scheduler opens them
    /// again if it wants them here.
    pub(super) fn connected(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.joined = false;
        let mut held_count = 0;
        let mut unsaid = Vec::new();
        for (&id, job) in &self.jobs {
            let count: usize = job.grants.values().map(|open| open.held.range_count()).sum();
            match count == 0 || held_count + count > HELD_RANGES_MAX {
                true => unsaid.push(id),
                false => held_count += count,
            }
        }
        unsaid.into_iter().for_each(|job| self.close(now, job, effects));
        let held = self.jobs.iter().flat_map(|(&job, state)| {
            let grants = state.grants.iter();
            grants.flat_map(move |(&grant, open)| {
                open.held.iter().map(move |range| HeldGrant { job, grant, range })
            })
        });
        effects.push(Effect::Tell(FromWorker::Join(Join {
            instance: self.instance,
            worker: self.worker,
            name: self.name.clone(),
            capacity: self.capacity.clone(),
            held: held.collect(),
        })));
        if matches!(self.presence, Presence::Draining(_)) {
            effects.push(Effect::Tell(FromWorker::Draining));
        }
    }

    pub(super) fn told(&mut self, now: Instant, message: ToWorker, effects: &mut Vec<Effect>) {
        if !self.is_wanted(&message, effects) {
            return;
        }
        match message {
            ToWorker::Welcome { worker, .. } => {
                self.worker = Some(worker);
                self.joined = true;
                self.outbox.rewind();
                let ports = self.jobs.iter().filter_map(|(&id, job)| job.gang_port(id));
                effects.extend(ports.map(Effect::Tell));
            }
            ToWorker::Open {
                job,
                user,
                work,
                request,
                task_time_limit_millis,
            } => {
                let task_time = task_time_limit_millis.map(Duration::from_millis);
                let opening = Opening(self.openings + 1);
                let new = Job::new(opening, user, work, request, task_time);
                self.opened(now, job, new, effects);
            }
            ToWorker::SetSlots { job, slots } => self.slots_wanted(job, slots, effects),
            ToWorker::Grant {
                job,
                grant,
                range,
                restarts,
            } => self.granted(
                job,
                Granted {
                    grant,
                    range,
                    restarts,
                },
                effects,
            ),
            ToWorker::Revoke { job, grant, count } => self.revoked(job, grant, count, effects),
            ToWorker::Stop { job, grant, range } => self.stop_tasks(job, grant, range, effects),
            ToWorker::Signal {
                job,
                grant,
                range,
                signal,
            } => self.signal_tasks(job, grant, ToHost::Signal { grant, range, signal }, effects),
            ToWorker::Acknowledge { number } => self.outbox.acknowledged(number),
            ToWorker::Close { job } => self.close(now, job, effects),
            ToWorker::CheckpointNow { job } => {
                let host = self.jobs.get(&job).and_then(Job::open_host);
                effects.extend(host.map(|host| Effect::TellHost(host, ToHost::CheckpointNow)));
            }
            ToWorker::Drain => self.drain(None, effects),
            ToWorker::SilenceLimit { millis } => self.standstill = Duration::from_millis(millis.into()),
            ToWorker::Schedulers(_) => tracing::debug!("not for this version"),
            ToWorker::Gang {
                job,
                placement,
                credential,
            } => self.gang_begins(job, *placement, credential, effects),
            ToWorker::GangWaits { job, epoch } => {
                let host = self.jobs.get(&job).and_then(Job::open_host);
                effects.extend(host.map(|host| Effect::TellHost(host, ToHost::GangWaits { epoch })));
            }
            ToWorker::GangAddresses {
                job,
                epoch,
                addresses,
            } => self.gang_found(job, epoch, addresses, effects),
        }
    }

    fn opened(&mut self, now: Instant, id: JobId, new: Job, effects: &mut Vec<Effect>) {
        if let Some(job) = self.jobs.get(&id) {
            tracing::debug!(job = %id, same = job.work == new.work, "is open already");
            return;
        }
        if self.jobs.len() >= JOBS_OPEN_MAX {
            let reason = format!("this worker has {JOBS_OPEN_MAX} jobs open and takes no more");
            effects.push(Effect::Tell(FromWorker::CannotRun {
                job: id,
                reason,
                fatal: false,
            }));
            return;
        }
        self.openings += 1;
        self.jobs.insert(id, new);
        self.prepare_or_seat(now, id, effects);
    }

    /// Takes in where the ranks of a gang are, which are granted next.
    fn gang_begins(
        &mut self,
        id: JobId,
        placement: Placement,
        credential: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let node = placement
            .nodes
            .iter()
            .position(|node| Some(node.worker) == self.worker);
        let node = node.and_then(|node| u32::try_from(node).ok());
        let (Some(job), Some(node)) = (self.jobs.get_mut(&id), node) else {
            tracing::debug!(job = %id, "a gang that is not for this worker");
            return;
        };
        let gang = HostGang {
            placement,
            node,
            credential,
        };
        job.gang = Some(gang.clone());
        job.gang_port = None;
        if let Some(host) = job.open_host() {
            effects.push(Effect::TellHost(host, ToHost::Gang(Box::new(gang))));
        }
    }

    /// Passes on where the hosts of a gang are, if its host asked for that.
    fn gang_found(&mut self, id: JobId, epoch: u32, addresses: Vec<String>, effects: &mut Vec<Effect>) {
        let job = self.jobs.get(&id).filter(|job| job.gang_epoch() == Some(epoch));
        match job.and_then(Job::open_host) {
            Some(host) => effects.push(Effect::TellHost(host, ToHost::GangAddresses { epoch, addresses })),
            None => tracing::debug!(job = %id, epoch, "a start of a gang that is not here any more"),
        }
    }

    /// Tells the scheduler where the host of a job listens to the gang's others.
    pub(super) fn host_listens(&mut self, id: JobId, epoch: u32, port: u16, effects: &mut Vec<Effect>) {
        let job = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.gang_epoch() == Some(epoch));
        let Some(job) = job else {
            tracing::debug!(job = %id, epoch, "its host listens for an earlier start of the gang");
            return;
        };
        job.gang_port = Some(port);
        // else it is said once this worker has joined
        if self.joined {
            effects.extend(job.gang_port(id).map(Effect::Tell));
        }
    }

    fn slots_wanted(&mut self, id: JobId, slots: u32, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            tracing::debug!(job = %id, "slots for a job that is not open");
            return;
        };
        job.slots_wanted = slots;
        self.resume(id, effects);
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(host) = job.open_host() {
            let tells = self.ledger.set_wanted(host, slots);
            Self::tell_slots(tells, effects);
        }
    }

    fn granted(&mut self, id: JobId, granted: Granted, effects: &mut Vec<Effect>) {
        let Granted {
            grant,
            range,
            restarts,
        } = granted;
        let Some(job) = self.jobs.get_mut(&id) else {
            tracing::debug!(job = %id, %grant, "a grant for a job that is not open");
            return;
        };
        if range.is_empty() || range.len() > GRANT_TASKS_MAX || job.grants.contains_key(&grant) {
            tracing::warn!(job = %id, %grant, %range, "a grant that is empty, too large or known already");
            return;
        }
        if job.grants.len() >= GRANTS_PER_JOB_MAX {
            let reason = format!("this worker holds {GRANTS_PER_JOB_MAX} grants of it and takes no more");
            return self.give_up(id, Obstacle { reason, fatal: false }, effects);
        }
        job.grants.insert(
            grant,
            Grant {
                held: RangeSet::from(range),
                restarts,
                handed: false,
                stops: Vec::new(),
            },
        );
        self.hand_over(id, grant, effects);
    }

    /// Gives a grant to the job's host, if it has one.
    pub(super) fn hand_over(&mut self, id: JobId, grant: GrantId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(host) = job.open_host() else { return };
        // a grant that waited may have lost its tail, never its middle
        let range = job.grants.get(&grant).and_then(|open| open.held.iter().next());
        let Some(range) = range else { return };
        let inputs = match job.host_inputs(range) {
            Ok(inputs) => inputs,
            Err(item_count) => {
                let reason = format!("tasks {range} have no input: the input list has {item_count} items");
                return self.give_up(id, Obstacle { reason, fatal: true }, effects);
            }
        };
        let Some(open) = job.grants.get_mut(&grant) else {
            return;
        };
        open.handed = true;
        let restarts = open.restarts;
        effects.push(Effect::TellHost(
            host,
            ToHost::Grant {
                grant,
                range,
                inputs,
                restarts,
            },
        ));
        let stops = std::mem::take(&mut open.stops).into_iter();
        effects.extend(stops.map(|range| Effect::TellHost(host, ToHost::Stop { grant, range })));
    }

    /// Has tasks of a grant ended, by its host as soon as it has one.
    fn stop_tasks(&mut self, id: JobId, grant: GrantId, range: IndexRange, effects: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(&id);
        let Some((host, open)) = job.and_then(|job| Some((job.open_host(), job.grants.get_mut(&grant)?)))
        else {
            tracing::debug!(job = %id, %grant, "a stop for what is not here any more");
            return;
        };
        match host.filter(|_| open.handed) {
            Some(host) => effects.push(Effect::TellHost(host, ToHost::Stop { grant, range })),
            None if open.stops.len() < HELD_RANGES_MAX => open.stops.push(range),
            None => tracing::warn!(job = %id, %grant, "more stops than a grant can keep"),
        }
    }

    /// Passes a signal on, if tasks of the grant may run.
    fn signal_tasks(&self, id: JobId, grant: GrantId, message: ToHost, effects: &mut Vec<Effect>) {
        let job = self.jobs.get(&id).filter(|job| job.work.program().is_none());
        let host = job.and_then(Job::open_host);
        let is_handed = job.and_then(|job| Some(job.grants.get(&grant)?.handed));
        match host.filter(|_| is_handed == Some(true)) {
            Some(host) => effects.push(Effect::TellHost(host, message)),
            None => tracing::debug!(job = %id, %grant, "a signal for what does not run here"),
        }
    }

    pub(super) fn revoked(&mut self, id: JobId, grant: GrantId, count: u64, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            tracing::debug!(job = %id, %grant, "a revoke for a job that is not open");
            return;
        };
        match (
            job.grants.get(&grant).is_some_and(|open| open.handed),
            job.open_host(),
        ) {
            (true, Some(host)) => effects.push(Effect::TellHost(host, ToHost::Revoke { grant, count })),
            (true, None) | (false, _) => {
                let range = job.cut_tail(grant, count);
                effects.push(Effect::Tell(FromWorker::Returned {
                    job: id,
                    grant,
                    range,
                }));
            }
        }
    }
}
