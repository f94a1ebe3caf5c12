//! The life of a gang: all its ranks are granted at once, and what any of them loses is lost to all, unless it is to shrink
//! (`shrinking`) or to replace what it loses (`respawning`).
//!
//! One start of a gang, or of what it lost, is an *epoch*. Its ranks are granted only when all have slots, when nothing of an earlier epoch is
//! left, and when the records by which a later leader knows of that are durable: that the job has started, and that what
//! ran before does not count. So whoever leads next either finds every rank of the latest epoch on the workers that come
//! back, or begins another one. A new epoch is a requeue of all ranks, and is counted by those (see `requeuing`).

use std::time::Duration;

use phalanx_protocol::gang::Placement;
use phalanx_protocol::limits::MESSAGE_BYTES_MAX;
use phalanx_protocol::message::worker::{Report, ToWorker};
use phalanx_protocol::record::{Record, ResultBlock, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, Usage, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::losses::{Loss, Next};
use crate::planted::PlantedBug;
use crate::rendezvous::Meeting;
use crate::report::{decide, within};
use crate::trouble::one;
use crate::usage::of_ended;

/// How it stands with a gang.
#[derive(Debug, Default)]
pub(crate) struct GangState {
    /// Where its ranks are in the epoch that runs or is about to. Not known of one that an earlier leader started.
    pub(crate) placement: Option<Placement>,
    /// The ranks of the epoch have been granted.
    pub(crate) granted: bool,
    /// How far its hosts know of each other.
    pub(crate) meeting: Meeting,
    /// A rank has failed, so that the job has. Ranks that were lost to a gang that goes on without them have not.
    pub(crate) has_failed: bool,
    /// It is to rest until then.
    rests: Option<Duration>,
    /// Ranks that were lost while the others run on, and that wait to be granted again; that is on record, durable or not.
    pub(crate) missing: RangeSet,
    /// What its ranks returned in this epoch, until all have ended: a later epoch returns something else.
    results: Vec<ResultBlock>,
    pub(crate) errors: u32,
    pub(crate) timeouts: u32,
    pub(crate) crashes: u32,
    pub(crate) lost: u32,
}

impl Core {
    /// Grants all ranks of a gang that has its slots, or those that it lost, if nothing stands against it.
    pub(crate) fn start_gang(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let is_held_back = self.jobs.get(&id).is_none_or(|job| self.is_held_back(job));
        let job = self
            .jobs
            .get_mut(&id)
            .filter(|job| !is_held_back && job.may_start());
        let Some((job, placement)) = job.and_then(|job| {
            let placement = job.gang.placement.clone()?;
            Some((job, placement))
        }) else {
            return;
        };
        job.gang.granted = true;
        job.gang.missing = RangeSet::new();
        job.gang.meeting = Meeting::begin(placement.epoch, placement.nodes.len(), self.clock);
        self.alarms
            .extend(job.gang.meeting.until().map(|until| (until, id)));
        for (node, ranks) in placement.nodes.iter().zip(placement.ranks_by_node()) {
            let worker = node.worker;
            let message = ToWorker::Gang {
                job: id,
                placement: Box::new(placement.clone()),
                credential: None,
            };
            effects.push(Effect::Send { worker, message });
            let starting = ranks.iter().flat_map(|range| placement.starting.pieces(range));
            for range in starting {
                job.waiting.remove(range);
                self.grants_made += 1;
                let grant = GrantId {
                    term: self.term,
                    number: self.grants_made,
                };
                job.grant(id, worker, grant, range, self.clock, effects);
            }
        }
    }

    /// Takes in what a worker says of ranks; what it says of runs that are nobody's does not count.
    pub(crate) fn take_in_ranks(
        &mut self,
        now: Now,
        worker: WorkerId,
        mut report: Report,
        effects: &mut Vec<Effect>,
    ) {
        let id = report.job;
        let is_reattaching = self.jobs.get(&id).is_some_and(|job| self.is_reattaching(job));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let overhang = job.holdings.get(&worker).map_or(0, |holding| holding.overhang);
        let void = job.end_void_runs(&mut report);
        let mut over = void;
        let mut done = RangeSet::new();
        for (grant, range) in within(job.spec.tasks, &report.done) {
            for piece in job.runs_under(grant, range, is_reattaching) {
                job.note_end(now, grant, piece);
                job.take_from_grant(grant, piece);
                job.waiting.remove(piece);
                job.note_ended(piece);
                job.gang.granted = true;
                done.insert(piece);
            }
        }
        let mut first = None;
        for (grant, failures) in report.failed {
            for mut failure in failures {
                let index = failure.index;
                if job.runs_under(grant, failure.range(), is_reattaching).is_empty() {
                    continue;
                }
                let end = failure.message.floor_char_boundary(MESSAGE_BYTES_MAX);
                failure.message.truncate(end);
                job.note_end(now, grant, one(index));
                job.take_from_grant(grant, one(index));
                job.wait_again(one(index));
                job.gang.granted = true;
                over += 1;
                first.get_or_insert(failure);
            }
        }
        over += done.len();
        job.measure(now.elapsed, worker, report.busy_nanos, over, overhang);
        if let Some(model) = self.workers.get_mut(&worker) {
            model.tasks_ended += done.len();
        }
        if job.is_led() && done.contains(0) {
            done.extend(job.end_followers(now));
        }
        let returned = done.first().filter(|_| job.meets_replacements());
        let (done, results) = job.sift_ranks(done, report.results);
        let tasks = job.spec.tasks;
        if !done.is_empty() {
            let record = Record::TasksEnded {
                job: id,
                usage: of_ended(tasks, report.usage, &done, now.unix_millis),
                done: done.into(),
                results,
                failed: Vec::new(),
            };
            self.durability.append(record, effects);
        }
        let loss = match (first, returned) {
            (Some(failure), _) => Some(Loss::Rank(failure)),
            (None, Some(rank)) => Some(Loss::Returned { rank }),
            // a rank that is to be replaced has ended at last
            (None, None) => (void > 0).then_some(Loss::Unstarted),
        };
        if let Some(loss) = loss {
            self.gang_lost(now, id, &loss, effects);
        }
        self.plan_due = true;
    }

    /// Ends the epoch of a gang of which a part runs, or has ended, and another one waits.
    pub(crate) fn gang_lost(&mut self, now: Now, id: JobId, loss: &Loss, effects: &mut Vec<Effect>) {
        let is_reattaching = self.jobs.get(&id).is_none_or(|job| self.is_reattaching(job));
        let failed = matches!(loss, Loss::Rank(_));
        let Some(job) = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.is_active() && job.is_gang() && (failed || !is_reattaching))
        else {
            return;
        };
        self.plan_due = true;
        let may_run = job.gang.granted || (matches!(loss, Loss::Leader) && job.start_written);
        let index = match loss {
            Loss::Unmet { rank, .. } | Loss::Returned { rank } => Some(*rank),
            Loss::Rank(_) | Loss::Worker(_) | Loss::Host { .. } | Loss::Leader | Loss::Unstarted => {
                job.newly_lost().first()
            }
        };
        let Some(index) = index.filter(|_| may_run) else {
            return;
        };
        if self.go_on_without_lost(now, id, loss, effects) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.after_loss(loss, now.elapsed) {
            Next::Again => {
                if !self.respawn_lost(id, loss, effects) {
                    self.begin_epoch(id, effects);
                }
            }
            Next::Rest(until) => {
                job.gang.rests = Some(until);
                self.alarms.insert((until, id));
                self.begin_epoch(id, effects);
            }
            Next::Fail(cause, message) => {
                let failure = match loss {
                    Loss::Rank(failure) => TaskFailure {
                        cause,
                        message,
                        ..failure.clone()
                    },
                    Loss::Worker(_)
                    | Loss::Host { .. }
                    | Loss::Leader
                    | Loss::Unstarted
                    | Loss::Unmet { .. }
                    | Loss::Returned { .. } => TaskFailure {
                        index,
                        cause,
                        message,
                    },
                };
                for run in job.runs_of(&failure.range().into()) {
                    job.take_from_grant(run.grant, run.range);
                }
                job.waiting.remove(failure.range());
                job.note_ended(failure.range());
                job.failed.insert(failure.range());
                job.gang.has_failed = true;
                let record = Record::TasksEnded {
                    job: id,
                    done: Vec::new(),
                    results: Vec::new(),
                    failed: vec![failure],
                    usage: Usage::Unknown,
                };
                self.durability.append(record, effects);
                self.finish_if_over(now, id, effects);
            }
        }
    }

    /// The same for several jobs, of which not all need be gangs.
    pub(crate) fn gangs_lost(
        &mut self,
        now: Now,
        ids: impl IntoIterator<Item = JobId>,
        loss: &Loss,
        effects: &mut Vec<Effect>,
    ) {
        for id in ids {
            if self.jobs.get(&id).is_some_and(Job::is_gang) {
                self.gang_lost(now, id, loss, effects);
            }
        }
    }

    /// Lets all ranks of a gang wait for its next epoch; what runs of them is ended.
    fn begin_epoch(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        if self.planted.is(PlantedBug::RestartsLostRanksAlone) {
            return self.restart_waiting_ranks(id, effects);
        }
        let last = GrantId {
            term: self.term,
            number: self.grants_made,
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let tasks = vec![IndexRange::new(0, job.spec.tasks)];
        let runs = job.runs_of(&tasks.clone().into());
        job.requeue(&tasks, last);
        let record = Record::TasksRequeued { job: id, tasks, last };
        self.durability.append(record, effects);
        self.stop_when_durable(id, runs, effects);
    }

    /// The planted bug: those that wait are granted to whoever runs the rest.
    fn restart_waiting_ranks(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let worker = job.holdings.iter().find(|(_, holding)| holding.slots > 0);
        let Some(worker) = worker.map(|(&worker, _)| worker) else {
            return;
        };
        while let Some(range) = job.waiting.take_first(u64::MAX) {
            self.grants_made += 1;
            let grant = GrantId {
                term: self.term,
                number: self.grants_made,
            };
            job.grant(id, worker, grant, range, self.clock, effects);
        }
    }

    /// A new leader has waited long enough for the workers of the one before.
    pub(crate) fn end_gangs_of_last_leader(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let live: Vec<JobId> = self.live.iter().copied().collect();
        let before = |id: &JobId| self.jobs[id].term < self.term;
        let live: Vec<JobId> = live.into_iter().filter(before).collect();
        self.gangs_lost(now, live, &Loss::Leader, effects);
    }

    /// Asserts GANG.
    pub(crate) fn check_gang(&self, id: JobId, job: &Job) {
        if !job.is_active() || self.is_reattaching(job) || self.only_replayed {
            return;
        }
        if job.gang.granted {
            assert!(
                job.newly_lost().is_empty(),
                "GANG: a part of job {id} waits and another one runs"
            );
            return self.check_missing(id, job);
        }
        let mut grants = job.grants.iter();
        let all_void = grants.all(|(&grant, open)| job.requeues.voids(grant, &open.rest));
        assert!(
            all_void,
            "GANG: ranks of job {id} run that did not start with all"
        );
        assert!(
            job.ended.is_empty(),
            "GANG: ranks of job {id} have ended before all started"
        );
    }
}

impl Job {
    /// Whether its tasks are ranks.
    pub(crate) fn is_gang(&self) -> bool {
        self.spec.gang.is_some()
    }

    /// Whether its first rank leads, and has ended for all.
    fn is_led(&self) -> bool {
        self.spec.gang.as_ref().is_some_and(|gang| gang.is_led())
    }

    /// Lets the ranks that only kept their nodes for the first have ended with it; returns those that had not yet.
    fn end_followers(&mut self, now: Now) -> Vec<IndexRange> {
        let mut left = RangeSet::from(IndexRange::new(0, self.spec.tasks));
        self.ended.iter().for_each(|ended| left.remove(ended));
        for run in self.runs_of(&left) {
            self.note_end(now, run.grant, run.range);
            self.take_from_grant(run.grant, run.range);
        }
        for range in left.iter() {
            self.waiting.remove(range);
            self.note_ended(range);
        }
        left.iter().collect()
    }

    /// Which start of the gang runs, or comes next, from 1.
    pub(crate) fn epoch(&self) -> u32 {
        self.requeues.most().saturating_add(1)
    }

    /// Whether it is a gang that has its slots and is to keep them.
    pub(crate) fn keeps_placement(&self) -> bool {
        self.is_active() && self.is_gang() && (self.gang.granted || self.has_placement())
    }

    /// Whether it is a gang that is to get slots.
    pub(crate) fn awaits_placement(&self) -> bool {
        let may = self.is_active() && self.is_gang() && self.gang.rests.is_none();
        let lacks = !self.gang.granted || !self.gang.missing.is_empty();
        may && lacks && !self.has_placement() && self.gate.blocked.is_empty()
    }

    /// Whether every worker that it was placed on has its slots.
    pub(crate) fn has_placement(&self) -> bool {
        let has = |(worker, ranks): (WorkerId, u32)| {
            let holding = self.holdings.get(&worker);
            holding.is_some_and(|holding| holding.slots == ranks)
        };
        let placement = self.gang.placement.as_ref();
        placement.is_some_and(|placement| placement.counts().into_iter().all(has))
    }

    /// Which ranks of a range run under a grant, as far as is known. What is reported to a new leader again is in no grant
    /// that its worker brings back.
    fn runs_under(&self, grant: GrantId, range: IndexRange, is_reattaching: bool) -> Vec<IndexRange> {
        let held = self.grants.get(&grant).map(|open| open.rest.pieces(range));
        let mut runs = held.unwrap_or_default();
        if is_reattaching && grant.term >= self.term {
            let mut waiting: RangeSet = self.waiting.pieces(range).into_iter().collect();
            for void in self.requeues.void(grant, range) {
                waiting.remove(void);
            }
            runs.extend(waiting.iter());
        }
        runs
    }

    /// What of the ranks that are `done` is final. Commands are at once. What kernels return is seen as soon as it is durable
    /// and stays, so it is kept until all have ended, and then given out as a whole.
    ///
    /// A leader that is lost takes along what it kept: the next one misses ranks, and begins an epoch.
    pub(crate) fn sift_ranks(
        &mut self,
        done: RangeSet,
        more: Vec<ResultBlock>,
    ) -> (RangeSet, Vec<ResultBlock>) {
        if self.spec.work.is_command() {
            return (done, Vec::new());
        }
        self.gang.results.extend(decide(more, done));
        let all = RangeSet::from(IndexRange::new(0, self.spec.tasks));
        match self.ended == all && !self.has_failed() {
            true => (self.succeeded(), std::mem::take(&mut self.gang.results)),
            false => (RangeSet::new(), Vec::new()),
        }
    }

    fn may_start(&self) -> bool {
        let is_durable =
            self.seen.started_unix_millis.is_some() && self.seen.requeues.most() == self.requeues.most();
        let waits = match self.gang.granted {
            true => self.can_replace_missing(),
            false => self.grants.is_empty() && self.waiting.len() == self.spec.tasks,
        };
        self.is_active() && is_durable && waits && self.has_placement()
    }

    /// Ends its rest, if that is due; whether it is.
    pub(crate) fn has_rested(&mut self, now: Duration) -> bool {
        self.gang.rests.take_if(|until| *until <= now).is_some()
    }

    /// The next epoch is another one.
    pub(crate) fn forget_placement(&mut self) {
        self.gang.placement = None;
        self.gang.granted = false;
        self.gang.missing = RangeSet::new();
        self.gang.has_failed = false;
        self.gang.meeting = Meeting::default();
        self.gang.results.clear();
    }
}
