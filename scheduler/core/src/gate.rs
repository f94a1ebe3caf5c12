//! What keeps tasks of a job from being granted although they wait: somebody holds it, its time has not come, or it waits for
//! other jobs (see `dependency`).
//!
//! While a gate is shut its job keeps what runs, gives back what has not started, and gets nothing more.

use std::time::Duration;

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::record::Record;
use phalanx_protocol::{JobId, RangeSet, WorkerId};

use crate::core::Core;
use crate::input::{Effect, Now, RequestId};
use crate::submission::refuse;

/// How often at least the clock of the wall is looked at while a job waits for it, since it may be set meanwhile.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// How it stands with a condition.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Met,
    Waits,
    /// It cannot be met any more, unless a job that is over goes on.
    Never,
}

/// Whether tasks of a job may be granted.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Somebody holds it.
    pub(crate) held: bool,
    /// When to look whether its time has come, on the clock of [`Now::elapsed`]; `None` once it has.
    pub(crate) begins: Option<Duration>,
    /// It has started, or has gone on after its end: it need not wait for jobs as a whole again.
    pub(crate) unbound: bool,
    /// The jobs that it waits for know of it.
    pub(crate) tied: bool,
    /// How it stands with all conditions on jobs as a whole.
    pub(crate) standing: Standing,
    /// Tasks that have not ended and wait for their counterparts in other jobs.
    pub(crate) blocked: RangeSet,
    /// How many of them wait in vain.
    pub(crate) lost: u64,
    /// Jobs that it waits for, the first ones; those because of which it waits in vain, if it does.
    pub(crate) waits_for: Vec<JobId>,
    /// The job that it waits for because of its name.
    pub(crate) namesake: Option<JobId>,
}

impl Gate {
    /// Whether nothing more is granted.
    pub(crate) fn is_shut(&self) -> bool {
        self.held || self.begins.is_some() || self.standing != Standing::Met
    }

    /// Whether something that it waits for cannot come to pass any more.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.standing == Standing::Never || self.lost > 0
    }

    /// Forgets what the job waited for: it is over.
    pub(crate) fn settle(&mut self) {
        self.standing = Standing::Met;
        self.blocked = RangeSet::new();
        self.lost = 0;
        self.waits_for.clear();
    }
}

impl Core {
    /// Somebody wants a job held, or released.
    pub(crate) fn hold_requested(
        &mut self,
        now: Now,
        (request, user, admin): (RequestId, &str, bool),
        id: JobId,
        held: bool,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = self.not_yours(id, user).filter(|_| !admin);
        let Some(job) = self.jobs.get_mut(&id) else {
            return refuse(request, Refusal::NoSuchJob(id), effects);
        };
        let over = (!job.is_active()).then_some(Refusal::Over(id));
        if let Some(refusal) = refusal.or(over) {
            return refuse(request, refusal, effects);
        }
        if job.gate.held != held {
            self.durability.append(Record::JobHeld { job: id, held }, effects);
            let was_shut = job.gate.is_shut();
            job.gate.held = held;
            self.gate_moved(now, id, was_shut, effects);
        }
        self.answer_when_durable(request, Reply::Done, effects);
    }

    /// A job that is to begin later waits for its time; at its submission, when somebody else leads, and again and again.
    pub(crate) fn await_begin(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let begin = job.spec.begin_unix_millis.unwrap_or(0);
        let left = begin.saturating_sub(now.unix_millis);
        job.gate.begins = (left > 0).then(|| now.elapsed + look_after(left));
        self.alarms.extend(job.gate.begins.map(|due| (due, id)));
    }

    /// Opens the gate of a job whose time has come, if nothing else keeps it shut.
    pub(crate) fn begin_if_due(&mut self, now: Now, id: JobId, effects: &mut Vec<Effect>) {
        let job = self.jobs.get(&id);
        let due = job.is_some_and(|job| job.gate.begins.is_some_and(|due| due <= now.elapsed));
        if due {
            self.await_begin(now, id);
            self.gate_moved(now, id, true, effects);
        }
    }

    /// Takes back what has not started once a gate is shut, and grants what waits once it is open.
    pub(crate) fn gate_moved(&mut self, now: Now, id: JobId, was_shut: bool, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_active()) else {
            return;
        };
        if job.gate.is_shut() == was_shut {
            return;
        }
        self.plan_due = true;
        if was_shut {
            self.finish_if_over(now, id, effects);
            return self.feed_hungry(id, effects);
        }
        // a gang that has started goes on: all of its ranks have
        let revocable = job.holdings.keys().filter(|_| !job.is_gang());
        let workers: Vec<WorkerId> = revocable.copied().collect();
        for worker in workers {
            job.revoke(id, worker, u64::MAX, self.clock, effects);
        }
    }
}

/// When to look at the clock of the wall again for a time that seems to be so many milliseconds away.
pub(crate) fn look_after(left_millis: u64) -> Duration {
    Duration::from_millis(left_millis).min(CLOCK_LOOK)
}
