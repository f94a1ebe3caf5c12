//! Scheduler processes: they start, stand by, take the lead when they believe that nobody has it, lead, are deposed,
//! stand still, and die.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use phalanx_protocol::record::Record;
use phalanx_protocol::{JobId, Request, Term, WorkerId, codec};
use phalanx_scheduler_core::{Core, RequestId, SessionId};
use phalanx_storage::{Candidate, Leadership, LogRecord, Store, acquire};

use crate::cluster::Cluster;
use crate::event::{Event, Stint};
use crate::faults::SILENCE_MICROS;
use crate::journal::{Journal, LOG, Planted};
use crate::network::Node;
use crate::passage::{Mishap, Passage};

/// How often a standby looks after the leader, in microseconds.
const WATCH_MICROS: u64 = 300_000;
/// How long a leader may be silent before a standby tries to take over, in microseconds.
const TAKEOVER_MICROS: u64 = 2_000_000;
/// How much longer each further standby waits, in microseconds.
const RANK_MICROS: u64 = 150_000;
/// After how long a leader with nothing to write looks whether it still leads, in microseconds.
const IDLE_MICROS: u64 = 10_000_000;

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
}

#[derive(Debug, Default)]
pub(crate) enum Role {
    #[default]
    Down,
    Standby,
    Leader(Box<Leader>),
}

/// Who leads, or believes so.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) term: Term,
    pub(crate) core: Core,
    pub(crate) journal: Journal,
    /// The last record of this term that is durable.
    pub(crate) durable: u64,
    /// The last one that was published.
    pub(crate) published: u64,
    pub(crate) alarm: Option<u64>,
    /// The session that it uses for each worker.
    pub(crate) current: BTreeMap<WorkerId, SessionId>,
    /// Requests that it has not answered; `true` if they were refused since storage failed.
    pub(crate) requests: BTreeMap<RequestId, bool>,
    /// What each job's tasks take.
    pub(crate) needs: BTreeMap<JobId, Request>,
}

