//! What goes wrong, and how it is noticed.

use phalanx_scheduler_core::{Input, SessionId};

use crate::cluster::Cluster;
use crate::event::Event;
use crate::weather::Fault;

/// How long silence is borne before a session is given up, in microseconds.
const SILENCE_MICROS: u64 = 3_000_000;

impl Cluster {
    /// Lets something break, and schedules the next fault.
    pub(crate) fn fault_strikes(&mut self) {
        if self.weather.faults.is_empty() || self.agenda.now >= self.weather.ends_at {
            return;
        }
        let pause = self.dice.within(0..2 * self.weather.fault_every);
        self.agenda.after(pause, Event::FaultStrikes);
        let place = self.dice.within(0..self.workers.len() as u64) as usize;
        match self.dice.pick(&self.weather.faults) {
            Fault::SessionLost => {
                if let Some(session) = self.workers[place].session {
                    self.break_session(session);
                }
            }
            Fault::WorkerCrash => self.worker_crashes(place),
            Fault::WorkerStall => self.worker_stalls(place),
            Fault::SchedulerCrash => self.scheduler_crashes(),
            Fault::StorageFailure => self.storage_fails(),
            Fault::HostDeath => self.host_dies(place),
        }
    }

    /// A session breaks; each end sees that when it sees it.
    pub(crate) fn break_session(&mut self, session: SessionId) {
        let Some(broken) = self
            .network
            .sessions
            .get_mut(&session)
            .filter(|session| !session.broken)
        else {
            return;
        };
        broken.broken = true;
        let (at_worker, at_scheduler) = (
            self.dice.within(1_000..SILENCE_MICROS),
            self.dice.within(1_000..SILENCE_MICROS),
        );
        self.agenda.after(at_worker, Event::WorkerNotices(session));
        self.agenda.after(at_scheduler, Event::SchedulerNotices(session));
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

    fn scheduler_crashes(&mut self) {
        if self.core.take().is_none() {
            return;
        }
        let landed = self.dice.one_in(2) && !self.storage.failing;
        let records = self.storage.abandon(landed);
        self.take_in(&records);
        let sessions: Vec<SessionId> = self.network.sessions.keys().copied().collect();
        sessions
            .into_iter()
            .for_each(|session| self.break_session(session));
        self.network.current.clear();
        let pause = self.dice.within(50_000..4_000_000);
        self.agenda.after(pause, Event::SchedulerStarts);
    }

    fn storage_fails(&mut self) {
        if self.storage.failing {
            return;
        }
        self.storage.failing = true;
        let pause = self.dice.within(100_000..4_000_000);
        self.agenda.after(pause, Event::StorageRecovers);
        let error = Some("input/output error".to_owned());
        self.tell(Input::StorageChanged { error });
    }

    fn host_dies(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if !worker.alive || worker.stalled_until > self.agenda.now {
            return;
        }
        if let Some(job) = worker.busy_jobs().pop_first() {
            let mut acts = Vec::new();
            let life = (place, worker.instance);
            worker.host_dies(job, &mut acts);
            self.act(life, acts);
        }
    }
}
