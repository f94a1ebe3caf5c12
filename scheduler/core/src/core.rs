//! The state machine: takes inputs apart and hands them to the module that owns the matter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use phalanx_protocol::{JobId, Sharing, SubmissionId, Term, WorkerId};

use crate::durability::Durability;
use crate::input::{Effect, Input, Now};
use crate::job::{Job, Phase};
use crate::planted::Planted;
use crate::replay::REATTACH_WINDOW_MIN;
use crate::trouble::HostDeath;
use crate::worker::Worker;

/// The scheduler's mind. See the crate's documentation for its contract.
#[derive(Debug)]
pub struct Core {
    pub(crate) term: Term,
    /// When that happened which it takes in, on the clock of [`Now::elapsed`].
    pub(crate) clock: Duration,
    /// The same moment, milliseconds since 1970.
    pub(crate) unix_millis: u64,
    pub(crate) grants_made: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Jobs that are not finished.
    pub(crate) live: BTreeSet<JobId>,
    /// Jobs that are, the oldest end first.
    pub(crate) finished: VecDeque<JobId>,
    pub(crate) submissions: BTreeMap<SubmissionId, JobId>,
    pub(crate) last_job: JobId,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) last_worker: WorkerId,
    /// Processes that were to leave and then were lost, the latest first.
    pub(crate) drains_lost: VecDeque<u128>,
    pub(crate) durability: Durability,
    pub(crate) storage_error: Option<String>,
    /// The plan is out of date.
    pub(crate) plan_due: bool,
    pub(crate) planned_at: Duration,
    /// When to look after which job.
    pub(crate) alarms: BTreeSet<(Duration, JobId)>,
    /// Some job wants more slots than the plan gave it.
    pub(crate) unmet: bool,
    /// Some gang waits for its slots.
    pub(crate) gang_waits: bool,
    /// How long workers of an earlier leader are waited for.
    pub(crate) reattach_window: Duration,
    /// Until then, what earlier leaders granted is not granted again: workers come back and say what they still run.
    pub(crate) reattach_until: Option<Duration>,
    /// When to look after the time limits of which jobs.
    pub(crate) time_limits: BTreeSet<(Duration, JobId)>,
    /// Who waits for which job, of those that are known.
    pub(crate) dependents: BTreeMap<JobId, BTreeSet<JobId>>,
    /// The journal was read, and nothing has happened since.
    pub(crate) only_replayed: bool,
    pub(crate) planted: Planted,
}

impl Core {
    /// A core that leads `term` and knows of nothing yet.
    pub fn new(term: Term) -> Self {
        Self {
            term,
            clock: Duration::ZERO,
            unix_millis: 0,
            grants_made: 0,
            jobs: BTreeMap::new(),
            live: BTreeSet::new(),
            finished: VecDeque::new(),
            submissions: BTreeMap::new(),
            last_job: JobId(0),
            workers: BTreeMap::new(),
            last_worker: WorkerId(0),
            drains_lost: VecDeque::new(),
            durability: Durability::default(),
            storage_error: None,
            plan_due: false,
            planned_at: Duration::ZERO,
            alarms: BTreeSet::new(),
            unmet: false,
            gang_waits: false,
            reattach_window: REATTACH_WINDOW_MIN,
            reattach_until: None,
            time_limits: BTreeSet::new(),
            dependents: BTreeMap::new(),
            only_replayed: false,
            planted: Planted::default(),
        }
    }

