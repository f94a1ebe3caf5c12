//! `seff`: how a job went, and how much of its cpus' time it had.

use clap::{ArgAction, Parser};

use super::entry::{Entry, Grouping};
use super::gather::{Selection, gather};
use super::nodes::PARTITION;
use super::row::{Manner, Scene};
use super::{Complaint, Name, print_all, words};
use crate::batch::memory::show_memory;
use crate::batch::states::JobState;
use crate::batch::time::full_clock;
use crate::process::runtime;

/// Tells how a job went
#[derive(Debug, Parser)]
#[command(name = "seff", version, args_override_self = true, max_term_width = 100)]
struct Arguments {
    /// The job, or an element of an array: 42, 43_1
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Accepted
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Seff, words)? else {
        return Ok(0);
    };
    let selection = Selection::read(&arguments.ids)?;
    let gathered = runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, _, _| selection.has_job(view)).await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(gathered)
    })?;
    let scene = gathered.scene(Manner::Sacct);
    let views = gathered.jobs.iter().filter(|view| selection.has_job(view));
    let entries = views
        .flat_map(|view| gathered.entries(view, Grouping::Together))
        .filter_map(|entry| selection.part_of(entry));
    let texts: Vec<String> = entries.map(|entry| summary(&scene, &entry)).collect();
    if texts.is_empty() {
        return Err(Complaint::new(format!(
            "Job not found: there is no job {}; sacct -S now-7days lists those of a week",
            arguments.ids.join(" ")
        )));
    }
    print_all(std::iter::once(texts.join("\n\n")))?;
    Ok(0)
}

/// What is known of an entry. What its processes used is not kept.
fn summary(scene: &Scene, entry: &Entry<'_>) -> String {
    let person = scene.person(&entry.view.user);
    let (code, signal) = entry.exit();
    let exit = match signal {
        0 => format!("exit code {code}"),
        signal => format!("signal {signal}"),
    };
    let mut lines = vec![
        format!("Job ID: {}", entry.view.job),
        format!("Cluster: {PARTITION}"),
        format!("User/Group: {}/{}", entry.view.user, person.group),
        format!("State: {} ({exit})", entry.state),
    ];
    if entry.id() != entry.view.job.to_string() {
        lines.insert(1, format!("Array Job ID: {}", entry.id()));
    }
    let cores = entry.cpus();
    match cores {
        1 => lines.push("Cores: 1".to_owned()),
        cores => lines.push(format!("Nodes: 1\nCores per node: {cores}")),
    }
    if entry.state == JobState::Pending {
        lines.push("Efficiency not available for jobs in the PENDING state.".to_owned());
        return lines.join("\n");
    }
    match entry.elapsed(scene.now) {
        Some(time) => {
            let core_time = time.saturating_mul(u32::try_from(cores).unwrap_or(u32::MAX));
            lines.push(format!("Core-walltime: {}", full_clock(core_time)));
            lines.push(format!("Job Wall-clock time: {}", full_clock(time)));
        }
        None => lines.push("Job Wall-clock time: not known any more".to_owned()),
    }
    let memory = match entry.view.request.memory_bytes {
        0 => "no limit".to_owned(),
        bytes => show_memory(bytes),
    };
    lines.push(format!("Memory Requested: {memory}"));
    lines.push("CPU and memory that it used are not kept.".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::FailureCause;
    use phalanx_protocol::view::TaskState;

    use super::*;
    use crate::slurm::entry::entries;
    use crate::slurm::entry::tests::{batch, tasks};
    use crate::slurm::row::tests::scene;

    #[test]
    fn a_summary_tells_how_it_ended_and_how_long_it_took() {
        let view = batch(Some("1-3"));
        let told = [
            tasks(0, 1, TaskState::Failed(Some(FailureCause::Exit(3)))),
            tasks(1, 3, TaskState::Waiting),
        ];
        let entries = entries(&view, &told, Grouping::Together);
        assert_eq!(
            summary(&scene(Manner::Sacct), &entries[0]),
            "Job ID: 42\nArray Job ID: 42_1\nCluster: phalanx\nUser/Group: ada/staff\nState: FAILED (exit code 3)\nNodes: 1\n\
             Cores per node: 2\nCore-walltime: 00:02:00\nJob Wall-clock time: 00:01:00\nMemory Requested: 1G\n\
             CPU and memory that it used are not kept."
        );
        assert!(summary(&scene(Manner::Sacct), &entries[1]).ends_with("in the PENDING state."));
    }
}
