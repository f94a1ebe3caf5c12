//! What becomes of tasks that were run in vain: they wait or rest, and are run again, or have failed.

use std::collections::BTreeSet;

use phalanx_protocol::message::host::HOST_SLOTS_MAX;
use phalanx_protocol::record::{FailureCause, Record, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, RangeSet, Usage, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::planted::PlantedBug;
use crate::trouble::{Fate, HostDeath, one};

impl Core {
    /// A job's kernel host died. Tasks are to blame only if they were in `held`, what its worker had of the job and what
    /// waits again by now; `false` if none is.
    pub(crate) fn blame(
        &mut self,
        now: Now,
        id: JobId,
        held: &RangeSet,
        death: &HostDeath,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let blamed: BTreeSet<u64> = death
            .blamed
            .iter()
            .take(HOST_SLOTS_MAX)
            .copied()
            .filter(|&index| held.contains(index))
            .collect();
        if self.planted.is(PlantedBug::BlamesNobody) || blamed.is_empty() {
            return false;
        }
        let mut fates = Vec::new();
        // what has ended elsewhere meanwhile is to blame, and nothing comes of it
        for index in blamed.into_iter().filter(|&index| !job.ended.contains(index)) {
            let retries = job.spec.retries;
            fates.push((index, job.trouble.blamed(&retries, index, death, now.elapsed)));
        }
        if self.planted.is(PlantedBug::SuspectsMingle) {
            job.trouble.suspect_nobody();
        }
        self.meet_fates(now, id, fates, effects);
        true
    }

    /// Counts the loss of a worker, the process `instance`, for the tasks at the front of what it held of each job, which may
    /// have been running.
    pub(crate) fn count_lost(
        &mut self,
        now: Now,
        instance: u128,
        lost: Vec<(JobId, Vec<u64>)>,
        effects: &mut Vec<Effect>,
    ) {
        for (id, indices) in lost {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let limit = job.spec.retries.lost_limit.unwrap_or(u32::MAX);
            let fates = indices.into_iter();
            let fates = fates
                .map(|index| (index, job.trouble.lost(limit, index, instance, now.elapsed)))
                .collect();
            self.meet_fates(now, id, fates, effects);
        }
    }

    /// A worker that was lost is back, the same process: it has not lost anything. Returns the jobs of which more waits now.
    pub(crate) fn count_found(&mut self, instance: u128) -> Vec<JobId> {
        let mut concerned = Vec::new();
        for &id in &self.live {
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
                continue;
            };
            if !job.counts_losses() {
                continue;
            }
            let limit = job.spec.retries.lost_limit.unwrap_or(u32::MAX);
            let found = job.trouble.found(limit, instance);
            if !found.is_empty() {
                concerned.push(id);
            }
            for index in found {
                job.wait_again(one(index));
            }
        }
        concerned
    }

    /// The tasks of its jobs that a worker may be running, as far as their losses are counted.
    pub(crate) fn may_run(&self, worker: WorkerId) -> Vec<(JobId, Vec<u64>)> {
        let opened = self
            .workers
            .get(&worker)
            .into_iter()
            .flat_map(|model| &model.opened);
        let jobs = opened.filter_map(|&id| Some((id, self.jobs.get(&id)?)));
        let limited = jobs.filter(|(_, job)| job.is_active() && job.counts_losses());
        limited.map(|(id, job)| (id, job.front(worker))).collect()
    }

    /// Carries out what was decided about tasks that wait, or whose twins still run: these are their next tries.
    fn meet_fates(&mut self, now: Now, id: JobId, fates: Vec<(u64, Fate)>, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let mut failed: Vec<TaskFailure> = Vec::new();
        let mut in_vain = Vec::new();
        for (index, fate) in fates {
            let waited = job.waiting.contains(index);
            job.waiting.remove(one(index));
            let runs = job.trouble.take(one(index)) == 0 && !waited;
            match fate {
                Fate::Wait | Fate::Rest(_) if runs => {}
                // not before there is nobody left who could end it
                Fate::Fail(failure) if runs && failure.cause == FailureCause::Lost => {}
                Fate::Wait => job.wait_again(one(index)),
                Fate::Rest(until) => {
                    job.trouble.rest(index, until);
                    self.alarms.insert((until, id));
                }
                Fate::Fail(failure) => {
                    job.note_ended(one(index));
                    job.failed.insert(one(index));
                    if runs {
                        in_vain.extend(job.end_elsewhere(id, &one(index).into(), now.elapsed, effects));
                    }
                    failed.push(failure);
                }
            }
        }
        in_vain.extend(job.strays_in_vain());
        if !failed.is_empty() {
            let record = Record::TasksEnded {
                job: id,
                done: Vec::new(),
                results: Vec::new(),
                failed,
                usage: Usage::Unknown,
            };
            self.durability.append(record, effects);
            self.stop_when_durable(id, in_vain, effects);
            self.finish_if_over(now, id, effects);
        }
    }

    /// Lets those go on whose time has come.
    pub(crate) fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(&(due, id)) = self.alarms.first()
            && due <= now.elapsed
        {
            self.alarms.pop_first();
            self.begin_if_due(now, id, effects);
            self.end_if_unmet(now, id, effects);
            self.weigh_if_bound(now, id, effects);
            let job = self.jobs.get_mut(&id);
            self.plan_due |= job.is_some_and(|job| job.has_rested(now.elapsed));
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
                continue;
            };
            let limit = job.spec.retries.lost_limit.unwrap_or(u32::MAX);
            let is_look = job.is_to_be_looked_at(now.elapsed);
            let mut fates = Vec::new();
            for index in job.trouble.rested(now.elapsed) {
                fates.push((index, job.trouble.after_rest(limit, index)));
                job.wait_again(one(index));
            }
            if is_look {
                job.stop_waiting_for_answers(now.elapsed);
            }
            self.meet_fates(now, id, fates, effects);
            self.feed_hungry(id, effects);
            if is_look {
                self.speculate(id, effects);
            }
        }
    }
}

impl Job {
    /// Whether it matters how many workers were lost while they ran a task: there is a limit, or the task is told.
    fn counts_losses(&self) -> bool {
        !self.is_gang() && (self.spec.retries.lost_limit.is_some() || self.spec.work.is_command())
    }

    /// Takes up to `count` tasks that wait, as one range. Of commands the same must be to be said of all, since they are told
    /// how often they were started.
    pub(crate) fn take_waiting(&mut self, count: u64) -> Option<IndexRange> {
        let mut range = self.waiting.take_first(count)?;
        if self.spec.work.is_command() {
            let cut = self.cut(range);
            self.waiting.insert(IndexRange::new(cut, range.end));
            range.end = cut;
        }
        Some(range)
    }
}
