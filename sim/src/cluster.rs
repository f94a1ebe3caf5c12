//! Who meets whom: schedulers, workers, clients and the storage, tied together by events in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::Term;
use phalanx_scheduler_core::{Core, RequestId};

use crate::clients::Asked;
use crate::dice::{Dice, mix};
use crate::event::{Agenda, Event};
use crate::invariants::Invariants;
use crate::journal::Planted;
use crate::load::Plan;
use crate::network::{Network, Way};
use crate::objects::Objects;
use crate::past;
use crate::reader::Reader;
use crate::scheduler::Scheduler;
use crate::torn::Mended;
use crate::weather::{Climate, Weather};
use crate::worker::Worker;

/// How long a job may take once faults have stopped, in microseconds.
const PATIENCE_MICROS: u64 = 20_000_000_000;
/// Makes a core that leads a term.
pub type MakeCore = fn(Term) -> Core;

/// How far a run goes, and where it takes place.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What may go wrong at all.
    pub climate: Climate,
    /// Events after which a run is ended, whatever is left to do.
    pub steps_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            climate: Climate::Any,
            steps_max: 2_000_000,
        }
    }
}

/// What a run was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Events that happened.
    pub steps: u64,
    /// A hash of all events, in order.
    pub trace: u64,
    /// Jobs that ended.
    pub jobs_ended: usize,
    /// Leaderships.
    pub terms: u64,
    /// In what ways tasks failed, jobs ended and workers left.
    pub endings: BTreeSet<String>,
}

pub(crate) struct Cluster {
    pub(crate) agenda: Agenda,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) network: Network,
    pub(crate) objects: Arc<Objects>,
    /// All creates fail before this time.
    pub(crate) storage_fails_until: u64,
    /// All answers take long before this time.
    pub(crate) storage_slow_until: u64,
    /// Asks nobody what the log says.
    pub(crate) reader: Reader,
    pub(crate) schedulers: Vec<Scheduler>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) invariants: Invariants,
    pub(crate) load: Vec<Plan>,
    /// Makes cores with a bug.
    pub(crate) make_core: Option<MakeCore>,
    pub(crate) planted: Planted,
    /// The scheduler that the client of each plan asks next.
    pub(crate) aims: Vec<usize>,
    /// Plans whose clients want failed tasks to be run again, and were not answered.
    pub(crate) retries_wanted: BTreeSet<usize>,
    pub(crate) requests_made: u64,
    pub(crate) requests: BTreeMap<RequestId, Asked>,
    /// Nothing more is waited for.
    pub(crate) gave_up: bool,
    trace: u64,
    steps: u64,
}

/// Runs a seed to its end.
///
/// # Panics
/// If an invariant does not hold, with its name.
pub fn run(seed: u64, limits: &Limits) -> Summary {
    run_with(seed, limits, None, Planted::Nothing)
}

/// Runs a seed with a bug on purpose: in a core that is made differently, or around it.
///
/// # Panics
/// If an invariant does not hold, with its name.
pub fn run_with(seed: u64, limits: &Limits, make_core: Option<MakeCore>, planted: Planted) -> Summary {
    let mut cluster = Cluster::new(seed, limits.climate, make_core, planted);
    while cluster.steps < limits.steps_max && !cluster.is_over() {
        cluster.step();
    }
    cluster
        .invariants
        .terms
        .check_log(&Mended(Arc::clone(&cluster.objects)), &cluster.reader.records);
    let outcomes = cluster
        .invariants
        .ledger
        .jobs
        .values()
        .filter(|entry| entry.outcome.is_some());
    Summary {
        elapsed: Duration::from_micros(cluster.agenda.now),
        steps: cluster.steps,
        trace: cluster.trace,
        jobs_ended: outcomes.count(),
        terms: cluster.invariants.terms.count(),
        endings: cluster.invariants.blame.endings,
    }
}

