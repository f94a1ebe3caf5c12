//! A leader's journal: drives the real appender over the virtual storage, as the product's writer does on threads.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::{Term, codec};
use phalanx_scheduler_core::Input;
use phalanx_storage::journal::PIPELINE_DEPTH;
use phalanx_storage::journal::appender::{Op, Outcome};
use phalanx_storage::journal::replay::read_slot;
use phalanx_storage::marker::is_marked;
use phalanx_storage::slot::{LogId, Slot, slot_key};
use phalanx_storage::{Appender, ClusterId, Leadership, LogRecord, Moment, Place, Put, Store};

use crate::cluster::Cluster;
use crate::event::{Attempt, Event, Stint};
use crate::invariants::Gate;
use crate::network::Node;
use crate::scheduler::is_needed;
use crate::torn::Mended;
use crate::weather::Fault;

/// The log of every run.
pub(crate) const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};
/// Pause before the first repeat of a create; it doubles up to the longest, in microseconds.
const BACKOFF_MICROS: (u64, u64) = (50_000, 1_000_000);
/// After how long a create is given up that nobody answers, in microseconds.
const TIMEOUT_MICROS: u64 = 1_000_000;
/// At one in so many creates that fill the pipeline a hasty standby tries to take over.
const HASTE_ONE_IN: u64 = 20;
/// How long after it was given up a create may land, in microseconds.
const LATE_MICROS: u64 = 5_000_000;

/// Bugs on purpose, around the journal and in workers, so that the simulator's tests can see it find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planted {
    /// None.
    #[default]
    Nothing,
    /// R1: a new leader takes void slots for good.
    IgnoresVoidRule,
    /// R3: a new leader does not fill the gaps below its fence.
    ServesWithHoles,
    /// R4: a slot with an older leader's write in it is taken for one's own.
    CountsVoidSlot,
    /// R5: a slot is acknowledged when it has landed, whatever became of those before it.
    AcknowledgesOutOfOrder,
    /// A leader who finds a newer leader's slot goes on.
    NeverStandsDown,
    /// R6 and R7: a leader that slept trusts neither clock nor marker.
    SleepsUnguarded,
    /// R12: a new leader takes torn objects for whole, whatever their checksums say.
    SkipsChecksums,
    /// R12: a new leader reads up to the first torn slot.
    StopsAtTornSlot,
    /// R11: a snapshot lacks a job.
    SnapshotsForgetJob,
    /// Workers listen to any leader, also to one of an older term than they have heard of.
    WorkersIgnoreTerms,
}

/// What a leader appends to.
#[derive(Debug)]
pub(crate) struct Journal {
    appender: Appender,
    /// Created and not settled.
    open: BTreeSet<u64>,
    failing: BTreeSet<u64>,
    /// Appended and not durable.
    unsettled: VecDeque<(u64, Bytes)>,
    /// Everything that counts, as far as this leader knows.
    pub(crate) history: Vec<LogRecord>,
    /// The slot up to which that is so.
    pub(crate) through: u64,
    /// Slots in which something lies that somebody may ask for.
    pub(crate) needed: BTreeSet<u64>,
}