    /// Takes in what happened at `now` and adds what is to be done to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        (self.clock, self.unix_millis) = (now.elapsed, now.unix_millis);
        self.only_replayed = false;
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
            Input::RetryRequested {
                request,
                user,
                admin,
                job,
            } => self.retry_requested(now, request, &user, admin, job, effects),
            Input::HoldRequested {
                request,
                user,
                admin,
                job,
                held,
            } => self.hold_requested(now, (request, &user, admin), job, held, effects),
            Input::RequeueRequested {
                request,
                user,
                admin,
                job,
                tasks,
            } => self.requeue_requested(now, (request, &user, admin), job, tasks.as_ref(), effects),
            Input::TaskCancelRequested {
                request,
                user,
                admin,
                job,
                tasks,
            } => self.cancel_tasks_requested(now, (request, user, admin), job, &tasks, effects),
            Input::SignalRequested {
                request,
                user,
                admin,
                job,
                tasks,
                signal,
            } => self.signal_requested((request, &user, admin), job, tasks.as_ref(), signal, effects),
            Input::WorkerJoined {
                session,
                address,
                join,
            } => self.joined(now, session, address, *join, effects),
            Input::WorkerLost(worker) => self.worker_lost(now, worker, effects),
            Input::Reported { worker, report } => self.reported(now, worker, *report, effects),
            Input::Returned {
                worker,
                job,
                grant,
                range,
            } => self.returned(now, worker, job, grant, range, effects),
            Input::Stopped {
                worker,
                job,
                grant,
                range,
            } => self.stopped(now, worker, job, grant, range, effects),
            Input::CannotRun {
                worker,
                job,
                reason,
                fatal,
            } => {
                self.cannot_run(now, worker, job, reason, fatal, effects);
            }
            Input::HostLost {
                worker,
                job,
                blamed,
                cause,
                how,
            } => {
                let death = HostDeath { blamed, cause, how };
                self.host_lost(now, worker, job, &death, effects);
            }
            Input::HostListens { worker, job, said } => self.host_listens(worker, job, said, effects),
            Input::Appended { sequence } => self.appended(now, sequence, effects),
            Input::StorageChanged { error } => self.storage_error = error,
            Input::Ticked => {}
            Input::DrainRequested {
                request,
                worker,
                allowed,
            } => self.drain_requested(request, worker, allowed, effects),
            Input::WorkerDraining(worker) => self.worker_draining(worker, effects),
        }
        self.keep_time_limits(now, effects);
        self.end_reattaching_if_due(now, effects);
        self.wake(now, effects);
        self.plan_if_due(now, effects);
    }

    /// When [`Input::Ticked`] is wanted next, on the clock of [`Now::elapsed`].
    pub fn next_deadline(&self) -> Option<Duration> {
        let plan = self.plan_due.then(|| self.planned_at + self.plan_interval());
        let alarm = self.alarms.first().map(|&(due, _)| due);
        let limit = self.time_limits.first().map(|&(due, _)| due);
        let plan = plan.into_iter().chain(self.reattach_until);
        plan.chain(alarm).chain(limit).min()
    }

    /// Asserts the crate's invariants. Costs time in proportion to everything it knows.
    ///
    /// # Panics
    /// If one does not hold, with its name.
    pub fn check(&self) {
        self.check_time_limits();
        self.check_dependencies();
        for (id, job) in &self.jobs {
            job.check(*id);
            if job.is_gang() {
                self.check_gang(*id, job);
            }
            assert_eq!(
                self.live.contains(id),
                job.phase != Phase::Finished,
                "live jobs are those not finished"
            );
        }
        for (&id, worker) in &self.workers {
            // `free` asserts SLOT
            worker.free(|job| self.request_on(job, id));
            let sharing = |job: &JobId| self.jobs[job].spec.request.sharing;
            let is_shared = worker.slots.keys().all(|job| sharing(job) == Sharing::Anybody);
            let is_own = worker.slots.len() <= 1;
            assert!(
                is_shared || is_own,
                "SLOT: {id} is shared by a job that shares it with no other"
            );
            for (job, &slots) in &worker.slots {
                let choice = &self.jobs[job].spec.choice;
                assert!(
                    choice.admits(&worker.name),
                    "SLOT: job {job} has slots on {id}, where it may not run"
                );
                let alone = sharing(job) != Sharing::Nobody || slots == 1;
                assert!(alone, "SLOT: tasks of job {job} share {id}");
                let held = self.jobs[job]
                    .holdings
                    .get(&id)
                    .map_or(0, |holding| holding.slots);
                assert_eq!(held, slots, "SLOT: job {job} and worker {id} disagree");
            }
            let leaves_idle = !worker.draining || worker.slots.is_empty();
            assert!(leaves_idle, "SLOT: {id} is to leave and jobs hold slots on it");
            for job in worker.slots.keys().chain(&worker.unplanned) {
                assert!(worker.opened.contains(job), "{id} never heard of job {job}");
            }
            for job in &worker.opened {
                let known = self.jobs[job].opened_on.contains(&id);
                assert!(known, "job {job} would not be closed on {id}");
            }
        }
    }
}
