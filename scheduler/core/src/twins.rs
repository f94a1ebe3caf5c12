//! The model of tasks that two grants hold at once: the second grant, the *twin*, was made because the first one seemed to
//! stand still. Which tasks get one is decided in `tail`.
//!
//! Whichever of the two ends a task first has ended it. The other one goes on holding it, as a loser, until its worker
//! says something of it, gives it back or is gone: up to then a slot there is not free. When one of the two is given up
//! before the task has ended, the other simply holds it alone.

use std::collections::BTreeSet;

use phalanx_protocol::{GrantId, IndexRange, JobId, RangeSet};

use crate::job::Job;

/// What two grants of a job hold.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    /// Tasks that two grants hold, and that have not ended.
    pub(crate) running: RangeSet,
    /// Tasks that have ended, and that one grant still holds.
    pub(crate) losing: RangeSet,
    /// Grants that were made as second ones, and are open.
    second: BTreeSet<GrantId>,
    /// Most tasks that could be run a second time, as it was when the last such grant was made.
    tasks_max: u64,
    /// Slots that the job could use besides one for each of its tasks.
    pub(crate) slots_wanted: u64,
}

impl Twins {
    /// Notes that a grant has ended.
    pub(crate) fn closed(&mut self, grant: GrantId) {
        self.second.remove(&grant);
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty() && self.losing.is_empty()
    }
}

impl Job {
    /// Notes that `twin`, which is open, was granted tasks that `original` holds; the job may run up to `tasks_max` tasks
    /// a second time.
    pub(crate) fn twin_granted(
        &mut self,
        original: GrantId,
        twin: GrantId,
        range: IndexRange,
        tasks_max: u64,
    ) {
        // one whose own original is gone is nobody's second any more
        self.twins.second.remove(&original);
        self.twins.second.insert(twin);
        self.twins.running.insert(range);
        self.twins.tasks_max = tasks_max;
    }

    /// Tasks that are run a second time, in vain or not.
    pub(crate) fn speculated(&self) -> u64 {
        let second = self.twins.second.iter().filter_map(|twin| self.grants.get(twin));
        let rest = second.flat_map(|grant| grant.rest.iter());
        let twice = |range| {
            let running = self.twins.running.pieces(range);
            running.into_iter().chain(self.twins.losing.pieces(range))
        };
        rest.flat_map(twice).map(IndexRange::len).sum()
    }

    /// Lets tasks that a grant held wait again, unless their twins still run or they have ended.
    pub(crate) fn let_go(&mut self, range: IndexRange) {
        if self.twins.is_empty() {
            return self.wait_again(range);
        }
        let mut alone = RangeSet::from(range);
        for kept in [&mut self.twins.running, &mut self.twins.losing] {
            for piece in kept.pieces(range) {
                kept.remove(piece);
                alone.remove(piece);
            }
        }
        alone.iter().for_each(|range| self.wait_again(range));
    }

    /// Notes that tasks, which a grant has just lost because they ended in it, have perhaps left another one behind.
    pub(crate) fn twins_lose(&mut self, range: IndexRange) {
        for piece in self.twins.running.pieces(range) {
            self.twins.running.remove(piece);
            self.twins.losing.insert(piece);
        }
    }

    /// Closes what a worker says has ended, and which had ended elsewhere before; returns which tasks that were.
    pub(crate) fn close_losing(&mut self, grant: GrantId, range: IndexRange) -> Vec<IndexRange> {
        let Some(open) = self.grants.get(&grant).filter(|_| !self.twins.losing.is_empty()) else {
            return Vec::new();
        };
        let held = open.rest.pieces(range).into_iter();
        let losing: Vec<IndexRange> = held.flat_map(|piece| self.twins.losing.pieces(piece)).collect();
        for &piece in &losing {
            self.take_from_grant(grant, piece);
            self.twins.losing.remove(piece);
        }
        losing
    }

    /// Tasks that failed wait again: those that a loser still runs are tried again by that.
    pub(crate) fn losers_go_on(&mut self, range: IndexRange) {
        for piece in self.twins.losing.pieces(range) {
            self.twins.losing.remove(piece);
            self.waiting.remove(piece);
        }
    }

    /// What all grants hold and has not ended. Asserts what ONCE and SLOT say of twins.
    pub(crate) fn check_twins(&self, id: JobId) -> RangeSet {
        let (mut held, mut twice) = (RangeSet::new(), RangeSet::new());
        for range in self.grants.values().flat_map(|grant| grant.rest.iter()) {
            for piece in held.pieces(range) {
                assert!(
                    twice.pieces(piece).is_empty(),
                    "ONCE: job {id} has {piece} three times"
                );
                twice.insert(piece);
            }
            held.insert(range);
        }
        let running = &self.twins.running;
        assert_eq!(&twice, running, "ONCE: job {id} has tasks twice");
        assert!(
            running.is_empty() || self.spec.idempotent,
            "ONCE: job {id} may not run a task twice"
        );
        for range in self.twins.losing.iter() {
            let both = self.ended.contains_range(range) && held.contains_range(range);
            assert!(both, "ONCE: {range} of job {id} does not end twice");
            held.remove(range);
        }
        let (speculated, max) = (self.speculated(), self.twins.tasks_max);
        assert!(
            speculated <= max,
            "SLOT: job {id} runs {speculated} tasks twice, and may run {max}"
        );
        held
    }
}
