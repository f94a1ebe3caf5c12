//! Ranks that go on in another gang than they began in: after a loss, with replacements for those that were lost.
//!
//! A gang has as many ranks as it ever had, and those that are lost stay lost to it. So the ranks that are left leave it and meet the
//! replacements in a new one, whose ranks have the same numbers and whose hosts have met anew: nothing that was under way among the
//! old ones is ever received there. Whoever waits for a rank that has left hears that, and follows it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::communicator::{Communicator, Endpoint};
use super::error::{CommError, Ending};
use super::gang::{Gang, Notice};
use super::local::Hosted;
use crate::context::TaskContext;

/// Where ranks go on after a loss.
pub(crate) trait Succession: Send + Sync {
    /// Waits for the gang that comes after the one that the rank at `place` has left, and enters it: the gang and its epoch.
    ///
    /// # Errors
    /// [`CommError::NotReplaced`] and [`CommError::Over`].
    fn next(&self, place: u32) -> Result<(Hosted, u32), CommError>;
}

/// What a rank is, beside being one of its gang.
pub(crate) struct Standing {
    /// The task that it is.
    pub(crate) context: TaskContext,
    /// In which start of its gang, or of ranks that it lost, it begins, from 1.
    pub(crate) epoch: u32,
    /// Where it goes on when others are lost, if it does.
    pub(crate) succession: Option<Arc<dyn Succession>>,
}

/// A rank's life, through all gangs that it takes part in.
pub(super) struct Life {
    place: u32,
    context: TaskContext,
    succession: Option<Arc<dyn Succession>>,
    /// The gang that it is in now.
    gang: RefCell<Arc<Gang>>,
}

impl Life {
    /// The life of the rank at `place`, and its communicator. It lives in this process and on this thread.
    pub(super) fn begin(gang: Arc<Gang>, place: u32, standing: Standing) -> (Rc<Self>, Communicator) {
        let Standing {
            context,
            epoch,
            succession,
        } = standing;
        let life = Rc::new(Self {
            place,
            context,
            succession,
            gang: RefCell::new(gang),
        });
        let world = life.world(epoch);
        (life, world)
    }

    pub(super) fn context(&self) -> &TaskContext {
        &self.context
    }

    /// The communicator of all ranks of the gang that it is in.
    fn world(self: &Rc<Self>, epoch: u32) -> Communicator {
        let gang = Arc::clone(&self.gang.borrow());
        Communicator::world(Rc::new(Endpoint::new(gang, self.place, Rc::clone(self), epoch)))
    }

    /// Takes part in nothing more of the gang that it is in.
    pub(super) fn leave(&self, ending: Ending) -> Arc<Gang> {
        let gang = Arc::clone(&self.gang.borrow());
        let place = self.place;
        gang.announce(Notice::Ended { place, ending });
        gang
    }

    fn go_on(self: &Rc<Self>, from: &Endpoint) -> Result<Communicator, CommError> {
        let succession = self.succession.as_ref().ok_or(CommError::NotReplaced)?;
        // else it would wait for what never comes
        if !from.knows_failures() {
            return Err(CommError::NobodyFailed);
        }
        self.leave(Ending::Left);
        let (gang, epoch) = succession.next(self.place)?;
        *self.gang.borrow_mut() = gang.into_gang();
        Ok(self.world(epoch))
    }
}

impl Communicator {
    /// Goes on after a loss, with replacements for the ranks that are lost: gives the communicator of all ranks of the gang's
    /// [next epoch](Self::epoch), with as many ranks as ever, each under its old number. The replacements run the same function from
    /// its beginning, and that communicator is the one they are given. Collective among the ranks that are left, on whichever of
    /// their communicators: it leaves the gang as it was, so who still waits for this rank on an old communicator is told that it
    /// has [left](Ending::Left), and is to call it, too. Usually all [restore](Self::restore) what they had, next.
    ///
    /// Waits until there is room for the replacements and all have met, for as long as the job may take; what is lost meanwhile is
    /// replaced, too. For jobs that [respawn](crate::Ranks::respawn_on_loss), and for
    /// [gangs of threads](super::LocalGang::respawn) that do.
    ///
    /// ```
    /// use phalanx::{CheckpointError, Communicator};
    /// use phalanx::ranks::LocalGang;
    ///
    /// fn count(comm: &Communicator, steps: u64) -> Result<u64, CheckpointError> {
    ///     match advance(comm, steps) {
    ///         Err(_) if !comm.failed().is_empty() => count(&comm.respawn()?, steps),
    ///         result => result,
    ///     }
    /// }
    ///
    /// fn advance(comm: &Communicator, steps: u64) -> Result<u64, CheckpointError> {
    ///     let (mut step, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
    ///     while step < steps {
    ///         if step == 5 && comm.rank() == 1 && comm.epoch() == 1 {
    ///             panic!("as if its node were lost");
    ///         }
    ///         sum += comm.all_reduce(step, |a, b| a + b)?;
    ///         step += 1;
    ///         comm.checkpoint(&(step, sum))?;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// let sums = LocalGang::new(3).respawn(1).run(|comm| count(comm, 10));
    /// assert!(sums.into_iter().all(|sum| sum.unwrap().unwrap() == 3 * 45));
    /// ```
    ///
    /// # Errors
    /// [`CommError::NobodyFailed`] as long as it is not known here that a rank has, [`CommError::NotReplaced`] if this gang replaces
    /// nobody, and [`CommError::Over`] if it is ended, or all of it starts again.
    pub fn respawn(&self) -> Result<Communicator, CommError> {
        let endpoint = self.endpoint();
        endpoint.life().go_on(endpoint)
    }
}
