//! What whoever submits a job is told at once of workers that it names and that have not joined.

use std::collections::BTreeSet;

use phalanx::Client;
use phalanx_protocol::WorkerChoice;

use super::command::CommandDraft;
use crate::ui::error::CliError;
use crate::ui::style::printable;
use phalanx_protocol::hostlist::compress;

/// What a cluster has to say of a draft, a sentence each: workers that it waits for, and resources that nobody offers.
pub(crate) async fn remarks(client: &Client, draft: &CommandDraft) -> Result<Vec<String>, CliError> {
    let unoffered = draft.unoffered(client).await?;
    let absence = absence(client, &draft.spec.choice).await?;
    Ok(unoffered.into_iter().chain(absence).collect())
}

/// A sentence, if a job with this choice waits for workers to join.
pub(crate) async fn absence(client: &Client, choice: &WorkerChoice) -> Result<Option<String>, CliError> {
    if choice.is_free() {
        return Ok(None);
    }
    let workers = client.workers().await?;
    let here: BTreeSet<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
    Ok(sentence(choice, &here))
}

fn sentence(choice: &WorkerChoice, here: &BTreeSet<&str>) -> Option<String> {
    // without any worker there is more to say, and `explain` says it
    if here.is_empty() {
        return None;
    }
    let absent = |names: &BTreeSet<String>| -> Vec<String> {
        let absent = names.iter().filter(|name| !here.contains(name.as_str()));
        absent.cloned().collect()
    };
    let named = |names: &[String]| printable(&compress(names), 0);
    let demanded = absent(&choice.all_of);
    if !demanded.is_empty() {
        return Some(format!(
            "the job waits for workers that have not joined: {}",
            named(&demanded)
        ));
    }
    if here.iter().any(|name| choice.admits(name)) {
        return None;
    }
    let absent = absent(&choice.only);
    Some(match absent.is_empty() {
        true => {
            "the job waits for other workers: those that have joined are all among the excluded".to_owned()
        }
        false => format!(
            "the job waits for a worker that has not joined: it may run on {} only",
            named(&absent)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_workers_that_are_not_there_is_told() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let said = |only: &[&str], never: &[&str], here: &[&str]| {
            let choice = WorkerChoice {
                only: names(only),
                never: names(never),
                ..WorkerChoice::default()
            };
            sentence(&choice, &here.iter().copied().collect())
        };
        assert_eq!(said(&["n1", "n9"], &[], &["n1"]), None);
        assert_eq!(said(&["n9"], &[], &[]), None);
        assert!(
            said(&["n8", "n9"], &[], &["n1"])
                .unwrap()
                .contains("it may run on n[8-9] only")
        );
        assert!(
            said(&[], &["n1"], &["n1"])
                .unwrap()
                .contains("all among the excluded")
        );
    }
}
