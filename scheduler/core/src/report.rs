//! What ended: a report becomes a record of what is new in it (invariant ONCE), is acknowledged once that is durable,
//! and makes room for more grants.

use std::time::Duration;

use phalanx_protocol::limits::MESSAGE_BYTES_MAX;
use phalanx_protocol::message::worker::{Report, ToWorker};
use phalanx_protocol::record::{Record, ResultBlock, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, Usage, WorkerId};

use crate::cancelling::Run;
use crate::core::Core;
use crate::durability::Held;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::planted::PlantedBug;
use crate::trouble::{Fate, one};
use crate::usage::of_ended;

impl Core {
    pub(crate) fn reported(&mut self, now: Now, worker: WorkerId, report: Report, effects: &mut Vec<Effect>) {
        let (number, id) = (report.number, report.job);
        let mut report = report;
        if let Some(job) = self.jobs.get(&id) {
            // of another job, which had the number before
            report.done.retain(|(grant, _)| grant.term >= job.term);
            report.failed.retain(|(grant, _)| grant.term >= job.term);
        }
        if let Some(job) = self.jobs.get(&id).filter(|job| job.is_active()) {
            let allowed = job.slots_allowed();
            match job.is_gang() {
                true => self.take_in_ranks(now, worker, report, effects),
                false => self.take_in(now, worker, report, effects),
            }
            self.finish_if_over(now, id, effects);
            self.feed(id, worker, effects);
            self.feed_hungry(id, effects);
            self.speculate(id, effects);
            let job = &self.jobs[&id];
            // slots that its last tasks leave empty are of use to somebody else
            let may_be_idle = self.unmet || !job.gate.blocked.is_empty();
            let of_no_use = job.gate.is_shut() || (may_be_idle && !job.has_waiting());
            self.plan_due |=
                self.gang_waits || of_no_use || job.slots_allowed() > allowed || self.has_left(id, worker);
        }
        if self.planted.is(PlantedBug::AcknowledgesAtOnce) {
            let message = ToWorker::Acknowledge { number };
            return effects.push(Effect::Send { worker, message });
        }
        if let Some(model) = self.workers.get(&worker) {
            let instance = model.instance;
            let held = Held::Acknowledge {
                worker,
                instance,
                number,
            };
            self.let_out_when_durable(held, effects);
        }
    }

