//! What the host's threads share: the open job, its grants, and who may run.
//!
//! One lock guards the decisions; nobody writes to the socket while holding it. Between two chunks a slot looks only
//! at two flags, which are set under the lock: [`Host::attention`] (come here before the next chunk) and
//! [`Host::leftovers`] (there is something better to do than to claim).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use phalanx_protocol::JobId;
use phalanx_protocol::id::GrantId;
use phalanx_protocol::message::host::FromHost;
use phalanx_protocol::range::IndexRange;

use super::board::Lines;
use super::gang_link::GangLink;
use super::grants::{Grant, Grants, Turn};
use super::inputs::ItemFiles;
use super::lock;
use super::pinning::AllCpus;
use super::places::Places;
use super::slot::{Seat, Slot};
use super::socket::{Outbox, frame};
use super::stops::Stops;
use crate::checkpoint::Vault;
use crate::kernel::runner::{Runner, Stop};

/// The job whose kernels run here.
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) runner: Box<dyn Runner>,
    pub(super) stops: Arc<Stops>,
    pub(super) files: ItemFiles,
    pub(super) vault: Arc<Vault>,
    /// How its host meets the others, if it is a gang on several nodes.
    pub(super) gang: Mutex<Option<Arc<GangLink>>>,
    opened: Instant,
}

impl Job {
    pub(super) fn new(id: JobId, runner: Box<dyn Runner>, storage: PathBuf) -> Self {
        Self {
            id,
            runner,
            stops: Arc::default(),
            files: ItemFiles::default(),
            vault: Arc::new(Vault::on_storage(storage)),
            gang: Mutex::default(),
            opened: Instant::now(),
        }
    }

    /// How long finished work may wait while slots are busy: a share of the job's age, so that short jobs are
    /// reported at once and long ones cost few messages.
    fn flush_interval(&self) -> Duration {
        (self.opened.elapsed() / 10).clamp(Duration::from_millis(2), Duration::from_millis(200))
    }
}

/// What the threads share.
pub(super) struct Host {
    state: Mutex<State>,
    /// Slots that have nothing to do wait here.
    work: Condvar,
    /// The timer waits here.
    tick: Condvar,
    attention: AtomicBool,
    leftovers: AtomicBool,
    /// Held while finished work is gathered.
    pub(super) flushing: Mutex<()>,
    pub(super) outbox: Outbox,
    pub(super) board: Lines,
    pub(super) cpus: AllCpus,
}

/// What the lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) job: Option<Arc<Job>>,
    pub(super) grants: Grants,
    pub(super) places: Places,
    pub(super) slots: Vec<Arc<Slot>>,
    /// Slots that may run.
    pub(super) limit: usize,
    /// Slots that do.
    running: usize,
    pub(super) paused: bool,
    /// The job ends; its slots are on their way here.
    closing: bool,
    /// The job cannot go on; it waits to be closed.
    broken: bool,
    /// The worker waits to hear that no more than `limit` slots run.
    slots_due: bool,
    stopped: bool,
    timer_waits: bool,
}

