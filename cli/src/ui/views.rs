//! Jobs, workers and explanations, in words and tables for people.

pub(crate) mod idle;

use phalanx_protocol::record::Outcome;
use phalanx_protocol::resources::either;
use phalanx_protocol::resources::format_bytes;
use phalanx_protocol::view::{Explanation, JobView, Offer, Verdict, WorkerView};
use phalanx_protocol::{Amount, JobId, Resources, WorkerChoice};

use crate::args::waiting::condition_text;
use phalanx_protocol::hostlist;

use super::documents::DraftShape;
use super::outcome::{failure_lines, outcome_text};
use super::style::{Style, Tone, printable, state_tone};
use super::table::Align::{Left, Right};
use super::table::{Cell, Table};
use super::units::{ago, count, counted, duration, rate};

/// Jobs that are named in a sentence.
const JOBS_NAMED_MAX: usize = 5;

/// A line per job. `now` is in milliseconds since 1970.
pub(crate) fn jobs_table(jobs: &[JobView], now: u64, style: Style) -> String {
    let mut table = Table::new(&[
        ("ID", Right),
        ("NAME", Left),
        ("USER", Left),
        ("STATE", Left),
        ("DONE", Right),
        ("FAILED", Right),
        ("SLOTS", Right),
        ("RATE", Right),
        ("SUBMITTED", Left),
        ("TOOK", Right),
    ]);
    for job in jobs {
        let failed = match job.failed {
            0 => Tone::Plain,
            _ => Tone::Bad,
        };
        let took = job.finished_unix_millis.map_or("-".to_owned(), |end| {
            duration(end.saturating_sub(job.submitted_unix_millis))
        });
        table.row(vec![
            job.job.into(),
            printable(&job.name, 0).into(),
            printable(&job.user, 0).into(),
            Cell::toned(job.state(), state_tone(job.state())),
            format!("{}/{}", count(job.done), count(job.tasks)).into(),
            Cell::toned(count(job.failed), failed),
            count(job.slots).into(),
            running_rate(job).into(),
            ago(job.submitted_unix_millis, now).into(),
            took.into(),
        ]);
    }
    table.render(style)
}

fn running_rate(job: &JobView) -> String {
    match job.outcome {
        None => rate(job.tasks_per_second),
        Some(_) => "-".to_owned(),
    }
}

/// A line per job that could be submitted.
pub(crate) fn drafts_table(drafts: &[DraftShape], style: Style) -> String {
    let mut table = Table::new(&[
        ("NAME", Left),
        ("TASKS", Right),
        ("EACH NEEDS", Left),
        ("WAITS FOR", Left),
        ("RUNS", Left),
    ]);
    for draft in drafts {
        let waits_for = match draft.waits_for.is_empty() {
            true => "-".to_owned(),
            false if draft.any_of => format!("any of {}", draft.waits_for.join(", ")),
            false => draft.waits_for.join(", "),
        };
        table.row(vec![
            printable(&draft.name, 0).into(),
            draft.tasks.map_or("?".to_owned(), count).into(),
            either(std::iter::once(&draft.request).chain(&draft.alternatives)).into(),
            printable(&waits_for, 0).into(),
            printable(&draft.runs, 0).into(),
        ]);
    }
    table.render(style)
}

