//! Signals for tasks that run. They are no part of a job's state: whatever does not run now never hears of them.

use phalanx_protocol::command::TaskSignal;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::{IndexRange, JobId, RangeSet, Work, signal};

use crate::cancelling::Run;
use crate::core::Core;
use crate::input::{Effect, RequestId};
use crate::job::Job;
use crate::submission::refuse;

impl Core {
    /// Somebody wants tasks of a job, or all of it, to be sent a signal.
    pub(crate) fn signal_requested(
        &self,
        (request, user, admin): (RequestId, &str, bool),
        id: JobId,
        tasks: Option<&RangeSet>,
        signal: TaskSignal,
        effects: &mut Vec<Effect>,
    ) {
        let runs = match self.runs_for_signal((user, admin), id, tasks, signal) {
            Ok(runs) => runs,
            Err(refusal) => return refuse(request, refusal, effects),
        };
        effects.extend(runs.into_iter().map(|run| {
            let Run { worker, grant, range } = run;
            let message = ToWorker::Signal {
                job: id,
                grant,
                range,
                signal,
            };
            Effect::Send { worker, message }
        }));
        let reply = Box::new(Reply::Done);
        effects.push(Effect::Answer { request, reply });
    }

    /// What a signal goes to.
    fn runs_for_signal(
        &self,
        (user, admin): (&str, bool),
        id: JobId,
        tasks: Option<&RangeSet>,
        signal: TaskSignal,
    ) -> Result<Vec<Run>, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::NoSuchJob(id))?;
        let refusal = self.not_yours(id, user).filter(|_| !admin);
        let refusal = refusal.or_else(|| self.no_such_task(id, tasks?));
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if signal::name(signal.number).is_none() {
            return Err(Refusal::NoSuchSignal(signal.number));
        }
        if !job.is_active() {
            return Err(Refusal::Over(id));
        }
        if !matches!(job.spec.work, Work::Command(_)) {
            return Err(Refusal::NoSignals(id));
        }
        let all = RangeSet::from(IndexRange::new(0, job.spec.tasks));
        let runs = job.runs_left(tasks.unwrap_or(&all));
        match runs.is_empty() {
            true => Err(Refusal::NothingRuns {
                job: id,
                all: tasks.is_none(),
            }),
            false => Ok(runs),
        }
    }
}

impl Job {
    /// What workers hold of those tasks that have not ended.
    fn runs_left(&self, tasks: &RangeSet) -> Vec<Run> {
        let left = tasks.iter().flat_map(|range| self.ended.gaps(range)).collect();
        self.runs_of(&left)
    }
}
