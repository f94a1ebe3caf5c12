//! A job as people see it: of what has ended, only what is durable.

use phalanx_protocol::dependency::{Condition, Joined};
use phalanx_protocol::view::{CONDITIONS_SHOWN_MAX, CommandView, JobView};
use phalanx_protocol::{JobId, JobSpec, Work};

use crate::holding::Holding;
use crate::job::Job;

/// Failures that a view lists.
const FAILURES_SHOWN_MAX: usize = 10;

impl Job {
    /// What people see.
    pub(crate) fn view(&self, job: JobId) -> JobView {
        let usage = self.seen.used.sum();
        let started = self.seen.started_unix_millis.or(self.started_unix_millis);
        // of one that goes on again it may be of a run before
        let over = usage.filter(|_| self.seen.outcome.is_some());
        let first_start = over.map(|sum| sum.first_start_unix_millis);
        let on = |is_meant: &dyn Fn(&Holding) -> bool| {
            let holdings = self.holdings.values();
            holdings.filter(|holding| is_meant(holding)).count()
        };
        let (slots, workers) = match self.slots {
            0 => (self.overhang, on(&|holding| holding.overhang > 0)),
            slots => (slots, on(&|holding| holding.slots > 0)),
        };
        JobView {
            job,
            name: self.spec.name.clone(),
            user: self.user.clone(),
            kernel: self.spec.work.label().to_owned(),
            command: command_view(&self.spec.work),
            encoding: self.spec.work.encoding(),
            reduce: self.spec.work.reduces(),
            request: self.spec.request.clone(),
            alternatives: self.spec.alternatives.clone(),
            choice: self.spec.choice.clone(),
            priority: self.spec.priority,
            outcome: self.seen.outcome.clone(),
            tasks: self.spec.tasks,
            done: self.seen.done.len(),
            failed: self.seen.failed.len(),
            resting: self.trouble.resting(),
            slots,
            workers: workers as u64,
            tasks_per_second: self.rate as f64,
            submitted_unix_millis: self.seen.submitted_unix_millis,
            finished_unix_millis: self.seen.finished_unix_millis,
            first_failures: self
                .seen
                .failures
                .values()
                .take(FAILURES_SHOWN_MAX)
                .cloned()
                .collect(),
            slots_max: self.spec.slots_max,
            task_time_limit_millis: self.spec.task_time_limit_millis,
            time_limit_millis: self.spec.time_limit_millis,
            started_unix_millis: started.or(first_start),
            held: self.seen.held,
            begin_unix_millis: self.spec.begin_unix_millis,
            conditions: conditions(&self.spec),
            any_of: (self.spec.dependency.as_ref()).is_some_and(|wanted| wanted.joined == Joined::Any),
            waits_for: self.gate.waits_for.clone(),
            never: self.gate.is_in_vain(),
            cancelled: self.seen.cancelled.tasks.len(),
            usage,
        }
    }
}

/// What a job was submitted to wait for, of very much the beginning.
fn conditions(spec: &JobSpec) -> Vec<Condition> {
    let all = spec
        .dependency
        .iter()
        .flat_map(|dependency| &dependency.conditions);
    all.take(CONDITIONS_SHOWN_MAX).copied().collect()
}

/// What people see of a command, beside its label.
fn command_view(work: &Work) -> Option<Box<CommandView>> {
    match work {
        Work::Kernel(_) => None,
        Work::Command(work) => Some(Box::new(CommandView {
            array: work.array.clone(),
            facts: work.facts.clone(),
        })),
    }
}
