//! Tasks that are cancelled without their job: they end, whether they run or not, and the others go on.
//!
//! What runs of them holds its slot until its worker says that it has ended; whatever that says of its end does not count.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Record;
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, TaskId, WorkerId};

use crate::core::Core;
use crate::durability::Held;
use crate::input::{Effect, Now, RequestId};
use crate::job::Job;
use crate::losses::Loss;
use crate::planted::PlantedBug;
use crate::submission::refuse;

/// Tasks of a job that were cancelled without it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cancelled {
    /// Which; they have ended.
    pub(crate) tasks: RangeSet,
    /// Who cancelled the latest of them.
    pub(crate) by: String,
}

/// Tasks that a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) worker: WorkerId,
    pub(crate) grant: GrantId,
    pub(crate) range: IndexRange,
}

impl Core {
    /// Somebody wants tasks of a job to end.
    pub(crate) fn cancel_tasks_requested(
        &mut self,
        now: Now,
        (request, user, admin): (RequestId, String, bool),
        id: JobId,
        tasks: &RangeSet,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = self.not_yours(id, &user).filter(|_| !admin);
        let refusal = refusal.or_else(|| self.no_such_task(id, tasks));
        let Some(job) = self.jobs.get_mut(&id) else {
            return refuse(request, Refusal::NoSuchJob(id), effects);
        };
        if let Some(refusal) = refusal {
            return refuse(request, refusal, effects);
        }
        // of a gang all ranks or none go on
        let all = RangeSet::from(IndexRange::new(0, job.spec.tasks));
        let tasks = if job.is_gang() && !tasks.is_empty() {
            &all
        } else {
            tasks
        };
        let (cancelled, runs) = match job.is_active() {
            true => job.cancel(tasks, &user),
            false => (RangeSet::new(), Vec::new()),
        };
        if self.planted.is(PlantedBug::RunsCancelledTasks) {
            job.waiting.extend(cancelled.iter());
        }
        let reply = Reply::Cancelled {
            tasks: cancelled.len(),
        };
        if !cancelled.is_empty() && !self.planted.is(PlantedBug::ForgetsCancelledTasks) {
            let record = Record::TasksCancelled {
                job: id,
                tasks: cancelled.into(),
                by: user,
            };
            self.durability.append(record, effects);
            self.plan_due = true;
        }
        self.answer_when_durable(request, reply, effects);
        self.stop_when_durable(id, runs, effects);
        self.count_lost_counterparts(id);
        self.finish_if_over(now, id, effects);
        self.feed_hungry(id, effects);
    }

    /// Refuses tasks that a job does not have.
    pub(crate) fn no_such_task(&self, id: JobId, tasks: &RangeSet) -> Option<Refusal> {
        let count = self.jobs.get(&id)?.spec.tasks;
        let beyond = tasks.next_from(count)?;
        let task = TaskId {
            job: id,
            index: beyond.start.max(count),
        };
        Some(Refusal::NoSuchTask { task, tasks: count })
    }

    /// Has workers end what they run of some tasks, once it is durable that this does not count.
    pub(crate) fn stop_when_durable(&mut self, job: JobId, runs: Vec<Run>, effects: &mut Vec<Effect>) {
        for run in runs {
            let Run { worker, grant, range } = run;
            let message = ToWorker::Stop { job, grant, range };
            let stop = Effect::Send { worker, message };
            self.let_out_when_durable(Held::Effect(Box::new(stop)), effects);
        }
    }

    /// Takes in what a worker did not start, because it was told to stop it.
    pub(crate) fn stopped(
        &mut self,
        now: Now,
        worker: WorkerId,
        id: JobId,
        grant: GrantId,
        range: IndexRange,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        job.strays_end(worker, grant, range);
        let open = job.grants.get(&grant).filter(|open| open.worker == worker);
        for piece in open.map(|open| open.rest.pieces(range)).unwrap_or_default() {
            job.take_from_grant(grant, piece);
            job.never_ran(grant, piece);
            job.let_go(piece);
        }
        self.plan_due = true;
        self.gang_lost(now, id, &Loss::Unstarted, effects);
        self.feed_hungry(id, effects);
    }
}

impl Job {
    /// Ends tasks that have not ended; returns which, and what of them workers hold.
    fn cancel(&mut self, tasks: &RangeSet, by: &str) -> (RangeSet, Vec<Run>) {
        let left: RangeSet = tasks.iter().flat_map(|range| self.ended.gaps(range)).collect();
        let mut runs = self.runs_of(&left);
        for range in left.iter() {
            self.waiting.remove(range);
            self.gate.blocked.remove(range);
            self.trouble.take(range);
            self.note_ended(range);
            self.cancelled.tasks.insert(range);
        }
        if !left.is_empty() {
            by.clone_into(&mut self.cancelled.by);
        }
        for run in &runs {
            self.lose(*run);
        }
        runs.extend(self.strays_in_vain());
        (left, runs)
    }

    /// Lets a grant go on holding what has ended; of two grants only one.
    fn lose(&mut self, run: Run) {
        let Run { worker, grant, range } = run;
        self.twins.running.remove(range);
        for piece in self.twins.losing.pieces(range) {
            self.take_from_grant(grant, piece);
        }
        for piece in self.twins.losing.gaps(range) {
            self.twins.losing.insert(piece);
        }
        // a suspect that is to end is nobody's any more
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.alone = false;
        }
        self.touch(worker);
    }

    /// What workers hold of some tasks.
    pub(crate) fn runs_of(&self, tasks: &RangeSet) -> Vec<Run> {
        let mut runs = Vec::new();
        for (&grant, open) in &self.grants {
            let span = IndexRange {
                start: open.rest.first().unwrap_or(0),
                end: open.rest.iter().next_back().map_or(0, |last| last.end),
            };
            let held = tasks.pieces(span).into_iter();
            let held = held.flat_map(|piece| open.rest.pieces(piece));
            runs.extend(held.map(|range| Run {
                worker: open.worker,
                grant,
                range,
            }));
        }
        runs
    }
}