impl Cluster {
    fn new(seed: u64, climate: Climate, make_core: Option<MakeCore>, planted: Planted) -> Self {
        let mut dice = Dice::new(mix(seed));
        let weather = Weather::draw(&mut dice, climate);
        let load = Plan::draw_all(&mut dice, &weather.nodes);
        let mut agenda = Agenda::default();
        for (number, plan) in load.iter().enumerate() {
            agenda.at(plan.submit_at, Event::Submit(number));
            if let Some(cancel_at) = plan.cancel_at {
                agenda.at(cancel_at, Event::Cancel(number));
            }
            if let Some((cancel_at, _)) = plan.tasks_cancelled {
                agenda.at(cancel_at, Event::CancelTasks(number));
            }
            if let Some(hold_at) = plan.waits.hold_at {
                agenda.at(hold_at, Event::Hold(number, true));
            }
            if let Some(release_at) = plan.waits.release_at {
                agenda.at(release_at, Event::Hold(number, false));
            }
        }
        let wanted = load.iter().enumerate().filter(|(_, plan)| plan.retried);
        let retries_wanted: BTreeSet<usize> = wanted.map(|(number, _)| number).collect();
        for &plan in &retries_wanted {
            agenda.at(load[plan].submit_at, Event::Retry(plan));
        }
        (0..weather.nodes.len())
            .for_each(|worker| agenda.at(dice.within(0..2_000_000), Event::WorkerStarts(worker)));
        (0..weather.schedulers).for_each(|place| agenda.at(0, Event::SchedulerStarts(place)));
        agenda.at(0, Event::FaultStrikes);
        agenda.at(weather.ends_at + PATIENCE_MICROS, Event::PatienceEnds);
        let worker = |node: &crate::weather::Node| {
            let mut worker = Worker::new(node.clone(), 0);
            worker.alive = false;
            worker
        };
        let objects = Arc::new(Objects::default());
        let aged = weather
            .slots_left
            .map(|slots_left| past::age(&objects, slots_left));
        let reader = Reader::new(aged.as_ref());
        let mut invariants = Invariants::default();
        invariants.live.jobs = vec![None; load.len()];
        Self {
            agenda,
            dice,
            network: Network::default(),
            objects,
            storage_fails_until: 0,
            storage_slow_until: 0,
            reader,
            schedulers: (0..weather.schedulers).map(|_| Scheduler::default()).collect(),
            workers: weather.nodes.iter().map(worker).collect(),
            weather,
            invariants,
            aims: vec![0; load.len()],
            load,
            make_core,
            planted,
            retries_wanted,
            requests_made: 0,
            requests: BTreeMap::new(),
            trace: 0,
            steps: 0,
            gave_up: false,
        }
    }

    /// Whether all that was wanted has come to pass, and nobody still sleeps.
    fn is_over(&self) -> bool {
        let awake = |scheduler: &Scheduler| scheduler.paused_until <= self.agenda.now;
        let lasts = self.agenda.now < self.weather.lasts_until;
        let all_ended = self.invariants.live.all_ended(&self.invariants.ledger);
        let all_ended = all_ended && self.retries_wanted.is_empty();
        let all_ended = all_ended && !self.workers.iter().any(Worker::is_going);
        self.gave_up || (all_ended && !lasts && self.schedulers.iter().all(awake))
    }

    fn step(&mut self) {
        let Some(event) = self.agenda.next() else {
            self.patience_ends();
            panic!("LIVE: nothing is left to happen");
        };
        self.steps += 1;
        for number in event.fingerprint().into_iter().chain([self.agenda.now]) {
            self.trace = mix(self.trace ^ number);
        }
        match event {
            Event::Said(session, _) | Event::Reported(session, _) => {
                if self.network.is_up(session, Way::Up) {
                    self.at_scheduler(self.network.sessions[&session].stint, event);
                }
            }
            Event::SchedulerNotices(session) => {
                self.at_scheduler(self.network.sessions[&session].stint, event);
            }
            Event::CreateEnds(stint, _)
            | Event::Deadline(stint)
            | Event::Watches(stint)
            | Event::Ticks(stint)
            | Event::Snapshots(stint) => self.at_scheduler(stint, event),
            Event::Hastens => self.hastens(),
            Event::DiesWriting(stint) => self.dies_writing(stint),
            Event::SilenceDetected(session) => self.break_session(session),
            Event::CreateLands(create) => self.create_lands(create),
            Event::SchedulerStarts(place) => self.scheduler_starts(place),
            Event::SchedulerWakes(place) => self.scheduler_wakes(place),
            Event::Requested(place, request) => self.requested(place, request),
            Event::Submit(plan) => self.submit(plan),
            Event::Cancel(plan) => self.cancel(plan),
            Event::CancelTasks(plan) => self.cancel_tasks(plan),
            Event::Retry(plan) => self.retry(plan),
            Event::Hold(plan, held) => self.hold(plan, held),
            Event::Drain(life) => self.drain(life),
            Event::Answered(request, reply) => self.answered(request, &reply),
            Event::FaultStrikes => self.fault_strikes(),
            Event::PatienceEnds => self.patience_ends(),
            Event::Told(session, _) | Event::WorkerNotices(session) => {
                if let Some(life) = self.network.sessions.get(&session).map(|session| session.life) {
                    self.at_worker(life, event);
                }
            }
            Event::Connect(life)
            | Event::ChunkEnded(life, _)
            | Event::ReportDue(life)
            | Event::GraceEnds(life) => {
                self.at_worker(life, event);
            }
            Event::Wakes(life) => self.wakes(life),
            Event::WorkerStarts(worker) => self.worker_starts(worker),
        }
    }
}