impl Journal {
    pub(crate) fn new(leadership: &Leadership, history: Vec<LogRecord>) -> Self {
        Self {
            appender: Appender::new(leadership, PIPELINE_DEPTH),
            open: BTreeSet::new(),
            failing: BTreeSet::new(),
            unsettled: VecDeque::new(),
            needed: history
                .iter()
                .filter(|record| is_needed(record))
                .map(|record| record.place.slot)
                .collect(),
            history,
            through: leadership.next_slot - 1,
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Takes in where records lie that are durable.
    fn keep(&mut self, term: Term, places: Vec<(u64, Place)>) {
        for (sequence, place) in places {
            let (appended, bytes) = self.unsettled.pop_front().expect("what is durable was appended");
            assert_eq!(sequence, appended, "KEEP: records become durable in order");
            self.through = place.slot;
            let record = LogRecord { place, term, bytes };
            if is_needed(&record) {
                self.needed.insert(place.slot);
            }
            self.history.push(record);
        }
    }
}

/// A slot of the log, if it is there and whole.
pub(crate) fn whole_slot(store: &dyn Store, slot: u64) -> Option<Slot> {
    read_slot(store, LOG, slot).ok().flatten()
}

impl Cluster {
    /// Appends what the core wants written, as one group.
    pub(crate) fn append(&mut self, place: usize, records: Vec<(u64, Record)>) {
        let now = self.moment(place);
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let (term, journal) = (leader.term, &mut leader.journal);
        let mut ops = Vec::new();
        for (sequence, record) in records {
            let bytes = Bytes::from(codec::encode(&record));
            self.invariants.terms.appended(term, sequence, bytes.clone());
            journal.unsettled.push_back((sequence, bytes.clone()));
            // one whose lead has expired hears of that below
            let _ = journal.appender.push(sequence, bytes);
        }
        journal.appender.dispatch(now, &mut ops);
        self.perform(place, ops);
    }

    fn perform(&mut self, place: usize, ops: Vec<Op>) {
        let stint = (place, self.schedulers[place].stint);
        for op in ops {
            match op {
                Op::Create {
                    slot,
                    object,
                    attempt,
                } => {
                    if let Some(leader) = self.schedulers[place].leader_mut() {
                        leader.journal.open.insert(slot);
                    }
                    self.send_create(stint, slot, object, attempt);
                }
                Op::Acknowledge {
                    upto_sequence,
                    places,
                } => {
                    if let Some(leader) = self.schedulers[place].leader_mut() {
                        leader.journal.keep(leader.term, places);
                        self.invariants.terms.acknowledged(leader.term, upto_sequence);
                        leader.durable = upto_sequence;
                        let sequence = upto_sequence;
                        self.tell(place, Input::Appended { sequence });
                    }
                }
                Op::StandDown { .. } => {
                    if self.planted != Planted::NeverStandsDown {
                        self.stands_down(place);
                    }
                }
                Op::Expire(_) => self.stands_down(place),
            }
        }
    }

    /// Sends a create off and draws what becomes of it.
    fn send_create(&mut self, stint: Stint, slot: u64, object: Bytes, attempt: u32) {
        let pause = match attempt.checked_sub(1) {
            None => 0,
            Some(repeats) => (BACKOFF_MICROS.0 << repeats.min(8)).min(BACKOFF_MICROS.1),
        };
        let now = self.agenda.now;
        let quick = now + pause + self.dice.within(self.weather.append.clone());
        let scheduler = Node::Scheduler(stint.0);
        let there = self.network.cut_until(scheduler, Node::Store, now);
        let back = self.network.cut_until(Node::Store, scheduler, now);
        let one_in = self.weather.ambiguous_one_in;
        let fails = now < self.storage_fails_until || (one_in > 0 && self.dice.one_in(one_in));
        let (mut lands, mut ends, mut failed) = (Some(quick), quick, true);
        if let Some(until) = there {
            ends = now + pause + TIMEOUT_MICROS;
            lands = self.dice.one_in(2).then_some(until.max(quick));
        } else if back.is_some() {
            ends = now + pause + TIMEOUT_MICROS;
        } else if fails {
            match self.dice.within(0..4) {
                0 => lands = None,
                1 => {}
                2 => lands = Some(quick + self.dice.within(0..LATE_MICROS)),
                // in conflict with one that failed itself: said to exist, and is not there
                _ => (lands, failed) = (None, false),
            }
        } else {
            failed = false;
            let answer = if now < self.storage_slow_until {
                TIMEOUT_MICROS
            } else {
                200
            };
            ends += self.dice.within(0..answer);
        }
        let key = slot_key(LOG.shard, slot);
        let create = self.objects.send(stint, key.clone(), object.clone());
        match lands {
            Some(lands) => self.agenda.at(lands, Event::CreateLands(create)),
            None => self.objects.lose(create),
        }
        if one_in > 0 && self.dice.one_in(one_in) {
            let twin = self.objects.send(stint, key, object);
            let lands = quick + self.dice.within(0..LATE_MICROS);
            self.agenda.at(lands, Event::CreateLands(twin));
        }
        self.hasten_perhaps(stint.0);
        self.die_writing_perhaps(stint, quick - now);
        let attempt = Attempt { slot, create, failed };
        self.agenda.at(ends, Event::CreateEnds(stint, attempt));
    }

    /// The worst moment for another to take over is while the pipeline is full.
    fn hasten_perhaps(&mut self, place: usize) {
        let leader = self.schedulers[place].leader();
        let is_full = leader.is_some_and(|leader| leader.journal.open.len() as u64 == PIPELINE_DEPTH);
        let hasty = is_full && self.weather.has(Fault::Haste) && self.storm_lasts();
        if hasty && self.dice.one_in(HASTE_ONE_IN) {
            self.agenda.after(0, Event::Hastens);
        }
    }

    /// Something has landed on the storage: whoever reads it sees more from now on.
    pub(crate) fn create_lands(&mut self, create: u64) {
        self.objects.land(create, self.reader.next_slot());
        self.read_on();
    }

    pub(crate) fn read_on(&mut self) {
        let known = self.reader.advance(&Mended(Arc::clone(&self.objects)));
        for record in &self.reader.records[known..] {
            self.invariants.terms.counts(record);
            let decoded: Record = codec::decode(&record.bytes).expect("records are whole");
            let with_gaps = self.invariants.terms.has_gaps(record.term);
            if !self.invariants.ledger.enter(record.term, &decoded, with_gaps) {
                continue;
            }
            let gate = Gate {
                ledger: &self.invariants.ledger,
                load: &self.load,
                weather: &self.weather,
                jobs: &self.invariants.live.jobs,
                now: self.agenda.now,
            };
            self.invariants.blame.check(&decoded, &gate);
        }
    }

    /// A leader hears, or gives up hearing, what became of a create.
    pub(crate) fn create_ends(&mut self, place: usize, attempt: &Attempt) {
        let slot = attempt.slot;
        let outcome = if attempt.failed {
            Outcome::Unknown
        } else {
            self.look(attempt)
        };
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let journal = &mut leader.journal;
        let (before, is_known) = (journal.is_failing(), outcome != Outcome::Unknown);
        if is_known {
            journal.failing.remove(&slot);
            journal.open.remove(&slot);
        } else {
            journal.failing.insert(slot);
        }
        let after = journal.is_failing();
        if before != after {
            let error = after.then(|| "input/output error".to_owned());
            self.tell(place, Input::StorageChanged { error });
            self.refuse_waiting(place);
        }
        self.settle(place, slot, outcome);
        if outcome == Outcome::Created && self.objects.is_second(attempt.create) {
            let leads = self.schedulers[place].leader().map(|leader| leader.term);
            self.invariants.terms.wrote_again(slot, leads);
        }
    }

    /// What lies in the slot of a create that somebody answered.
    fn look(&self, attempt: &Attempt) -> Outcome {
        let (store, slot) = (&*self.objects, attempt.slot);
        // R7: only now, when the slot is there, does the absence of a marker say something
        let guarded = self.planted != Planted::SleepsUnguarded;
        if guarded && is_marked(store, LOG.shard, slot).unwrap_or(true) {
            return Outcome::Collected;
        }
        match self.objects.outcome(attempt.create) {
            Some(Put::Created) => Outcome::Created,
            Some(Put::Exists) | None => match whole_slot(store, slot) {
                Some(there) => Outcome::Taken {
                    term: there.head.term,
                    nonce: there.head.nonce,
                },
                None => Outcome::Unknown,
            },
        }
    }

    /// Lets time pass for a leader's journal.
    pub(crate) fn ticks(&mut self, place: usize) {
        let (now, stint) = (self.moment(place), (place, self.schedulers[place].stint));
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let mut ops = Vec::new();
        leader.journal.appender.tick(now, &mut ops);
        let pause = leader.journal.appender.pause(now);
        self.agenda.after(pause.as_micros() as u64, Event::Ticks(stint));
        self.perform(place, ops);
    }

    /// What a scheduler's clocks say.
    pub(crate) fn moment(&self, place: usize) -> Moment {
        Moment::default().after(self.now(place).elapsed)
    }

    fn settle(&mut self, place: usize, slot: u64, outcome: Outcome) {
        let now = self.moment(place);
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        let journal = &mut leader.journal;
        let mut ops = Vec::new();
        let outcome = match outcome {
            Outcome::Taken { term, .. } if term < leader.term && self.planted == Planted::CountsVoidSlot => {
                Outcome::Created
            }
            Outcome::Taken { term, .. } if term > leader.term && self.planted == Planted::NeverStandsDown => {
                Outcome::Created
            }
            Outcome::Created if self.planted == Planted::AcknowledgesOutOfOrder => {
                let earlier: Vec<u64> = journal.open.range(..slot).copied().collect();
                for slot in earlier {
                    journal.appender.settle(slot, Outcome::Created, now, &mut ops);
                }
                Outcome::Created
            }
            Outcome::Created | Outcome::Taken { .. } | Outcome::Unknown | Outcome::Collected => outcome,
        };
        journal.appender.settle(slot, outcome, now, &mut ops);
        self.perform(place, ops);
    }
}
