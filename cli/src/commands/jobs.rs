//! `phalanx jobs`: those that somebody wants to see, out of all that the scheduler remembers.

use phalanx::JobView;
use phalanx_protocol::exit::ExitCode;

use super::now_unix_millis;
use crate::args::JobsArguments;
use crate::cluster::Connected;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, JobShape};
use crate::ui::error::CliError;
use crate::ui::views::jobs_table;

/// How long after its end a job is listed without being asked for.
const RECENT_MILLIS: u64 = 3_600_000;

pub(super) async fn run(
    cluster: &Connected,
    arguments: &JobsArguments,
    ui: Ui,
) -> Result<ExitCode, CliError> {
    let now = now_unix_millis();
    let mut jobs = cluster.client.jobs().await?;
    jobs.retain(|job| is_wanted(job, arguments, &cluster.user, now));
    let shapes = jobs.iter().map(JobShape::from).collect();
    ui.data(&Document::new(Content::Jobs(shapes)), |style| {
        match jobs.is_empty() {
            true => String::new(),
            false => jobs_table(&jobs, now, style),
        }
    })?;
    if jobs.is_empty() && !ui.is_json() {
        ui.note(match arguments.all {
            true => "there are no jobs",
            false => "there are no such jobs; `phalanx jobs --all` lists all, of all users",
        });
    }
    Ok(ExitCode::Success)
}

fn is_wanted(job: &JobView, arguments: &JobsArguments, user: &str, now: u64) -> bool {
    let states = &arguments.state;
    let is_of_state = states.is_empty() || states.iter().any(|state| state.word() == job.state());
    if arguments.all {
        return is_of_state;
    }
    let is_recent = job
        .finished_unix_millis
        .is_none_or(|end| now.saturating_sub(end) <= RECENT_MILLIS);
    job.user == arguments.user.as_deref().unwrap_or(user) && is_of_state && (is_recent || !states.is_empty())
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::Outcome;

    use super::*;
    use crate::args::JobState;
    use crate::ui::views::tests::job_view;

    const NOW: u64 = 100 * RECENT_MILLIS;

    fn ended(before: u64) -> JobView {
        JobView {
            outcome: Some(Outcome::Failed),
            finished_unix_millis: Some(NOW - before),
            ..job_view()
        }
    }

    fn arguments() -> JobsArguments {
        JobsArguments {
            all: false,
            user: None,
            state: vec![],
        }
    }

    #[test]
    fn ones_own_jobs_are_listed_while_they_are_news() {
        let wanted = |job: &JobView, user| is_wanted(job, &arguments(), user, NOW);
        assert!(wanted(&job_view(), "ada") && !wanted(&job_view(), "eve"));
        assert!(wanted(&ended(RECENT_MILLIS), "ada") && !wanted(&ended(RECENT_MILLIS + 1), "ada"));
    }

    #[test]
    fn what_is_asked_for_is_listed_however_old() {
        let old = ended(2 * RECENT_MILLIS);
        let failed = JobsArguments {
            state: vec![JobState::Failed],
            ..arguments()
        };
        assert!(is_wanted(&old, &failed, "ada", NOW) && !is_wanted(&job_view(), &failed, "ada", NOW));
        let all = JobsArguments {
            all: true,
            ..arguments()
        };
        assert!(is_wanted(&old, &all, "eve", NOW));
        let user = JobsArguments {
            user: Some("ada".to_owned()),
            ..arguments()
        };
        assert!(is_wanted(&job_view(), &user, "eve", NOW) && !is_wanted(&old, &user, "eve", NOW));
    }
}
