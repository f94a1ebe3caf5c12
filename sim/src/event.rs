//! Virtual time: what happens next is what is earliest, and of that what was scheduled first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use phalanx_protocol::message::client::Reply;
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_scheduler_core::{RequestId, SessionId};

/// Names one life of a worker: its place and its instance.
pub(crate) type Life = (usize, u128);
/// Names what a scheduler is for a while: its place, and a number that changes with its role.
pub(crate) type Stint = (usize, u64);

/// One try to create a slot.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) slot: u64,
    /// The create that was sent.
    pub(crate) create: u64,
    /// There was an error, whatever became of it.
    pub(crate) failed: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A worker's message reaches the scheduler.
    Said(SessionId, FromWorker),
    /// A worker's report reaches the scheduler.
    Reported(SessionId, Report),
    /// The scheduler's message reaches a worker.
    Told(SessionId, ToWorker),
    /// A worker sees that its session is gone.
    WorkerNotices(SessionId),
    /// The scheduler sees that a session is gone.
    SchedulerNotices(SessionId),
    /// A session that nobody answers on is given up.
    SilenceDetected(SessionId),
    /// A worker tries to connect.
    Connect(Life),
    /// A chunk of tasks ends on a worker.
    ChunkEnded(Life, u64),
    /// A worker sends what has ended.
    ReportDue(Life),
    /// A worker that was stopped has no more time.
    GraceEnds(Life),
    /// A worker that stood still goes on.
    Wakes(Life),
    /// A worker that crashed starts again.
    WorkerStarts(usize),
    /// A create reaches the storage, if it was not lost.
    CreateLands(u64),
    /// A leader hears what became of a create.
    CreateEnds(Stint, Attempt),
    /// A leader's core asked to be told the time.
    Deadline(Stint),
    /// A standby looks after the leader.
    Watches(Stint),
    /// A standby tries to take over too early.
    Hastens,
    /// A leader dies while it writes.
    DiesWriting(Stint),
    /// Time passes for a leader's journal.
    Ticks(Stint),
    /// A leader writes a snapshot.
    Snapshots(Stint),
    /// A scheduler starts again.
    SchedulerStarts(usize),
    /// A scheduler that stood still goes on.
    SchedulerWakes(usize),
    /// A request reaches a scheduler.
    Requested(usize, RequestId),
    /// A client submits the job of a plan, perhaps again.
    Submit(usize),
    /// A client cancels the job of a plan, perhaps again.
    Cancel(usize),
    /// A client wants some tasks of the job of a plan to end, perhaps again.
    CancelTasks(usize),
    /// A client wants failed tasks of the job of a plan to be run again.
    Retry(usize),
    /// A client wants the job of a plan held, or released.
    Hold(usize, bool),
    /// Somebody wants a worker to leave, perhaps again.
    Drain(Life),
    /// An answer reaches a client.
    Answered(RequestId, Box<Reply>),
    /// Something breaks.
    FaultStrikes,
    /// Everything must have ended.
    PatienceEnds,
}

impl Event {
    /// What goes into the trace: enough to tell two runs apart.
    pub(crate) fn fingerprint(&self) -> [u64; 3] {
        match self {
            Self::Said(session, _) => [1, session.0, 0],
            Self::Reported(session, report) => [2, session.0, report.number],
            Self::Told(session, ToWorker::Grant { grant, range, .. }) => {
                [3, session.0 ^ grant.number, range.start]
            }
            Self::Told(session, _) => [4, session.0, 0],
            Self::WorkerNotices(session) => [5, session.0, 0],
            Self::SchedulerNotices(session) => [6, session.0, 0],
            Self::SilenceDetected(session) => [7, session.0, 0],
            Self::Connect((worker, _)) => [8, *worker as u64, 0],
            Self::ChunkEnded((worker, _), chunk) => [9, *worker as u64, *chunk],
            Self::ReportDue((worker, _)) => [10, *worker as u64, 0],
            Self::WorkerStarts(worker) => [11, *worker as u64, 0],
            Self::CreateLands(create) => [12, *create, 0],
            Self::CreateEnds((place, _), attempt) => [13, *place as u64, attempt.create],
            Self::Deadline((place, stint)) => [14, *place as u64, *stint],
            Self::SchedulerStarts(place) => [15, *place as u64, 0],
            Self::Submit(plan) => [16, *plan as u64, 0],
            Self::Cancel(plan) => [17, *plan as u64, 0],
            Self::CancelTasks(plan) => [33, *plan as u64, 0],
            Self::Retry(plan) => [28, *plan as u64, 0],
            Self::Answered(request, _) => [18, request.0, 0],
            Self::FaultStrikes => [19, 0, 0],
            Self::PatienceEnds => [20, 0, 0],
            Self::Wakes((worker, _)) => [21, *worker as u64, 0],
            Self::Watches((place, stint)) => [22, *place as u64, *stint],
            Self::Ticks((place, stint)) => [23, *place as u64, *stint],
            Self::Snapshots((place, stint)) => [27, *place as u64, *stint],
            Self::SchedulerWakes(place) => [24, *place as u64, 0],
            Self::Hastens => [26, 0, 0],
            Self::DiesWriting((place, stint)) => [32, *place as u64, *stint],
            Self::Drain((worker, _)) => [29, *worker as u64, 0],
            Self::Hold(plan, held) => [31, *plan as u64, u64::from(*held)],
            Self::GraceEnds((worker, _)) => [30, *worker as u64, 0],
            Self::Requested(place, request) => [25, *place as u64, request.0],
        }
    }
}

/// What is to come.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    pub(crate) now: u64,
    scheduled: u64,
    order: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
}

impl Agenda {
    /// Schedules an event at a time in microseconds, or now if that has passed.
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.scheduled += 1;
        self.order.push(Reverse((time.max(self.now), self.scheduled)));
        self.events.insert(self.scheduled, event);
    }

    pub(crate) fn after(&mut self, micros: u64, event: Event) {
        self.at(self.now + micros, event);
    }

    /// Goes on to the next event.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((time, number)) = self.order.pop()?;
        self.now = time;
        self.events.remove(&number)
    }
}
