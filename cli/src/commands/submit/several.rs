//! The jobs of a file: all are accepted, or none of them runs.
//!
//! Each is submitted held, behind those that it waits for; only when the last one is accepted are they let go. If the cluster
//! refuses one, those before it are cancelled. Whatever ends this process, or cuts it off, in between leaves jobs that are
//! held: visible, and doing nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use phalanx::{Client, ClientError};
use phalanx_protocol::JobId;
use phalanx_protocol::dependency::Condition;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::message::client::Refusal;

use super::super::graph::unknown;
use super::super::wait;
use super::Draft;
use crate::args::waiting::{Relation, WaitingArguments};
use crate::cluster::Connected;
use crate::interrupts::Interrupts;
use crate::job_file::JobFile;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, DraftShape, SubmittedShape};
use crate::ui::error::CliError;
use crate::ui::graph::{Arrow, Graph, Node};

/// All jobs of a file, checked, each behind those that it waits for.
#[derive(Debug)]
pub(in crate::commands) struct FileDraft {
    jobs: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// Its name in the file.
    name: String,
    draft: Draft,
    waiting: WaitingArguments,
    /// Jobs of the file, by their positions.
    after: Vec<(Relation, usize)>,
}

/// A job of the file, accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepted {
    name: String,
    job: JobId,
    /// Whether it stays held because its table says so.
    stays_held: bool,
}

pub(in crate::commands) async fn submit(
    cluster: &Connected,
    draft: FileDraft,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let accepted = draft.send(&cluster.client).await?;
    let shapes: Vec<SubmittedShape<'_>> = accepted
        .iter()
        .map(|one| SubmittedShape {
            name: &one.name,
            job: one.job,
        })
        .collect();
    ui.data(&Document::new(Content::SubmittedJobs(&shapes)), |_| {
        shapes
            .iter()
            .map(|shape| format!("{} {}\n", shape.job, shape.name))
            .collect()
    })?;
    Ok(ExitCode::Success)
}

/// Submits all and waits for their ends; Ctrl-C cancels what is left of them.
pub(in crate::commands) async fn run(
    cluster: &Connected,
    mut draft: FileDraft,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    // what can never start would be waited for for ever
    for part in &mut draft.jobs {
        part.waiting.cancel_if_never = true;
    }
    let mut interrupts = Interrupts::listen()?;
    let accepted = interrupts
        .while_submitting(draft.send(&cluster.client), ui)
        .await?;
    for Accepted { name, job, .. } in &accepted {
        ui.note(&format!("job {job} is `{name}`"));
    }
    let jobs: Vec<JobId> = accepted.iter().map(|one| one.job).collect();
    let mut waited = std::pin::pin!(wait::run(cluster, &jobs, ui));
    tokio::select! {
        ended = &mut waited => return ended,
        () = interrupts.next() => ui.note("cancelling the jobs; Ctrl-C again leaves at once"),
    }
    // those that wait for others first, or they would be told that these have ended
    for &job in jobs.iter().rev() {
        cluster.client.cancel(job).await?;
    }
    tokio::select! {
        ended = &mut waited => ended,
        () = interrupts.next() => Err(CliError::silent(ExitCode::Interrupted)),
    }
}

impl FileDraft {
    /// Reads the file and checks all that can be checked without a cluster.
    pub(in crate::commands) fn prepare(path: &Path) -> Result<Self, CliError> {
        let file = JobFile::read(path)?;
        let mut jobs = Vec::with_capacity(file.jobs.len());
        for job in file.jobs {
            let waiting = job.arguments.waiting.clone();
            let draft = Draft::prepare(job.arguments).map_err(|error| error.at(&job.place))?;
            jobs.push(Part {
                name: job.name,
                draft,
                waiting,
                after: job.after,
            });
        }
        Ok(Self { jobs })
    }

    /// What would be submitted, in this order.
    pub(in crate::commands) fn shapes(&self) -> Vec<DraftShape> {
        let shape = |part: &Part| {
            let mut shape = part.draft.shape();
            let of_file = part.after.iter();
            let of_file = of_file.map(|&(relation, other)| (relation, &self.jobs[other].name));
            shape.any_of = part.waiting.any_of;
            shape
                .waits_for
                .extend(of_file.map(|(relation, name)| format!("{} {name}", relation.word())));
            shape
        };
        self.jobs.iter().map(shape).collect()
    }

