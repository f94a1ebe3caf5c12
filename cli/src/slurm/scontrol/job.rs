//! `scontrol show job`.

use phalanx_protocol::command::facts;

use super::super::entry::{Entry, Grouping, Part};
use super::super::gather::{Selection, gather};
use super::super::nodes::gres;
use super::super::row::{Line, Manner, Scene, Step};
use super::super::{Complaint, print_all};
use super::{Layout, MIN_JOB_AGE_SECONDS, Sheet};
use crate::batch::lists::{Field, Row};
use crate::batch::memory::show_memory;
use crate::batch::states::JobState;
use crate::process::runtime;
use crate::ui::print_line;

/// Shows the jobs that are named; else all that wait or run, and those that have ended a while ago.
pub(super) fn show(rest: &[&str], layout: Layout) -> Result<u8, Complaint> {
    let selection = Selection::read(rest)?;
    let gathered = runtime()?.block_on(async {
        let is_recent = |end: u64, now: u64| now.saturating_sub(end) <= MIN_JOB_AGE_SECONDS * 1000;
        let (gathered, cluster) = gather(|view, _, now| match selection.is_empty() {
            true => view.finished_unix_millis.is_none_or(|end| is_recent(end, now)),
            false => selection.has_job(view),
        })
        .await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(gathered)
    })?;
    let scene = gathered.scene(Manner::Sacct);
    let mut texts = Vec::new();
    for word in selection.words() {
        if !gathered.jobs.iter().any(|view| view.job == word.job) {
            return Err(Complaint::new(format!(
                "Invalid job id specified: there is no job {word}; squeue lists those that there are"
            )));
        }
    }
    for view in &gathered.jobs {
        let is_old = |end| gathered.now.saturating_sub(end) > MIN_JOB_AGE_SECONDS * 1000;
        let is_listed = match selection.is_empty() {
            true => !view.finished_unix_millis.is_some_and(is_old),
            false => selection.has_job(view),
        };
        if !is_listed {
            continue;
        }
        let entries = gathered.entries(view, Grouping::Together);
        let entries = entries.into_iter().filter_map(|entry| selection.part_of(entry));
        texts.extend(entries.map(|entry| layout.render(&sheet(&scene, &entry))));
    }
    match (texts.is_empty(), selection.words()) {
        (true, []) => print_line("No jobs in the system")?,
        (true, [word, ..]) => {
            return Err(Complaint::new(format!(
                "Invalid job id specified: the array has no element {word}; scontrol show job {} lists those that it has",
                word.job
            )));
        }
        (false, _) => print_all(texts.into_iter())?,
    }
    Ok(0)
}

/// The lines, in Slurm's order.
fn sheet(scene: &Scene, entry: &Entry<'_>) -> Sheet {
    let line = Line {
        scene,
        entry,
        step: Step::None,
    };
    let field = |field| line.text(field);
    let or_null = |text: Option<String>| {
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "(null)".to_owned())
    };
    let fact = |name: &str| entry.fact(name).unwrap_or("(null)").to_owned();
    let person = scene.person(&entry.view.user);
    let text = str::to_owned;
    let node = scene.node_list(entry);
    let mut sheet = vec![
        name(entry),
        vec![
            ("UserId", format!("{}({})", entry.view.user, person.uid)),
            ("GroupId", format!("{}({})", person.group, person.gid)),
            ("MCS_label", text("N/A")),
        ],
        vec![
            ("Priority", entry.view.priority.to_string()),
            ("Nice", or_null(field(Field::Nice))),
            ("Account", fact(facts::ACCOUNT)),
            ("QOS", or_null(field(Field::Qos))),
        ],
        vec![
            ("JobState", text(entry.state.name())),
            ("Reason", text(scene.reason(entry))),
            ("Dependency", or_null(field(Field::Dependency))),
        ],
        vec![
            ("Requeue", text(entry.fact(facts::REQUEUE).unwrap_or("1"))),
            ("Restarts", entry.restarts.to_string()),
            ("BatchFlag", u8::from(entry.is_batch()).to_string()),
            ("Reboot", text("0")),
            ("ExitCode", or_null(field(Field::ExitCode))),
        ],
        vec![
            (
                "RunTime",
                field(Field::Elapsed).unwrap_or_else(|| text("00:00:00")),
            ),
            ("TimeLimit", or_null(field(Field::TimeLimit))),
            ("TimeMin", text("N/A")),
        ],
        vec![
            ("SubmitTime", or_null(field(Field::Submit))),
            ("EligibleTime", or_null(field(Field::Eligible))),
        ],
        vec![
            ("StartTime", or_null(field(Field::Start))),
            ("EndTime", line.latest_end()),
            ("Deadline", text("N/A")),
        ],
        vec![
            ("Partition", text(entry.partition())),
            ("ReqNodeList", or_null(field(Field::NodesAsked))),
            ("ExcNodeList", or_null(field(Field::NodesExcluded))),
        ],
        vec![("NodeList", or_null(Some(node.clone())))],
    ];
    if !node.is_empty() {
        sheet.push(vec![("BatchHost", scene.first_node(entry))]);
    }
    sheet.extend(size(entry, &line));
    sheet.extend(files(scene, entry, &line));
    sheet
}

