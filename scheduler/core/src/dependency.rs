//! What jobs wait for: conditions about other jobs, weighed when one of those starts, ends, goes on again, or has tasks
//! that succeed (and about single tasks of theirs: see `element`).
//!
//! They are weighed by what is durable of the other jobs, so that whoever leads next comes to the same. A job whose start
//! is on record does not wait a second time. Jobs that others wait for are not forgotten. Costs grow with conditions and
//! ranges, not with tasks.

use std::time::Duration;

use phalanx_protocol::dependency::{Condition, Dependency, Joined, Never};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::Outcome;
use phalanx_protocol::view::WAITS_FOR_MAX;
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet};

use crate::core::Core;
use crate::gate::{Standing, look_after};
use crate::input::{Effect, Now};
use crate::job::{Job, Phase};
use crate::planted::PlantedBug;

/// How it stands with what a job waits for.
#[derive(Debug, Default)]
struct Weighed {
    standing: Standing,
    /// Every task may start, whatever became of its counterparts.
    frees_all: bool,
    /// The jobs that make it wait, or for ever.
    waits_for: Vec<JobId>,
    /// When to look again, on the clock of [`Now::elapsed`].
    again_at: Option<Duration>,
    /// The youngest of the older jobs of the same name, if none may be left.
    namesake: Option<JobId>,
}

impl Core {
    /// Refuses a job that waits for one that there never was.
    pub(crate) fn unknown_dependency(&self, spec: &JobSpec) -> Option<Refusal> {
        let conditions = spec.dependency.iter().flat_map(|wanted| &wanted.conditions);
        let mut jobs = conditions.filter_map(Condition::job);
        let unknown = jobs.find(|&job| job == JobId(0) || job > self.last_job);
        let unknown = unknown.map(Refusal::NoSuchDependency);
        unknown
            .or_else(|| self.unknown_element(spec))
            .or_else(|| self.unpaired(spec))
    }

    /// Notes whom a job waits for, and weighs its conditions: when it is submitted, or somebody else leads.
    pub(crate) fn tie(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(wanted) = self.jobs.get(&id).and_then(|job| job.spec.dependency.clone()) else {
            return;
        };
        for condition in &wanted.conditions {
            if let Some(other) = condition.job().filter(|other| self.jobs.contains_key(other)) {
                self.dependents.entry(other).or_default().insert(id);
            }
            if let Condition::After { job, .. } = condition {
                self.write_start(*job, effects);
            }
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.gate.tied = true;
        }
        self.weigh(now, id, effects);
    }

    /// Forgets whom a job waited for: it is over.
    pub(crate) fn untie(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(wanted) = &job.spec.dependency else {
            return;
        };
        let others = wanted.conditions.iter().filter_map(Condition::job);
        job.gate.tied = false;
        let others: Vec<JobId> = others.chain(job.gate.namesake.take()).collect();
        others
            .into_iter()
            .for_each(|other| self.forget_dependent(other, id));
    }

    /// Something about a job is durable that others may wait for.
    pub(crate) fn weigh_dependents(&mut self, now: Now, of: JobId, effects: &mut Vec<Effect>) {
        let dependents = self.dependents.get(&of).cloned().unwrap_or_default();
        for id in dependents {
            self.weigh(now, id, effects);
        }
    }

    /// A job that was over goes on: those that did not start yet wait for it again.
    pub(crate) fn weigh_after_reopening(&mut self, now: Now, of: JobId, effects: &mut Vec<Effect>) {
        self.tie(now, of, effects);
        self.weigh_dependents(now, of, effects);
        let singleton = |id: &JobId| {
            let wanted = self.jobs[id].spec.dependency.as_ref();
            wanted.is_some_and(|wanted| wanted.conditions.contains(&Condition::Singleton))
        };
        let younger = self.live.range(of..).copied();
        let younger: Vec<JobId> = younger.filter(singleton).collect();
        for id in younger {
            self.weigh(now, id, effects);
        }
    }

