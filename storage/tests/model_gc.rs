//! Snapshots and the deletion of old log, rules R6 and R7, checked exhaustively on a small model: two schedulers of which
//! each may crash or sleep at any moment, creates that land at any later moment or never, four or five slots, chunks of one.
//!
//! Each guard is checked alone. R7 needs no clock, so there time stands still and a marked slot may be deleted at once. For R6
//! time passes in ticks: a lead expires after [`EXPIRY`] of them, a slot is deleted [`GRACE`] ticks after it was marked. The
//! void rule is the product's own; the rest is written down once more, small. Each planted fault must be found.

use std::collections::BTreeSet;

use phalanx_protocol::Term;
use phalanx_storage::ClusterId;
use phalanx_storage::journal::replay::VoidRule;
use phalanx_storage::slot::{LogId, SlotHead, SlotKind};
use stateright::{Checker, HasDiscoveries, Model, Property};

const PIPELINE_DEPTH: u8 = 2;
const EXPIRY: u8 = 1;
const GRACE: u8 = 2;
const NOW_MAX: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Expiry,
    Markers,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// R1: a snapshot that does not tell the term in force.
    SnapshotWithoutTerm,
    /// R6: only the create at hand must be young.
    TimerPerCreate,
    /// R6: a slot settled out of order makes the leader surer.
    SurerOutOfOrder,
    /// R6: a void slot makes the leader surer.
    SurerByVoid,
}

/// Where the story begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With an empty log.
    Empty,
    /// With a leader that is far enough behind its fence for a pipeline.
    Pipeline,
    /// With a leader that has a void slot of the one before right behind its fence.
    VoidAhead,
}

impl Start {
    fn slot_count(self) -> u8 {
        match self {
            Self::Empty | Self::Pipeline => 4,
            Self::VoidAhead => 5,
        }
    }

    fn command_count(self) -> u8 {
        match self {
            Self::Empty | Self::VoidAhead => 2,
            Self::Pipeline => 3,
        }
    }

