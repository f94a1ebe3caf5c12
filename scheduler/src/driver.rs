//! The one task that owns the core: tells it what happened, and carries out what it says.

mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{Outcome, Record};
use phalanx_protocol::{JobId, Term, WorkerId, codec};
use phalanx_scheduler_core::{Core, Effect, Input, Now, RequestId, SessionId};
use phalanx_storage::journal::appender::Expiry;
use phalanx_storage::{AppendError, JournalEvent, Place};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use crate::config::EndError;
use crate::event::{Admitted, Command, Event, Query, WorkerLink};
use crate::feed::Feeds;
use crate::gang_hosts::GangHosts;
use crate::lead::Journal;
use crate::roster::Roster;
use crate::snapshots::Snapshots;
use crate::strain::{LAG_BYTES_MAX, Strain};

/// Events handled before their records are appended together.
const BATCH_MAX: usize = 256;
/// Bytes of records after which a batch is appended, however few events it had: a log slot's worth.
const BATCH_BYTES: usize = 1 << 20;

/// Why a lead has ended.
#[derive(Debug)]
pub(crate) enum LeadEnd {
    /// Another scheduler leads.
    Deposed {
        /// Its term.
        term: Term,
    },
    /// The lead is to be taken anew; perhaps another one has it.
    Expired(Expiry),
    /// This scheduler cannot go on.
    Failed(EndError),
}

pub(crate) struct Driver {
    core: Core,
    feeds: Feeds,
    journal: Journal,
    snapshots: Snapshots,
    started: Instant,
    /// Where this scheduler can be reached.
    addresses: Vec<String>,
    /// Where the others are, of whom workers are to know.
    roster: watch::Receiver<Roster>,
    /// What all workers were told last.
    addresses_told: Vec<String>,
    /// How long a worker may be silent, by the settings of the listener.
    worker_timeout_millis: u32,
    gang_hosts: GangHosts,
    effects: Vec<Effect>,
    /// Records of the batch of events at hand.
    unappended: Vec<(u64, Bytes)>,
    unappended_bytes: usize,
    /// Appended and not durable, in order.
    records: VecDeque<(u64, Record)>,
    /// Where records lie that are durable and not yet published.
    places: BTreeMap<u64, Place>,
    requests_made: u64,
    requests: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    joining: BTreeMap<SessionId, WorkerLink>,
    admitted: BTreeMap<SessionId, Admitted>,
    sessions: BTreeMap<WorkerId, SessionId>,
    strain: Strain,
}

impl Driver {
    pub(crate) fn new(
        (core, feeds, journal, snapshots): (Core, Feeds, Journal, Snapshots),
        addresses: Vec<String>,
        roster: watch::Receiver<Roster>,
        worker_timeout_millis: u32,
    ) -> Self {
        Self {
            core,
            feeds,
            journal,
            snapshots,
            started: Instant::now(),
            addresses_told: Vec::new(),
            worker_timeout_millis,
            gang_hosts: GangHosts::default(),
            addresses,
            roster,
            effects: Vec::new(),
            unappended: Vec::new(),
            unappended_bytes: 0,
            records: VecDeque::new(),
            places: BTreeMap::new(),
            requests_made: 0,
            requests: BTreeMap::new(),
            joining: BTreeMap::new(),
            admitted: BTreeMap::new(),
            sessions: BTreeMap::new(),
            strain: Strain::default(),
        }
    }

