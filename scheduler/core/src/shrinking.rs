//! Gangs that go on without the ranks that they lose.
//!
//! A rank is lost with its worker or with its host. Of a gang that is to shrink it has then ended, as lost, and is never started again
//! in this epoch; the others run on, learn of it from each other, and the job ends when they have. It has succeeded then, with
//! what they returned. What a rank fails of by itself is another matter: that fails the gang, or restarts it.
//!
//! All start again, as of any gang, if nobody would be left, if the hosts have not met yet, and if it is a new leader that
//! misses ranks: what these returned may have been lost with the old one.

use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::record::{FailureCause, Record, TaskFailure};
use phalanx_protocol::{GrantId, JobId, RangeSet, Usage, WorkerId};

use crate::cancelling::Run;
use crate::core::Core;
use crate::input::{Effect, Now};
use crate::job::Job;
use crate::losses::Loss;
use crate::planted::PlantedBug;

impl Core {
    /// Ends the ranks of a gang that wait, since they are lost, if the others are to go on; whether they are.
    pub(crate) fn go_on_without_lost(
        &mut self,
        now: Now,
        id: JobId,
        loss: &Loss,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.can_go_on()) else {
            return false;
        };
        let how = match loss {
            Loss::Worker(worker) => format!("worker {worker} was lost with it"),
            Loss::Host { cause, how } if *cause != FailureCause::TimeLimit => {
                format!("its host died: {how}")
            }
            Loss::Host { .. }
            | Loss::Rank(_)
            | Loss::Leader
            | Loss::Unstarted
            | Loss::Unmet { .. }
            | Loss::Returned { .. } => return false,
        };
        let message = match job.epoch() {
            1 => how,
            epoch => format!("{how} (in epoch {epoch})"),
        };
        let lost = std::mem::take(&mut job.waiting);
        for range in lost.iter() {
            job.note_ended(range);
            job.failed.insert(range);
        }
        let indices = lost.iter().flat_map(|range| range.start..range.end);
        let failed = indices.map(|index| TaskFailure {
            index,
            cause: FailureCause::Lost,
            message: message.clone(),
        });
        let failed = match self.planted.is(PlantedBug::ForgetsLostRanks) {
            true => Vec::new(),
            false => failed.collect(),
        };
        // it was perhaps only these that the others' results waited for
        let (done, results) = job.sift_ranks(RangeSet::new(), Vec::new());
        let record = Record::TasksEnded {
            job: id,
            done: done.into(),
            results,
            failed,
            usage: Usage::Unknown,
        };
        self.durability.append(record, effects);
        self.finish_if_over(now, id, effects);
        true
    }
}

impl Job {
    /// Whether it is a gang that is to go on without the ranks that it loses.
    pub(crate) fn goes_on_without_lost(&self) -> bool {
        let gang = self.spec.gang.as_ref();
        gang.is_some_and(|gang| gang.on_loss == OnLoss::Shrink)
    }

    /// Whether its failures are such that it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        match self.goes_on_without_lost() {
            true => self.gang.has_failed,
            false => !self.failed.is_empty(),
        }
    }

    /// Whether it can go on without the ranks that wait.
    pub(crate) fn can_go_on(&self) -> bool {
        let has_met = self.gang.granted && self.gang.meeting.is_met();
        let others = self.spec.tasks - self.failed.len() - self.waiting.len();
        self.goes_on_without_lost() && has_met && others > 0
    }

    /// Ranks that a worker brings back and that were taken for lost: they run in vain.
    pub(crate) fn lost_of(&self, worker: WorkerId, grant: GrantId, held: &RangeSet) -> Vec<Run> {
        let lost = held.iter().filter(|_| self.goes_on_without_lost());
        let lost = lost.flat_map(|range| self.failed.pieces(range));
        lost.map(|range| Run { worker, grant, range }).collect()
    }
}
