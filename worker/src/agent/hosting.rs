//! From an opened job to a host that runs it, and back.

use std::time::Instant;

use phalanx_protocol::message::host::{FromHost, ToHost};
use phalanx_protocol::message::worker::FromWorker;
use phalanx_protocol::{BlobId, GrantId, IndexRange, JobId};

use super::job::{HostTraits, Job, Stage};
use super::reporting::cut;
use super::seats::{Doing, HostKey};
use super::{
    Agent, CLOSING_HOST_WAIT, Death, Effect, HostId, HostProgram, Limits, Obstacle, Opening, Prepared,
};
use crate::ledger::Tell;

impl Agent {
    /// Meets a job's needs, or seats it at once if it has none: a warm worker starts a job without any other step.
    pub(super) fn prepare_or_seat(&mut self, now: Instant, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let program = job.work.program();
        let is_there =
            |program: &BlobId| self.programs.contains(program) || self.seats.idle(&key(job)).is_some();
        match job.needs(program.filter(|program| !is_there(program))) {
            Some(needs) => effects.push(Effect::Prepare {
                job: id,
                opening: job.opening,
                needs,
            }),
            None => self.seat(now, id, true, effects),
        }
    }

    pub(super) fn prepared(
        &mut self,
        now: Instant,
        id: JobId,
        opening: Opening,
        outcome: Result<Prepared, Obstacle>,
        effects: &mut Vec<Effect>,
    ) {
        if let Ok(Prepared {
            program: Some(program),
            ..
        }) = &outcome
        {
            self.programs.insert(*program);
        }
        let is_awaited = |job: &&mut Job| job.opening == opening && job.stage == Stage::Preparing;
        let Some(job) = self.jobs.get_mut(&id).filter(is_awaited) else {
            return;
        };
        match outcome {
            Ok(prepared) => {
                job.supply(prepared);
                self.prepare_or_seat(now, id, effects);
            }
            Err(obstacle) => self.give_up(id, obstacle, effects),
        }
    }

    /// Finds a host for a prepared job: an idle one, one that is about to be (if `may_wait`), or a new one.
    fn seat(&mut self, now: Instant, id: JobId, may_wait: bool, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let key = key(job);
        if let Some(host) = self.seats.idle(&key) {
            return self.open_on(host, id, effects);
        }
        if may_wait && self.seats.is_closing(&key) {
            job.stage = Stage::AwaitingHost(now + CLOSING_HOST_WAIT);
            return;
        }
        let program = key.program;
        let host = self.seats.start(key, id);
        job.stage = Stage::Starting(host);
        effects.push(Effect::StartHost { host, program });
    }

    fn open_on(&mut self, host: HostId, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.stage = Stage::Opening(host);
        self.seats.serve(host, id);
        self.ledger.opened(host, job.request.clone());
        let open = ToHost::Open {
            job: id,
            work: job.host_work(&HostTraits {
                worker: &self.name,
                worker_cpus: self.capacity.cpus,
                worker_has_gpus: self.ledger.has_gpus(),
                scratch: self.folders.scratch.join(job.opening.0.to_string()),
            }),
            cpus: job.request.cpus,
            storage: self.folders.storage.clone(),
        };
        if job.limits != Limits::default() {
            effects.push(Effect::Watch(host, job.limits));
        }
        effects.push(Effect::TellHost(host, open));
        let gang = job.gang.clone().map(|gang| ToHost::Gang(Box::new(gang)));
        effects.extend(gang.map(|gang| Effect::TellHost(host, gang)));
        let is_suspended = job.suspended;
        // nothing waits for the host's answer: after a refusal it drops what follows
        let (slots, grants) = (
            job.slots_wanted,
            job.grants.keys().copied().collect::<Vec<GrantId>>(),
        );
        if self.outbox.is_paused() || is_suspended {
            effects.push(Effect::TellHost(host, ToHost::Pause(true)));
        }
        let tells = self.ledger.set_wanted(host, slots);
        Self::tell_slots(tells, effects);
        grants
            .into_iter()
            .for_each(|grant| self.hand_over(id, grant, effects));
    }

    pub(super) fn host_started(&mut self, now: Instant, host: HostId, effects: &mut Vec<Effect>) {
        match self.seats.doing(host) {
            Some(Doing::Starting(Some(job))) => self.open_on(host, job, effects),
            Some(Doing::Starting(None)) => self.rest(now, host, effects),
            Some(Doing::Serving(_) | Doing::Closing(_) | Doing::Idle(_) | Doing::Killed) | None => {}
        }
    }

