//! `phalanx graph`: the jobs of a file, or those of the cluster that are connected to one, and what waits for what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use phalanx::JobView;
use phalanx_protocol::JobId;
use phalanx_protocol::dependency::Condition;
use phalanx_protocol::exit::ExitCode;

use super::submit::several::FileDraft;
use crate::args::waiting::Relation;
use crate::args::{GraphArguments, GraphForm};
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;
use crate::ui::graph::{Arrow, Graph, Node};

/// What is to be drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    File(&'a Path),
    Job(JobId),
}

/// A number is a job, anything else a file.
pub(super) fn subject(arguments: &GraphArguments) -> Subject<'_> {
    let text = arguments.subject.to_str().unwrap_or_default();
    match text.parse() {
        Ok(job) => Subject::Job(job),
        Err(_) => Subject::File(&arguments.subject),
    }
}

pub(super) fn of_file(path: &Path, form: GraphForm, ui: Ui) -> Result<ExitCode, CliError> {
    print(&FileDraft::prepare(path)?.graph(), form, ui)
}

pub(super) async fn of_job(
    cluster: &Connected,
    job: JobId,
    form: GraphForm,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let views = cluster.client.jobs().await?;
    if !views.iter().any(|view| view.job == job) {
        // the scheduler's own words for that
        cluster.client.job(job).await?;
    }
    print(&connected(&views, job), form, ui)
}

fn print(graph: &Graph, form: GraphForm, ui: Ui) -> Result<ExitCode, CliError> {
    ui.data(&Document::new(Content::Graph(graph)), |style| match form {
        GraphForm::Text => graph.text(style),
        GraphForm::Dot => graph.dot(),
    })?;
    Ok(ExitCode::Success)
}

/// All that a job waits for or is waited for by, over however many others.
fn connected(views: &[JobView], job: JobId) -> Graph {
    let known: BTreeMap<JobId, &JobView> = views.iter().map(|view| (view.job, view)).collect();
    let mut neighbours: BTreeMap<JobId, Vec<JobId>> = BTreeMap::new();
    for (&id, view) in &known {
        for other in view.conditions.iter().filter_map(Condition::job) {
            neighbours.entry(id).or_default().push(other);
            neighbours.entry(other).or_default().push(id);
        }
    }
    let mut found = BTreeSet::from([job]);
    let mut left = vec![job];
    while let Some(next) = left.pop() {
        let others = neighbours.get(&next).into_iter().flatten();
        left.extend(others.copied().filter(|&other| found.insert(other)));
    }
    // a job waits for older ones only, so that this is the order of a graph
    let positions: BTreeMap<JobId, usize> = found.iter().copied().zip(0..).collect();
    let nodes = found.iter().map(|id| match known.get(id) {
        Some(view) => node(view, &positions),
        None => unknown(*id),
    });
    Graph {
        nodes: nodes.collect(),
    }
}

fn node(view: &JobView, positions: &BTreeMap<JobId, usize>) -> Node {
    let arrow = |condition: &Condition| {
        Some(Arrow {
            on: *positions.get(&condition.job()?)?,
            relation: Relation::of(condition)?.word(),
        })
    };
    let mut waits_for: Vec<Arrow> = view.conditions.iter().filter_map(arrow).collect();
    waits_for.sort_unstable();
    let mut remarks = Vec::new();
    if view.any_of && view.conditions.len() > 1 {
        remarks.push("any of these");
    }
    if view.conditions.contains(&Condition::Singleton) {
        remarks.push("singleton");
    }
    if view.held && view.outcome.is_none() {
        remarks.push("held");
    }
    if view.never && view.outcome.is_none() {
        remarks.push("what it waits for cannot come to pass");
    }
    Node {
        label: format!("{} {}", view.job, view.name),
        state: Some(view.state()),
        tasks: Some(view.tasks),
        remark: remarks.join(", "),
        waits_for,
    }
}

/// A job that is not, or no longer, known.
pub(super) fn unknown(job: JobId) -> Node {
    Node {
        label: format!("job {job}"),
        state: None,
        tasks: None,
        remark: "no longer known".to_owned(),
        waits_for: Vec::new(),
    }
}