impl Host {
    pub(super) fn new(outbox: Outbox, board: Lines) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            tick: Condvar::new(),
            attention: AtomicBool::new(false),
            leftovers: AtomicBool::new(false),
            flushing: Mutex::default(),
            outbox,
            board,
            cpus: AllCpus::of_process(),
        }
    }

    /// Changes what is shared, then tells whom it concerns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, &Outbox) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state, &self.outbox);
        self.settle(&mut state);
        self.wake(&state);
        drop(state);
        self.outbox.send();
        result
    }

    /// Looks at what is shared.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }

    /// Sends what has become true and sets the slots' flags.
    fn settle(&self, state: &mut State) {
        if state.slots_due {
            let given_up = state.places.shrink(state.limit);
            if !given_up.is_empty() {
                self.outbox.post(frame(&FromHost::GaveUp(given_up)));
            }
        }
        if state.slots_due && state.running <= state.limit {
            state.slots_due = false;
            self.outbox.post(frame(&FromHost::Slots(state.limit as u32)));
        }
        if state.closing && state.running == 0 {
            state.close();
            self.outbox.post(frame(&FromHost::Closed));
        }
        let attention =
            state.paused || state.closing || state.broken || state.running > state.limit || state.stopped;
        self.attention.store(attention, Ordering::SeqCst);
        self.leftovers
            .store(state.grants.has_leftovers(), Ordering::SeqCst);
        if attention {
            state.slots.iter().for_each(|slot| slot.interrupt());
        }
    }

    /// Wakes as many as there is something for.
    fn wake(&self, state: &State) {
        if state.can_start() {
            match state.grants.backlog() {
                1 => self.work.notify_one(),
                _ => self.work.notify_all(),
            }
            if state.timer_waits {
                self.tick.notify_one();
            }
        }
    }

    /// Wakes all threads, to look whether they are to end.
    pub(super) fn wake_all(&self) {
        let _state = lock(&self.state);
        self.work.notify_all();
        self.tick.notify_all();
    }

    /// What a slot does next, up to `count` tasks if they are claimed for it. Waits until there is something; none
    /// once the slot is to end. On the way out of running, what the slots finished is sent.
    pub(super) fn next_turn(&self, slot: &Slot, seat: &mut Seat, count: u64) -> Option<(Arc<Job>, Turn)> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped || slot.is_retired() {
                self.leave(&mut state, slot, seat);
                return None;
            }
            if let Some(turn) = state.turn(slot, *seat, count) {
                self.leftovers
                    .store(state.grants.has_leftovers(), Ordering::SeqCst);
                state.running += usize::from(*seat == Seat::Parked);
                *seat = Seat::Running;
                return Some(turn);
            }
            if *seat == Seat::Running {
                *seat = Seat::Leaving;
                drop(state);
                self.flush();
                state = lock(&self.state);
                continue;
            }
            self.leave(&mut state, slot, seat);
            if self.outbox.has_posts() {
                drop(state);
                self.outbox.send();
                state = lock(&self.state);
                continue;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, state: &mut State, slot: &Slot, seat: &mut Seat) {
        if *seat != Seat::Parked {
            *seat = Seat::Parked;
            state.running -= 1;
            state.places.leave(slot.index());
            self.settle(state);
        }
    }

    /// Takes back what a slot claimed and did not start.
    pub(super) fn put_back(&self, job: &Arc<Job>, grant: &Arc<Grant>, range: IndexRange) {
        self.change(|state, outbox| {
            if state.accepts(job) {
                let (stopped, rest) = job.stops.sift(grant.id, range);
                post_stopped(outbox, grant.id, stopped);
                rest.into_iter()
                    .for_each(|range| state.grants.put_back(grant, range));
                state.give_back_if_idle(outbox);
            }
        });
    }

    /// Ends tasks of a grant, if they run, and starts none of the others.
    pub(super) fn stop_tasks(&self, grant: GrantId, range: IndexRange) {
        let job = self.change(|state, outbox| {
            let job = state.job.clone().filter(|_| state.is_open())?;
            job.stops.stop(grant, range);
            let stopped = state.grants.take_stopped(grant, &job.stops);
            post_stopped(outbox, grant, stopped);
            // what slots have claimed and not started comes back
            state.slots.iter().for_each(|slot| slot.interrupt());
            Some(job)
        });
        if let Some(job) = job {
            job.runner.stop(Stop::Tasks(grant, range));
        }
    }

    /// Whether a slot should ask for its next turn before it claims more.
    pub(super) fn is_wanted(&self) -> bool {
        self.attention.load(Ordering::SeqCst) || self.leftovers.load(Ordering::Relaxed)
    }

    /// Whether a slot must not start a task that it has claimed.
    pub(super) fn must_stop(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// The timer's loop: while slots run, sends what they finished, and interrupts those whose chunk takes too long.
    pub(super) fn run_timer(&self) {
        let mut state = lock(&self.state);
        let mut seen = Vec::new();
        while !state.stopped {
            let busy = state.running > 0 || state.can_start();
            let interval = state
                .job
                .as_ref()
                .filter(|_| busy)
                .map(|job| job.flush_interval());
            let Some(interval) = interval else {
                state.timer_waits = true;
                state = self.tick.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.timer_waits = false;
                continue;
            };
            state = self.wait_for(state, interval);
            let slots = state.slots.clone();
            drop(state);
            seen.resize(slots.len(), 0);
            for (slot, seen) in slots.iter().zip(&mut seen) {
                let chunk = slot.chunk_number();
                if std::mem::replace(seen, chunk) == chunk {
                    slot.interrupt();
                }
            }
            self.flush();
            state = lock(&self.state);
        }
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, interval: Duration) -> MutexGuard<'a, State> {
        let waited = self.tick.wait_timeout(state, interval);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Tells the worker what will not be started.
fn post_stopped(outbox: &Outbox, grant: GrantId, stopped: Vec<IndexRange>) {
    for range in stopped {
        outbox.post(frame(&FromHost::Stopped { grant, range }));
    }
}

impl State {
    /// Whether a slot that does not run could.
    fn can_start(&self) -> bool {
        !self.paused && !self.closing && !self.broken && self.running < self.limit && self.grants.has_work()
    }

    /// Something to do for a slot, if it may run.
    fn turn(&mut self, slot: &Slot, seat: Seat, count: u64) -> Option<(Arc<Job>, Turn)> {
        let others = self.running - usize::from(seat != Seat::Parked);
        if self.paused || self.closing || self.broken || others >= self.limit {
            return None;
        }
        if !self.places.admit(slot.index()) {
            return None;
        }
        let job = self.job.as_ref()?;
        let mut turn = self.grants.next(count, job.stops.count())?;
        turn.place = self.places.enter(slot.index());
        Some((Arc::clone(job), turn))
    }

    /// Whether `job` is open and will go on.
    pub(super) fn accepts(&self, job: &Arc<Job>) -> bool {
        !self.closing && !self.broken && self.job.as_ref().is_some_and(|open| Arc::ptr_eq(open, job))
    }

    /// Whether grants are of use.
    pub(super) fn is_open(&self) -> bool {
        self.job.is_some() && !self.closing && !self.broken
    }

    /// Begins to end the job.
    pub(super) fn begin_close(&mut self) {
        self.closing = true;
        self.end_tasks();
    }

    /// Stops a job that cannot go on.
    pub(super) fn begin_broken(&mut self) {
        self.broken = true;
        self.end_tasks();
    }

    fn end_tasks(&mut self) {
        self.grants.clear();
        if let Some(job) = &self.job {
            job.stops.stop_all();
            job.runner.stop(Stop::InGrace);
        }
    }

    /// Forgets the job, once nothing of it runs.
    fn close(&mut self) {
        debug_assert!(self.running == 0, "slots run while a job is closed");
        self.slots.iter().for_each(|slot| drop(slot.take_output()));
        self.job = None;
        self.places = Places::default();
        self.limit = 0;
        (self.closing, self.broken, self.paused, self.slots_due) = (false, false, false, false);
    }

    /// Lets up to `limit` slots run.
    pub(super) fn set_limit(&mut self, limit: usize, outbox: &Outbox) {
        self.limit = limit;
        self.slots_due = true;
        self.give_back_if_idle(outbox);
    }

    /// Gives back what slots claimed and did not start if none may run any more: a revoke does not reach it, and a worker
    /// that is to leave would wait for it for ever.
    fn give_back_if_idle(&mut self, outbox: &Outbox) {
        if self.limit > 0 {
            return;
        }
        for (grant, range) in self.grants.take_leftovers() {
            outbox.post(frame(&FromHost::Returned { grant, range }));
        }
    }

    /// Ends all slots, whatever they do.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.end_tasks();
    }
}