/// Everything about one job.
pub(crate) fn job_text(job: &JobView, now: u64, style: Style) -> String {
    let state = style.paint(state_tone(job.state()), job.state());
    let mut text = style.paint(
        Tone::Heading,
        &format!("job {} {}", job.job, printable(&job.name, 0)),
    );
    text.push('\n');
    let mut line = |label: &str, value: String| text += &format!("  {label:<10} {value}\n");
    line("state", state + &state_detail(job));
    let label = if job.command.is_some() {
        "command"
    } else {
        "kernel"
    };
    line(label, printable(&job.kernel, 0));
    line("user", printable(&job.user, 0));
    let failed = match job.failed {
        0 => String::new(),
        failed => format!(", {} failed", count(failed)),
    };
    let cancelled = match job.cancelled {
        0 => String::new(),
        cancelled => format!(", {} cancelled", count(cancelled)),
    };
    line(
        "tasks",
        format!(
            "{} of {} done{failed}{cancelled}",
            count(job.done),
            count(job.tasks)
        ),
    );
    line("each needs", either(job.requests()));
    if !job.choice.is_free() {
        line("may run on", choice_text(&job.choice));
    }
    if job.priority != 0 {
        line("priority", job.priority.to_string());
    }
    if !job.conditions.is_empty() {
        let conditions: Vec<String> = job.conditions.iter().map(condition_text).collect();
        let label = match job.outcome {
            None => "waits for",
            Some(_) => "waited for",
        };
        let any_of = if job.any_of && conditions.len() > 1 {
            "any of "
        } else {
            ""
        };
        line(label, format!("{any_of}{}", conditions.join(", ")));
    }
    if job.outcome.is_none() && job.slots > 0 {
        let (slots, workers) = (counted(job.slots, "slot"), counted(job.workers, "worker"));
        line(
            "runs on",
            format!("{slots} of {workers}, {}", rate(job.tasks_per_second)),
        );
    }
    line("submitted", ago(job.submitted_unix_millis, now));
    if let Some(end) = job.finished_unix_millis {
        let took = duration(end.saturating_sub(job.submitted_unix_millis));
        line("ended", format!("{}, took {took}", ago(end, now)));
    }
    if let Some(used) = &job.usage {
        let cpu = duration(used.user_micros.saturating_add(used.system_micros) / 1000);
        let memory = format_bytes(used.rss_kib_max.saturating_mul(1024));
        let whose = match job.tasks {
            1 => String::new(),
            _ => format!(" by task {}", used.rss_task),
        };
        line(
            "used",
            format!("{cpu} of cpu time, at most {memory} of memory{whose}"),
        );
    }
    if !job.first_failures.is_empty() {
        text += &style.paint(Tone::Heading, "first failures");
        text.push('\n');
        for failure in failure_lines(job.job, &job.first_failures, job.failed) {
            text += &format!("  {}\n", printable(&failure, 4));
        }
    }
    text
}

/// `n[1-3]`, `all but n4`, `n[1-3] but n2`.
fn choice_text(choice: &WorkerChoice) -> String {
    let list = |names: Vec<&String>| printable(&hostlist::compress(&names), 0);
    let some = match list(choice.wanted().collect()) {
        names if names.is_empty() => "all".to_owned(),
        names => names,
    };
    match list(choice.never.iter().collect()) {
        names if names.is_empty() => some,
        names => format!("{some} but {names}"),
    }
}

fn state_detail(job: &JobView) -> String {
    match &job.outcome {
        Some(Outcome::Cancelled { by }) => format!(" by {}", printable(by, 0)),
        Some(Outcome::Broken { reason }) => format!(": {}", printable(reason, 4)),
        Some(Outcome::TimeLimit { millis }) => format!(" after {}", duration(*millis)),
        Some(Outcome::Succeeded | Outcome::Failed) | None => String::new(),
    }
}

/// A line per worker.
pub(crate) fn workers_table(workers: &[WorkerView], style: Style) -> String {
    let mut table = Table::new(&[
        ("ID", Left),
        ("NAME", Left),
        ("ADDRESS", Left),
        ("CPUS FREE", Right),
        ("MEMORY FREE", Right),
        ("OTHER FREE", Left),
        ("TASKS ENDED", Right),
        ("JOBS", Left),
    ]);
    for worker in workers {
        let (free, capacity) = (&worker.free, &worker.capacity);
        let memory = [free.memory_bytes, capacity.memory_bytes].map(format_bytes);
        table.row(vec![
            worker.worker.into(),
            printable(&worker.name, 0).into(),
            printable(&worker.address, 0).into(),
            format!("{}/{}", free.cpus, capacity.cpus).into(),
            memory.join("/").into(),
            named_text(free, capacity).into(),
            count(worker.tasks_ended).into(),
            match (worker.draining, list(&worker.jobs)) {
                (false, jobs) => jobs,
                (true, jobs) => format!("{jobs} (draining)"),
            }
            .into(),
        ]);
    }
    table.render(style)
}

