//! A virtual worker. It follows the rules of the real one: it starts only what fits, claims from the front of a grant
//! and gives back from its end, and keeps its reports until they are known to be durable.

mod seat;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use phalanx_protocol::message::worker::{FromWorker, HeldGrant, Join, Report, ToWorker};
use phalanx_protocol::record::{FailureCause, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, JobId, Request, Sharing, Term, WorkerId};
use phalanx_scheduler_core::SessionId;

pub(crate) use self::seat::port_of;
use self::seat::{Grant, Seat};
use crate::event::Event;
use crate::fates::Harm;
use crate::leaving::Presence;
use crate::load::Plan;
use crate::weather::Node;

/// Chunks take about this long.
const CHUNK_NANOS: u64 = 20_000_000;
/// How long ended tasks wait for others to be reported with.
const REPORT_MICROS: u64 = 5_000;

/// What a worker does.
#[derive(Debug)]
pub(crate) enum Act {
    Say(FromWorker),
    SendReport(Report),
    /// Ends after that many microseconds.
    StartChunk {
        chunk: u64,
        micros: u64,
    },
    ReportAfter {
        micros: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) node: Node,
    pub(crate) instance: u128,
    pub(crate) id: Option<WorkerId>,
    pub(crate) session: Option<SessionId>,
    /// The scheduler that it tries next.
    pub(crate) aim: usize,
    /// The newest that it has heard of.
    term: Term,
    pub(crate) alive: bool,
    pub(crate) presence: Presence,
    /// Nothing happens here before this time.
    pub(crate) stalled_until: u64,
    /// What would have happened meanwhile.
    pub(crate) held_up: VecDeque<Event>,
    pub(crate) running: BTreeMap<u64, Chunk>,
    joined: bool,
    jobs: BTreeMap<JobId, Seat>,
    chunks_started: u64,
    outbox: VecDeque<Report>,
    reports_made: u64,
    report_due: bool,
}

/// Tasks that run in one slot, one after the other.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) plan: usize,
    pub(crate) job: JobId,
    pub(crate) range: IndexRange,
    pub(crate) request: Request,
    pub(crate) grant: GrantId,
    nanos: u64,
    /// What it does to its kernel host when it ends.
    harm: Option<Harm>,
}

impl Worker {
    pub(crate) fn new(node: Node, instance: u128) -> Self {
        Self {
            node,
            instance,
            id: None,
            session: None,
            aim: 0,
            term: Term(0),
            alive: true,
            presence: Presence::Working,
            stalled_until: 0,
            held_up: VecDeque::new(),
            running: BTreeMap::new(),
            joined: false,
            jobs: BTreeMap::new(),
            chunks_started: 0,
            outbox: VecDeque::new(),
            reports_made: 0,
            report_due: false,
        }
    }