    /// Its jobs and what they wait for; those of the cluster that they wait for come first.
    pub(in crate::commands) fn graph(&self) -> Graph {
        let on_cluster = self.jobs.iter().flat_map(|part| part.draft.conditions());
        let on_cluster: BTreeSet<JobId> = on_cluster.filter_map(Condition::job).collect();
        let positions: BTreeMap<JobId, usize> = on_cluster.iter().copied().zip(0..).collect();
        let first = positions.len();
        let mut nodes: Vec<Node> = on_cluster
            .into_iter()
            .map(|job| Node {
                remark: "on the cluster".to_owned(),
                ..unknown(job)
            })
            .collect();
        for part in &self.jobs {
            let mut waits_for: Vec<Arrow> = part
                .after
                .iter()
                .map(|&(relation, other)| Arrow {
                    on: first + other,
                    relation: relation.word(),
                })
                .collect();
            let conditions = part.draft.conditions();
            waits_for.extend(conditions.iter().filter_map(|condition| {
                Some(Arrow {
                    on: *positions.get(&condition.job()?)?,
                    relation: Relation::of(condition)?.word(),
                })
            }));
            waits_for.sort_unstable();
            let remarks = [
                (part.waiting.any_of, "any of these"),
                (part.waiting.singleton, "singleton"),
                (part.waiting.hold, "held"),
            ];
            let remarks: Vec<&str> = remarks
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, word)| *word)
                .collect();
            nodes.push(Node {
                label: part.name.clone(),
                state: None,
                tasks: part.draft.shape().tasks,
                remark: remarks.join(", "),
                waits_for,
            });
        }
        Graph { nodes }
    }

    async fn send(mut self, client: &Client) -> Result<Vec<Accepted>, CliError> {
        let mut accepted: Vec<Accepted> = Vec::with_capacity(self.jobs.len());
        for part in &mut self.jobs {
            let others = part.after.iter();
            let others: Vec<Condition> = others
                .map(|&(relation, other)| relation.to(accepted[other].job))
                .collect();
            part.draft.set_waiting(part.waiting.dependency(&others), true);
            match part.draft.send(client).await {
                Ok(job) => accepted.push(Accepted {
                    name: part.name.clone(),
                    job,
                    stays_held: part.waiting.hold,
                }),
                Err(error) => return Err(take_back(client, &accepted, &part.name, error).await),
            }
        }
        let held: Vec<JobId> = accepted
            .iter()
            .filter(|one| !one.stays_held)
            .map(|one| one.job)
            .collect();
        for (position, &job) in held.iter().enumerate() {
            // one whose condition cannot come to pass any more may have been cancelled meanwhile
            let released = client.release(job).await;
            if let Err(error) = released.or_else(unless_over) {
                let left = ids(&held[position..]);
                return Err(CliError::from(error)
                    .detail("all jobs of the file are submitted, and some are still held")
                    .hint(format!("`phalanx release {left}` lets them go")));
            }
        }
        Ok(accepted)
    }
}

/// Nothing, if the job is over: it needs not be let go any more.
fn unless_over(error: ClientError) -> Result<(), ClientError> {
    match matches!(error, ClientError::Refused(Refusal::Over(_))) {
        true => Ok(()),
        false => Err(error),
    }
}

/// Cancels what was accepted before a job was not.
async fn take_back(client: &Client, accepted: &[Accepted], refused: &str, error: CliError) -> CliError {
    let mut left = Vec::new();
    for one in accepted.iter().rev() {
        if client.cancel(one.job).await.is_err() {
            left.push(one.job);
        }
    }
    let error = error.at(&format!("the job `{refused}` of the file"));
    if left.is_empty() {
        return match accepted.len() {
            0 => error,
            _ => error.detail("no job of the file has started; those submitted before it are cancelled"),
        };
    }
    let left = ids(&left);
    error
        .detail(format!(
            "no job of the file has started; these are submitted, held, and could not be cancelled: {left}"
        ))
        .hint(format!(
            "`phalanx cancel {left}` does that once a scheduler answers"
        ))
}

fn ids(jobs: &[JobId]) -> String {
    let texts: Vec<String> = jobs.iter().map(JobId::to_string).collect();
    texts.join(" ")
}
