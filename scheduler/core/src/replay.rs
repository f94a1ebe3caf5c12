//! The journal, read back: a new leader's core is told every record before anything else happens.

use phalanx_protocol::Term;
use phalanx_protocol::record::Record;

use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::{Job, Phase};

impl Core {
    /// Takes in a durable record of an earlier leadership, `term`. To be called in the journal's order, before [`Core::handle`].
    pub fn replay(&mut self, term: Term, record: &Record) {
        let id = record.job();
        if let Record::JobSubmitted {
            user,
            submitted_unix_millis,
            spec,
            ..
        } = record
        {
            let job = Job::new(term, user.clone(), (**spec).clone(), *submitted_unix_millis);
            self.last_job = self.last_job.max(id);
            self.submissions.insert(spec.submission, id);
            self.jobs.insert(id, job);
            self.live.insert(id);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.see(record);
        match record {
            Record::JobSubmitted { .. } | Record::JobStarted { .. } | Record::JobReopened { .. } => {}
            Record::TasksEnded { done, failed, .. } => {
                for &range in done {
                    job.end(range);
                }
                for failure in failed {
                    job.end((failure.index..failure.index + 1).into());
                }
                job.failed_count += failed.len() as u64;
            }
            Record::JobFinished { .. } => {
                job.phase = Phase::Finished;
                job.settle();
                self.live.remove(&id);
                self.finished.push_back(id);
            }
        }
    }

    /// Ends the replay: jobs whose tasks had all ended are finished, the others go on.
    pub fn start(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.forget_oldest(effects);
        let live: Vec<_> = self.live.iter().copied().collect();
        live.into_iter()
            .for_each(|id| self.finish_if_over(now, id, effects));
        self.plan_due = true;
        self.plan_if_due(now, effects);
    }
}

impl Job {
    fn end(&mut self, range: phalanx_protocol::IndexRange) {
        if self.phase == Phase::Active {
            self.waiting.remove(range);
            self.ended.insert(range);
        }
    }
}