    /// Whether reports of it may not be durable.
    pub(crate) fn owes_reports(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn holds_grants(&self) -> bool {
        self.jobs.values().any(|seat| !seat.grants.is_empty())
    }

    /// Ends all that runs, and forgets what was not reported.
    pub(crate) fn end_all(&mut self) {
        self.jobs.clear();
        self.running.clear();
    }

    /// A session stands. Jobs that hold nothing are closed: the scheduler opens them again if it wants them here.
    pub(crate) fn connected(&mut self, session: SessionId) -> Join {
        (self.session, self.joined) = (Some(session), false);
        let holds = |seat: &Seat| seat.grants.values().any(|grant| !grant.held.is_empty());
        self.jobs.retain(|_, seat| holds(seat));
        let grants = self
            .jobs
            .iter()
            .flat_map(|(&job, seat)| seat.grants.iter().map(move |grant| (job, grant)));
        let held = grants.flat_map(|(job, (&grant, open))| {
            open.held.iter().map(move |range| HeldGrant { job, grant, range })
        });
        Join {
            instance: self.instance,
            worker: self.id,
            name: self.node.name.clone(),
            capacity: self.node.capacity.clone(),
            held: held.collect(),
        }
    }

    /// Whether a message comes from a leader of an older term than it has heard of.
    pub(crate) fn is_stale(&self, message: &ToWorker) -> bool {
        matches!(message, ToWorker::Welcome { term, .. } if *term < self.term)
    }

    pub(crate) fn disconnected(&mut self) {
        (self.session, self.joined) = (None, false);
    }

    /// Reports that an acknowledgement would let it forget.
    pub(crate) fn kept_up_to(&self, number: u64) -> impl Iterator<Item = &Report> {
        self.outbox
            .iter()
            .take_while(move |report| report.number <= number)
    }

    /// Jobs that have tasks running here.
    pub(crate) fn busy_jobs(&self) -> BTreeSet<JobId> {
        self.running.values().map(|chunk| chunk.job).collect()
    }

    pub(crate) fn told(
        &mut self,
        message: ToWorker,
        cannot_run: impl Fn(usize) -> bool,
        acts: &mut Vec<Act>,
    ) {
        if !self.is_wanted(&message, acts) {
            return;
        }
        match message {
            ToWorker::Welcome { worker, term } => {
                (self.id, self.joined, self.term) = (Some(worker), true, term);
                acts.extend(self.outbox.iter().cloned().map(Act::SendReport));
                let ports = self.jobs.iter().filter_map(|(&job, seat)| seat.gang_port(job));
                acts.extend(ports.map(Act::Say));
            }
            ToWorker::Open {
                job, work, request, ..
            } => {
                let plan = Plan::number(&work);
                if cannot_run(plan) {
                    let reason = "no space left".to_owned();
                    return acts.push(Act::Say(FromWorker::CannotRun {
                        job,
                        reason,
                        fatal: false,
                    }));
                }
                self.jobs
                    .entry(job)
                    .or_insert_with(|| Seat::new(plan, request, work.is_command()));
            }
            ToWorker::SetSlots { job, slots } => {
                if let Some(seat) = self.jobs.get_mut(&job) {
                    seat.slots = slots;
                }
            }
            ToWorker::Grant {
                job, grant, range, ..
            } => {
                if let Some(seat) = self.jobs.get_mut(&job) {
                    let open = Grant {
                        unstarted: range.into(),
                        held: range.into(),
                    };
                    seat.grants.insert(grant, open);
                }
            }
            ToWorker::Revoke { job, grant, count } => {
                let seat = self.jobs.get_mut(&job);
                let mut given_back = seat.map_or_else(Vec::new, |seat| seat.give_back(grant, count));
                if given_back.is_empty() {
                    given_back.push(IndexRange::new(0, 0));
                }
                let returned = |range| Act::Say(FromWorker::Returned { job, grant, range });
                acts.extend(given_back.into_iter().map(returned));
            }
            // what runs ends by itself, as kernels do that do not look
            ToWorker::Stop { job, grant, range } => {
                let seat = self.jobs.get_mut(&job);
                let stopped = seat.map_or_else(Vec::new, |seat| seat.stop(grant, range));
                let said = |range| Act::Say(FromWorker::Stopped { job, grant, range });
                acts.extend(stopped.into_iter().map(said));
            }
            ToWorker::Acknowledge { number } => self.outbox.retain(|report| report.number > number),
            ToWorker::Close { job } => self.close(job),
            ToWorker::Drain => self.drain(acts),
            ToWorker::Signal { .. }
            | ToWorker::CheckpointNow { .. }
            | ToWorker::Schedulers(_)
            | ToWorker::SilenceLimit { .. }
            | ToWorker::GangWaits { .. }
            | ToWorker::GangAddresses { .. } => {}
            ToWorker::Gang { job, placement, .. } => {
                let node = placement
                    .nodes
                    .iter()
                    .position(|node| Some(node.worker) == self.id);
                if let (Some(seat), Some(node)) = (self.jobs.get_mut(&job), node) {
                    let nodes = placement.nodes.len() as u32;
                    let gang = (placement.epoch, node as u32, nodes);
                    seat.gang = Some(gang).filter(|_| nodes > 1);
                    acts.extend(seat.gang_port(job).map(Act::Say));
                }
            }
        }
    }

    fn close(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.running.retain(|_, chunk| chunk.job != job);
    }

    /// The job's kernel host dies, and with it all that is not reported; who ran there is to blame.
    pub(crate) fn host_dies(&mut self, job: JobId, load: &mut [Plan], acts: &mut Vec<Act>) {
        let of_job = self.running.values().filter(|chunk| chunk.job == job);
        let ran: Vec<u64> = of_job.map(|chunk| chunk.range.start).collect();
        if let Some(seat) = self.jobs.get(&job) {
            let fates = &mut load[seat.plan].fates;
            fates.host_died(&ran);
            let cause = fates.death;
            self.host_lost(job, ran, cause, "signal 11 (SIGSEGV)", acts);
        }
    }

    /// A task has run for too long, and its kernel host is killed for that.
    fn host_killed(&mut self, job: JobId, index: u64, acts: &mut Vec<Act>) {
        self.host_lost(
            job,
            vec![index],
            FailureCause::TimeLimit,
            "ran longer than 1 s",
            acts,
        );
    }

    fn host_lost(
        &mut self,
        job: JobId,
        blamed: Vec<u64>,
        cause: FailureCause,
        how: &str,
        acts: &mut Vec<Act>,
    ) {
        self.close(job);
        // also before the welcome: what is said after the join is heard after it
        if self.session.is_some() {
            let how = how.to_owned();
            acts.push(Act::Say(FromWorker::HostLost {
                job,
                blamed,
                cause,
                how,
            }));
        }
    }

    /// Starts what fits; the caller checks SLOT.
    pub(crate) fn start_what_fits(&mut self, load: &[Plan], acts: &mut Vec<Act>) {
        let mut free = self.node.capacity.clone();
        self.running
            .values()
            .for_each(|chunk| free.take(&chunk.request, 1));
        for (&job, seat) in &mut self.jobs {
            if !may_start(&self.running, job, &seat.request) {
                continue;
            }
            let of_job = self.running.values().filter(|chunk| chunk.job == job).count();
            let mut slots = u64::from(seat.slots).saturating_sub(of_job as u64);
            if seat.request.sharing == Sharing::Nobody {
                slots = slots.min(1);
            }
            while slots > 0 && free.slots(&seat.request) > 0 {
                let mut grants = seat.grants.iter_mut();
                let Some((&grant, open)) = grants.find(|(_, open)| !open.unstarted.is_empty()) else {
                    break;
                };
                let Some(first) = open.unstarted.iter().next() else {
                    break;
                };
                let plan = &load[seat.plan];
                let (count, nanos, harm) = plan.chunk(first.start, first.len(), CHUNK_NANOS);
                let range = IndexRange::new(first.start, first.start + count);
                open.unstarted.remove(range);
                slots -= 1;
                free.take(&seat.request, 1);
                self.chunks_started += 1;
                let nanos = match harm {
                    Some(Harm::Overrun) => plan.overrun_nanos(),
                    Some(Harm::Error | Harm::Death) | None => nanos * 100 / self.node.speed_percent,
                };
                let request = seat.request.clone();
                self.running.insert(
                    self.chunks_started,
                    Chunk {
                        plan: seat.plan,
                        job,
                        range,
                        request,
                        grant,
                        nanos,
                        harm,
                    },
                );
                acts.push(Act::StartChunk {
                    chunk: self.chunks_started,
                    micros: nanos / 1000 + 1,
                });
            }
        }
    }

    pub(crate) fn chunk_ended(&mut self, number: u64, load: &mut [Plan], acts: &mut Vec<Act>) {
        let Some(chunk) = self.running.get(&number) else {
            return;
        };
        let (job, first) = (chunk.job, chunk.range.start);
        let fates = &mut load[chunk.plan].fates;
        // its twin may have done the last of it meanwhile
        match chunk.harm.filter(|_| fates.of_next_run(first) == chunk.harm) {
            Some(Harm::Death) => {
                fates.did_harm(first);
                return self.host_dies(job, load, acts);
            }
            Some(Harm::Overrun) => {
                fates.did_harm(first);
                fates.hosts_lost += 1;
                return self.host_killed(job, first, acts);
            }
            Some(Harm::Error) | None => {}
        }
        let (Some(chunk), Some(seat)) = (self.running.remove(&number), self.jobs.get_mut(&job)) else {
            return;
        };
        let done = seat.done.entry(chunk.grant).or_default();
        done.insert(chunk.range);
        for index in fates.that_fail(chunk.range) {
            fates.did_harm(index);
            done.remove(IndexRange::new(index, index + 1));
            let (cause, message) = (FailureCause::Error, "it is its fate".to_owned());
            seat.failed.entry(chunk.grant).or_default().push(TaskFailure {
                index,
                cause,
                message,
            });
        }
        seat.busy_nanos += chunk.nanos;
        if !self.report_due {
            self.report_due = true;
            let idle = seat.grants.values().all(|open| open.unstarted.is_empty());
            acts.push(Act::ReportAfter {
                micros: if idle { 0 } else { REPORT_MICROS },
            });
        }
    }

    /// Reports what ended since the last time.
    pub(crate) fn report(&mut self, acts: &mut Vec<Act>) {
        self.report_due = false;
        for (&job, seat) in &mut self.jobs {
            if seat.done.is_empty() && seat.failed.is_empty() {
                continue;
            }
            self.reports_made += 1;
            let report = seat.report(self.reports_made, job);
            self.outbox.push_back(report.clone());
            if self.joined {
                acts.push(Act::SendReport(report));
            }
        }
    }
}

/// Whether a job may start something beside what runs.
fn may_start(running: &BTreeMap<u64, Chunk>, job: JobId, request: &Request) -> bool {
    let mut chunks = running.values();
    match request.sharing {
        Sharing::Anybody => chunks.all(|chunk| chunk.request.sharing == Sharing::Anybody),
        Sharing::OwnJob => chunks.all(|chunk| chunk.job == job),
        Sharing::Nobody => chunks.next().is_none(),
    }
}
