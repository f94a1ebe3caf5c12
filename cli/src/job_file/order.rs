//! The order in which the jobs of a file are submitted: each behind those that it waits for.

use std::collections::BTreeMap;

use super::{FileJob, JobFile, NamedJob, Source, meant};
use crate::ui::error::CliError;

/// Orders jobs: of those that wait for nothing that is not submitted yet, always the first that is written.
///
/// # Errors
///
/// A job waits for one that the file does not have, or for itself by way of others.
pub(super) fn order(jobs: Vec<NamedJob>, source: &Source<'_>) -> Result<JobFile, CliError> {
    let places: BTreeMap<&str, usize> = (0..)
        .zip(&jobs)
        .map(|(at, job)| (job.name.as_str(), at))
        .collect();
    let mut waits_for = Vec::new();
    for job in &jobs {
        let mut others = Vec::new();
        for edge in &job.after {
            match places.get(edge.on.as_str()) {
                Some(&other) => others.push((edge.relation, other)),
                None => return Err(unknown(job, edge, &jobs, source)),
            }
        }
        // somebody may have named a job twice
        others.sort_unstable();
        others.dedup();
        waits_for.push(others);
    }
    // by its place in the file, the place in the order of submission
    let mut position: Vec<Option<usize>> = vec![None; jobs.len()];
    let mut sequence = Vec::new();
    while sequence.len() < jobs.len() {
        let is_ready = |&at: &usize| {
            position[at].is_none() && waits_for[at].iter().all(|&(_, other)| position[other].is_some())
        };
        let Some(next) = (0..jobs.len()).find(is_ready) else {
            return Err(circle(&jobs, &waits_for, &position, source));
        };
        position[next] = Some(sequence.len());
        sequence.push(next);
    }
    let mut jobs: Vec<Option<NamedJob>> = jobs.into_iter().map(Some).collect();
    let ordered = sequence.into_iter().filter_map(|at| {
        let job = jobs[at].take()?;
        let others = waits_for[at].iter();
        let mut after: Vec<_> = others
            .filter_map(|&(relation, other)| Some((relation, position[other]?)))
            .collect();
        after.sort_unstable();
        Some(FileJob {
            name: job.name,
            arguments: job.arguments,
            after,
            place: source.place(&job.span),
        })
    });
    Ok(JobFile {
        jobs: ordered.collect(),
    })
}

fn unknown(job: &NamedJob, edge: &super::NamedEdge, jobs: &[NamedJob], source: &Source<'_>) -> CliError {
    let known: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let what = format!(
        "`{}` of the job `{}` names `{}`, and the file has no such job",
        edge.relation.word(),
        job.name,
        edge.on
    );
    let hint = match (meant(&edge.on, &known), edge.on.parse::<u64>()) {
        (_, Ok(id)) => format!(
            "a job that the cluster has already is written as a number, {} = {id}",
            edge.relation.word()
        ),
        (Some(meant), Err(_)) => meant,
        (None, Err(_)) => format!("it has {}", quoted(&known)),
    };
    source.error(&edge.span, what).hint(hint)
}

/// Names for a sentence, not too many.
fn quoted(names: &[String]) -> String {
    const NAMED_MAX: usize = 10;
    let mut text: Vec<String> = names
        .iter()
        .take(NAMED_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > NAMED_MAX {
        text.push(format!("{} more", names.len() - NAMED_MAX));
    }
    text.join(", ")
}

/// One circle among the jobs that were left over, beginning at the first of them that is written.
fn circle(
    jobs: &[NamedJob],
    waits_for: &[Vec<(crate::args::waiting::Relation, usize)>],
    position: &[Option<usize>],
    source: &Source<'_>,
) -> CliError {
    let blocked_by = |at: usize| {
        let mut others = waits_for[at].iter().map(|&(_, other)| other);
        others.find(|&other| position[other].is_none())
    };
    let mut path = Vec::from_iter((0..jobs.len()).find(|&at| position[at].is_none()));
    // each job that is left waits for another one that is, so this comes back to where it was
    while let Some(next) = path.last().and_then(|&last| blocked_by(last)) {
        if let Some(start) = path.iter().position(|&at| at == next) {
            path.drain(..start);
            break;
        }
        path.push(next);
    }
    let first = path.iter().copied().min().unwrap_or(0);
    let start = path.iter().position(|&at| at == first).unwrap_or(0);
    path.rotate_left(start);
    let what = match path.len() {
        1 => format!("the job `{}` waits for itself", jobs[first].name),
        _ => "these jobs wait for each other in a circle, so that none could ever start".to_owned(),
    };
    let details = (0..path.len()).filter(|_| path.len() > 1).map(|step| {
        let (job, other) = (&jobs[path[step]], &jobs[path[(step + 1) % path.len()]]);
        let edge = job.after.iter().find(|edge| edge.on == other.name);
        let (word, line) = edge.map_or(("after", 0), |edge| {
            (edge.relation.word(), source.line(&edge.span))
        });
        format!("`{}` {word} `{}` (line {line})", job.name, other.name)
    });
    source
        .error(&jobs[first].span, what)
        .details(details)
        .hint("take one of these dependencies out")
}