    /// Keeps a host for the next job of its program and user, which may be here already.
    fn rest(&mut self, now: Instant, host: HostId, effects: &mut Vec<Effect>) {
        self.ledger_closed(host, effects);
        let waiting = self.jobs.iter().find(|(_, job)| {
            matches!(job.stage, Stage::AwaitingHost(_)) && self.seats.key(host) == Some(&key(job))
        });
        if let Some((&id, _)) = waiting {
            return self.open_on(host, id, effects);
        }
        if let Some(oldest) = self.seats.rest(now, host) {
            self.kill(oldest, effects);
        }
    }

    /// Kills a host; its slots are free once it is dead.
    pub(super) fn kill(&mut self, host: HostId, effects: &mut Vec<Effect>) {
        self.seats.kill(host);
        self.ledger.closing(host);
        effects.push(Effect::KillHost(host));
    }

    pub(super) fn heard(&mut self, now: Instant, host: HostId, message: FromHost, effects: &mut Vec<Effect>) {
        let Some(doing) = self.seats.doing(host).filter(|&doing| doing != Doing::Killed) else {
            return;
        };
        let is_closing = matches!(doing, Doing::Closing(_));
        match (message, self.seats.job_of(host)) {
            (FromHost::Ready, Some(id)) => self.ready(id),
            (FromHost::Refused { reason }, Some(id)) => {
                self.refuse(id, Obstacle { reason, fatal: true }, effects);
                self.begin_close(now, host, effects);
            }
            (FromHost::GaveUp(places), Some(_)) => self.ledger.gave_up(host, &places),
            (FromHost::Slots(slots), Some(_)) => {
                let tells = self.ledger.confirmed(host, slots);
                Self::tell_slots(tells, effects);
            }
            (FromHost::Returned { grant, range }, Some(id)) => self.given_back(id, grant, range, effects),
            (FromHost::Stopped { grant, range }, Some(id)) => {
                self.release(id, grant, range);
                let stopped = FromWorker::Stopped {
                    job: id,
                    grant,
                    range,
                };
                effects.push(Effect::Tell(stopped));
            }
            (FromHost::Progress(progress), Some(id)) => {
                if !self.progressed(id, progress, effects) {
                    let death = Death::killed("it said more at once than a report can hold, and was killed");
                    self.kill(host, effects);
                    self.lose_host(id, death, effects);
                }
            }
            (FromHost::GangPort { epoch, port }, Some(id)) => self.host_listens(id, epoch, port, effects),
            (FromHost::Closed, None) if is_closing => self.rest(now, host, effects),
            // of a job that is closed already
            (
                FromHost::Ready
                | FromHost::Refused { .. }
                | FromHost::GaveUp(_)
                | FromHost::Slots(_)
                | FromHost::Returned { .. }
                | FromHost::Stopped { .. }
                | FromHost::GangPort { .. }
                | FromHost::Progress(_),
                None,
            ) if is_closing => {}
            (message, _) => self.break_with(host, &message, effects),
        }
    }

    /// Ends a host that says what it must not say now.
    fn break_with(&mut self, host: HostId, message: &FromHost, effects: &mut Vec<Effect>) {
        tracing::warn!(%host, ?message, "a kernel host said what it must not say now");
        let job = self.seats.job_of(host);
        self.kill(host, effects);
        if let Some(job) = job {
            let death = Death::killed("it broke the protocol and was killed");
            self.lose_host(job, death, effects);
        }
    }

    fn ready(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && let Stage::Opening(host) = job.stage
        {
            job.stage = Stage::Running(host);
        }
    }

    fn given_back(&mut self, id: JobId, grant: GrantId, range: IndexRange, effects: &mut Vec<Effect>) {
        self.release(id, grant, range);
        effects.push(Effect::Tell(FromWorker::Returned {
            job: id,
            grant,
            range,
        }));
    }

