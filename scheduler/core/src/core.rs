//! The state machine: takes inputs apart and hands them to the module that owns the matter.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::limits::{ACTIVE_JOBS_MAX, WORKERS_MAX};
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::{HeldGrant, Join, ToWorker};
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{GrantId, IndexRange, JobId, JobSpec, RangeSet, SubmissionId, Term, WorkerId};

use crate::durability::{Durability, Held};
use crate::input::{Effect, Input, Now, RequestId, SessionId};
use crate::job::{Job, Phase};
use crate::worker::Worker;

/// Finished jobs that are remembered; the oldest are forgotten first.
const FINISHED_JOBS_MAX: usize = 100_000;
/// Kernel hosts of one job that may die in a row, without one task ending in between, before the job is given up.
const HOSTS_LOST_MAX: u32 = 3;

/// The scheduler's mind. See the crate's documentation for its contract.
#[derive(Debug)]
pub struct Core {
    pub(crate) term: Term,
    pub(crate) grants_made: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Jobs that are not finished.
    pub(crate) live: std::collections::BTreeSet<JobId>,
    pub(crate) submissions: BTreeMap<SubmissionId, JobId>,
    pub(crate) last_job: JobId,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) last_worker: WorkerId,
    pub(crate) durability: Durability,
    pub(crate) storage_error: Option<String>,
    /// The plan is out of date.
    pub(crate) plan_due: bool,
    pub(crate) planned_at: Duration,
    /// Some job wants more slots than the plan gave it.
    pub(crate) unmet: bool,
}

impl Core {
    /// A core that leads `term` and knows of nothing yet.
    pub fn new(term: Term) -> Self {
        Self {
            term,
            grants_made: 0,
            jobs: BTreeMap::new(),
            live: std::collections::BTreeSet::new(),
            submissions: BTreeMap::new(),
            last_job: JobId(0),
            workers: BTreeMap::new(),
            last_worker: WorkerId(0),
            durability: Durability::default(),
            storage_error: None,
            plan_due: false,
            planned_at: Duration::ZERO,
            unmet: false,
        }
    }

