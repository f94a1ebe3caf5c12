//! Scheduler processes: they start, stand by, take the lead when they believe that nobody has it, lead, are deposed,
//! stand still, and die.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use phalanx_protocol::record::Record;
use phalanx_protocol::{JobId, JobSpec, Term, WorkerId};
use phalanx_scheduler_core::{Core, RequestId, SessionId};
use phalanx_storage::{Candidate, Collector, Leadership, LogRecord, Needed, Store, acquire, write_snapshot};

use crate::cluster::Cluster;
use crate::event::{Event, Stint};
use crate::faults::SILENCE_MICROS;
use crate::journal::{Journal, LOG, Planted, whole_slot};
use crate::network::Node;
use crate::passage::{Mishap, Passage};
use crate::past::{self, Past};

/// How often a standby looks after the leader, in microseconds.
const WATCH_MICROS: u64 = 500_000;
/// How long a leader may be silent before a standby tries to take over, in microseconds.
const TAKEOVER_MICROS: u64 = 2_000_000;
/// How much longer each further standby waits, in microseconds.
const RANK_MICROS: u64 = 150_000;

/// How often a leader writes a snapshot in fair weather, in microseconds.
const CALM_SNAPSHOT_MICROS: u64 = 300_000_000;

/// A process, or the place for one.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Changes whenever its role does: what was meant for an earlier one is void.
    pub(crate) stint: u64,
    pub(crate) role: Role,
    /// Nothing happens here before this time.
    pub(crate) paused_until: u64,
    /// What would have happened meanwhile.
    pub(crate) held_up: VecDeque<Event>,
    /// When it last heard of a leader.
    heard_at: Option<u64>,
    /// How wrong its clock is.
    pub(crate) wall_offset_millis: i64,
    /// How long its machine stood still, clocks and all, in microseconds.
    pub(crate) frozen_micros: u64,
}

#[derive(Debug, Default)]
pub(crate) enum Role {
    #[default]
    Down,
    Standby(Option<Past>),
    Leader(Box<Leader>),
}

/// Who leads, or believes so.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) term: Term,
    pub(crate) core: Core,
    pub(crate) journal: Journal,
    collector: Collector,
    /// The slot of its newest snapshot.
    snapshot_of: Option<u64>,
    /// The last record of this term that is durable.
    pub(crate) durable: u64,
    /// The last one that was published.
    pub(crate) published: u64,
    pub(crate) alarm: Option<u64>,
    /// The session that it uses for each worker.
    pub(crate) current: BTreeMap<WorkerId, SessionId>,
    /// Requests that it has not answered; `true` if they were refused since storage failed.
    pub(crate) requests: BTreeMap<RequestId, bool>,
    /// What the jobs are.
    pub(crate) specs: BTreeMap<JobId, JobSpec>,
}

impl Scheduler {
    pub(crate) fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Down | Role::Standby(_) => None,
        }
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Down | Role::Standby(_) => None,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.role, Role::Down)
    }

    /// What was meant for the role before this one comes too late.
    pub(crate) fn become_one(&mut self, role: Role) {
        self.role = role;
        self.stint += 1;
    }
}

impl Leader {
    fn new(term: Term, core: Core, journal: Journal, collector: Collector) -> Self {
        Self {
            term,
            core,
            journal,
            collector,
            snapshot_of: None,
            durable: 0,
            published: 0,
            alarm: None,
            current: BTreeMap::new(),
            requests: BTreeMap::new(),
            specs: BTreeMap::new(),
        }
    }

    /// The worker of a session that it still listens to.
    pub(crate) fn worker(&self, session: SessionId, worker: Option<WorkerId>) -> Option<WorkerId> {
        worker.filter(|worker| self.current.get(worker) == Some(&session))
    }
}

