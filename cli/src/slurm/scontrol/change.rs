//! What `scontrol` does to jobs.

use phalanx::{Client, ClientError};
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::{IndexRange, RangeSet};

use super::super::entry::array;
use super::super::{Complaint, Name, elements, home, say};
use crate::batch::ids::{self, JobPart, JobWord};
use crate::cluster::Connected;
use crate::process::runtime;
use crate::ui::error::chain;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Hold,
    Release,
    Requeue,
    /// The same, and held.
    RequeueHold,
}

impl Change {
    pub(super) fn named(text: &str) -> Option<Self> {
        match text {
            "hold" | "uhold" => Some(Self::Hold),
            "release" => Some(Self::Release),
            "requeue" => Some(Self::Requeue),
            "requeuehold" => Some(Self::RequeueHold),
            _ => None,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Requeue | Self::RequeueHold => "requeue",
        }
    }
}

/// Changes jobs, each as far as possible; 1 if one could not be changed.
pub(super) fn change(change: Change, rest: &[&str], quiet: bool) -> Result<u8, Complaint> {
    let verb = change.verb();
    let words: Vec<JobWord> = rest
        .iter()
        .flat_map(|list| ids::split(list))
        .map(|word| JobWord::parse(word.trim_start_matches("jobid=").trim_start_matches("JobId=")))
        .collect::<Result<_, _>>()
        .map_err(|error| Complaint::new(error.to_string()))?;
    if words.is_empty() {
        return Err(Complaint::new(format!(
            "no job is named, as in scontrol {verb} 42"
        )));
    }
    runtime()?.block_on(async {
        let cluster = home::connected().await?;
        let mut code = 0;
        for word in &words {
            if let Err(why) = one(&cluster, change, word).await {
                code = 1;
                if !quiet {
                    say(
                        Name::Scontrol,
                        "error",
                        &format!("cannot {verb} job {word}: {why}"),
                    );
                }
            }
        }
        cluster.client.close().await;
        Ok(code)
    })
}

async fn one(cluster: &Connected, change: Change, word: &JobWord) -> Result<(), String> {
    let client = &cluster.client;
    let done = match change {
        Change::Hold | Change::Release if word.part != JobPart::Whole => {
            return Err(format!(
                "elements of an array are held and released together; name the array, {}",
                word.job
            ));
        }
        Change::Hold => client.hold(word.job).await,
        Change::Release => client.release(word.job).await,
        Change::Requeue => requeue(client, word).await,
        // held first, so that it does not begin in between
        Change::RequeueHold => match client.hold(word.job).await {
            Ok(()) => requeue(client, word).await,
            Err(ClientError::Refused(Refusal::Over(_))) => {
                return Err(
                    "it is over, and would begin before it is held; requeue starts it at once".to_owned(),
                );
            }
            Err(error) => Err(error),
        },
    };
    let is_unknown = |error: &ClientError| matches!(error, ClientError::Refused(Refusal::NoSuchJob(_)));
    done.map_err(|error| match is_unknown(&error) {
        true => "Invalid job id specified; squeue lists those that there are".to_owned(),
        false => chain(&error),
    })
}

/// Starts a job, or what of it is named, from the top.
async fn requeue(client: &Client, word: &JobWord) -> Result<(), ClientError> {
    let tasks = match &word.part {
        JobPart::Whole => None,
        JobPart::Position(index) => Some(vec![IndexRange::new(*index, index + 1)]),
        JobPart::Elements(wanted) => {
            let view = client.job(word.job).await?;
            let found = array(&view).map(|array| elements::ranges(array, wanted));
            match found.filter(|found| !found.is_empty()) {
                Some(found) => Some(found),
                None => return Err(ClientError::Refused(Refusal::NoSuchJob(word.job))),
            }
        }
    };
    let tasks = tasks.map(|ranges| {
        let mut set = RangeSet::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    });
    client.requeue(word.job, tasks).await.map(|_| ())
}