    fn release(&mut self, id: JobId, grant: GrantId, range: IndexRange) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.release(grant, &[range]);
        }
    }

    pub(super) fn host_failed(&mut self, host: HostId, obstacle: Obstacle, effects: &mut Vec<Effect>) {
        // the cache may have been cleaned: the next job looks again
        if let Some(&HostProgram::Blob(program)) = self.seats.key(host).map(|key| &key.program) {
            self.programs.remove(&program);
        }
        let job = self.seats.job_of(host);
        self.seats.remove(host);
        if let Some(job) = job {
            self.refuse(job, obstacle, effects);
        }
    }

    pub(super) fn host_died(&mut self, host: HostId, death: Death, effects: &mut Vec<Effect>) {
        let job = self.seats.job_of(host);
        self.seats.remove(host);
        self.ledger_closed(host, effects);
        if let Some(job) = job {
            self.lose_host(job, death, effects);
        }
    }

    /// Tells the end of a job's host. A program that ends by itself before it is ready does so everywhere; one that was
    /// killed may have met this node's trouble, and the scheduler counts how often.
    fn lose_host(&mut self, id: JobId, death: Death, effects: &mut Vec<Effect>) {
        let Death {
            how,
            by_itself,
            cause,
            mut blamed,
        } = death;
        tracing::warn!(job = %id, how, ?blamed, "a kernel host died");
        let job = self.jobs.get(&id);
        let was_opening = job.is_some_and(|job| matches!(job.stage, Stage::Opening(_)));
        // the board is written by what users wrote, and what was reported counts
        blamed.retain(|&index| job.is_some_and(|job| job.has_handed_out(index)));
        self.drop_job(id);
        effects.push(Effect::Tell(match was_opening && by_itself {
            true => {
                let reason = format!("its kernel host died before it was ready: {how}");
                FromWorker::CannotRun {
                    job: id,
                    reason,
                    fatal: true,
                }
            }
            false => FromWorker::HostLost {
                job: id,
                blamed,
                cause,
                how,
            },
        }));
    }

    /// Ends a job that cannot run here, in a host or on the way to one.
    pub(super) fn give_up(&mut self, id: JobId, obstacle: Obstacle, effects: &mut Vec<Effect>) {
        if let Some(host) = self.jobs.get(&id).and_then(Job::host) {
            self.kill(host, effects);
        }
        self.refuse(id, obstacle, effects);
    }

    fn refuse(&mut self, id: JobId, obstacle: Obstacle, effects: &mut Vec<Effect>) {
        let Obstacle { mut reason, fatal } = obstacle;
        cut(&mut reason);
        tracing::warn!(job = %id, reason, fatal, "a job cannot run here");
        self.drop_job(id);
        effects.push(Effect::Tell(FromWorker::CannotRun {
            job: id,
            reason,
            fatal,
        }));
    }

    /// The scheduler's word that a job is over here.
    pub(super) fn close(&mut self, now: Instant, id: JobId, effects: &mut Vec<Effect>) {
        if let Some(host) = self.drop_job(id) {
            self.begin_close(now, host, effects);
        }
    }

    fn begin_close(&mut self, now: Instant, host: HostId, effects: &mut Vec<Effect>) {
        if self.seats.close(now, host) {
            self.ledger.closing(host);
            effects.push(Effect::TellHost(host, ToHost::Close));
        }
    }

    /// Looks at a job whose deadline has come.
    pub(super) fn job_due(&mut self, now: Instant, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        match job.stage {
            Stage::AwaitingHost(until) if until <= now => self.seat(now, id, false, effects),
            Stage::AwaitingHost(_)
            | Stage::Preparing
            | Stage::Starting(_)
            | Stage::Opening(_)
            | Stage::Running(_) => {}
        }
        self.write_due(now, id, effects);
    }

    /// Forgets a job with its grants and what it had not reported; returns the host that it had.
    fn drop_job(&mut self, id: JobId) -> Option<HostId> {
        let job = self.jobs.remove(&id)?;
        self.outbox.waited(job.unreported.bytes());
        job.host()
    }

    /// Frees a host's slots and tells those who waited for them.
    pub(super) fn ledger_closed(&mut self, host: HostId, effects: &mut Vec<Effect>) {
        let tells = self.ledger.closed(host);
        Self::tell_slots(tells, effects);
    }

    pub(super) fn tell_slots(tells: Vec<Tell>, effects: &mut Vec<Effect>) {
        for Tell { host, slots, places } in tells {
            if !places.is_empty() {
                effects.push(Effect::TellHost(host, ToHost::AddPlaces(places)));
            }
            effects.push(Effect::TellHost(host, ToHost::SetSlots(slots)));
        }
    }
}

fn key(job: &Job) -> HostKey {
    HostKey {
        program: HostProgram::of(&job.work),
        user: job.user.clone(),
        memory_bytes: job.limits.memory_bytes,
    }
}
