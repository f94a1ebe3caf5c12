//! The tail of a job: nobody is to wait only because one worker does not answer.
//!
//! While slots are idle and nothing waits, the core looks at the job every [`LOOK_EVERY`]. A revoke that is without an
//! answer for [`ANSWER_PATIENCE`] does not keep it from asking others. A worker of which nothing was heard for
//! [`STRAGGLER_TIMES`] the usual time of a task, and at least [`STRAGGLER_MIN`], is a *straggler*, be it slow, stopped or
//! cut off. If the job is idempotent and there is nothing left to take back from anybody, the core *speculates*: it grants
//! tasks of stragglers a second time, elsewhere, on at most one in [`SLOTS_PER_TWIN`] of the job's slots. What then comes of
//! them is told in `twins`.

use std::collections::BTreeSet;
use std::time::Duration;

use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::feed::{LOW_WATER_PICOS, STEAL_PICOS_MIN};
use crate::input::Effect;
use crate::job::Job;
use crate::planted::PlantedBug;

/// How often a tail is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a worker may take to answer a revoke, until it is not waited for; many times the round trip of a slow link.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// How long at least nothing was heard of a straggler; workers report what has ended after 100 ms at the latest.
const STRAGGLER_MIN: Duration = Duration::from_millis(500);
/// The same in times that a task usually takes.
const STRAGGLER_TIMES: u64 = 2;
/// One of so many slots of a job may run what others run, but always one: 5 %.
const SLOTS_PER_TWIN: u64 = 20;

impl Core {
    /// Has a job looked at later if somebody might not answer meanwhile.
    pub(crate) fn watch_tail(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        let unanswered = job.revoking > 0 && !job.hungry.is_empty();
        let speculates = job.spec.idempotent && !job.grants.is_empty();
        if job.waiting.is_empty() && job.look_due.is_none() && (unanswered || speculates) {
            let due = self.clock + LOOK_EVERY;
            job.look_due = Some(due);
            self.alarms.insert((due, id));
        }
    }

    /// Grants tasks of stragglers a second time, if that is all that can be done.
    pub(crate) fn speculate(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        let slots_before = std::mem::take(&mut job.twins.slots_wanted);
        if !job.may_speculate() {
            return;
        }
        let Some(task_picos) = job.usual_task_picos() else {
            return;
        };
        let stragglers = job.stragglers(self.clock, task_picos);
        if stragglers.is_empty() {
            return;
        }
        let slots = (job.slots / SLOTS_PER_TWIN).max(1);
        // a slot's part is a task, or as much as is worth a message
        let part = (LOW_WATER_PICOS / task_picos).max(1);
        let tasks_max = slots.saturating_mul(part);
        let hungry = job.hungry.difference(&stragglers).copied();
        let hosts: Vec<WorkerId> = hungry.collect();
        job.twins.slots_wanted = slots;
        self.plan_due |= slots > slots_before && hosts.is_empty();
        for host in hosts {
            while job.holdings[&host].is_hungry() {
                let room = match self.planted.is(PlantedBug::SpeculatesWithoutLimit) {
                    true => u64::MAX,
                    false => tasks_max.saturating_sub(job.speculated()),
                };
                let Some((original, range)) = job.overdue(&stragglers, room.min(part)) else {
                    break;
                };
                self.grants_made += 1;
                let twin = GrantId {
                    term: self.term,
                    number: self.grants_made,
                };
                job.grant(id, host, twin, range, self.clock, effects);
                job.twin_granted(original, twin, range, tasks_max);
            }
        }
    }
}

impl Job {
    /// Whether it is time to look at the tail; only once for each time that was set.
    pub(crate) fn is_to_be_looked_at(&mut self, now: Duration) -> bool {
        self.look_due.take_if(|due| *due <= now).is_some()
    }

    /// Waits no longer for answers that are overdue.
    pub(crate) fn stop_waiting_for_answers(&mut self, now: Duration) {
        for holding in self.holdings.values_mut() {
            let overdue = now >= holding.asked + ANSWER_PATIENCE;
            if holding.revoking > 0 && overdue && !holding.does_not_answer {
                holding.does_not_answer = true;
                self.revoking -= holding.revoking;
            }
        }
    }

    /// Whether it is idempotent, and nothing waits or can be taken back.
    fn may_speculate(&self) -> bool {
        let longest = self.backlogs.last().map_or(0, |&(picos, _)| picos);
        let may_start = self.spec.idempotent && !self.gate.is_shut();
        may_start && !self.has_waiting() && self.revoking == 0 && longest < STEAL_PICOS_MIN
    }

    /// The median of what workers measured, in picoseconds; the faster one of two.
    fn usual_task_picos(&self) -> Option<u64> {
        let measured = self
            .holdings
            .values()
            .filter_map(|holding| holding.pace.task_picos());
        let mut measured: Vec<u64> = measured.collect();
        measured.sort_unstable();
        measured.get(measured.len().saturating_sub(1) / 2).copied()
    }

    /// Workers that hold tasks and have not been heard of for too long.
    fn stragglers(&self, now: Duration, task_picos: u64) -> BTreeSet<WorkerId> {
        let usual = Duration::from_nanos((task_picos / 1000).saturating_mul(STRAGGLER_TIMES));
        let patience = usual.max(STRAGGLER_MIN);
        let holdings = self.holdings.iter().filter(|(_, holding)| holding.open > 0);
        let overdue = holdings.filter(|(_, holding)| now.saturating_sub(holding.heard) >= patience);
        overdue.map(|(&worker, _)| worker).collect()
    }

    /// Up to `count` tasks of stragglers that have no twin and were never run in vain, and the grant that they are in.
    fn overdue(&self, stragglers: &BTreeSet<WorkerId>, count: u64) -> Option<(GrantId, IndexRange)> {
        let holdings = stragglers.iter().map(|worker| &self.holdings[worker]);
        let mut grants = holdings.flat_map(|holding| &holding.grants);
        grants.find_map(|&grant| {
            let mut alone: RangeSet = self.grants[&grant].rest.clone();
            let twins = self.twins.running.iter().chain(self.twins.losing.iter());
            twins.for_each(|range| alone.remove(range));
            self.trouble.leave_out_tried(&mut alone);
            let mut range = alone.take_first(count)?;
            if self.spec.work.is_command() {
                range.end = self.cut(range);
            }
            Some((grant, range))
        })
    }
}