/// `JobId=42 ArrayJobId=42 ArrayTaskId=3 JobName=water`.
fn name(entry: &Entry<'_>) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("JobId", entry.number().to_string())];
    if let (Some(task), Part::Element { .. } | Part::Waiting(_)) = (entry.array_task(), &entry.part) {
        pairs.push(("ArrayJobId", entry.view.job.to_string()));
        pairs.push(("ArrayTaskId", task));
        if let Some(limit) = entry.view.slots_max {
            pairs.push(("ArrayTaskThrottle", limit.to_string()));
        }
    }
    pairs.push(("JobName", entry.view.name.clone()));
    pairs
}

/// What it asks for, or has.
fn size(entry: &Entry<'_>, line: &Line<'_>) -> Sheet {
    let cpus_per_rank = line.text(Field::CpusPerTask).unwrap_or_default();
    let request = &entry.view.request;
    let mut lines = vec![
        vec![
            ("NumNodes", entry.nodes().to_string()),
            ("NumCPUs", entry.cpus().to_string()),
            ("NumTasks", line.text(Field::Tasks).unwrap_or_default()),
            ("CPUs/Task", cpus_per_rank),
            ("ReqB:S:C:T", "0:0:*:*".to_owned()),
        ],
        vec![("TRES", line.text(Field::Tres).unwrap_or_default())],
        vec![
            ("MinCPUsNode", request.cpus.to_string()),
            ("MinMemoryNode", show_memory(request.memory_bytes)),
            ("MinTmpDiskNode", "0".to_owned()),
        ],
        vec![
            (
                "Features",
                entry.fact("constraint").unwrap_or("(null)").to_owned(),
            ),
            ("DelayBoot", "00:00:00".to_owned()),
        ],
        vec![
            ("OverSubscribe", "OK".to_owned()),
            ("Contiguous", "0".to_owned()),
            ("Licenses", entry.fact("licenses").unwrap_or("(null)").to_owned()),
            ("Network", "(null)".to_owned()),
        ],
    ];
    if let Some(list) = gres(&request.named) {
        lines.push(vec![(
            "TresPerNode",
            format!("gres:{}", list.replace(',', ",gres:")),
        )]);
    }
    lines
}

/// What runs, where, and what it reads and writes.
fn files(scene: &Scene, entry: &Entry<'_>, line: &Line<'_>) -> Sheet {
    let mut lines = vec![
        vec![("Command", line.text(Field::Command).unwrap_or_default())],
        vec![("WorkDir", line.text(Field::WorkDir).unwrap_or_default())],
    ];
    if let Some(comment) = entry.fact(facts::COMMENT) {
        lines.push(vec![("Comment", comment.to_owned())]);
    }
    lines.extend(scene.stderr(entry).map(|path| vec![("StdErr", path)]));
    lines.push(vec![("StdIn", scene.stdin(entry))]);
    lines.extend(scene.stdout(entry).map(|path| vec![("StdOut", path)]));
    lines
}

impl Line<'_> {
    /// When it ended, or will at the latest.
    fn latest_end(&self) -> String {
        let entry = self.entry;
        let limit = entry.time_limit().filter(|_| !entry.state.has_ended());
        let latest = entry.started.zip(limit).map(|(started, limit)| {
            started.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        });
        match (latest, entry.state) {
            (Some(latest), JobState::Running | JobState::Completing) => super::super::clock::show(latest),
            (_, _) => self.text(Field::End).unwrap_or_else(|| "Unknown".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
