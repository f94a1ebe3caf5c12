//! Who meets whom: the real core, virtual workers, clients and storage, tied together by events in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::Term;
use phalanx_scheduler_core::{Core, Input, RequestId};

use crate::clients::Asked;
use crate::dice::{Dice, mix};
use crate::event::{Agenda, Event};
use crate::invariants::Invariants;
use crate::load::Plan;
use crate::network::Network;
use crate::storage::Storage;
use crate::weather::Weather;
use crate::worker::Worker;

/// How long a job may take once faults have stopped, in microseconds.
const PATIENCE_MICROS: u64 = 2_000_000_000;
/// How far a run goes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Events after which a run is ended, whatever is left to do.
    pub steps_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps_max: 2_000_000 }
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
    /// Times the scheduler was started.
    pub terms: u64,
}

pub(crate) struct Cluster {
    pub(crate) agenda: Agenda,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) network: Network,
    pub(crate) storage: Storage,
    pub(crate) workers: Vec<Worker>,
    /// `None` while the scheduler is down.
    pub(crate) core: Option<Core>,
    pub(crate) invariants: Invariants,
    pub(crate) load: Vec<Plan>,
    pub(crate) make_core: fn(Term) -> Core,
    pub(crate) term: Term,
    pub(crate) alarm: Option<u64>,
    pub(crate) requests_made: u64,
    pub(crate) requests: BTreeMap<RequestId, Asked>,
    pub(crate) is_over: bool,
    trace: u64,
    steps: u64,
}

/// Runs a seed to its end.
///
/// # Panics
/// If an invariant does not hold, with its name.
pub fn run(seed: u64, limits: &Limits) -> Summary {
    run_with(seed, limits, Core::new)
}

/// Runs a seed with a core that is made differently: with a planted bug.
///
/// # Panics
/// If an invariant does not hold, with its name.
pub fn run_with(seed: u64, limits: &Limits, make_core: fn(Term) -> Core) -> Summary {
    let mut cluster = Cluster::new(seed, make_core);
    while cluster.steps < limits.steps_max && !cluster.is_over {
        cluster.step();
    }
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
        terms: cluster.term.0,
    }
}

impl Cluster {
    fn new(seed: u64, make_core: fn(Term) -> Core) -> Self {
        let mut dice = Dice::new(mix(seed));
        let weather = Weather::draw(&mut dice);
        let load = Plan::draw_all(&mut dice, &weather.nodes);
        let mut agenda = Agenda::default();
        for (number, plan) in load.iter().enumerate() {
            agenda.at(plan.submit_at, Event::Submit(number));
            if let Some(cancel_at) = plan.cancel_at {
                agenda.at(cancel_at, Event::Cancel(number));
            }
        }
        (0..weather.nodes.len())
            .for_each(|worker| agenda.at(dice.within(0..2_000_000), Event::WorkerStarts(worker)));
        agenda.at(0, Event::SchedulerStarts);
        agenda.at(0, Event::FaultStrikes);
        agenda.at(weather.ends_at + PATIENCE_MICROS, Event::PatienceEnds);
        let worker = |node: &crate::weather::Node| {
            let mut worker = Worker::new(node.clone(), 0);
            worker.alive = false;
            worker
        };
        let mut invariants = Invariants::default();
        invariants.live.jobs = vec![None; load.len()];
        Self {
            agenda,
            dice,
            network: Network::default(),
            storage: Storage::new(),
            workers: weather.nodes.iter().map(worker).collect(),
            weather,
            core: None,
            invariants,
            load,
            make_core,
            term: Term(0),
            alarm: None,
            requests_made: 0,
            requests: BTreeMap::new(),
            trace: 0,
            steps: 0,
            is_over: false,
        }
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
            Event::Said(session, message) => self.said(session, message),
            Event::Reported(session, report) => {
                if let Some(worker) = self.network.worker(session) {
                    self.tell(Input::Reported {
                        worker,
                        report: Box::new(report),
                    });
                }
            }
            Event::SchedulerNotices(session) => self.scheduler_notices(session),
            Event::SilenceDetected(session) => self.break_session(session),
            Event::AppendEnded(term) => self.append_ended(term),
            Event::StorageRecovers => {
                self.storage.failing = false;
                self.tell(Input::StorageChanged { error: None });
            }
            Event::Deadline(term) => {
                if term == self.term {
                    self.alarm = None;
                    self.tell(Input::Ticked);
                }
            }
            Event::SchedulerStarts => self.scheduler_starts(),
            Event::Submit(plan) => self.submit(plan),
            Event::Cancel(plan) => self.cancel(plan),
            Event::Answered(request, reply) => self.answered(request, &reply),
            Event::FaultStrikes => self.fault_strikes(),
            Event::PatienceEnds => self.patience_ends(),
            Event::Told(session, _) | Event::WorkerNotices(session) => {
                if let Some(life) = self.network.sessions.get(&session).map(|session| session.life) {
                    self.at_worker(life, event);
                }
            }
            Event::Connect(life) | Event::ChunkEnded(life, _) | Event::ReportDue(life) => {
                self.at_worker(life, event);
            }
            Event::Wakes(life) => self.wakes(life),
            Event::WorkerStarts(worker) => self.worker_starts(worker),
        }
    }
}
