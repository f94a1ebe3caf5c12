//! Why a job, or a task of it, is where it is.

use phalanx_protocol::JobId;
use phalanx_protocol::view::{Explanation, Idle, Offer, TaskRange, Verdict};
use serde::Serialize;

use super::{JobShape, ResourcesShape};
use crate::ui::views::idle::{idle_text, state_word};

#[derive(Debug, Serialize)]
pub(crate) struct ExplanationShape<'a> {
    job: JobShape<'a>,
    verdict: &'static str,
    text: String,
    /// Jobs that come first, or that it waits for.
    behind: &'a [JobId],
    /// Tasks that wait while others of the job run.
    idle: Vec<IdleShape<'a>>,
    /// The task that was asked for, which the text is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<ExplainedTaskShape>,
    offers: Vec<OfferShape<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct IdleShape<'a> {
    tasks: u64,
    verdict: &'static str,
    text: String,
    behind: &'a [JobId],
}

#[derive(Debug, Serialize)]
pub(crate) struct ExplainedTaskShape {
    index: u64,
    state: &'static str,
}

impl<'a> ExplanationShape<'a> {
    /// `text` says it in words: of the task, if one was asked for.
    pub(crate) fn new(explanation: &'a Explanation, task: Option<&TaskRange>, text: String) -> Self {
        let (verdict, behind) = verdict_word(&explanation.verdict);
        let idle = |idle: &'a Idle| {
            let (verdict, behind) = verdict_word(&idle.why);
            IdleShape {
                tasks: idle.tasks,
                verdict,
                text: idle_text(idle),
                behind,
            }
        };
        Self {
            job: (&explanation.job).into(),
            verdict,
            text,
            behind,
            idle: explanation.idle.iter().map(idle).collect(),
            task: task.map(|task| ExplainedTaskShape {
                index: task.range.start,
                state: state_word(task.state),
            }),
            offers: explanation.offers.iter().map(OfferShape::from).collect(),
        }
    }
}

/// A verdict in a word, and the jobs because of which it is so.
fn verdict_word(verdict: &Verdict) -> (&'static str, &[JobId]) {
    let none: &[JobId] = &[];
    match verdict {
        Verdict::Finished => ("finished", none),
        Verdict::Running => ("running", none),
        Verdict::NoWorkers => ("no_workers", none),
        Verdict::Elsewhere { .. } => ("elsewhere", none),
        Verdict::TooLarge { .. } => ("too_large", none),
        Verdict::Behind { jobs } => ("behind", jobs.as_slice()),
        Verdict::Scarce { jobs, .. } => ("scarce", jobs.as_slice()),
        Verdict::NotAlone { jobs } => ("not_alone", jobs.as_slice()),
        Verdict::Gang { jobs, .. } => ("gang", jobs.as_slice()),
        Verdict::KeptOff { jobs } => ("kept_off", jobs.as_slice()),
        Verdict::Resting => ("resting", none),
        Verdict::Reattaching => ("reattaching", none),
        Verdict::Storage { .. } => ("storage", none),
        Verdict::Draining => ("draining", none),
        Verdict::SlotsMax { .. } => ("slots_max", none),
        Verdict::Held => ("held", none),
        Verdict::Dependency { jobs } => ("dependency", jobs.as_slice()),
        Verdict::DependencyNeverSatisfied { jobs } => ("dependency_never_satisfied", jobs.as_slice()),
        Verdict::NotYet { .. } => ("not_yet", none),
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct OfferShape<'a> {
    worker: String,
    name: &'a str,
    capacity: ResourcesShape<'a>,
    slots_capacity: u32,
    slots_free: u32,
    slots_held: u32,
}

impl<'a> From<&'a Offer> for OfferShape<'a> {
    fn from(offer: &'a Offer) -> Self {
        Self {
            worker: offer.worker.to_string(),
            name: &offer.name,
            capacity: (&offer.capacity).into(),
            slots_capacity: offer.slots_capacity,
            slots_free: offer.slots_free,
            slots_held: offer.slots_held,
        }
    }
}
