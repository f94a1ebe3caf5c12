//! Where workers live: what reaches them, what they say, and when they connect.

use phalanx_protocol::WorkerId;
use phalanx_protocol::message::worker::{FromWorker, ToWorker};
use phalanx_scheduler_core::SessionId;

use crate::cluster::Cluster;
use crate::event::{Event, Life};
use crate::faults::SILENCE_MICROS;
use crate::invariants::Gate;
use crate::journal::Planted;
use crate::leaving::Presence;
use crate::network::{Node, Stream, Way};
use crate::worker::{Act, Worker};

impl Cluster {
    pub(crate) fn worker_starts(&mut self, place: usize) {
        let instance = u128::from(self.dice.next());
        self.workers[place] = Worker::new(self.weather.nodes[place].clone(), instance);
        self.agenda.after(0, Event::Connect((place, instance)));
    }

    pub(crate) fn send_to_worker(&mut self, place: usize, worker: WorkerId, message: ToWorker) {
        let now = self.agenda.now;
        let earliest = now + self.dice.within(self.weather.delay.clone());
        let leader = self.schedulers[place].leader();
        let Some(&session) = leader.and_then(|leader| leader.current.get(&worker)) else {
            return;
        };
        if let Some(arrival) = self.network.arrival(session, Stream::ControlDown, earliest, now) {
            self.agenda.at(arrival, Event::Told(session, message));
        }
    }

    /// A worker that stood still goes on, with what was held up, in order.
    pub(crate) fn wakes(&mut self, life: Life) {
        let worker = &mut self.workers[life.0];
        if worker.instance == life.1 && worker.stalled_until <= self.agenda.now {
            for event in std::mem::take(&mut worker.held_up) {
                self.at_worker(life, event);
            }
        }
    }

    /// Something happens at a worker, unless it has died since, or is stalled.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller passes a worker's events only"
    )]
    pub(crate) fn at_worker(&mut self, life: Life, event: Event) {
        let (place, instance) = life;
        let worker = &mut self.workers[place];
        if !worker.alive || worker.instance != instance {
            return;
        }
        if worker.stalled_until > self.agenda.now {
            return worker.held_up.push_back(event);
        }
        let mut acts = Vec::new();
        match event {
            Event::Told(session, message) => {
                if worker.session != Some(session) || !self.network.is_up(session, Way::Down) {
                    return;
                }
                if worker.is_stale(&message) && self.planted != Planted::WorkersIgnoreTerms {
                    return self.leave(life, session);
                }
                let term = self.network.sessions[&session].term;
                self.invariants.terms.obeys(life, term);
                if let ToWorker::Acknowledge { number } = message {
                    let ledger = &self.invariants.ledger;
                    let kept = worker.kept_up_to(number);
                    kept.for_each(|report| self.invariants.keep.forgotten(report, ledger));
                }
                let cannot_run = |plan| self.weather.cannot_run(place, plan);
                worker.told(message, cannot_run, &mut acts);
            }
            Event::WorkerNotices(session) => {
                if worker.session == Some(session) {
                    self.leave(life, session);
                }
                return;
            }
            Event::ChunkEnded(_, chunk) => worker.chunk_ended(chunk, &mut self.load, &mut acts),
            Event::ReportDue(_) => worker.report(&mut acts),
            Event::GraceEnds(_) => return self.grace_ends(life),
            Event::Connect(_) => return self.connect(life),
            _ => unreachable!("only a worker's events come here"),
        }
        worker.start_what_fits(&self.load, &mut acts);
        self.invariants.slot.check_running(worker);
        self.act(life, acts);
        self.leaves_if_done(life);
    }

    /// A worker gives a session up and looks for another scheduler.
    fn leave(&mut self, life: Life, session: SessionId) {
        self.break_session(session);
        let worker = &mut self.workers[life.0];
        worker.disconnected();
        worker.aim = (worker.aim + 1) % self.schedulers.len();
        let micros = self.dice.within(20_000..500_000);
        self.agenda.after(micros, Event::Connect(life));
    }

    /// A worker tries the next scheduler; one that does not lead sends it away, one that is stopped says nothing.
    fn connect(&mut self, life: Life) {
        let worker = &mut self.workers[life.0];
        if worker.session.is_some() {
            return;
        }
        let (now, place) = (self.agenda.now, worker.aim);
        let (me, it) = (Node::Worker(life.0), Node::Scheduler(place));
        let scheduler = &self.schedulers[place];
        let answers = scheduler.paused_until <= now && self.network.connects(me, it, now);
        if let Some(leader) = scheduler.leader().filter(|_| answers) {
            let session = self.network.open(life, (place, scheduler.stint), leader.term);
            let worker = &mut self.workers[life.0];
            let mut acts = vec![Act::Say(FromWorker::Join(worker.connected(session)))];
            acts.extend((worker.presence == Presence::Draining).then_some(Act::Say(FromWorker::Draining)));
            return self.act(life, acts);
        }
        worker.aim = (place + 1) % self.schedulers.len();
        let wait = if answers { 200_000 } else { SILENCE_MICROS };
        self.agenda
            .after(self.dice.within(50_000..wait), Event::Connect(life));
    }

    /// Where workers go on with what they run whatever happens, nothing is started twice; where nothing happens, nothing that
    /// has done harm as often as it may is started.
    fn note_start(&mut self, place: usize, chunk: u64) {
        let started = &self.workers[place].running[&chunk];
        let gate = Gate {
            ledger: &self.invariants.ledger,
            load: &self.load,
            weather: &self.weather,
            jobs: &self.invariants.live.jobs,
            now: self.agenda.now,
        };
        gate.started(started);
        if self.weather.is_calm() {
            let plan = &self.load[started.plan];
            self.invariants.blame.started_in_calm(started, plan);
        }
        if !self.weather.is_gentle() || self.load[started.plan].runs_again() {
            return;
        }
        // until a job is durable, its number may become another's
        let entry = self.invariants.ledger.jobs.get(&started.job);
        let is_its = entry.is_some_and(|entry| started.grant.term >= entry.term);
        if self.weather.is_calm() || is_its {
            let idempotent = self.load[started.plan].spec.idempotent;
            let once = &mut self.invariants.once;
            once.started(started.job, started.range, idempotent);
        }
    }

    pub(crate) fn act(&mut self, life: Life, acts: Vec<Act>) {
        for act in acts {
            let (stream, message) = match act {
                Act::StartChunk { chunk, micros } => {
                    self.note_start(life.0, chunk);
                    self.agenda.after(micros, Event::ChunkEnded(life, chunk));
                    continue;
                }
                Act::ReportAfter { micros } => {
                    self.agenda.after(micros, Event::ReportDue(life));
                    continue;
                }
                Act::Say(message) => (Stream::ControlUp, Ok(message)),
                Act::SendReport(report) => (Stream::ReportsUp, Err(report)),
            };
            let now = self.agenda.now;
            let earliest = now + self.dice.within(self.weather.delay.clone());
            let Some(session) = self.workers[life.0].session else {
                continue;
            };
            if let Some(arrival) = self.network.arrival(session, stream, earliest, now) {
                let event = match message {
                    Ok(message) => Event::Said(session, message),
                    Err(report) => Event::Reported(session, report),
                };
                self.agenda.at(arrival, event);
            }
        }
    }
}
