//! What clients ask for: a job to be accepted, a job to end.

use phalanx_protocol::limits::ACTIVE_JOBS_MAX;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{JobId, JobSpec, WorkerChoice};

use crate::core::Core;
use crate::durability::Held;
use crate::input::{Effect, Now, RequestId};
use crate::job::{Job, Phase};
use crate::planted::PlantedBug;
use crate::worker::Worker;

impl Core {
    pub(crate) fn submitted(
        &mut self,
        now: Now,
        request: RequestId,
        user: String,
        spec: JobSpec,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(&id) = self.submissions.get(&spec.submission) {
            return match self.not_yours(id, &user) {
                Some(refusal) => refuse(request, refusal, effects),
                None => self.answer_when_durable(request, Reply::Submitted(id), effects),
            };
        }
        if let Some(refusal) = self.refusal(&spec) {
            return refuse(request, refusal, effects);
        }
        self.last_job.0 += 1;
        let id = self.last_job;
        let record = Record::JobSubmitted {
            job: id,
            user: user.clone(),
            submitted_unix_millis: now.unix_millis,
            spec: Box::new(spec.clone()),
        };
        self.durability.append(record, effects);
        self.answer_when_durable(request, Reply::Submitted(id), effects);
        self.submissions.insert(spec.submission, id);
        let mut spec = spec;
        if self.planted.is(PlantedBug::ForgetsSlotsMax) {
            spec.slots_max = None;
        }
        if self.planted.is(PlantedBug::ForgetsChoice) {
            spec.choice = WorkerChoice::default();
        }
        self.jobs
            .insert(id, Job::new(self.term, user, spec, now.unix_millis));
        self.live.insert(id);
        // Kernels may begin before the record is durable: nobody was told of the job yet, so if it is lost with this
        // leader, the client submits it again. What they report is appended behind it, and a later leader that gives the
        // number to another job knows their grants by the older term. Commands know their job, and wait.
        self.plan_due = true;
        self.await_begin(now, id);
        self.tie(now, id, effects);
        self.finish_if_over(now, id, effects);
    }

    fn refusal(&self, spec: &JobSpec) -> Option<Refusal> {
        if let Err(error) = spec.check() {
            return Some(Refusal::Spec(error));
        }
        if let Some(refusal) = self.unknown_dependency(spec) {
            return Some(refusal);
        }
        if let Some(error) = &self.storage_error {
            return Some(Refusal::Storage { error: error.clone() });
        }
        if self.live.len() >= ACTIVE_JOBS_MAX {
            return Some(Refusal::Full {
                what: format!("{ACTIVE_JOBS_MAX} jobs are active"),
            });
        }
        let mut workers = self.workers.values();
        let may_hold =
            |worker: &Worker| spec.choice.admits(&worker.name) && spec.slots_on(&worker.capacity) > 0;
        // without any worker that it may run on, or one that it names, it may wait for one
        if workers.any(may_hold) || !self.missing(&spec.choice).is_empty() {
            return None;
        }
        let largest = self.largest_worker(&spec.choice)?.clone();
        let needs = spec.requests().cloned().collect();
        Some(Refusal::TooLarge { needs, largest })
    }

    pub(crate) fn cancel_requested(
        &mut self,
        now: Now,
        request: RequestId,
        user: String,
        admin: bool,
        id: JobId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return refuse(request, Refusal::NoSuchJob(id), effects);
        };
        let over = matches!(job.phase, Phase::Ending | Phase::Finished);
        if let Some(refusal) = self.not_yours(id, &user).filter(|_| !admin) {
            return refuse(request, refusal, effects);
        }
        if !over {
            self.end_job(now, id, Outcome::Cancelled { by: user }, effects);
        }
        self.answer_when_durable(request, Reply::Done, effects);
    }

    pub(crate) fn not_yours(&self, id: JobId, user: &str) -> Option<Refusal> {
        let job = self.jobs.get(&id).filter(|job| job.user != user)?;
        Some(Refusal::NotYours {
            job: id,
            owner: job.user.clone(),
            user: user.to_owned(),
        })
    }

    pub(crate) fn answer_when_durable(
        &mut self,
        request: RequestId,
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        let reply = Box::new(reply);
        let answer = Held::Effect(Box::new(Effect::Answer { request, reply }));
        self.let_out_when_durable(answer, effects);
    }
}

pub(crate) fn refuse(request: RequestId, refusal: Refusal, effects: &mut Vec<Effect>) {
    let reply = Box::new(Reply::Refused(refusal));
    effects.push(Effect::Answer { request, reply });
}
