//! Tasks that start from the top because somebody wants that: they wait again if they had ended, and what runs of them is
//! ended and does not count, however it ends.
//!
//! A run is known by its grant. Which runs do not count any more is on record, so that no leader and no worker that comes back
//! takes one for another: of a task, those under the grant that was the latest when it was requeued, and all older ones. A
//! run that does not count keeps its task until its worker says that it is over, so that two never run at once.

use phalanx_protocol::limits::RETRIED_TASKS_MAX;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::Report;
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet};

use crate::cancelling::Run;
use crate::core::Core;
use crate::input::{Effect, Now, RequestId};
use crate::job::{Job, Phase};
use crate::submission::refuse;

impl Core {
    /// Somebody wants tasks of a job to start from the top; all that can be, if `tasks` is absent.
    pub(crate) fn requeue_requested(
        &mut self,
        now: Now,
        (request, user, admin): (RequestId, &str, bool),
        id: JobId,
        tasks: Option<&RangeSet>,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = self.not_yours(id, user).filter(|_| !admin);
        let refusal = refusal.or_else(|| tasks.and_then(|tasks| self.no_such_task(id, tasks)));
        let last = GrantId {
            term: self.term,
            number: self.grants_made,
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return refuse(request, Refusal::NoSuchJob(id), effects);
        };
        let all = RangeSet::from(IndexRange::new(0, job.spec.tasks));
        let asked = tasks.filter(|_| !job.is_gang()).unwrap_or(&all);
        let (tasks, runs) = match refusal.map_or_else(|| job.requeueable(id, asked), Err) {
            Ok(found) => found,
            Err(refusal) => return refuse(request, refusal, effects),
        };
        let was_over = job.phase == Phase::Finished;
        let count = tasks.len();
        let tasks: Vec<IndexRange> = tasks.into();
        job.count_starts(&tasks);
        job.requeue(&tasks, last);
        // among the finished it stays until that is durable
        self.live.insert(id);
        let record = Record::TasksRequeued { job: id, tasks, last };
        self.durability.append(record, effects);
        self.answer_when_durable(request, Reply::Reopened { tasks: count }, effects);
        self.stop_when_durable(id, runs, effects);
        self.plan_due = true;
        if was_over {
            self.weigh_after_reopening(now, id, effects);
        }
        self.feed_hungry(id, effects);
    }
}

impl Job {
    /// Which of some tasks can start from the top, and what of them workers hold: those that have ended or run.
    fn requeueable(&self, id: JobId, asked: &RangeSet) -> Result<(RangeSet, Vec<Run>), Refusal> {
        let nothing = |why: &str| Refusal::NothingToRequeue {
            job: id,
            why: why.to_owned(),
        };
        let all = IndexRange::new(0, self.spec.tasks);
        let (ended, succeeded) = match (self.phase, &self.seen.outcome) {
            (Phase::Active, _) => (self.ended.clone(), self.succeeded()),
            (Phase::Ending, _) => return Err(nothing("it is just ending")),
            (Phase::Finished, _) if self.goes_on_without_lost() && !self.seen.done.is_empty() => {
                return Err(nothing("what its ranks returned is there, and stays"));
            }
            (Phase::Finished, Some(Outcome::Broken { .. })) => {
                return Err(nothing("its program cannot run; submit it with one that can"));
            }
            (Phase::Finished, _) => (all.into(), self.seen.done.clone()),
        };
        if self.requeues.range_count() >= RETRIED_TASKS_MAX {
            let what = format!("{RETRIED_TASKS_MAX} ranges of tasks of job {id} were requeued");
            return Err(Refusal::Full { what });
        }
        let mut asked = asked.clone();
        if !self.spec.work.is_command() {
            // their results are out
            succeeded.iter().for_each(|range| asked.remove(range));
        }
        let runs = self.runs_of(&asked);
        let mut tasks: RangeSet = asked.iter().flat_map(|range| ended.pieces(range)).collect();
        tasks.extend(runs.iter().map(|run| run.range));
        if self.is_gang() && !tasks.is_empty() {
            tasks = RangeSet::from(all);
        }
        match tasks.is_empty() {
            true if self.spec.work.is_command() => Err(nothing("none runs, and none has ended")),
            true => Err(nothing("none runs or has failed; results that are there stay")),
            false => Ok((tasks, runs)),
        }
    }

    /// Tasks whose success was accepted, durable or not.
    pub(crate) fn succeeded(&self) -> RangeSet {
        let mut succeeded = self.ended.clone();
        for range in self.failed.iter().chain(self.cancelled.tasks.iter()) {
            succeeded.remove(range);
        }
        succeeded
    }

    /// Remembers of tasks that have ended how often they were started up to then, as far as that is known.
    fn count_starts(&mut self, tasks: &[IndexRange]) {
        for &range in tasks {
            for (known, restarts) in self.ends.restarts_in(range) {
                self.requeues.raise(known, restarts);
            }
        }
    }

    /// Lets tasks start from the top: those that had ended wait, those that run will once their runs have ended.
    pub(crate) fn requeue(&mut self, tasks: &[IndexRange], last: GrantId) {
        self.awaken();
        self.forget_placement();
        for &range in tasks {
            for ended in self.ended.pieces(range) {
                self.end_no_more(ended);
            }
        }
        self.requeues.requeued(self.is_gang(), tasks, last);
    }

    /// Takes runs that do not count any more out of a report, and lets their tasks wait again; returns how many those are.
    pub(crate) fn end_void_runs(&mut self, report: &mut Report) -> u64 {
        if self.requeues.range_count() == 0 {
            return 0;
        }
        let mut count = 0;
        let all = IndexRange::new(0, self.spec.tasks);
        for (grant, ranges) in &mut report.done {
            let mut left: RangeSet = ranges.iter().map(|range| range.intersection(all)).collect();
            for range in Vec::from(left.clone()) {
                for void in self.requeues.void(*grant, range) {
                    left.remove(void);
                    count += self.end_void(*grant, void);
                }
            }
            *ranges = left.into();
        }
        for (grant, failures) in &mut report.failed {
            let (void, left) = std::mem::take(failures)
                .into_iter()
                .partition(|failure| !self.requeues.void(*grant, failure.range()).is_empty());
            *failures = left;
            let void: Vec<phalanx_protocol::record::TaskFailure> = void;
            for failure in void {
                count += self.end_void(*grant, failure.range());
            }
        }
        count
    }

    /// A run that does not count is over.
    fn end_void(&mut self, grant: GrantId, range: IndexRange) -> u64 {
        let open = self.grants.get(&grant);
        let held = open.map(|open| open.rest.pieces(range)).unwrap_or_default();
        for &piece in &held {
            self.take_from_grant(grant, piece);
            self.let_go(piece);
        }
        held.into_iter().map(IndexRange::len).sum()
    }

    /// Notes that a worker gives tasks back unstarted.
    pub(crate) fn never_ran(&mut self, grant: GrantId, range: IndexRange) {
        // how often a gang was is its epoch
        let void = match self.is_gang() {
            true => Vec::new(),
            false => self.requeues.void(grant, range),
        };
        for void in void {
            self.requeues.uncount(void);
        }
    }
}
