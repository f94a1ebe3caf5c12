//! Conditions on one task of another job: what they are weighed by, and when.

use phalanx_protocol::command::ArrayIds;
use phalanx_protocol::dependency::{Condition, Ending};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::record::{Record, TaskFailure};
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, Work};

use crate::core::Core;
use crate::dependency::counterpart;
use crate::gate::Standing;
use crate::input::{Effect, Now};
use crate::job::Job;

impl Core {
    /// Refuses a job that waits for an element that its job does not have.
    pub(crate) fn unknown_element(&self, spec: &JobSpec) -> Option<Refusal> {
        let conditions = spec.dependency.iter().flat_map(|wanted| &wanted.conditions);
        let mut elements = conditions.filter_map(element);
        let unknown = elements.find(|(job, element)| {
            let other = self.jobs.get(job);
            other.is_some_and(|other| other.index_of(*element).is_none())
        });
        unknown.map(|(job, element)| Refusal::NoSuchElement { job, element })
    }

    /// Refuses an array that waits task by task for one whose elements of the same numbers are not at the same places: tasks are
    /// paired by these.
    pub(crate) fn unpaired(&self, spec: &JobSpec) -> Option<Refusal> {
        let own = array(spec)?;
        let conditions = spec.dependency.iter().flat_map(|wanted| &wanted.conditions);
        let mut unpaired = conditions.filter_map(counterpart).filter_map(|job| {
            let other = array(&self.jobs.get(&job)?.spec)?;
            let element = own.first_unlike(other)?;
            Some(match other.index(element) {
                None => Refusal::NoSuchElement { job, element },
                Some(_) => Refusal::Unpaired { job, element },
            })
        });
        unpaired.next()
    }

    /// How it stands with an element of a job, which may be forgotten.
    pub(crate) fn standing_of_element(&self, job: JobId, element: u64, ending: Ending) -> Standing {
        let Some(other) = self.jobs.get(&job) else {
            // it ended long ago, and how is not known
            return match ending {
                Ending::Any => Standing::Met,
                Ending::Ok | Ending::NotOk => Standing::Never,
            };
        };
        let is = |tasks: &RangeSet| other.index_of(element).is_some_and(|index| tasks.contains(index));
        let seen = &other.seen;
        let succeeded = is(&seen.done);
        let has_ended = succeeded
            || is(&seen.failed)
            || is(&seen.cancelled.tasks)
            // it never will run
            || other.durable_end().is_some();
        let is_so = match ending {
            Ending::Any => true,
            Ending::Ok => succeeded,
            Ending::NotOk => !succeeded,
        };
        match (has_ended, is_so) {
            (false, _) => Standing::Waits,
            (true, true) => Standing::Met,
            (true, false) => Standing::Never,
        }
    }

    /// Tasks of a job have ended, or start again, by a record that is durable now: weighs what is said of just these elsewhere.
    pub(crate) fn weigh_after_tasks(&mut self, now: Now, record: &Record, effects: &mut Vec<Effect>) {
        let of = record.job();
        let (Some(dependents), Some(other)) = (self.dependents.get(&of), self.jobs.get(&of)) else {
            return;
        };
        let waits_for = |id: &JobId| {
            let wanted = self.jobs.get(id).and_then(|job| job.spec.dependency.as_ref());
            let mut conditions = wanted.iter().flat_map(|wanted| &wanted.conditions);
            conditions.any(|condition| match element(condition) {
                Some((job, element)) if job == of => other
                    .index_of(element)
                    .is_some_and(|index| concerns(record, index)),
                Some(_) | None => false,
            })
        };
        let concerned: Vec<JobId> = dependents.iter().copied().filter(waits_for).collect();
        for id in concerned {
            self.weigh(now, id, effects);
        }
    }
}

impl Job {
    fn index_of(&self, element: u64) -> Option<u64> {
        self.spec.work.index_of(element, self.spec.tasks)
    }
}

/// The numbers of an array.
fn array(spec: &JobSpec) -> Option<&ArrayIds> {
    match &spec.work {
        Work::Kernel(_) => None,
        Work::Command(work) => work.array.as_ref(),
    }
}

/// The element that a condition is about.
fn element(condition: &Condition) -> Option<(JobId, u64)> {
    match condition {
        Condition::AfterElement { job, element, .. } => Some((*job, *element)),
        Condition::After { .. }
        | Condition::AfterAny(_)
        | Condition::AfterOk(_)
        | Condition::AfterNotOk(_)
        | Condition::AfterCorresponding(_)
        | Condition::Singleton => None,
    }
}

/// Whether a record changes how a task stands.
fn concerns(record: &Record, index: u64) -> bool {
    let among = |tasks: &[IndexRange]| tasks.iter().any(|range| range.contains(index));
    match record {
        Record::TasksEnded { done, failed, .. } => {
            let is = |failure: &TaskFailure| failure.index == index;
            among(done) || failed.iter().any(is)
        }
        Record::TasksCancelled { tasks, .. }
        | Record::TasksRequeued { tasks, .. }
        | Record::JobReopened { tasks, .. } => among(tasks),
        Record::JobSubmitted { .. }
        | Record::JobFinished { .. }
        | Record::JobStarted { .. }
        | Record::JobHeld { .. } => false,
    }
}