    fn take_in(&mut self, now: Now, worker: WorkerId, mut report: Report, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&report.job) else {
            return;
        };
        let overhang = job.holdings.get(&worker).map_or(0, |holding| holding.overhang);
        job.strays_reported(worker, &report);
        let void = job.end_void_runs(&mut report);
        let ended_before = job.ended.len();
        let (blocks, lone) = job.sift(report.results, &report.done);
        let mut done = RangeSet::new();
        let mut failed = Vec::new();
        // ended, but not where the report says
        let mut astray = RangeSet::new();
        // ended elsewhere before
        let mut lost = 0;
        // cancelled while it ran, which has ended now
        let mut cancelled = RangeSet::new();
        for (grant, range) in within(job.spec.tasks, &report.done) {
            let fresh = if self.planted.is(PlantedBug::CountsRepetitions) {
                vec![range]
            } else {
                job.ended.gaps(range)
            };
            for piece in fresh {
                for piece in lone.gaps(piece) {
                    job.end_in_grant(now, grant, piece, &mut astray);
                    done.insert(piece);
                }
            }
            for piece in job.close_losing(grant, range) {
                lost += piece.len();
                cancelled.extend(job.cancelled.tasks.pieces(piece));
                if self.planted.is(PlantedBug::CountsBothTwins) {
                    done.insert(piece);
                }
            }
        }
        let forever = self.planted.is(PlantedBug::RetriesForever);
        let mut rested = 0;
        for (grant, failures) in report.failed {
            for mut failure in failures {
                let end = failure.message.floor_char_boundary(MESSAGE_BYTES_MAX);
                failure.message.truncate(end);
                for piece in job.close_losing(grant, failure.range()) {
                    lost += piece.len();
                    cancelled.extend(job.cancelled.tasks.pieces(piece));
                }
                match job.fail(grant, failure, now, forever, &mut astray) {
                    Some(Fate::Fail(failure)) => failed.push(failure),
                    Some(Fate::Rest(until)) => {
                        rested += 1;
                        self.alarms.insert((until, report.job));
                    }
                    Some(Fate::Wait) | None => {}
                }
            }
        }
        let mut in_vain = job.end_elsewhere(report.job, &astray, now.elapsed, effects);
        for (grant, range) in within(job.spec.tasks, &report.done) {
            for piece in lone.pieces(range) {
                job.run_again(grant, piece);
            }
        }
        in_vain.extend(job.strays_in_vain());
        let ended = job.ended.len() - ended_before;
        let over = ended + rested + lost + void;
        job.measure(now.elapsed, worker, report.busy_nanos, over, overhang);
        if let Some(model) = self.workers.get_mut(&worker) {
            model.tasks_ended += ended;
        }
        if ended + rested > 0 {
            job.hosts_lost = 0;
        }
        let mut measured = cancelled;
        measured.extend(done.iter());
        measured.extend(failed.iter().map(TaskFailure::range));
        let usage = of_ended(job.spec.tasks, report.usage, &measured, now.unix_millis);
        // what cancelled tasks have used is on record though they had ended before
        if !done.is_empty() || !failed.is_empty() || usage != Usage::Unknown {
            let record = Record::TasksEnded {
                job: report.job,
                usage,
                results: decide(blocks, done.clone()),
                done: done.into(),
                failed,
            };
            self.durability.append(record, effects);
        }
        self.stop_when_durable(report.job, in_vain, effects);
    }
}

/// The reported ranges, as far as the job has such tasks.
pub(crate) fn within(
    tasks: u64,
    reported: &[(GrantId, Vec<IndexRange>)],
) -> impl Iterator<Item = (GrantId, IndexRange)> + '_ {
    let all = IndexRange::new(0, tasks);
    let pairs = reported
        .iter()
        .flat_map(|(grant, ranges)| ranges.iter().map(|&range| (*grant, range)));
    pairs.map(move |(grant, range)| (grant, range.intersection(all)))
}

/// Says of each block which of its results count: what is new, and no earlier block decides.
pub(crate) fn decide(blocks: Vec<ResultBlock>, mut undecided: RangeSet) -> Vec<ResultBlock> {
    let decided = blocks.into_iter().map(|block| {
        let keep = undecided.pieces(block.range);
        undecided.remove(block.range);
        ResultBlock { keep, ..block }
    });
    decided.filter(|block| !block.keep.is_empty()).collect()
}

impl Job {
    /// Sorts out merged values that also cover tasks which had ended before, or were not done. They cannot be taken
    /// apart, so their other tasks are not done: these are the second part.
    fn sift(
        &self,
        blocks: Vec<ResultBlock>,
        reported: &[(GrantId, Vec<IndexRange>)],
    ) -> (Vec<ResultBlock>, RangeSet) {
        let mut lone = RangeSet::new();
        if !self.spec.work.reduces() {
            return (blocks, lone);
        }
        let done: RangeSet = within(self.spec.tasks, reported)
            .map(|(_, range)| range)
            .collect();
        let mut whole = RangeSet::new();
        let is_whole = |block: &ResultBlock| {
            let range = block.range;
            let fresh = self.ended.pieces(range).is_empty() && whole.pieces(range).is_empty();
            let whole_one = fresh && done.contains_range(range);
            if whole_one {
                whole.insert(range);
            } else {
                lone.insert(range);
            }
            whole_one
        };
        let blocks = blocks.into_iter().filter(is_whole).collect();
        whole.iter().for_each(|range| lone.remove(range));
        (blocks, lone)
    }