    /// Takes in what happened at `now` and adds what is to be done to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Submitted { request, user, spec } => self.submitted(now, request, user, *spec, effects),
            Input::CancelRequested {
                request,
                user,
                admin,
                job,
            } => {
                self.cancel_requested(now, request, user, admin, job, effects);
            }
            Input::WorkerJoined {
                session,
                address,
                join,
            } => self.joined(session, address, *join, effects),
            Input::WorkerLost(worker) => self.worker_lost(worker, effects),
            Input::Reported { worker, report } => self.reported(now, worker, *report, effects),
            Input::Returned {
                worker,
                job,
                grant,
                range,
            } => self.returned(worker, job, grant, range, effects),
            Input::CannotRun {
                worker,
                job,
                reason,
                fatal,
            } => {
                self.cannot_run(now, worker, job, reason, fatal, effects);
            }
            Input::HostLost { worker, job, how } => self.host_lost(now, worker, job, how, effects),
            Input::Appended { sequence } => self.appended(now, sequence, effects),
            Input::StorageChanged { error } => self.storage_error = error,
            Input::Ticked => {}
        }
        self.plan_if_due(now, effects);
    }

    /// When [`Input::Ticked`] is wanted next, on the clock of [`Now::elapsed`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.plan_due.then(|| self.planned_at + self.plan_interval())
    }

    fn submitted(
        &mut self,
        now: Now,
        request: RequestId,
        user: String,
        spec: JobSpec,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(&job) = self.submissions.get(&spec.submission) {
            let effect = Effect::Answer {
                request,
                reply: Reply::Submitted(job),
            };
            return self.durability.after_appended(effect, effects);
        }
        if let Some(refusal) = self.refusal(&spec) {
            return effects.push(Effect::Answer {
                request,
                reply: Reply::Refused(refusal),
            });
        }
        self.last_job.0 += 1;
        let job = self.last_job;
        let record = Record::JobSubmitted {
            job,
            user: user.clone(),
            submitted_unix_millis: now.unix_millis,
            spec: Box::new(spec.clone()),
        };
        self.durability.append(record, effects);
        self.durability.after_appended(
            Effect::Answer {
                request,
                reply: Reply::Submitted(job),
            },
            effects,
        );
        self.submissions.insert(spec.submission, job);
        self.jobs.insert(job, Job::new(user, spec, now.unix_millis));
        self.live.insert(job);
    }

    fn refusal(&self, spec: &JobSpec) -> Option<Refusal> {
        if let Err(error) = spec.check() {
            return Some(Refusal::Spec(error));
        }
        if let Some(error) = &self.storage_error {
            return Some(Refusal::Storage { error: error.clone() });
        }
        if self.live.len() >= ACTIVE_JOBS_MAX {
            return Some(Refusal::Full {
                what: format!("{ACTIVE_JOBS_MAX} jobs are active"),
            });
        }
        let fits = self
            .workers
            .values()
            .any(|worker| worker.capacity.slots(&spec.request) > 0);
        let largest = self.largest_worker().filter(|_| !fits)?;
        Some(Refusal::TooLarge {
            need: spec.request.clone(),
            largest: largest.clone(),
        })
    }

    fn cancel_requested(
        &mut self,
        now: Now,
        request: RequestId,
        user: String,
        admin: bool,
        id: JobId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return effects.push(Effect::Answer {
                request,
                reply: Reply::Refused(Refusal::NoSuchJob(id)),
            });
        };
        if !admin && job.user != user {
            let refusal = Refusal::NotYours {
                job: id,
                owner: job.user.clone(),
                user,
            };
            return effects.push(Effect::Answer {
                request,
                reply: Reply::Refused(refusal),
            });
        }
        if matches!(job.phase, Phase::Submitting | Phase::Active) {
            self.end_job(now, id, Outcome::Cancelled { by: user }, effects);
        }
        self.durability.after_appended(
            Effect::Answer {
                request,
                reply: Reply::Done,
            },
            effects,
        );
    }

    /// Writes a job's end down. Its slots are free from now on; workers hear of it once it is durable.
    pub(crate) fn end_job(&mut self, now: Now, id: JobId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let record = Record::JobFinished {
            job: id,
            outcome,
            finished_unix_millis: now.unix_millis,
        };
        self.durability.append(record, effects);
        job.phase = Phase::Ending;
        job.settle();
        self.workers.values_mut().for_each(|worker| {
            worker.slots.remove(&id);
        });
        self.plan_due = true;
    }

    fn appended(&mut self, now: Now, sequence: u64, effects: &mut Vec<Effect>) {
        self.durability.reached(sequence);
        while let Some((sequence, held)) = self.durability.pop() {
            match held {
                Held::Effect(effect) => effects.push(*effect),
                Held::Record(record) => self.record_durable(now, sequence, &record, effects),
            }
        }
    }

    fn record_durable(&mut self, now: Now, sequence: u64, record: &Record, effects: &mut Vec<Effect>) {
        let id = record.job();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.see(record);
        effects.push(Effect::Publish { job: id, sequence });
        match record {
            Record::JobSubmitted { .. } if job.phase == Phase::Submitting => {
                job.phase = Phase::Active;
                self.plan_due = true;
                self.finish_if_over(now, id, effects);
            }
            Record::JobFinished { .. } => self.job_finished(id, effects),
            Record::JobSubmitted { .. } | Record::TasksEnded { .. } => {}
        }
    }

    fn job_finished(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = Phase::Finished;
        }
        self.live.remove(&id);
        for (&worker, model) in &mut self.workers {
            if model.opened.remove(&id) {
                effects.push(Effect::Send {
                    worker,
                    message: ToWorker::Close { job: id },
                });
            }
        }
        if self.jobs.len() - self.live.len() > FINISHED_JOBS_MAX {
            let oldest = self
                .jobs
                .iter()
                .find(|(_, job)| job.phase == Phase::Finished)
                .map(|(&id, _)| id);
            if let Some(job) = oldest.and_then(|id| self.jobs.remove(&id).map(|job| (id, job))) {
                self.submissions.remove(&job.1.spec.submission);
                effects.push(Effect::Forget(job.0));
            }
        }
    }

    /// Ends a job whose tasks have all ended.
    pub(crate) fn finish_if_over(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_active()) else {
            return;
        };
        let too_many = job.spec.failures_max.is_some_and(|max| job.failed_count > max);
        if too_many || job.ended.len() == job.spec.tasks {
            let outcome = if job.failed_count > 0 {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            };
            self.end_job(now, id, outcome, effects);
        }
    }

    fn joined(&mut self, session: SessionId, address: String, join: Join, effects: &mut Vec<Effect>) {
        let returns = join.worker.filter(|id| {
            id.0 > 0
                && self
                    .workers
                    .get(id)
                    .is_none_or(|worker| worker.instance == join.instance)
        });
        if returns.is_none() && self.workers.len() >= WORKERS_MAX {
            let refusal = Refusal::Full {
                what: format!("{WORKERS_MAX} workers have joined"),
            };
            return effects.push(Effect::Reject { session, refusal });
        }
        let id = returns.unwrap_or(WorkerId(self.last_worker.0 + 1));
        self.last_worker = self.last_worker.max(id);
        // what its last session held waits again, before what it still holds is taken out
        self.forget_holdings(id);
        let worker = Worker {
            name: join.name,
            address,
            instance: join.instance,
            capacity: join.capacity,
            slots: BTreeMap::new(),
            opened: join.held.iter().map(|held| held.job).collect(),
            tasks_ended: 0,
        };
        self.workers.insert(id, worker);
        effects.push(Effect::Admit { session, worker: id });
        effects.push(Effect::Send {
            worker: id,
            message: ToWorker::Welcome {
                worker: id,
                term: self.term,
            },
        });
        for held in join.held {
            self.reattach(id, held, effects);
        }
        self.plan_due = true;
    }

    /// Takes a grant of an earlier session up again, as far as nobody else has it.
    fn reattach(&mut self, worker: WorkerId, held: HeldGrant, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&held.job).filter(|job| job.is_active()) else {
            let closing = self
                .workers
                .get_mut(&worker)
                .is_some_and(|model| model.opened.remove(&held.job));
            if closing {
                effects.push(Effect::Send {
                    worker,
                    message: ToWorker::Close { job: held.job },
                });
            }
            return;
        };
        let rest: RangeSet = job.waiting.pieces(held.range).into_iter().collect();
        if !rest.is_empty() && !job.grants.contains_key(&held.grant) {
            rest.iter().for_each(|range| job.waiting.remove(range));
            job.set_slots(worker, 0);
            job.open_grant(held.grant, worker, rest);
        }
    }

    fn worker_lost(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let jobs = self.forget_holdings(worker);
        self.workers.remove(&worker);
        self.plan_due = true;
        jobs.into_iter().for_each(|job| self.feed_hungry(job, effects));
    }

    /// Gives back all that a worker holds; returns the jobs concerned.
    fn forget_holdings(&mut self, worker: WorkerId) -> Vec<JobId> {
        let mut jobs = Vec::new();
        for &id in &self.live {
            if let Some(job) = self
                .jobs
                .get_mut(&id)
                .filter(|job| job.holdings.contains_key(&worker))
            {
                job.drop_holding(worker);
                jobs.push(id);
            }
        }
        jobs
    }

    fn cannot_run(
        &mut self,
        now: Now,
        worker: WorkerId,
        id: JobId,
        reason: String,
        fatal: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.drop_holding(worker);
        job.excluded.insert(worker, reason.clone());
        let nowhere = self
            .workers
            .keys()
            .all(|worker| job.excluded.contains_key(worker));
        if let Some(model) = self.workers.get_mut(&worker) {
            model.slots.remove(&id);
            model.opened.remove(&id);
        }
        if fatal || nowhere {
            return self.end_job(now, id, Outcome::Broken { reason }, effects);
        }
        self.plan_due = true;
        self.feed_hungry(id, effects);
    }

    fn host_lost(&mut self, now: Now, worker: WorkerId, id: JobId, how: String, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.drop_holding(worker);
        job.hosts_lost += 1;
        let give_up = job.hosts_lost > HOSTS_LOST_MAX;
        if let Some(model) = self.workers.get_mut(&worker) {
            model.slots.remove(&id);
            model.opened.remove(&id);
        }
        if give_up {
            let reason = format!(
                "its kernel host died {} times in a row: {how}",
                HOSTS_LOST_MAX + 1
            );
            return self.end_job(now, id, Outcome::Broken { reason }, effects);
        }
        self.plan_due = true;
        self.feed_hungry(id, effects);
    }

    fn returned(
        &mut self,
        worker: WorkerId,
        id: JobId,
        grant: GrantId,
        range: IndexRange,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.revoke_answered(worker, range.is_empty());
        let owned = job.grants.get(&grant).filter(|open| open.worker == worker);
        let back = owned.map(|open| open.rest.pieces(range)).unwrap_or_default();
        for piece in back {
            job.take_from_grant(grant, piece);
            job.waiting.insert(piece);
        }
        self.feed_hungry(id, effects);
    }

    /// Asserts the crate's invariants. Costs time in proportion to everything it knows.
    ///
    /// # Panics
    /// If one does not hold, with its name.
    pub fn check(&self) {
        for (id, job) in &self.jobs {
            job.check(*id);
            assert_eq!(
                self.live.contains(id),
                job.phase != Phase::Finished,
                "live jobs are those not finished"
            );
        }
        for (&id, worker) in &self.workers {
            // `free` asserts SLOT
            worker.free(|job| &self.jobs[&job].spec.request);
            for (job, &slots) in &worker.slots {
                let held = self.jobs[job]
                    .holdings
                    .get(&id)
                    .map_or(0, |holding| holding.slots);
                assert_eq!(held, slots, "SLOT: job {job} and worker {id} disagree");
            }
        }
    }
}
