//! What ends an epoch of a gang before its time, and how often that may be.

use std::time::Duration;

use phalanx_protocol::WorkerId;
use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::record::{FailureCause, TaskFailure};

use crate::job::Job;
use crate::rendezvous::MEETING_WAIT;
use crate::trouble::{HostDeath, rest_until};

/// What ends an epoch before its time.
#[derive(Debug)]
pub(crate) enum Loss {
    /// A rank failed.
    Rank(TaskFailure),
    /// A worker is gone.
    Worker(WorkerId),
    /// The host of ranks died.
    Host { cause: FailureCause, how: String },
    /// Not all ranks were brought back to a new leader.
    Leader,
    /// A rank did not start where it was to.
    Unstarted,
    /// The host of a rank, which has not ended, does not listen to the others.
    Unmet { worker: WorkerId, rank: u64 },
    /// A rank returned after others were lost, and cannot meet those that replace them.
    Returned { rank: u64 },
}

/// What becomes of a gang that lost something.
pub(crate) enum Next {
    Again,
    Rest(Duration),
    Fail(FailureCause, String),
}

impl From<&HostDeath> for Loss {
    fn from(death: &HostDeath) -> Self {
        Self::Host {
            cause: death.cause,
            how: death.how.clone(),
        }
    }
}

impl Job {
    /// Counts a loss and decides.
    pub(crate) fn after_loss(&mut self, loss: &Loss, now: Duration) -> Next {
        let retries = self.spec.retries;
        let fails = self.spec.gang.as_ref().map(|gang| gang.on_loss) == Some(OnLoss::Fail);
        let (epoch, shrinks) = (self.epoch(), self.goes_on_without_lost());
        let allowed_losses = match fails {
            true => 0,
            false => retries
                .lost_limit
                .map_or(u32::MAX, |limit| limit.saturating_sub(1)),
        };
        let gang = &mut self.gang;
        let (cause, how, count, limit) = match loss {
            Loss::Rank(failure) if failure.cause == FailureCause::TimeLimit => {
                gang.timeouts = gang.timeouts.saturating_add(1);
                (
                    failure.cause,
                    failure.message.clone(),
                    gang.timeouts,
                    retries.timeouts,
                )
            }
            // nobody's fault who says so: another host was lost to it
            Loss::Rank(failure) if failure.cause == FailureCause::Lost && !shrinks => {
                gang.lost = gang.lost.saturating_add(1);
                (failure.cause, failure.message.clone(), gang.lost, allowed_losses)
            }
            Loss::Rank(failure) => {
                gang.errors = gang.errors.saturating_add(1);
                (
                    failure.cause,
                    failure.message.clone(),
                    gang.errors,
                    retries.errors,
                )
            }
            Loss::Host { cause, how } if *cause == FailureCause::TimeLimit => {
                gang.timeouts = gang.timeouts.saturating_add(1);
                (*cause, how.clone(), gang.timeouts, retries.timeouts)
            }
            Loss::Host { cause, how } => {
                gang.crashes = gang.crashes.saturating_add(1);
                let allowed = retries.crash_limit.saturating_sub(1);
                let how = format!("the host of some of its ranks died: {how}");
                (*cause, how, gang.crashes, if fails { 0 } else { allowed })
            }
            Loss::Worker(worker) => {
                gang.lost = gang.lost.saturating_add(1);
                let how = format!("worker {worker} was lost with some of its ranks");
                (FailureCause::Lost, how, gang.lost, allowed_losses)
            }
            Loss::Unmet { worker, .. } => {
                gang.lost = gang.lost.saturating_add(1);
                let seconds = MEETING_WAIT.as_secs();
                let how =
                    format!("the host of its ranks on worker {worker} did not listen within {seconds} s");
                (FailureCause::Lost, how, gang.lost, allowed_losses)
            }
            Loss::Leader if fails => {
                let how = "not all of its ranks were found again by a new leader".to_owned();
                (FailureCause::Lost, how, 1, 0)
            }
            Loss::Leader | Loss::Unstarted | Loss::Returned { .. } => return Next::Again,
        };
        // of such a gang, what is on record as lost is not what it failed of
        let cause = match shrinks && cause == FailureCause::Lost {
            true => FailureCause::Error,
            false => cause,
        };
        match (count <= limit, loss) {
            (true, Loss::Rank(_)) => Next::Rest(rest_until(&retries, count, now)),
            (true, _) => Next::Again,
            (false, _) if epoch > 1 => Next::Fail(cause, format!("{how} (in epoch {epoch})")),
            (false, _) => Next::Fail(cause, how),
        }
    }
}