    /// Moves `range`, of which nothing had ended, to `ended`; what was not in `grant` is added to `astray`.
    fn end_in_grant(&mut self, now: Now, grant: GrantId, range: IndexRange, astray: &mut RangeSet) {
        let mut held = Vec::new();
        self.note_end(now, grant, range);
        match self.grants.get(&grant) {
            Some(open) if open.rest.contains_range(range) => held.push(range),
            Some(open) => {
                held = open.rest.pieces(range);
                astray.extend(open.rest.gaps(range));
            }
            None => astray.insert(range),
        }
        self.take_from_grant(grant, range);
        held.into_iter().for_each(|piece| self.twins_lose(piece));
        self.note_ended(range);
    }

    /// Takes a task that failed out of its grant, and says what is to become of it; `None` if the failure is of no
    /// interest any more.
    fn fail(
        &mut self,
        grant: GrantId,
        failure: TaskFailure,
        now: Now,
        forever: bool,
        astray: &mut RangeSet,
    ) -> Option<Fate> {
        let index = failure.index;
        if index >= self.spec.tasks || self.ended.contains(index) {
            return None;
        }
        let held = self
            .grants
            .get(&grant)
            .is_some_and(|open| open.rest.contains(index));
        let mut retries = self.spec.retries;
        if !held && (self.reopened || retries.errors > 0 || retries.timeouts > 0) {
            // perhaps an old report that comes again, of a run that was counted: the task waits or runs elsewhere
            return None;
        }
        if forever {
            retries.errors = retries.errors.saturating_mul(u32::MAX);
        }
        let fate = self.trouble.failed(&retries, failure, now.elapsed);
        match &fate {
            Fate::Fail(_) | Fate::Wait => {
                self.end_in_grant(now, grant, one(index), astray);
                self.failed.insert(one(index));
            }
            Fate::Rest(until) => {
                self.take_from_grant(grant, one(index));
                if self.twins.running.contains(index) {
                    // its twin runs, and is the next try
                    self.twins.running.remove(one(index));
                } else {
                    self.trouble.rest(index, *until);
                }
            }
        }
        Some(fate)
    }

    /// Takes what ended out of wherever it is: a worker that was given up reported after all. Grants of which nothing is
    /// left are asked back: their workers would run them in vain, and not leave before. Returns what may run in vain.
    pub(crate) fn end_elsewhere(
        &mut self,
        id: JobId,
        astray: &RangeSet,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Vec<Run> {
        let waited = self.waiting.len() + self.gate.blocked.len();
        for range in astray.iter() {
            self.waiting.remove(range);
            self.gate.blocked.remove(range);
        }
        let troubled: u64 = astray.iter().map(|range| self.trouble.take(range)).sum();
        if waited - self.waiting.len() - self.gate.blocked.len() + troubled == astray.len() {
            return Vec::new();
        }
        let runs = self.runs_of(astray);
        let grants: Vec<GrantId> = self.grants.keys().copied().collect();
        for grant in grants {
            let open = &self.grants[&grant];
            let (worker, end, rest) = (open.worker, open.end, &open.rest);
            let span = IndexRange {
                start: rest.first().unwrap_or(0),
                end: rest.iter().next_back().map_or(0, |last| last.end),
            };
            for piece in astray.pieces(span) {
                self.take_from_grant(grant, piece);
            }
            if !self.grants.contains_key(&grant) {
                self.ask_back(id, worker, (grant, end), now, effects);
                self.touch(worker);
            }
        }
        astray.iter().for_each(|range| self.twins.running.remove(range));
        runs
    }

    /// Takes `range` back from a grant whose worker believes that it is done.
    fn run_again(&mut self, grant: GrantId, range: IndexRange) {
        let open = self.grants.get(&grant);
        let pieces = open.map(|open| open.rest.pieces(range)).unwrap_or_default();
        for piece in pieces {
            self.take_from_grant(grant, piece);
            self.let_go(piece);
        }
    }
}
