//! Why tasks wait while others of their job run, and where a single task is: sentences.

use phalanx_protocol::view::{Explanation, Idle, TaskRange, TaskState, Verdict};

use super::{jobs_named, verdict_text};
use crate::ui::style::printable;
use crate::ui::units::{count, counted};

/// Why a job is where it is, and its tasks that wait while others run.
pub(crate) fn job_text(explanation: &Explanation) -> String {
    let idle = explanation.idle.iter().map(idle_text);
    std::iter::once(verdict_text(explanation))
        .chain(idle)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What some tasks wait for.
pub(crate) fn idle_text(idle: &Idle) -> String {
    let tasks = counted(idle.tasks, "task");
    sentence(&tasks, idle.tasks == 1, &idle.why)
}

/// What a task waits for, or what has become of it.
pub(crate) fn task_text(explanation: &Explanation, of: &TaskRange) -> String {
    let job = &explanation.job;
    let index = of.range.start;
    let task = format!("task {}.{index}", job.job);
    let on = of
        .worker
        .map(|worker| format!(" on worker {worker}"))
        .unwrap_or_default();
    let is_of_others = |idle: &&Idle| {
        matches!(
            idle.why,
            Verdict::Dependency { .. } | Verdict::DependencyNeverSatisfied { .. }
        )
    };
    match of.state {
        TaskState::Waiting => match explanation.idle.first() {
            Some(idle) => sentence(&task, true, &idle.why),
            None => format!("{task} waits with its job: {}", verdict_text(explanation)),
        },
        TaskState::Blocked => match explanation.idle.iter().find(is_of_others) {
            Some(idle) => sentence(&task, true, &idle.why),
            None => format!("{task} waits with its job: {}", verdict_text(explanation)),
        },
        TaskState::Resting => {
            let times = match of.restarts {
                0 | 1 => String::new(),
                restarts => format!(", {} times", count(restarts.into())),
            };
            format!("{task} was run in vain{times}, and rests before it is run again.")
        }
        TaskState::Granted => format!("{task} waits for a free slot{on}, which has it."),
        TaskState::Running => format!("{task} is running{on}."),
        TaskState::Ending => format!("{task} has ended, which is not durable yet."),
        TaskState::Succeeded => format!("{task} has succeeded."),
        TaskState::Failed(_) => {
            let failure = job.first_failures.iter().find(|failure| failure.index == index);
            match failure {
                Some(failure) => format!(
                    "{task} has failed ({}): {}.",
                    failure.cause,
                    printable(&failure.message, 0)
                ),
                None => format!("{task} has failed."),
            }
        }
        TaskState::Cancelled => format!("{task} was cancelled."),
        TaskState::Unrun => format!("{task} was not run: {}", verdict_text(explanation)),
    }
}

/// The state of a task, for other programs.
pub(crate) fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "waiting",
        TaskState::Blocked => "blocked",
        TaskState::Resting => "resting",
        TaskState::Granted => "granted",
        TaskState::Running => "running",
        TaskState::Ending => "ending",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed(_) => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Unrun => "unrun",
    }
}

