//! `seff`: how a job went, and how much of its cpus' time it had.

use clap::{ArgAction, Parser};

use super::entry::{Entry, Grouping};
use super::gather::{Selection, gather};
use super::nodes::PARTITION;
use super::row::{Manner, Scene, cpu_used};
use super::{Complaint, Name, print_all, words};
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
        cores => {
            let nodes = entry.nodes();
            lines.push(format!("Nodes: {nodes}\nCores per node: {}", cores / nodes));
        }
    }
    if entry.state == JobState::Pending {
        lines.push("Efficiency not available for jobs in the PENDING state.".to_owned());
        return lines.join("\n");
    }
    let core_time = entry.core_time(scene.now);
    if let Some(used) = &entry.used {
        let time = cpu_used(used);
        lines.push(format!("CPU Utilized: {}", full_clock(time)));
        if let Some(core_time) = core_time {
            let share = percent(time.as_secs_f64(), core_time.as_secs_f64());
            lines.push(format!(
                "CPU Efficiency: {share} of {} core-walltime",
                full_clock(core_time)
            ));
        }
    }
    match entry.elapsed(scene.now) {
        Some(time) => lines.push(format!("Job Wall-clock time: {}", full_clock(time))),
        None => lines.push("Job Wall-clock time: not known any more".to_owned()),
    }
    let requested = entry.view.request.memory_bytes;
    match &entry.used {
        Some(used) => {
            let kib = used.rss_kib_max as f64;
            let share = percent(kib, requested as f64 / 1024.0);
            lines.push(format!("Memory Utilized: {}", memory(kib)));
            lines.push(format!(
                "Memory Efficiency: {share} of {}",
                memory(requested as f64 / 1024.0)
            ));
        }
        None => {
            let asked = match requested {
                0 => "no limit".to_owned(),
                bytes => memory(bytes as f64 / 1024.0),
            };
            lines.push(format!("Memory Requested: {asked}"));
            lines.push(unmeasured(entry.state).to_owned());
        }
    }
    lines.join("\n")
}

/// Why nothing is known of what an entry has used.
fn unmeasured(state: JobState) -> &'static str {
    match state.has_ended() {
        true => "What it used of CPU and memory is not known.",
        false => "What it uses of CPU and memory is known when it has ended.",
    }
}

/// What part of `all` was used; nothing of nothing.
fn percent(used: f64, all: f64) -> String {
    let share = if all > 0.0 { 100.0 * used / all } else { 0.0 };
    format!("{share:.2}%")
}

/// An amount of memory as `seff` has always shown it: `50.00 MB`, in steps of 1024.
fn memory(kib: f64) -> String {
    if kib == 0.0 {
        return "0.00 MB".to_owned();
    }
    let (mut amount, mut unit) = (kib, "KB");
    for larger in ["MB", "GB", "TB", "PB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    format!("{amount:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use phalanx::JobView;
    use phalanx_protocol::TaskUsage;
    use phalanx_protocol::record::{FailureCause, Outcome};
    use phalanx_protocol::view::{TaskRange, TaskState};

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
             Cores per node: 2\nJob Wall-clock time: 00:01:00\nMemory Requested: 1.00 GB\n\
             What it used of CPU and memory is not known."
        );
        assert!(summary(&scene(Manner::Sacct), &entries[1]).ends_with("in the PENDING state."));
    }

    #[test]
    fn what_it_used_is_set_against_what_it_had() {
        let view = batch(None);
        let told = TaskRange {
            usage: Some(TaskUsage {
                index: 0,
                ran_millis: 60_000,
                user_micros: 89_000_000,
                system_micros: 1_900_000,
                rss_kib: 51_200,
            }),
            ..tasks(0, 1, TaskState::Succeeded)
        };
        let view = JobView {
            outcome: Some(Outcome::Succeeded),
            finished_unix_millis: told.ended_unix_millis,
            ..view
        };
        let entries = entries(&view, &[told], Grouping::Together);
        assert_eq!(
            summary(&scene(Manner::Sacct), &entries[0]),
            "Job ID: 42\nCluster: phalanx\nUser/Group: ada/staff\nState: COMPLETED (exit code 0)\nNodes: 1\n\
             Cores per node: 2\nCPU Utilized: 00:01:30\nCPU Efficiency: 75.75% of 00:02:00 core-walltime\n\
             Job Wall-clock time: 00:01:00\nMemory Utilized: 50.00 MB\nMemory Efficiency: 4.88% of 1.00 GB"
        );
    }

    #[test]
    fn amounts_of_memory_have_the_unit_that_fits() {
        for (kib, shown) in [
            (0.0, "0.00 MB"),
            (1.0, "1.00 KB"),
            (1023.0, "1023.00 KB"),
            (1024.0, "1.00 MB"),
            (1.5 * 1024.0 * 1024.0, "1.50 GB"),
        ] {
            assert_eq!(memory(kib), shown);
        }
        assert_eq!(percent(1.0, 0.0), "0.00%");
    }
}