    /// Runs until told to stop, the lead is lost, or nobody can send events any more: neither workers' nor clients'.
    pub(crate) async fn run(
        mut self,
        (mut events, mut requests): (mpsc::Receiver<Event>, mpsc::Receiver<Event>),
        mut journaled: mpsc::UnboundedReceiver<JournalEvent>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), LeadEnd> {
        let now = self.now();
        let mut effects = Vec::new();
        self.core.start(now, &mut effects);
        self.effects = effects;
        self.carry_out();
        self.append()?;
        loop {
            let deadline = self.core.next_deadline().map(|deadline| self.started + deadline);
            let (snapshot_due, look_due) = (self.snapshots.due(), self.strain.next_look());
            let alarm = sleep_until(deadline.unwrap_or_else(far_away).into());
            tokio::select! {
                biased;
                event = journaled.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    self.on_journal(event)?;
                }
                // storage that lags holds back workers, who would make it lag more, and nobody who asks
                event = requests.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    self.on_events(event, &mut requests);
                    // clients that never pause do not silence workers
                    if self.journal.bytes_waiting() < LAG_BYTES_MAX
                        && let Ok(event) = events.try_recv()
                    {
                        self.on_events(event, &mut events);
                    }
                }
                event = events.recv(), if self.journal.bytes_waiting() < LAG_BYTES_MAX => {
                    let Some(event) = event else { return Ok(()) };
                    self.on_events(event, &mut events);
                }
                () = alarm, if deadline.is_some() => self.tell(Input::Ticked),
                Ok(()) = self.roster.changed() => self.tell_addresses_to_all(),
                () = self.snapshots.ended() => {}
                () = sleep_until(look_due.unwrap_or_else(far_away).into()), if look_due.is_some() => {}
                () = sleep_until(snapshot_due.unwrap_or_else(far_away).into()), if snapshot_due.is_some() => {
                    self.snapshots.begin(&self.core, &self.feeds);
                }
                _ = stopped.wait_for(|&stop| stop) => {
                    self.snapshots.finish(&self.core, &self.feeds).await;
                    return Ok(());
                }
            }
            self.carry_out();
            self.append()?;
            self.judge_storage();
        }
    }

    fn on_journal(&mut self, event: JournalEvent) -> Result<(), LeadEnd> {
        match event {
            JournalEvent::Durable {
                upto_sequence,
                places,
            } => {
                self.strain.durable(upto_sequence);
                self.places.extend(places.iter().copied());
                self.tell(Input::Appended {
                    sequence: upto_sequence,
                });
                // carried out before a snapshot is taken, since that happens between two events
                self.snapshots.applied(&places);
            }
            JournalEvent::Failing { error } => {
                let text = error_text(&error);
                tracing::error!(error = text, "shared storage fails; trying again");
                self.strain.fails(text, Instant::now());
            }
            JournalEvent::Recovered => {
                tracing::info!("shared storage works again");
                self.strain.works();
            }
            JournalEvent::Deposed { term } => return Err(LeadEnd::Deposed { term }),
            JournalEvent::Expired { expiry } => return Err(LeadEnd::Expired(expiry)),
        }
        Ok(())
    }

    /// Tells the core and whoever waits if the storage does not keep up any more, and the core if it does again.
    fn judge_storage(&mut self) {
        let Some(error) = self.strain.judge(Instant::now(), self.journal.bytes_waiting()) else {
            return;
        };
        match &error {
            Some(error) => tracing::error!(error, "submissions are refused"),
            None => tracing::info!("submissions are taken again"),
        }
        self.tell(Input::StorageChanged { error });
        self.carry_out();
        self.refuse_waiting();
    }

    /// Tells clients that wait for durability why they wait in vain, if they do. What they asked for may still come to pass.
    fn refuse_waiting(&mut self) {
        let Some(error) = self.strain.told().cloned() else {
            return;
        };
        for (_, request) in std::mem::take(&mut self.requests) {
            // a client that is gone needs no answer
            let _ = request.send(Reply::Refused(Refusal::Storage { error: error.clone() }));
        }
    }

    /// Handles an event and those that wait behind it, up to a batch.
    fn on_events(&mut self, first: Event, more: &mut mpsc::Receiver<Event>) {
        self.on_event(first);
        for _ in 1..BATCH_MAX {
            if self.unappended_bytes >= BATCH_BYTES {
                break;
            }
            let Ok(event) = more.try_recv() else { break };
            self.on_event(event);
        }
    }

    /// Handles an event to its end: the next one finds its effects done, but for its records.
    fn on_event(&mut self, event: Event) {
        self.dispatch(event);
        self.carry_out();
        self.refuse_waiting();
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Command {
                user,
                admin,
                command,
                reply,
            } => {
                self.requests_made += 1;
                let request = RequestId(self.requests_made);
                self.requests.insert(request, reply);
                self.tell(match command {
                    Command::Submit(spec) => Input::Submitted { request, user, spec },
                    Command::Cancel(job) => Input::CancelRequested {
                        request,
                        user,
                        admin,
                        job,
                    },
                    Command::Requeue { job, tasks } => Input::RequeueRequested {
                        request,
                        user,
                        admin,
                        job,
                        tasks,
                    },
                    Command::CancelTasks { job, tasks } => Input::TaskCancelRequested {
                        request,
                        user,
                        admin,
                        job,
                        tasks,
                    },
                    Command::Signal { job, tasks, signal } => Input::SignalRequested {
                        request,
                        user,
                        admin,
                        job,
                        tasks,
                        signal,
                    },
                    Command::Retry(job) => Input::RetryRequested {
                        request,
                        user,
                        admin,
                        job,
                    },
                    Command::Hold { job, held } => Input::HoldRequested {
                        request,
                        user,
                        admin,
                        job,
                        held,
                    },
                    Command::Drain(worker) => Input::DrainRequested {
                        request,
                        worker,
                        allowed: admin,
                    },
                });
            }
            Event::Query { query, reply } => {
                // a client that is gone needs no answer
                let _ = reply.send(self.answer(query));
            }
            Event::Follow { job, reply } => {
                let found = self.core.job(job).and_then(|_| self.feeds.get(job));
                let _ = reply.send(found.ok_or(Refusal::NoSuchJob(job)));
            }
            Event::Joined {
                session,
                address,
                join,
                link,
            } => self.on_join(session, address, join, link),
            Event::Said { session, message } => self.on_said(session, message),
            Event::Reported { session, report } => {
                if let Some(worker) = self.worker_of(session) {
                    self.tell(Input::Reported { worker, report });
                }
            }
            Event::Gone { session, orderly } => self.on_gone(session, orderly),
        }
    }

    fn answer(&self, query: Query) -> Reply {
        let job = |id: JobId| self.core.job(id).ok_or(Refusal::NoSuchJob(id));
        let reply = match query {
            Query::Jobs => Ok(Reply::Jobs(self.core.jobs())),
            Query::Job(id) => job(id).map(Reply::Job),
            Query::Workers => Ok(Reply::Workers(self.core.workers())),
            Query::Explain(id) => self
                .core
                .explain(id)
                .map(Reply::Explanation)
                .ok_or(Refusal::NoSuchJob(id)),
            Query::Tasks { job, tasks } => self
                .core
                .tasks(job, tasks)
                .map(Reply::Tasks)
                .ok_or(Refusal::NoSuchJob(job)),
        };
        reply.unwrap_or_else(Reply::Refused)
    }

    fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Now {
            elapsed: self.started.elapsed(),
            unix_millis,
        }
    }

    fn tell(&mut self, input: Input) {
        let now = self.now();
        self.core.handle(now, input, &mut self.effects);
    }

    /// Carries out what the core wants, until it wants nothing more. Records are gathered for [`Driver::append`].
    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out_one(effect);
            }
        }
    }

    /// Appends what was gathered, as one group.
    fn append(&mut self) -> Result<(), LeadEnd> {
        self.unappended_bytes = 0;
        if let Some(&(last, _)) = self.unappended.last() {
            self.strain.appended(last, Instant::now());
        }
        match self.journal.append_all(self.unappended.drain(..)) {
            // the journal says so itself, and where the other one is
            Ok(()) | Err(AppendError::Deposed { .. } | AppendError::Expired(_)) => Ok(()),
            // to go on without the record would lose what follows from it; a new start knows what is durable
            Err(error) => Err(LeadEnd::Failed(EndError::Journal(error))),
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Append { sequence, record } => {
                let bytes = codec::encode(&record);
                self.unappended_bytes += bytes.len();
                self.unappended.push((sequence, bytes.into()));
                self.records.push_back((sequence, record));
            }
            Effect::Admit { session, worker } => self.admit(session, worker),
            Effect::Reject { session, refusal } => {
                if let Some(link) = self.joining.remove(&session) {
                    let _ = link.refused.send(refusal);
                }
            }
            Effect::Send { worker, mut message } => {
                self.gang_hosts.complete(worker, &mut message, &self.addresses);
                let is_welcome = matches!(message, ToWorker::Welcome { .. });
                self.send(worker, message);
                if is_welcome {
                    let millis = self.worker_timeout_millis;
                    self.send(worker, ToWorker::SilenceLimit { millis });
                    self.send(worker, ToWorker::Schedulers(self.all_addresses()));
                }
            }
            Effect::Answer { request, reply } => {
                if let Some(client) = self.requests.remove(&request) {
                    // a client that is gone needs no answer
                    let _ = client.send(*reply);
                }
            }
            Effect::Publish { sequence, .. } => self.publish(sequence),
            Effect::Forget(job) => {
                self.snapshots.over(job);
                self.feeds.forget(job);
            }
        }
    }

    fn publish(&mut self, sequence: u64) {
        while let Some((next, record)) = self.records.pop_front() {
            let place = self.places.remove(&next);
            if next == sequence {
                let place =
                    place.expect("KEEP: a record is published once the journal has said where it lies");
                if let Record::JobFinished {
                    job,
                    outcome: Outcome::Succeeded | Outcome::Cancelled { .. } | Outcome::Broken { .. },
                    ..
                } = &record
                {
                    self.snapshots.over(*job);
                }
                if let Record::TasksRequeued { job, .. } = &record {
                    self.snapshots.goes_on(*job);
                }
                self.feeds.add(record, place, true);
                return;
            }
        }
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// An error and its causes, in one line.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