/// Why what is `named` waits; whether that is one task.
fn sentence(named: &str, is_one: bool, why: &Verdict) -> String {
    let (wait, they, was, rest) = match is_one {
        true => ("waits", "it is", "was", "rests"),
        false => ("wait", "they are", "were", "rest"),
    };
    let hold = |jobs: &[_]| if jobs.len() == 1 { "holds" } else { "hold" };
    match why {
        Verdict::Resting => format!("{named} {was} run in vain, and {rest} before {they} run again."),
        Verdict::Dependency { jobs } => format!("{named} {wait} for {}.", jobs_named(jobs)),
        Verdict::DependencyNeverSatisfied { jobs } => format!(
            "{named} {wait} in vain: {} ended otherwise, or long ago.",
            jobs_named(jobs)
        ),
        Verdict::SlotsMax { slots_max } => format!(
            "{named} {wait}: the job allows no more than {} at a time.",
            count(u64::from(*slots_max))
        ),
        Verdict::Held => format!("{named} {wait}: the job is held until somebody releases it."),
        Verdict::NotYet { .. } => format!("{named} {wait}: the job is to begin later."),
        Verdict::Behind { jobs } if jobs.is_empty() => {
            format!("{named} {wait} for slots, of which the job has all that it can.")
        }
        Verdict::Behind { jobs } => format!(
            "{named} {wait} for slots: {} {} some that the job could use.",
            jobs_named(jobs),
            hold(jobs)
        ),
        Verdict::Scarce { resource, jobs } => format!(
            "{named} {wait} for {}, of which {} {} some.",
            printable(resource, 0),
            jobs_named(jobs),
            hold(jobs)
        ),
        Verdict::NotAlone { jobs } => format!(
            "{named} {wait} for a worker that no other job uses: {} {} slots on all.",
            jobs_named(jobs),
            hold(jobs)
        ),
        Verdict::KeptOff { jobs } => format!(
            "{named} {wait}: the workers where there is room are exclusively those of {}.",
            jobs_named(jobs)
        ),
        Verdict::Draining => {
            format!("{named} {wait} for other workers: those that could run more are draining.")
        }
        Verdict::NoWorkers
        | Verdict::Elsewhere { .. }
        | Verdict::TooLarge { .. }
        | Verdict::Gang { .. }
        | Verdict::Reattaching
        | Verdict::Storage { .. }
        | Verdict::Running
        | Verdict::Finished => format!("{named} {wait} for slots on workers."),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::{IndexRange, JobId, WorkerId};

    use super::*;
    use crate::ui::views::tests::job_view;

    fn explained(idle: Vec<Idle>) -> Explanation {
        let mut job = job_view();
        job.job = JobId(42);
        Explanation {
            job,
            verdict: Verdict::Running,
            idle,
            offers: Vec::new(),
        }
    }

    fn task(state: TaskState, restarts: u32) -> TaskRange {
        TaskRange {
            range: IndexRange::new(7, 8),
            state,
            worker: matches!(state, TaskState::Granted | TaskState::Running).then_some(WorkerId(3)),
            started_unix_millis: None,
            ended_unix_millis: None,
            restarts,
            usage: None,
        }
    }

    #[test]
    fn a_job_that_runs_says_what_its_other_tasks_wait_for() {
        let jobs = vec![JobId(7)];
        let idle = |tasks, why| Idle { tasks, why };
        let explanation = explained(vec![
            idle(1200, Verdict::SlotsMax { slots_max: 4 }),
            idle(1, Verdict::Dependency { jobs: jobs.clone() }),
            idle(2, Verdict::Resting),
        ]);
        let text = job_text(&explanation);
        assert!(text.starts_with("job 42 is running: "), "{text}");
        let rest = " 1,200 tasks wait: the job allows no more than 4 at a time. 1 task waits for job 7. 2 tasks were run in vain, \
                    and rest before they are run again.";
        assert!(text.ends_with(rest), "{text}");
        let text = task_text(&explanation, &task(TaskState::Waiting, 0));
        assert_eq!(text, "task 42.7 waits: the job allows no more than 4 at a time.");
        let text = task_text(&explanation, &task(TaskState::Blocked, 0));
        assert_eq!(text, "task 42.7 waits for job 7.");
        let behind = idle_text(&idle(3, Verdict::Behind { jobs }));
        assert_eq!(
            behind,
            "3 tasks wait for slots: job 7 holds some that the job could use."
        );
    }

    #[test]
    fn a_task_says_where_it_is() {
        let explanation = explained(Vec::new());
        for (state, restarts, expected) in [
            (TaskState::Running, 0, "task 42.7 is running on worker w3."),
            (
                TaskState::Granted,
                0,
                "task 42.7 waits for a free slot on worker w3, which has it.",
            ),
            (
                TaskState::Resting,
                2,
                "task 42.7 was run in vain, 2 times, and rests before it is run again.",
            ),
            (TaskState::Succeeded, 0, "task 42.7 has succeeded."),
            (TaskState::Cancelled, 0, "task 42.7 was cancelled."),
        ] {
            assert_eq!(task_text(&explanation, &task(state, restarts)), expected);
        }
        let with_job = task_text(&explanation, &task(TaskState::Waiting, 0));
        assert!(
            with_job.starts_with("task 42.7 waits with its job: job 42 "),
            "{with_job}"
        );
    }
}
