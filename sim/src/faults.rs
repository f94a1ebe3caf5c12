//! What goes wrong, and how it is noticed.

use phalanx_scheduler_core::SessionId;
use phalanx_storage::slot::slot_key;
use phalanx_storage::snapshot::{SNAPSHOTS_KEPT, list_snapshots, read_snapshot, snapshot_key};

use crate::cluster::Cluster;
use crate::event::Event;
use crate::journal::{LOG, Planted};
use crate::network::{Node, Way};
use crate::weather::Fault;

/// How long silence is borne before a session is given up, in microseconds.
pub(crate) const SILENCE_MICROS: u64 = 3_000_000;
/// After how long the death of a process is noticed whose machine lives, in microseconds.
const DEATH_MICROS: u64 = 1_000_000;
/// How long a process may stand still that is stopped, in microseconds: longer than it may lead unheard.
const STOPPED_MICROS: u64 = 120_000_000;
/// The same for one that is stopped for longer than anything waits: three hours.
const STOPPED_LONG_MICROS: u64 = 10_800_000_000;
/// How far a clock jumps, either way, in milliseconds: a day.
const CLOCK_JUMP_MILLIS: u64 = 86_400_000;

impl Cluster {
    /// Lets something break, and schedules the next fault.
    pub(crate) fn fault_strikes(&mut self) {
        if self.weather.faults.is_empty() || !self.storm_lasts() {
            return;
        }
        let pause = self.dice.within(0..2 * self.weather.fault_every);
        self.agenda.after(pause, Event::FaultStrikes);
        let place = self.dice.within(0..self.workers.len() as u64) as usize;
        let scheduler = self.dice.within(0..self.schedulers.len() as u64) as usize;
        let now = self.agenda.now;
        match self.dice.pick(&self.weather.faults) {
            Fault::SessionLost => self.sessions_are_lost(place),
            Fault::WorkerCrash => self.worker_crashes(place),
            Fault::WorkerStall => self.worker_stalls(place),
            Fault::HostDeath => self.host_dies(place),
            Fault::WorkerDrain => self.drain((place, self.workers[place].instance)),
            Fault::WorkerStop => {
                let grace = self.dice.pick(&[0, 500_000, 5_000_000]);
                self.worker_is_stopped(place, grace);
            }
            Fault::SchedulerCrash => self.scheduler_crashes(scheduler),
            Fault::SchedulerPause => self.scheduler_pauses(scheduler),
            Fault::StorageFailure => {
                self.storage_fails_until = now + self.dice.within(100_000..4_000_000);
            }
            Fault::StorageSlowness => {
                self.storage_slow_until = now + self.dice.within(100_000..4_000_000);
            }
            Fault::LinkCut => self.link_is_cut(place, scheduler),
            Fault::Isolation => self.scheduler_is_isolated(scheduler),
            Fault::ClockJump => {
                let millis = self.dice.within(0..2 * CLOCK_JUMP_MILLIS) as i64;
                self.schedulers[scheduler].wall_offset_millis = millis - CLOCK_JUMP_MILLIS as i64;
            }
            Fault::Rot => self.something_rots(),
            // standbys and leaders do that by themselves
            Fault::Haste | Fault::TornWrite => {}
        }
    }

    /// Whether faults may still happen.
    pub(crate) fn storm_lasts(&self) -> bool {
        self.agenda.now < self.weather.ends_at
    }

    /// A session breaks; each end sees that when it sees it.
    pub(crate) fn break_session(&mut self, id: SessionId) {
        let session = self.network.sessions.get_mut(&id);
        if !session.is_some_and(crate::network::Session::break_off) {
            return;
        }
        let latest = if self.weather.is_gentle() {
            DEATH_MICROS
        } else {
            SILENCE_MICROS
        };
        let (at_worker, at_scheduler) = (self.dice.within(1_000..latest), self.dice.within(1_000..latest));
        self.agenda.after(at_worker, Event::WorkerNotices(id));
        self.agenda.after(at_scheduler, Event::SchedulerNotices(id));
    }

    /// A worker's session breaks, or everybody's at once.
    fn sessions_are_lost(&mut self, place: usize) {
        let everybody = self.dice.one_in(3);
        let hit = if everybody {
            0..self.workers.len()
        } else {
            place..place + 1
        };
        for place in hit {
            if let Some(session) = self.workers[place].session {
                self.break_session(session);
            }
        }
    }

    fn worker_crashes(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if !worker.alive {
            return;
        }
        worker.alive = false;
        worker.running.clear();
        if let Some(session) = worker.session.take() {
            self.break_session(session);
        }
        let pause = self.dice.within(100_000..8_000_000);
        self.agenda.after(pause, Event::WorkerStarts(place));
    }

    /// A worker stands still, perhaps for longer than silence is borne, and then goes on as if nothing had been.
    fn worker_stalls(&mut self, place: usize) {
        let stall = self.dice.within(10_000..2 * SILENCE_MICROS);
        let worker = &mut self.workers[place];
        worker.stalled_until = worker.stalled_until.max(self.agenda.now + stall);
        let life = (place, worker.instance);
        self.agenda.at(worker.stalled_until, Event::Wakes(life));
        if let Some(session) = worker.session.filter(|_| stall > SILENCE_MICROS) {
            self.agenda.after(SILENCE_MICROS, Event::SilenceDetected(session));
        }
    }