    /// Lets tasks start whose counterparts in a job have succeeded.
    pub(crate) fn free_counterparts(
        &mut self,
        now: Now,
        of: JobId,
        done: &[IndexRange],
        effects: &mut Vec<Effect>,
    ) {
        let dependents = self.dependents.get(&of).cloned().unwrap_or_default();
        for id in dependents {
            let job = self.jobs.get(&id).filter(|job| !job.gate.blocked.is_empty());
            let Some((job, wanted)) = job.and_then(|job| Some((job, job.spec.dependency.as_ref()?))) else {
                continue;
            };
            let free = done.iter().flat_map(|&range| self.free_in(job, wanted, range));
            let free: RangeSet = free.collect();
            let job = self.jobs.get_mut(&id);
            if job.is_some_and(|job| job.unblock(&free)) {
                self.weigh_if_unblocked(now, id, effects);
                self.plan_due = true;
                self.feed_hungry(id, effects);
            }
        }
    }

    fn weigh_if_unblocked(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let unblocked = self.jobs.get(&id).is_some_and(|job| job.gate.blocked.is_empty());
        if unblocked {
            self.weigh(now, id, effects);
        }
    }

    /// Weighs all conditions of a job, and does what follows from that.
    pub(crate) fn weigh(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_active()) else {
            return;
        };
        let wanted = job.spec.dependency.as_ref();
        let Some(wanted) = wanted.filter(|_| !self.planted.is(PlantedBug::WaitsForNobody)) else {
            return;
        };
        let weighed = self.weighed(now, id, job, wanted);
        let all = IndexRange::new(0, job.spec.tasks);
        let free: RangeSet = match weighed.frees_all || !has_counterparts(wanted) {
            true => all.into(),
            false => self.free_in(job, wanted, all).into(),
        };
        self.watch_namesake(id, weighed.namesake);
        self.alarms.extend(weighed.again_at.map(|due| (due, id)));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let was_shut = job.gate.is_shut();
        job.gate.standing = weighed.standing;
        job.gate.waits_for = weighed.waits_for;
        job.block(&free);
        let moved = job.unblock(&free);
        if job.gate.standing == Standing::Met && job.gate.blocked.is_empty() {
            job.gate.waits_for.clear();
        }
        self.count_lost_counterparts(id);
        if self.end_if_stranded(now, id, effects) {
            return;
        }
        self.gate_moved(now, id, was_shut, effects);
        if moved {
            self.plan_due = true;
            self.feed_hungry(id, effects);
        }
    }

    /// Weighs the conditions of a job that waits for some: time may have met one.
    pub(crate) fn weigh_if_bound(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let gate = self.jobs.get(&id).map(|job| &job.gate);
        if gate.is_some_and(|gate| gate.standing != Standing::Met || !gate.blocked.is_empty()) {
            self.weigh(now, id, effects);
        }
    }

    /// Ends a job that nothing more can come of, if it wants that; `true` if it did.
    pub(crate) fn end_if_stranded(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_active()) else {
            return false;
        };
        let wanted = job.spec.dependency.as_ref();
        let wants_that = wanted.is_some_and(|wanted| wanted.never == Never::Cancel);
        if !wants_that || !job.is_stranded() {
            return false;
        }
        let by = match job.gate.waits_for.first() {
            Some(other) => format!("its dependency on job {other}"),
            None => "its dependency".to_owned(),
        };
        self.end_job(now, id, Outcome::Cancelled { by }, effects);
        true
    }

    fn watch_namesake(&mut self, id: JobId, namesake: Option<JobId>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let before = std::mem::replace(&mut job.gate.namesake, namesake);
        let mut wanted = job.spec.dependency.iter().flat_map(|wanted| &wanted.conditions);
        let before = before.filter(|before| wanted.all(|condition| condition.job() != Some(*before)));
        if let Some(before) = before.filter(|_| before != namesake) {
            self.forget_dependent(before, id);
        }
        if let Some(other) = namesake {
            self.dependents.entry(other).or_default().insert(id);
        }
    }

    fn forget_dependent(&mut self, other: JobId, id: JobId) {
        if let Some(dependents) = self.dependents.get_mut(&other) {
            dependents.remove(&id);
            if dependents.is_empty() {
                self.dependents.remove(&other);
            }
        }
    }

    fn weighed(&self, now: Now, id: JobId, job: &Job, wanted: &Dependency) -> Weighed {
        let mut weighed = Weighed::default();
        let (mut waiting, mut never) = (Vec::new(), Vec::new());
        let (mut of_job, mut met) = (0, 0);
        // one that tasks of it waited for may have been the only one of several that was met
        let is_plain = wanted.joined == Joined::All || !has_counterparts(wanted);
        let has_started = job.gate.unbound && is_plain;
        for condition in &wanted.conditions {
            let standing = match condition {
                Condition::AfterCorresponding(_) => self.standing_of_counterparts(job, condition),
                _ if has_started => Standing::Met,
                Condition::Singleton => {
                    weighed.namesake = self.namesake(id, job);
                    match weighed.namesake {
                        Some(_) => Standing::Waits,
                        None => Standing::Met,
                    }
                }
                Condition::After { .. }
                | Condition::AfterAny(_)
                | Condition::AfterOk(_)
                | Condition::AfterNotOk(_)
                | Condition::AfterElement { .. } => self.standing(now, condition, &mut weighed.again_at),
            };
            let is_of_job = !matches!(condition, Condition::AfterCorresponding(_));
            of_job += usize::from(is_of_job);
            met += usize::from(is_of_job && standing == Standing::Met);
            let other = condition.job().or(weighed.namesake);
            match standing {
                Standing::Met => {}
                Standing::Waits => waiting.extend(other.map(|other| (is_of_job, other))),
                Standing::Never => never.extend(other.map(|other| (is_of_job, other))),
            }
        }
        let any_of_job = |jobs: &[(bool, JobId)]| jobs.iter().any(|&(is_of_job, _)| is_of_job);
        let has_counterparts = of_job < wanted.conditions.len();
        weighed.frees_all = wanted.joined == Joined::Any && met > 0;
        weighed.standing = match wanted.joined {
            Joined::All if any_of_job(&never) => Standing::Never,
            Joined::All if any_of_job(&waiting) => Standing::Waits,
            Joined::Any if met == 0 && !has_counterparts && waiting.is_empty() => Standing::Never,
            Joined::Any if met == 0 && !has_counterparts => Standing::Waits,
            Joined::All | Joined::Any => Standing::Met,
        };
        // one that is met is enough for tasks of which nothing is left to wait for
        let causes = if weighed.frees_all {
            Vec::new()
        } else if weighed.standing == Standing::Never || waiting.is_empty() {
            never
        } else {
            waiting
        };
        let causes = causes.into_iter().map(|(_, other)| other);
        weighed.waits_for = causes.take(WAITS_FOR_MAX).collect();
        weighed
    }

    /// How it stands with a condition on another job as a whole.
    fn standing(&self, now: Now, condition: &Condition, again_at: &mut Option<Duration>) -> Standing {
        let Some(id) = condition.job() else {
            return Standing::Met;
        };
        let other = self.jobs.get(&id);
        let over = other.and_then(Job::durable_end);
        let is_ok = over == Some(&Outcome::Succeeded);
        let forgotten = other.is_none();
        match condition {
            Condition::AfterElement { element, ending, .. } => {
                self.standing_of_element(id, *element, *ending)
            }
            Condition::AfterAny(_) | Condition::After { .. } if over.is_some() || forgotten => Standing::Met,
            // how it ended is not known
            Condition::AfterOk(_) | Condition::AfterNotOk(_) if forgotten => Standing::Never,
            Condition::AfterOk(_) | Condition::AfterNotOk(_) if over.is_some() => {
                match is_ok == matches!(condition, Condition::AfterOk(_)) {
                    true => Standing::Met,
                    false => Standing::Never,
                }
            }
            Condition::After { delay_millis, .. } => {
                let started = other.and_then(|other| other.seen.started_unix_millis);
                let Some(due) = started.map(|started| started.saturating_add(*delay_millis)) else {
                    return Standing::Waits;
                };
                let left = due.saturating_sub(now.unix_millis);
                if left == 0 {
                    return Standing::Met;
                }
                let due = now.elapsed + look_after(left);
                *again_at = Some(again_at.map_or(due, |earlier| earlier.min(due)));
                Standing::Waits
            }
            Condition::AfterAny(_)
            | Condition::AfterOk(_)
            | Condition::AfterNotOk(_)
            | Condition::AfterCorresponding(_)
            | Condition::Singleton => Standing::Waits,
        }
    }

    /// How it stands with the counterparts of tasks that have not ended, all together.
    fn standing_of_counterparts(&self, job: &Job, condition: &Condition) -> Standing {
        let other = condition.job().map(|other| self.jobs.get(&other));
        match other.flatten() {
            Some(other) if other.seen.done.contains_range(IndexRange::new(0, job.spec.tasks)) => {
                Standing::Met
            }
            Some(other) if other.durable_end().is_some() => Standing::Never,
            Some(_) => Standing::Waits,
            None if job.gate.unbound => Standing::Met,
            None => Standing::Never,
        }
    }

    /// The youngest job of the same user and name that was submitted earlier and is left.
    fn namesake(&self, id: JobId, job: &Job) -> Option<JobId> {
        let is_namesake = |older: &&JobId| {
            let older = &self.jobs[older];
            older.user == job.user && older.spec.name == job.spec.name
        };
        self.live.range(..id).rev().find(is_namesake).copied()
    }

    /// The tasks of a range whose counterparts let them start.
    fn free_in(&self, job: &Job, wanted: &Dependency, range: IndexRange) -> Vec<IndexRange> {
        let range = range.intersection(IndexRange::new(0, job.spec.tasks));
        let done = |other: JobId, range: IndexRange| match self.jobs.get(&other) {
            Some(other) => other.seen.done.pieces(range),
            // it ended long ago, and tasks are to be run again that were free before
            None if job.gate.unbound => vec![range],
            None => Vec::new(),
        };
        let counterparts = wanted.conditions.iter().filter_map(counterpart);
        match wanted.joined {
            Joined::All => counterparts.fold(vec![range], |free, other| {
                free.into_iter().flat_map(|range| done(other, range)).collect()
            }),
            Joined::Any => {
                let free: RangeSet = counterparts.flat_map(|other| done(other, range)).collect();
                free.into()
            }
        }
    }

    /// Counts the tasks of a job that can never start, since counterparts were not done when theirs was over.
    pub(crate) fn count_lost_counterparts(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(wanted) = &job.spec.dependency else {
            return;
        };
        let is_over = |other: &JobId| {
            let other = self.jobs.get(other);
            other.is_none_or(|other| other.durable_end().is_some())
        };
        let blocked = &job.gate.blocked;
        let counterparts = || wanted.conditions.iter().filter_map(counterpart);
        let lost = match wanted.joined {
            Joined::Any if counterparts().all(|other| is_over(&other)) && self.nothing_else(job) => {
                blocked.len()
            }
            Joined::Any => 0,
            Joined::All => {
                let over = counterparts().filter(is_over);
                let undone = |other| {
                    let done = self.jobs.get(&other).map(|other| &other.seen.done);
                    let blocked = blocked.iter();
                    blocked.flat_map(move |range| done.map_or(vec![range], |done| done.gaps(range)))
                };
                over.flat_map(undone).collect::<RangeSet>().len()
            }
        };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.gate.lost = lost;
        }
    }

    /// Whether no condition on a job as a whole can still be met.
    fn nothing_else(&self, job: &Job) -> bool {
        job.gate.waits_for.iter().all(|other| {
            let other = self.jobs.get(other);
            other.is_none_or(|other| other.durable_end().is_some())
        })
    }

    /// Asserts that whoever is waited for knows it, and that no task waits in vain.
    pub(crate) fn check_dependencies(&self) {
        for (&id, job) in &self.jobs {
            let Some(wanted) = job.spec.dependency.as_ref().filter(|_| job.is_active()) else {
                assert!(
                    job.gate.blocked.is_empty(),
                    "job {id} waits for nobody, and blocks tasks"
                );
                continue;
            };
            for other in wanted.conditions.iter().filter_map(Condition::job) {
                let known = self.jobs.contains_key(&other);
                let told = self.dependents.get(&other).is_some_and(|jobs| jobs.contains(&id));
                assert!(
                    !known || told || !job.gate.tied,
                    "job {other} does not know that {id} waits for it"
                );
            }
            if wanted.joined == Joined::All {
                let all = IndexRange::new(0, job.spec.tasks);
                let mut free = self.free_in(job, wanted, all).into_iter();
                let idle = free.find(|&range| !job.gate.blocked.pieces(range).is_empty());
                assert_eq!(idle, None, "tasks of job {id} may start, and are blocked");
            }
        }
        for (other, dependents) in &self.dependents {
            assert!(
                self.jobs.contains_key(other),
                "job {other} was forgotten, and is waited for"
            );
            assert!(!dependents.is_empty(), "nobody waits for job {other}");
        }
    }
}