impl Scheduler {
    pub(crate) fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Down | Role::Standby => None,
        }
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Down | Role::Standby => None,
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
    fn new(term: Term, core: Core, leadership: &Leadership) -> Self {
        Self {
            term,
            core,
            journal: Journal::new(leadership),
            durable: 0,
            published: 0,
            alarm: None,
            current: BTreeMap::new(),
            requests: BTreeMap::new(),
            needs: BTreeMap::new(),
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
            Event::Idles(_) => self.idles(place),
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
                | Event::Idles(stint) => self.at_scheduler(stint, event),
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
        scheduler.become_one(Role::Standby);
        scheduler.heard_at = None;
        let stint = (place, scheduler.stint);
        self.agenda.after(0, Event::Watches(stint));
    }

    /// A standby looks after the leader, and tries to take over if it hears of none.
    fn watches(&mut self, place: usize) {
        let stint = (place, self.schedulers[place].stint);
        self.agenda.after(WATCH_MICROS, Event::Watches(stint));
        if self.hears_a_leader(place) {
            self.schedulers[place].heard_at = Some(self.agenda.now);
        }
        let patience = TAKEOVER_MICROS + RANK_MICROS * place as u64;
        let heard_at = self.schedulers[place].heard_at;
        let silent = heard_at.is_none_or(|heard_at| self.agenda.now > heard_at + patience);
        if silent {
            self.tries_to_lead(place, Mishap::Nothing);
        }
    }

    /// While a leader writes, some standby believes that it is gone.
    pub(crate) fn hastens(&mut self) {
        let standby = |scheduler: &Scheduler| matches!(scheduler.role, Role::Standby);
        let here = |(_, scheduler): &(usize, &Scheduler)| {
            standby(scheduler) && scheduler.paused_until <= self.agenda.now
        };
        let hasty = self.schedulers.iter().enumerate().find(here);
        if let Some(place) = hasty.map(|(place, _)| place) {
            self.tries_to_lead(place, Mishap::FenceInTheWay);
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

    fn tries_to_lead(&mut self, place: usize, usual: Mishap) {
        let (now, scheduler) = (self.agenda.now, Node::Scheduler(place));
        let fails = now < self.storage_fails_until;
        let mishap = if self.network.cut_until(scheduler, Node::Store, now).is_some() {
            Mishap::Unreachable
        } else if self.network.cut_until(Node::Store, scheduler, now).is_some() {
            Mishap::Unanswered
        } else if fails || (self.weather.ambiguous_one_in > 0 && self.dice.one_in(3)) {
            Mishap::OneIn(self.dice.pick(&[3, 10, 40]))
        } else if !self.weather.faults.is_empty() && self.dice.one_in(4) {
            Mishap::StaleListing
        } else {
            usual
        };
        let (seed, nonce_seed) = (self.dice.next(), self.dice.next());
        let candidate = Candidate {
            log: LOG,
            nonce_seed: u128::from(nonce_seed) << 64,
        };
        let passage = Passage::new(Arc::clone(&self.objects), seed, mishap, self.planted);
        let acquired = acquire(&passage, candidate);
        let stint = (place, self.schedulers[place].stint);
        for (key, object) in passage.take_late() {
            let create = self.objects.send(stint, key, object);
            let micros = self.dice.within(0..SILENCE_MICROS);
            self.agenda.after(micros, Event::CreateLands(create));
        }
        self.read_on();
        if let Ok(mut leadership) = acquired {
            if self.planted == Planted::IgnoresVoidRule {
                leadership.records = every_record(&*self.objects);
            }
            self.leads(place, &leadership);
        }
    }

    fn leads(&mut self, place: usize, leadership: &Leadership) {
        let term = leadership.term;
        self.invariants
            .terms
            .leads(term, &leadership.records, &self.reader.records);
        let mut leader = Leader::new(term, (self.make_core)(term), leadership);
        for LogRecord { term, bytes, .. } in &leadership.records {
            let record: Record = codec::decode(bytes).expect("records are whole");
            leader.core.replay(*term, &record);
            leader.note(&record);
        }
        leader.core.check();
        self.invariants
            .keep
            .restarted(&leader.core, &self.invariants.ledger);
        let mut effects = Vec::new();
        leader.core.start(self.now(place), &mut effects);
        self.schedulers[place].become_one(Role::Leader(Box::new(leader)));
        let stint = (place, self.schedulers[place].stint);
        self.agenda.after(IDLE_MICROS, Event::Idles(stint));
        self.carry_out(place, effects);
    }

    /// A leader with nothing to write looks whether somebody else has begun to.
    fn idles(&mut self, place: usize) {
        let stint = (place, self.schedulers[place].stint);
        self.agenda.after(IDLE_MICROS, Event::Idles(stint));
        let Some(leader) = self.schedulers[place].leader() else {
            return;
        };
        let now = self.agenda.now;
        let reaches = self.network.connects(Node::Scheduler(place), Node::Store, now);
        if leader.journal.is_idle() && reaches && leader.term < self.reader.term() {
            self.stands_down(place);
        }
    }

    /// A leader learns that it is none, and stands by again.
    pub(crate) fn stands_down(&mut self, place: usize) {
        self.close_sessions(place);
        let scheduler = &mut self.schedulers[place];
        scheduler.become_one(Role::Standby);
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

impl Leader {
    /// Remembers what a record says about what jobs need.
    pub(crate) fn note(&mut self, record: &Record) {
        if let Record::JobSubmitted { job, spec, .. } = record {
            self.needs.insert(*job, spec.request.clone());
        }
    }
}

/// The log without the void rule.
fn every_record(store: &dyn Store) -> Vec<LogRecord> {
    let slots = (0..).map_while(|slot| {
        let read = phalanx_storage::journal::replay::read_slot(store, LOG, slot);
        read.ok().flatten()
    });
    slots
        .flat_map(|slot| {
            let term = slot.head.term;
            let records = slot.records.into_iter();
            records.map(move |(place, bytes)| LogRecord { place, term, bytes })
        })
        .collect()
}