    /// A scheduler is stopped, perhaps for longer than anybody waits for it, and then goes on as if nothing had been.
    fn scheduler_pauses(&mut self, place: usize) {
        let longest = match self.weather.slots_left {
            Some(_) if self.planted == Planted::SleepsUnguarded => STOPPED_LONG_MICROS,
            Some(_) => self.dice.pick(&[
                2 * SILENCE_MICROS,
                STOPPED_MICROS,
                STOPPED_LONG_MICROS,
                STOPPED_LONG_MICROS,
            ]),
            None => self.dice.pick(&[2 * SILENCE_MICROS, STOPPED_MICROS]),
        };
        let pause = self.dice.within(10_000..longest);
        // the machine with it, so that its clocks do not tell
        let frozen = self.dice.one_in(2) || self.planted == Planted::SleepsUnguarded;
        let scheduler = &mut self.schedulers[place];
        if scheduler.is_down() || scheduler.paused_until > self.agenda.now {
            return;
        }
        if frozen {
            scheduler.frozen_micros += pause;
        }
        scheduler.paused_until = self.agenda.now + pause;
        let stint = (place, scheduler.stint);
        let until = scheduler.paused_until;
        self.agenda.at(until, Event::SchedulerWakes(place));
        if pause > SILENCE_MICROS {
            for session in self.network.sessions_of(stint) {
                self.agenda.after(SILENCE_MICROS, Event::SilenceDetected(session));
            }
        }
    }

    fn host_dies(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if !worker.alive || worker.stalled_until > self.agenda.now {
            return;
        }
        if let Some(job) = worker.busy_jobs().pop_first() {
            let mut acts = Vec::new();
            let life = (place, worker.instance);
            worker.host_dies(job, &mut self.load, &mut acts);
            self.act(life, acts);
        }
    }

    /// Two cannot reach each other, or one cannot reach the other.
    fn link_is_cut(&mut self, worker: usize, scheduler: usize) {
        let scheduler = Node::Scheduler(scheduler);
        let other = match self.dice.within(0..4) {
            0 => Node::Worker(worker),
            1 => Node::Client(self.dice.within(0..self.load.len() as u64) as usize),
            2 => Node::Scheduler(self.dice.within(0..self.schedulers.len() as u64) as usize),
            _ => Node::Store,
        };
        let micros = self.cut_micros();
        match self.dice.within(0..3) {
            0 => self.cut(other, scheduler, micros),
            1 => self.cut(scheduler, other, micros),
            _ => {
                self.cut(other, scheduler, micros);
                self.cut(scheduler, other, micros);
            }
        }
    }

    /// A scheduler reaches nobody; or nobody but the storage; or neither its like nor the storage.
    fn scheduler_is_isolated(&mut self, place: usize) {
        let micros = self.cut_micros();
        let kind = self.dice.within(0..3);
        let schedulers = (0..self.schedulers.len()).map(Node::Scheduler);
        let mut others: Vec<Node> = schedulers.collect();
        if kind != 1 {
            others.push(Node::Store);
        }
        if kind != 2 {
            others.extend((0..self.workers.len()).map(Node::Worker));
            others.extend((0..self.load.len()).map(Node::Client));
        }
        for other in others {
            self.cut(other, Node::Scheduler(place), micros);
            self.cut(Node::Scheduler(place), other, micros);
        }
    }

    /// One of several snapshots is damaged, or a slot that all of them cover and nobody needs.
    fn something_rots(&mut self) {
        let (store, shard) = (&*self.objects, LOG.shard);
        let listed = list_snapshots(store, shard).expect("objects can be listed");
        let whole = |&slot: &u64| matches!(read_snapshot(store, LOG, slot), Ok(Some(Ok(_))));
        if listed.len() < SNAPSHOTS_KEPT || !listed.iter().all(whole) {
            return;
        }
        let luck = self.dice.next();
        let snapshot = self.dice.pick(&listed);
        let covered = self.reader.unneeded_slots().filter(|slot| *slot <= listed[0]);
        let covered: Vec<u64> = covered.collect();
        let key = match self.dice.one_in(2) || covered.is_empty() {
            true => snapshot_key(shard, snapshot),
            false => slot_key(shard, self.dice.pick(&covered)),
        };
        self.objects.rot(&key, luck);
    }

    fn cut_micros(&mut self) -> u64 {
        let longest = self
            .dice
            .pick(&[SILENCE_MICROS, 2 * SILENCE_MICROS, 10 * SILENCE_MICROS]);
        self.dice.within(50_000..longest)
    }

    /// Nothing gets from one to the other for a while. Whoever hears nothing for too long gives a session up; the other
    /// end, which is still heard, learns that only later.
    fn cut(&mut self, from: Node, to: Node, micros: u64) {
        let is_long = micros > SILENCE_MICROS;
        let until = self.agenda.now + micros;
        for (session, way) in self.network.cut(from, to, until, is_long) {
            let later = self.dice.within(SILENCE_MICROS..2 * SILENCE_MICROS);
            let (at_worker, at_scheduler) = match way {
                Way::Up => (later, SILENCE_MICROS),
                Way::Down => (SILENCE_MICROS, later),
            };
            self.agenda.after(at_worker, Event::WorkerNotices(session));
            self.agenda.after(at_scheduler, Event::SchedulerNotices(session));
        }
    }
}