fn named_text(free: &Resources, capacity: &Resources) -> String {
    let named = capacity.named.iter().map(|(name, all)| {
        let free = free.named.get(name).copied().unwrap_or_default();
        format!("{free}/{all} {}", printable(name, 0))
    });
    match named.collect::<Vec<_>>() {
        parts if parts.is_empty() => "-".to_owned(),
        parts => parts.join(", "),
    }
}

fn list(jobs: &[JobId]) -> String {
    let named: Vec<String> = jobs
        .iter()
        .take(JOBS_NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    match jobs.len() {
        0 => "-".to_owned(),
        all if all > named.len() => format!("{} and {} more", named.join(", "), all - named.len()),
        _ => named.join(", "),
    }
}

/// `job 7`, `jobs 7, 8`.
fn jobs_named(jobs: &[JobId]) -> String {
    let noun = if jobs.len() == 1 { "job" } else { "jobs" };
    format!("{noun} {}", list(jobs))
}

/// Why a job is where it is: one or two sentences.
pub(crate) fn verdict_text(explanation: &Explanation) -> String {
    let job = &explanation.job;
    let id = job.job;
    let needs = either(job.requests());
    match &explanation.verdict {
        Verdict::Finished => format!("{}.", outcome_text(job)),
        Verdict::Running => format!(
            "job {id} is running: {} of {} are done, on {} of {}.",
            count(job.done),
            counted(job.tasks, "task"),
            counted(job.slots, "slot"),
            counted(job.workers, "worker"),
        ),
        Verdict::NoWorkers => format!(
            "job {id} cannot start: no worker has joined the cluster. `phalanx worker` starts one on any node."
        ),
        Verdict::Elsewhere { missing } if missing.is_empty() => format!(
            "job {id} waits for other workers: it may run on {}.",
            choice_text(&job.choice)
        ),
        Verdict::Elsewhere { missing } => format!(
            "job {id} waits for workers that have not joined: {}.",
            printable(&hostlist::compress(missing), 0)
        ),
        Verdict::TooLarge { .. } if let Some(name) = unoffered(explanation) => {
            format!("job {id} cannot start: each task needs {needs}, and no worker has as much {name}.")
        }
        Verdict::TooLarge { largest } => {
            let largest = match largest {
                Some(largest) => format!("the largest worker has {largest}"),
                None => "there is no worker that it may use".to_owned(),
            };
            format!("job {id} cannot start: each task needs {needs}, {largest}.")
        }
        Verdict::Behind { jobs } if jobs.is_empty() => {
            format!("job {id} waits: what it needs ({needs} for each task) is about to become free.")
        }
        Verdict::Behind { jobs } => {
            let (noun, verb) = match jobs.len() {
                1 => ("job", "holds"),
                _ => ("jobs", "hold"),
            };
            format!(
                "job {id} waits: {noun} {} {verb} the slots that it could use, and came first by priority, fair share \
                 or age.",
                list(jobs)
            )
        }
        Verdict::Scarce { resource, jobs } => format!(
            "job {id} waits for {}: all that it could use is held by {}.",
            printable(resource, 0),
            jobs_named(jobs)
        ),
        Verdict::NotAlone { jobs } => format!(
            "job {id} waits for a worker that no other job uses: {} {} slots on all that it could use.",
            jobs_named(jobs),
            if jobs.len() == 1 { "holds" } else { "hold" },
        ),
        Verdict::KeptOff { jobs } => format!(
            "job {id} waits: the workers where there is room are exclusively those of {}.",
            jobs_named(jobs)
        ),
        Verdict::Gang {
            slots,
            nodes,
            slots_free,
            slots_capacity,
            jobs,
        } => {
            let on = nodes.map(|nodes| format!(" on {}", counted(nodes.into(), "node")));
            let needs = format!("{}{}", counted(*slots, "slot"), on.unwrap_or_default());
            let free = format!("{} of {} free", count(*slots_free), count(*slots_capacity));
            let held = match jobs.is_empty() {
                true => String::new(),
                false => format!(", the others are held by {}", jobs_named(jobs)),
            };
            format!(
                "job {id} waits until there is room for all of its ranks: it needs {needs}; {free}{held}."
            )
        }
        Verdict::Resting => format!(
            "job {id} waits: {} in vain and rest before they are run again.",
            match job.resting {
                1 => "1 task was run".to_owned(),
                resting => format!("{} tasks were run", count(resting)),
            }
        ),
        Verdict::Reattaching => format!(
            "job {id} waits: a scheduler has just taken over, and hears first what the workers still run."
        ),
        Verdict::Storage { error: None } => {
            format!("job {id} waits for shared storage: its last change is not durable yet.")
        }
        Verdict::Storage { error: Some(error) } => {
            format!(
                "job {id} waits for shared storage, which fails: {}.",
                printable(error, 2)
            )
        }
        Verdict::Draining => {
            format!("job {id} waits: all workers that could run it are draining, and will leave.")
        }
        Verdict::SlotsMax { slots_max } => format!(
            "job {id} runs as many of its tasks at a time as it allows: {}.",
            count(u64::from(*slots_max))
        ),
        Verdict::Dependency { jobs } if job.any_of && jobs.len() > 1 => {
            format!("job {id} waits for any of {}.", jobs_named(jobs))
        }
        Verdict::Dependency { jobs } => format!("job {id} waits for {}.", jobs_named(jobs)),
        Verdict::DependencyNeverSatisfied { jobs } => format!(
            "job {id} cannot go on: what it waits for can never come to pass, since {} ended otherwise or long ago. \
             `phalanx cancel {id}` ends it.",
            jobs_named(jobs)
        ),
        Verdict::Held => format!("job {id} is held: nothing of it starts until somebody releases it."),
        Verdict::NotYet { begin_unix_millis } => format!(
            "job {id} waits: it is to begin {} after its submission.",
            duration(begin_unix_millis.saturating_sub(job.submitted_unix_millis))
        ),
    }
}

/// A named resource of which no worker has enough for one task.
fn unoffered(explanation: &Explanation) -> Option<&str> {
    let offers = &explanation.offers;
    let lacks = |name: &String, need: &Amount| {
        let enough = |offer: &Offer| offer.capacity.named.get(name).is_some_and(|all| all >= need);
        !offers.iter().any(enough)
    };
    let mut needed = explanation.job.request.named.iter().rev();
    let found = needed.find(|(name, need)| lacks(name, need));
    found
        .filter(|_| explanation.job.alternatives.is_empty())
        .map(|(name, _)| name.as_str())
        .filter(|_| !offers.is_empty())
}

/// The reason, in these words, then what each worker offers.
pub(crate) fn explanation_text(explanation: &Explanation, mut text: String, style: Style) -> String {
    text.push('\n');
    if explanation.offers.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("WORKER", Left),
        ("NAME", Left),
        ("FITS EMPTY", Right),
        ("FITS NOW", Right),
        ("HOLDS", Right),
        ("HAS", Left),
    ]);
    for offer in &explanation.offers {
        table.row(vec![
            offer.worker.into(),
            printable(&offer.name, 0).into(),
            offer.slots_capacity.into(),
            offer.slots_free.into(),
            offer.slots_held.into(),
            offer.capacity.to_string().into(),
        ]);
    }
    text.push('\n');
    text + &table.render(style)
}

#[cfg(test)]
pub(crate) mod tests;