    /// What is there when it begins.
    fn objects(self) -> &'static [(u8, u8, Body)] {
        match self {
            Self::Empty => &[],
            Self::Pipeline => &[(0, 1, Body::Fence), (1, 1, Body::Command(0))],
            Self::VoidAhead => &[
                (0, 1, Body::Fence),
                (1, 1, Body::Command(0)),
                (2, 3, Body::Fence),
                (3, 1, Body::Command(1)),
            ],
        }
    }

    /// The fence of its leader, and where that writes next.
    fn leads(self) -> Option<(u8, u8)> {
        match self {
            Self::Empty => None,
            Self::Pipeline => Some((0, 2)),
            Self::VoidAhead => Some((2, 3)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Body {
    Fence,
    Fill,
    Command(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Object {
    slot: u8,
    term: u8,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Flight {
    slot: u8,
    command: u8,
    begun: u8,
    settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scheduler {
    Idle,
    Filling { fence: u8, sure_since: u8 },
    Leading(Leader),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Leader {
    fence: u8,
    next_slot: u8,
    next_command: u8,
    flights: Vec<Flight>,
    /// What counts up to its last acknowledged slot.
    commands: Vec<u8>,
    sure_since: u8,
}

impl Leader {
    /// The last slot up to which all are settled.
    fn settled_through(&self) -> u8 {
        self.flights.first().map_or(self.next_slot, |flight| flight.slot) - 1
    }

    fn place_is_free(&self, slot_count: u8) -> bool {
        let Some(oldest) = self.flights.first() else {
            return self.next_slot < slot_count;
        };
        oldest.slot >= self.fence + PIPELINE_DEPTH
            && self.next_slot < slot_count.min(oldest.slot + PIPELINE_DEPTH)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Snapshot {
    slot: u8,
    term: u8,
    commands: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    slots: Vec<Option<Object>>,
    /// Creates under way: whether their sender lives or not, each may land, at any time.
    under_way: BTreeSet<Object>,
    schedulers: Vec<Scheduler>,
    acknowledged: BTreeSet<u8>,
    snapshot: Option<Snapshot>,
    /// The last slot that is marked, and since when.
    marked: Option<(u8, u8)>,
    /// Slots below are deleted.
    deleted_below: u8,
    /// A create landed in a slot that had been deleted.
    name_reused: bool,
}

impl State {
    fn land(&mut self, object: Object) {
        self.under_way.remove(&object);
        let slot = &mut self.slots[usize::from(object.slot)];
        self.name_reused |= slot.is_none() && object.slot < self.deleted_below;
        slot.get_or_insert(object);
    }

    fn is_marked(&self, slot: u8) -> bool {
        self.marked.is_some_and(|(last, _)| slot <= last)
    }

    /// The first slot that the snapshot does not hold.
    fn first_slot(&self) -> u8 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.slot + 1)
    }

    /// The commands that count, in order, of the slots up to `last`.
    fn replay(&self, last: u8) -> Vec<u8> {
        let mut rule = VoidRule::default();
        let mut commands = Vec::new();
        if let Some(snapshot) = &self.snapshot {
            rule = VoidRule::from_term(Term(snapshot.term.into()));
            commands.clone_from(&snapshot.commands);
        }
        let behind = self.slots.iter().take(usize::from(last) + 1);
        let behind = behind.skip(self.first_slot().into());
        for object in behind.map_while(|slot| *slot) {
            if let (true, Body::Command(command)) = (rule.admits(&head(object)), object.body) {
                commands.push(command);
            }
        }
        commands
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Fence { scheduler: usize, slot: u8 },
    Fill { scheduler: usize, slot: u8 },
    Serve { scheduler: usize },
    Append { scheduler: usize },
    Learn { scheduler: usize, slot: u8 },
    Crash { scheduler: usize },
    Snapshot { scheduler: usize },
    Land(Object),
    Mark,
    Delete,
    Tick,
}

#[derive(Debug, Clone)]
struct Journal {
    guard: Guard,
    fault: Fault,
    start: Start,
}

impl Journal {
    fn has_expired(&self, now: u8, sure_since: u8) -> bool {
        self.guard == Guard::Expiry && now - sure_since > EXPIRY
    }

    fn is_collected(&self, state: &State, slot: u8) -> bool {
        self.guard == Guard::Markers && state.is_marked(slot)
    }

    fn serve(&self, state: &State, fence: u8, sure_since: u8) -> Scheduler {
        let term = fence + 1;
        let first = state.first_slot().min(fence);
        let there = state.slots[usize::from(first)..usize::from(fence)]
            .iter()
            .flatten();
        let outdone = there.map(|object| object.term).max().unwrap_or(0) > term
            || state
                .snapshot
                .as_ref()
                .is_some_and(|snapshot| snapshot.term > term);
        if outdone || self.has_expired(state.now, sure_since) || self.is_collected(state, fence) {
            return Scheduler::Idle;
        }
        let commands = state.replay(fence);
        Scheduler::Leading(Leader {
            fence,
            next_slot: fence + 1,
            next_command: commands.iter().map(|command| command + 1).max().unwrap_or(0),
            flights: Vec::new(),
            commands,
            sure_since,
        })
    }

    /// A leader looks at what became of its create; returns what it is then.
    fn learn(&self, state: &mut State, mut leader: Leader, slot: u8) -> Option<Scheduler> {
        let there = state.slots[usize::from(slot)]?;
        let position = leader.flights.iter().position(|flight| flight.slot == slot)?;
        let term = leader.fence + 1;
        let sure_since = match self.fault {
            Fault::TimerPerCreate => leader.flights[position].begun,
            Fault::None | Fault::SnapshotWithoutTerm | Fault::SurerOutOfOrder | Fault::SurerByVoid => {
                leader.sure_since
            }
        };
        if there.term > term || self.has_expired(state.now, sure_since) || self.is_collected(state, slot) {
            return Some(Scheduler::Idle);
        }
        if there.term == term {
            leader.flights[position].settled = true;
            if self.fault == Fault::SurerOutOfOrder {
                leader.sure_since = leader.sure_since.max(leader.flights[position].begun);
            }
            while leader.flights.first().is_some_and(|flight| flight.settled) {
                let flight = leader.flights.remove(0);
                leader.sure_since = leader.sure_since.max(flight.begun);
                leader.commands.push(flight.command);
                state.acknowledged.insert(flight.command);
            }
        } else {
            if leader.flights.len() > 1 || leader.next_slot >= self.start.slot_count() {
                return Some(Scheduler::Idle);
            }
            let void = leader.flights.remove(position);
            if self.fault == Fault::SurerByVoid {
                leader.sure_since = leader.sure_since.max(void.begun);
            }
            send(state, &mut leader, void.command);
        }
        Some(Scheduler::Leading(leader))
    }
}

/// A leader sends a command off to its next slot.
fn send(state: &mut State, leader: &mut Leader, command: u8) {
    leader.flights.push(Flight {
        slot: leader.next_slot,
        command,
        begun: state.now,
        settled: false,
    });
    state.under_way.insert(Object {
        slot: leader.next_slot,
        term: leader.fence + 1,
        body: Body::Command(command),
    });
    leader.next_slot += 1;
}

fn head(object: Object) -> SlotHead {
    let kind = match object.body {
        Body::Fence => SlotKind::Fence,
        Body::Fill => SlotKind::Fill,
        Body::Command(_) => SlotKind::Data,
    };
    let log = LogId {
        cluster: ClusterId([0; 16]),
        shard: 0,
    };
    SlotHead {
        log,
        slot: object.slot.into(),
        term: Term(object.term.into()),
        nonce: 0,
        kind,
    }
}

impl Model for Journal {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            now: 0,
            slots: vec![None; self.start.slot_count().into()],
            under_way: BTreeSet::new(),
            schedulers: vec![Scheduler::Idle; 2],
            acknowledged: BTreeSet::new(),
            snapshot: None,
            marked: None,
            deleted_below: 0,
            name_reused: false,
        };
        for &(slot, term, body) in self.start.objects() {
            state.land(Object { slot, term, body });
        }
        if let Some((fence, next_slot)) = self.start.leads() {
            state.acknowledged.insert(0);
            state.schedulers[1] = Scheduler::Leading(Leader {
                fence,
                next_slot,
                next_command: 1,
                flights: Vec::new(),
                commands: vec![0],
                sure_since: 0,
            });
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.under_way.iter().copied().map(Action::Land));
        if self.guard == Guard::Expiry && state.now < NOW_MAX {
            actions.push(Action::Tick);
        }
        if let Some(snapshot) = &state.snapshot
            && !state.is_marked(snapshot.slot)
        {
            actions.push(Action::Mark);
        }
        if let Some((last, since)) = state.marked
            && last >= state.deleted_below
            && (self.guard != Guard::Expiry || state.now - since >= GRACE)
        {
            actions.push(Action::Delete);
        }
        let missing = |slot: &u8| state.slots[usize::from(*slot)].is_none();
        for (scheduler, process) in state.schedulers.iter().enumerate() {
            match process {
                Scheduler::Idle => {
                    let fences = (state.first_slot()..self.start.slot_count()).filter(missing);
                    actions.extend(fences.map(|slot| Action::Fence { scheduler, slot }));
                    continue;
                }
                Scheduler::Filling { fence, .. } => {
                    let sent = |slot: &u8| {
                        state.under_way.contains(&Object {
                            slot: *slot,
                            term: fence + 1,
                            body: Body::Fill,
                        })
                    };
                    let mut holes = (state.first_slot()..*fence).filter(missing).peekable();
                    if holes.peek().is_none() {
                        actions.push(Action::Serve { scheduler });
                    }
                    let fills = holes.filter(|slot| !sent(slot));
                    actions.extend(fills.map(|slot| Action::Fill { scheduler, slot }));
                }
                Scheduler::Leading(leader) => {
                    if leader.next_command < self.start.command_count()
                        && leader.place_is_free(self.start.slot_count())
                    {
                        actions.push(Action::Append { scheduler });
                    }
                    let settled = leader.settled_through();
                    if settled >= state.first_slot() && settled >= leader.fence {
                        actions.push(Action::Snapshot { scheduler });
                    }
                    let landed = leader
                        .flights
                        .iter()
                        .filter(|flight| !flight.settled && !missing(&flight.slot));
                    actions.extend(landed.map(|flight| Action::Learn {
                        scheduler,
                        slot: flight.slot,
                    }));
                }
            }
            actions.push(Action::Crash { scheduler });
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Fence { scheduler, slot } => {
                state.land(Object {
                    slot,
                    term: slot + 1,
                    body: Body::Fence,
                });
                state.schedulers[scheduler] = Scheduler::Filling {
                    fence: slot,
                    sure_since: state.now,
                };
            }
            Action::Fill { scheduler, slot } => {
                let Scheduler::Filling { fence, .. } = state.schedulers[scheduler] else {
                    return None;
                };
                state.under_way.insert(Object {
                    slot,
                    term: fence + 1,
                    body: Body::Fill,
                });
            }
            Action::Serve { scheduler } => {
                let Scheduler::Filling { fence, sure_since } = state.schedulers[scheduler] else {
                    return None;
                };
                state.schedulers[scheduler] = self.serve(&state, fence, sure_since);
            }
            Action::Append { scheduler } => {
                let Scheduler::Leading(mut leader) = state.schedulers[scheduler].clone() else {
                    return None;
                };
                let command = leader.next_command;
                leader.next_command += 1;
                send(&mut state, &mut leader, command);
                state.schedulers[scheduler] = Scheduler::Leading(leader);
            }
            Action::Learn { scheduler, slot } => {
                let Scheduler::Leading(leader) = state.schedulers[scheduler].clone() else {
                    return None;
                };
                state.schedulers[scheduler] = self.learn(&mut state, leader, slot)?;
            }
            Action::Snapshot { scheduler } => {
                let Scheduler::Leading(leader) = &state.schedulers[scheduler] else {
                    return None;
                };
                let term = match self.fault {
                    Fault::SnapshotWithoutTerm => 0,
                    Fault::None | Fault::TimerPerCreate | Fault::SurerOutOfOrder | Fault::SurerByVoid => {
                        leader.fence + 1
                    }
                };
                state.snapshot = Some(Snapshot {
                    slot: leader.settled_through(),
                    term,
                    commands: leader.commands.clone(),
                });
            }
            Action::Crash { scheduler } => state.schedulers[scheduler] = Scheduler::Idle,
            Action::Land(object) => state.land(object),
            Action::Mark => state.marked = Some((state.snapshot.as_ref()?.slot, state.now)),
            Action::Delete => {
                let (last, _) = state.marked?;
                state.slots[..=usize::from(last)].fill(None);
                state.deleted_below = last + 1;
            }
            Action::Tick => state.now += 1,
        }
        // nothing tells one scheduler from another, so states that differ in their order are the same
        state.schedulers.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(KEEP, |_, state: &State| {
                let counts = state.replay(u8::MAX);
                state.acknowledged.iter().all(|command| counts.contains(command))
            }),
            Property::always(ORDER, |_, state: &State| {
                let counts = state.replay(u8::MAX);
                counts
                    .iter()
                    .copied()
                    .eq(0..u8::try_from(counts.len()).unwrap_or(u8::MAX))
            }),
            Property::sometimes("a deleted slot's name is used again", |_, state: &State| {
                state.name_reused
            }),
            Property::sometimes(
                "everything is acknowledged and log is deleted",
                |journal: &Self, state: &State| {
                    let all = usize::from(journal.start.command_count());
                    state.acknowledged.len() == all && state.deleted_below > 0
                },
            ),
        ]
    }
}

const KEEP: &str = "KEEP: what was acknowledged counts";
const ORDER: &str = "ORDER: what counts is a prefix";

fn holds(guard: Guard, start: Start) {
    let journal = Journal {
        guard,
        fault: Fault::None,
        start,
    };
    let checker = journal.checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done());
    // this holds the reachability of interesting states as well, so the model can't pass by doing nothing
    checker.assert_properties();
}

fn finds(guard: Guard, fault: Fault, start: Start, property: &'static str) {
    let journal = Journal { guard, fault, start };
    let found = HasDiscoveries::AnyOf([property].into());
    let checker = journal.checker().threads(2).finish_when(found).spawn_bfs().join();
    assert!(
        checker.discovery(property).is_some(),
        "the planted fault was not found"
    );
}

#[test]
#[ignore = "four million states, about a minute"]
fn expiry_alone_guards_deleted_names() {
    holds(Guard::Expiry, Start::Empty);
}

#[test]
fn expiry_alone_guards_deleted_names_where_a_pipeline_is_full() {
    holds(Guard::Expiry, Start::Pipeline);
}

#[test]
fn expiry_alone_guards_deleted_names_where_a_void_slot_lies_ahead() {
    holds(Guard::Expiry, Start::VoidAhead);
}

#[test]
fn markers_alone_guard_deleted_names() {
    for start in [Start::Empty, Start::Pipeline, Start::VoidAhead] {
        holds(Guard::Markers, start);
    }
}

#[test]
fn deletion_without_a_guard_is_found() {
    finds(Guard::None, Fault::None, Start::Empty, KEEP);
}

#[test]
fn a_snapshot_without_the_term_is_found() {
    finds(
        Guard::Markers,
        Fault::SnapshotWithoutTerm,
        Start::VoidAhead,
        ORDER,
    );
}

#[test]
fn a_timer_for_each_create_alone_is_found() {
    finds(Guard::Expiry, Fault::TimerPerCreate, Start::Pipeline, KEEP);
}

#[test]
fn being_made_surer_by_a_slot_out_of_order_is_found() {
    finds(Guard::Expiry, Fault::SurerOutOfOrder, Start::Pipeline, KEEP);
}

#[test]
fn being_made_surer_by_a_void_slot_is_found() {
    finds(Guard::Expiry, Fault::SurerByVoid, Start::VoidAhead, KEEP);
}