impl Cluster {
    /// Something happens at a scheduler, unless it stands still, or is not any more what this was meant for.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller passes a scheduler's events only"
    )]
    pub(crate) fn at_scheduler(&mut self, stint: Stint, event: Event) {
        let (place, number) = stint;
        let scheduler = &mut self.schedulers[place];
        if scheduler.stint != number {
            return;
        }
        if scheduler.paused_until > self.agenda.now {
            return scheduler.held_up.push_back(event);
        }
        match event {
            Event::Said(session, message) => self.said(place, session, message),
            Event::Reported(session, report) => self.reported(place, session, report),
            Event::SchedulerNotices(session) => self.scheduler_notices(place, session),
            Event::CreateEnds(_, attempt) => self.create_ends(place, &attempt),
            Event::Deadline(_) => self.deadline(place),
            Event::Watches(_) => self.watches(place),
            Event::Ticks(_) => self.ticks(place),
            Event::Snapshots(_) => self.snapshots(place),
            _ => unreachable!("only a scheduler's events come here"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only a scheduler's events are held up"
    )]
    /// A process that stood still goes on as if nothing had been, with what was held up, in order.
    pub(crate) fn scheduler_wakes(&mut self, place: usize) {
        let scheduler = &mut self.schedulers[place];
        if scheduler.paused_until > self.agenda.now {
            return;
        }
        for event in std::mem::take(&mut scheduler.held_up) {
            match event {
                Event::Requested(_, request) => self.requested(place, request),
                Event::CreateEnds(stint, _)
                | Event::Deadline(stint)
                | Event::Watches(stint)
                | Event::Ticks(stint)
                | Event::Snapshots(stint) => self.at_scheduler(stint, event),
                Event::Said(session, _) | Event::Reported(session, _) | Event::SchedulerNotices(session) => {
                    let stint = self.network.sessions[&session].stint;
                    self.at_scheduler(stint, event);
                }
                _ => unreachable!("only a scheduler's events are held up here"),
            }
        }
    }

    pub(crate) fn scheduler_starts(&mut self, place: usize) {
        let scheduler = &mut self.schedulers[place];
        if !scheduler.is_down() {
            return;
        }
        scheduler.become_one(Role::Standby(None));
        scheduler.heard_at = None;
        let stint = (place, scheduler.stint);
        self.agenda.after(0, Event::Watches(stint));
    }

    /// A standby looks after the leader, and tries to take over if it hears of none.
    fn watches(&mut self, place: usize) {
        let stint = (place, self.schedulers[place].stint);
        let hears = self.hears_a_leader(place);
        if hears {
            self.schedulers[place].heard_at = Some(self.agenda.now);
        }
        // in fair weather there is nothing to be seen
        let pause = if hears && !self.storm_lasts() {
            4 * WATCH_MICROS
        } else {
            WATCH_MICROS
        };
        self.agenda.after(pause, Event::Watches(stint));
        self.reads_on(place);
        let patience = TAKEOVER_MICROS + RANK_MICROS * place as u64;
        let heard_at = self.schedulers[place].heard_at;
        let silent = heard_at.is_none_or(|heard_at| self.agenda.now > heard_at + patience);
        if silent {
            self.tries_to_lead(place, Mishap::Nothing);
        }
    }

    /// While a leader writes, some standby believes that it is gone.
    pub(crate) fn hastens(&mut self) {
        let standby = |scheduler: &Scheduler| matches!(scheduler.role, Role::Standby(_));
        let here = |(_, scheduler): &(usize, &Scheduler)| {
            standby(scheduler) && scheduler.paused_until <= self.agenda.now
        };
        let hasty = self.schedulers.iter().enumerate().find(here);
        if let Some(place) = hasty.map(|(place, _)| place) {
            // what was read a while ago was whole then
            let usual = match self.objects.has_rotten() {
                true => Mishap::StaleListing,
                false => Mishap::FenceInTheWay,
            };
            self.tries_to_lead(place, usual);
        }
    }

    fn hears_a_leader(&self, place: usize) -> bool {
        let now = self.agenda.now;
        let mut others = self.schedulers.iter().enumerate();
        others.any(|(other, scheduler)| {
            let (me, it) = (Node::Scheduler(place), Node::Scheduler(other));
            other != place
                && scheduler.leader().is_some()
                && scheduler.paused_until <= now
                && self.network.connects(me, it, now)
        })
    }

    /// A standby follows the log, so that there is little left to read when it takes over.
    fn reads_on(&mut self, place: usize) {
        let reaches = self
            .network
            .connects(Node::Scheduler(place), Node::Store, self.agenda.now);
        if !reaches || self.dice.one_in(4) {
            return;
        }
        let passage = self.passage(Mishap::Nothing);
        if let Role::Standby(past) = &mut self.schedulers[place].role {
            if past.is_none() {
                *past = Past::begin(&passage).ok();
            }
            if let Some(past) = past {
                past.follow(&passage);
            }
        }
    }

    /// A way to the storage on which no more goes wrong than usual.
    fn passage(&mut self, mishap: Mishap) -> Passage {
        let seed = self.dice.next();
        Passage::new(Arc::clone(&self.objects), seed, mishap, self.planted)
    }

    /// What goes wrong now between a scheduler and the storage.
    fn mishap(&mut self, place: usize, usual: Mishap) -> Mishap {
        let (now, scheduler) = (self.agenda.now, Node::Scheduler(place));
        let fails = now < self.storage_fails_until;
        if self.network.cut_until(scheduler, Node::Store, now).is_some() {
            Mishap::Unreachable
        } else if self.network.cut_until(Node::Store, scheduler, now).is_some() {
            Mishap::Unanswered
        } else if fails || (self.weather.ambiguous_one_in > 0 && self.storm_lasts() && self.dice.one_in(3)) {
            Mishap::OneIn(self.dice.pick(&[3, 10, 40]))
        } else if !self.weather.faults.is_empty() && self.dice.one_in(4) {
            Mishap::StaleListing
        } else {
            usual
        }
    }

    fn tries_to_lead(&mut self, place: usize, usual: Mishap) {
        let mishap = self.mishap(place, usual);
        let passage = self.passage(mishap);
        let nonce_seed = u128::from(self.dice.next()) << 64;
        let scheduler = &mut self.schedulers[place];
        let past = match &mut scheduler.role {
            // whoever looked too long ago has not read on since
            Role::Standby(past) => past.take().filter(|_| mishap != Mishap::FenceInTheWay),
            Role::Down | Role::Leader(_) => return,
        };
        let candidate = Candidate {
            from: past.as_ref().map(|past| past.position),
            ..Candidate::new(LOG, nonce_seed)
        };
        let acquired = acquire(&passage, candidate);
        let stint = (place, scheduler.stint);
        for (key, object) in passage.take_late() {
            let create = self.objects.send(stint, key, object);
            let micros = self.dice.within(0..SILENCE_MICROS);
            self.agenda.after(micros, Event::CreateLands(create));
        }
        self.read_on();
        if let Ok(leadership) = acquired {
            self.leads(place, past, leadership);
        }
    }

    fn leads(&mut self, place: usize, past: Option<Past>, mut leadership: Leadership) {
        let term = leadership.term;
        let mut past = match (leadership.resumed, past, &leadership.snapshot) {
            (true, Some(past), _) => past,
            (_, _, Some(snapshot)) => Past::restore(snapshot),
            (_, _, None) => Past::nothing(),
        };
        past.records.append(&mut leadership.records);
        if self.planted == Planted::IgnoresVoidRule {
            past.records = every_record(&*self.objects);
        }
        if let Some(torn) = self.objects.first_torn_slot()
            && self.planted == Planted::StopsAtTornSlot
        {
            past.records.retain(|record| record.place.slot < torn);
        }
        self.invariants
            .terms
            .leads(term, &past.records, &self.reader.records);
        leadership.sure_since = self.moment(place);
        let mut core = match self.make_core {
            Some(make_core) => past.replayed(make_core(term)),
            None => past.core(term),
        };
        core.check();
        self.invariants.keep.restarted(&core, &self.invariants.ledger);
        let replayed = past.replayed(Core::new(term)).snapshot();
        self.invariants.keep.restored(&core.snapshot(), &replayed);
        let history = past.records;
        let mut specs = BTreeMap::new();
        for record in &history {
            note(&mut specs, &past::decoded(record));
        }
        let mut effects = Vec::new();
        core.start(self.now(place), &mut effects);
        let journal = Journal::new(&leadership, history);
        let collector = Collector::new(Arc::new(self.passage(Mishap::Nothing)), LOG);
        let mut leader = Leader::new(term, core, journal, collector);
        leader.specs = specs;
        self.schedulers[place].become_one(Role::Leader(Box::new(leader)));
        let stint = (place, self.schedulers[place].stint);
        self.agenda.after(0, Event::Ticks(stint));
        self.agenda
            .after(self.weather.snapshot_every, Event::Snapshots(stint));
        self.carry_out(place, effects);
    }

    /// A leader writes a snapshot and deletes log that none of the newest two needs.
    fn snapshots(&mut self, place: usize) {
        let now = self.moment(place);
        let stint = (place, self.schedulers[place].stint);
        let pause = match self.storm_lasts() {
            true => self.weather.snapshot_every,
            false => CALM_SNAPSHOT_MICROS,
        };
        self.agenda.after(pause, Event::Snapshots(stint));
        let mishap = self.mishap(place, Mishap::Nothing);
        let passage = self.passage(mishap);
        let planted = self.planted;
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let journal = &leader.journal;
        let through = journal.through;
        if leader.snapshot_of != Some(through) {
            let core = leader.core.snapshot();
            let snapshot = past::snapshot((through, leader.term), &core, &journal.history, planted);
            let written = write_snapshot(&passage, &snapshot);
            leader.snapshot_of = written.ok().map(|()| through);
        }
        let slots = journal.needed.clone();
        // what fails is done by a later pass
        let _ = leader.collector.run(&Needed { through, slots }, &|| now);
    }

    /// A leader learns that it is none, and stands by again.
    pub(crate) fn stands_down(&mut self, place: usize) {
        self.close_sessions(place);
        let scheduler = &mut self.schedulers[place];
        scheduler.become_one(Role::Standby(None));
        scheduler.heard_at = Some(self.agenda.now);
        let stint = (place, scheduler.stint);
        self.agenda.after(WATCH_MICROS, Event::Watches(stint));
    }

    /// A process dies. What it had sent to the storage may land all the same.
    pub(crate) fn scheduler_crashes(&mut self, place: usize) {
        let scheduler = &self.schedulers[place];
        if scheduler.is_down() {
            return;
        }
        for create in self.objects.under_way((place, scheduler.stint)) {
            if self.dice.one_in(2) {
                self.objects.lose(create);
            }
        }
        self.close_sessions(place);
        let scheduler = &mut self.schedulers[place];
        scheduler.become_one(Role::Down);
        scheduler.paused_until = 0;
        // of a standstill that this ends, the rest has not come to pass
        scheduler.frozen_micros = scheduler.frozen_micros.min(self.agenda.now);
        scheduler.held_up.clear();
        let pause = self.dice.within(50_000..4_000_000);
        self.agenda.after(pause, Event::SchedulerStarts(place));
    }

    fn close_sessions(&mut self, place: usize) {
        let stint = (place, self.schedulers[place].stint);
        for session in self.network.sessions_of(stint) {
            self.break_session(session);
        }
    }
}

/// Remembers what jobs a record says there are.
pub(crate) fn note(specs: &mut BTreeMap<JobId, JobSpec>, record: &Record) {
    if let Record::JobSubmitted { job, spec, .. } = record {
        specs.insert(*job, (**spec).clone());
    }
}

/// Whether somebody may still ask for what lies there: results of every other job.
pub(crate) fn is_needed(record: &LogRecord) -> bool {
    matches!(past::decoded(record), Record::TasksEnded { job, .. } if job.0.is_multiple_of(2))
}

/// The log without the void rule.
fn every_record(store: &dyn Store) -> Vec<LogRecord> {
    let slots = (0..).map_while(|slot| whole_slot(store, slot));
    slots
        .flat_map(|slot| {
            let term = slot.head.term;
            let records = slot.records.into_iter();
            records.map(move |(place, bytes)| LogRecord { place, term, bytes })
        })
        .collect()
}