/// The job whose tasks a condition is about, one by one.
pub(crate) fn counterpart(condition: &Condition) -> Option<JobId> {
    match condition {
        Condition::AfterCorresponding(other) => Some(*other),
        Condition::After { .. }
        | Condition::AfterAny(_)
        | Condition::AfterOk(_)
        | Condition::AfterNotOk(_)
        | Condition::AfterElement { .. }
        | Condition::Singleton => None,
    }
}

fn has_counterparts(wanted: &Dependency) -> bool {
    wanted
        .conditions
        .iter()
        .any(|condition| counterpart(condition).is_some())
}

impl Job {
    /// How it ended, once that is durable and unless it goes on again.
    pub(crate) fn durable_end(&self) -> Option<&Outcome> {
        self.seen
            .outcome
            .as_ref()
            .filter(|_| self.phase == Phase::Finished)
    }

    /// Takes tasks out of those that wait which are not free to start.
    fn block(&mut self, free: &RangeSet) {
        let waiting: Vec<IndexRange> = self.waiting.iter().collect();
        for range in waiting.into_iter().flat_map(|range| free.gaps(range)) {
            self.waiting.remove(range);
            self.gate.blocked.insert(range);
        }
    }

    /// Lets blocked tasks wait that are free to start; `true` if there are any.
    fn unblock(&mut self, free: &RangeSet) -> bool {
        let blocked = &self.gate.blocked;
        let free: Vec<IndexRange> = free.iter().flat_map(|range| blocked.pieces(range)).collect();
        for &range in &free {
            self.gate.blocked.remove(range);
            self.wait_again(range);
        }
        !free.is_empty()
    }

    /// Whether nothing more can come of it: what it waits for cannot come to pass.
    fn is_stranded(&self) -> bool {
        let blocked = self.gate.blocked.len();
        let rest = self.grants.is_empty() && !self.has_waiting() && self.trouble.resting() == 0;
        let is_lost = blocked > 0 && self.gate.lost == blocked && rest;
        is_lost || (self.gate.standing == Standing::Never && self.grants.is_empty())
    }
}
