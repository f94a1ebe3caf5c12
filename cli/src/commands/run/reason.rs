//! Says once why a job that was submitted a while ago has not begun. Decides nothing: the scheduler knows the reason.

use std::time::Duration;

use phalanx::Client;
use phalanx_protocol::JobId;
use phalanx_protocol::view::{Explanation, Verdict};

use crate::ui::views::verdict_text;

/// How long a job may take to begin before whoever waits is told why it does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for a while, and tells why nothing of the job has started by then; `None` if it has. It is not worth an error if
/// the scheduler does not answer: whoever follows the job learns of that too.
pub(super) async fn of(client: &Client, job: JobId) -> Option<String> {
    tokio::time::sleep(PATIENCE).await;
    text(&client.explain(job).await.ok()?)
}

fn text(explanation: &Explanation) -> Option<String> {
    let job = &explanation.job;
    let has_begun = job.started_unix_millis.is_some() || job.slots > 0 || job.done + job.failed > 0;
    let is_over =
        job.outcome.is_some() || matches!(explanation.verdict, Verdict::Finished | Verdict::Running);
    (!has_begun && !is_over).then(|| verdict_text(explanation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::job_view;

    #[test]
    fn a_job_that_has_begun_is_not_explained() {
        let mut explanation = Explanation {
            job: job_view(),
            verdict: Verdict::NoWorkers,
            idle: Vec::new(),
            offers: Vec::new(),
        };
        let job = &mut explanation.job;
        (job.slots, job.done, job.failed) = (0, 0, 0);
        (job.started_unix_millis, job.outcome) = (None, None);
        let told = text(&explanation).unwrap();
        assert_eq!(told, verdict_text(&explanation));
        let mut running = explanation.clone();
        running.job.slots = 1;
        assert_eq!(text(&running), None);
        // its tasks are being run again
        let mut begun = explanation.clone();
        begun.job.started_unix_millis = Some(1);
        assert_eq!(text(&begun), None);
        let over = Explanation {
            verdict: Verdict::Finished,
            ..explanation
        };
        assert_eq!(text(&over), None);
    }
}
