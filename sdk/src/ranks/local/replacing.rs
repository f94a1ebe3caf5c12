//! How ranks that are threads of this process follow each other: which gang is theirs now, and who replaces a rank that panics.
//!
//! The thread of a rank that panics lives on as its replacement's. Each replacement begins an epoch, with a gang of its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use phalanx_protocol::{GrantId, Term};

use super::{Formed, Hosted, LocalGang, live};
use crate::checkpoint::Vault;
use crate::context::TaskContext;
use crate::ranks::communicator::Communicator;
use crate::ranks::error::{CommError, Ending};
use crate::ranks::gang::{Gang, Notice};
use crate::ranks::loopback::Courier;
use crate::ranks::quic::JoinError;
use crate::ranks::remote::RemoteGang;
use crate::ranks::respawn::{Standing, Succession};

/// One run of a gang of threads, through all its epochs.
pub(super) struct Replacing {
    gang: LocalGang,
    /// Where checkpoints are kept, so that a replacement finds what its rank had.
    vault: Arc<Vault>,
    state: Mutex<State>,
    /// Rung when there is another epoch, and when a rank waits or has ended.
    change: Condvar,
}

struct State {
    epoch: u32,
    /// The epoch's gang, as each rank's node sees it.
    gangs: Vec<Arc<Gang>>,
    /// The hosts of all epochs, if they talk over QUIC.
    hosts: Vec<RemoteGang>,
    /// The couriers of all epochs, if messages are to be late.
    couriers: Vec<Courier>,
    /// The last epoch that each rank has entered.
    entered: Vec<u32>,
    ended: Vec<Option<Ending>>,
    /// How many ranks wait for the next epoch.
    waiting: usize,
    /// How many more may be replaced.
    replacements: u32,
    /// How many lives have begun.
    lives: u64,
}

impl State {
    fn announce(&self, rank: usize, ending: Ending) {
        let place = rank as u32;
        self.gangs[rank].announce(Notice::Ended { place, ending });
    }

    /// Whether nobody is left who could be replaced.
    fn is_last(&self) -> bool {
        let ended = self.ended.iter().flatten().count();
        self.replacements == 0 || self.waiting + ended == self.ended.len()
    }
}

impl Replacing {
    pub(super) fn begin(gang: LocalGang) -> Result<Arc<Self>, JoinError> {
        let Formed {
            seats,
            hosts,
            courier,
        } = gang.form()?;
        let ranks = seats.len();
        let state = State {
            epoch: 1,
            gangs: seats,
            hosts,
            couriers: courier.into_iter().collect(),
            entered: vec![0; ranks],
            ended: vec![None; ranks],
            waiting: 0,
            replacements: gang.replacements,
            lives: 0,
        };
        Ok(Arc::new(Self {
            gang,
            vault: Arc::new(Vault::in_memory()),
            state: Mutex::new(state),
            change: Condvar::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` on this thread as a rank, and again as what replaces it.
    pub(super) fn live<R>(
        self: &Arc<Self>,
        rank: usize,
        body: &(impl Fn(&Communicator) -> R + Sync),
    ) -> thread::Result<R> {
        loop {
            let (gang, standing) = self.enter(rank);
            let end = live(gang, rank, standing, body);
            if end.is_err() && self.replace() {
                continue;
            }
            let ending = match end {
                Ok(_) => Ending::Returned,
                Err(_) => Ending::Panicked,
            };
            self.end(rank, ending);
            return end;
        }
    }

    fn enter(self: &Arc<Self>, rank: usize) -> (Arc<Gang>, Standing) {
        let mut state = self.state();
        state.entered[rank] = state.epoch;
        state.lives += 1;
        let context = TaskContext::standalone_in(rank as u64, Arc::clone(&self.vault));
        context.begin(GrantId {
            term: Term(0),
            number: state.lives,
        });
        let standing = Standing {
            context,
            epoch: state.epoch,
            succession: Some(Arc::clone(self) as Arc<dyn Succession>),
        };
        (Arc::clone(&state.gangs[rank]), standing)
    }

    /// Begins an epoch in which a rank that has panicked is replaced; whether it is to be.
    fn replace(&self) -> bool {
        let mut state = self.state();
        if state.replacements == 0 {
            return false;
        }
        let Ok(Formed {
            seats,
            hosts,
            courier,
        }) = self.gang.form()
        else {
            return false;
        };
        state.replacements -= 1;
        // whoever has not come to the last one comes to the next
        let late = (0..seats.len()).filter(|&rank| state.entered[rank] != state.epoch);
        late.for_each(|rank| state.announce(rank, Ending::Left));
        state.epoch += 1;
        state.gangs = seats;
        state.hosts.extend(hosts);
        state.couriers.extend(courier);
        for (rank, ended) in state.ended.iter().enumerate() {
            ended.iter().for_each(|&ending| state.announce(rank, ending));
        }
        self.change.notify_all();
        true
    }

    /// Notes that a rank has ended, and nobody replaces it.
    pub(super) fn end(&self, rank: usize, ending: Ending) {
        let mut state = self.state();
        state.ended[rank] = Some(ending);
        // also where it never came
        state.announce(rank, ending);
        self.change.notify_all();
    }

    /// Ends what hosts of all epochs there are, after all ranks.
    pub(super) fn leave(&self) {
        let couriers = std::mem::take(&mut self.state().couriers);
        drop(couriers);
        let hosts = std::mem::take(&mut self.state().hosts);
        thread::scope(|scope| {
            for host in hosts {
                scope.spawn(|| host.leave());
            }
        });
    }
}

impl Succession for Replacing {
    fn next(&self, place: u32) -> Result<(Hosted, u32), CommError> {
        let rank = place as usize;
        let mut state = self.state();
        let before = state.entered[rank];
        state.waiting += 1;
        self.change.notify_all();
        let is_next = loop {
            if state.epoch > before || state.is_last() {
                break state.epoch > before;
            }
            state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting -= 1;
        if !is_next {
            return Err(CommError::NotReplaced);
        }
        state.entered[rank] = state.epoch;
        Ok((Hosted::of(Arc::clone(&state.gangs[rank])), state.epoch))
    }
}
