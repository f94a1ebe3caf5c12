//! Drives an [`Appender`] on threads of its own, so that whoever appends never waits for the storage.
//!
//! As many threads as the pipeline is deep perform the creates. Each reports the outcome to the appender under one lock
//! and hands out the events that follow, in order. A thread that has nothing to do lets the appender know how time passes.
//! A caller of [`JournalWriter::append`] never runs the event callback.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::Term;

use super::PIPELINE_DEPTH;
use super::acquire::Leadership;
use super::appender::{AppendError, Appender, Expiry, Op, Outcome};
use super::replay::{Found, LogError, find_slot};
use crate::clock::Moment;
use crate::marker::{chunk_of, is_marked, marker_key};
use crate::slot::{LogId, Place, slot_key};
use crate::store::{Put, Store};

/// Pause before the first repeat of a create; it doubles from there.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between repeats.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The longest wait of a thread whose lead is over.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What the journal has to tell.
#[derive(Debug)]
pub enum JournalEvent {
    /// Every record up to a sequence number is durable and counts for ever.
    Durable {
        /// The sequence number.
        upto_sequence: u64,
        /// Where each of the newly durable ones lies.
        places: Vec<(u64, Place)>,
    },
    /// The storage fails. The same bytes are being tried again, with pauses.
    Failing {
        /// How.
        error: LogError,
    },
    /// The storage works again.
    Recovered,
    /// Another scheduler leads. Nothing more will be durable; this is the last event.
    Deposed {
        /// The term found in the way.
        term: Term,
    },
    /// This scheduler does not lead any more, and does not know whether another one does: it must acquire the lead anew.
    /// Nothing more will be durable; this is the last event.
    Expired {
        /// Why.
        expiry: Expiry,
    },
}

/// The journal of a shard, open for appending by its leader. Dropping it stops and joins its threads; what was not
/// durable by then may or may not be.
#[derive(Debug)]
pub struct JournalWriter {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    store: Arc<dyn Store>,
    log: LogId,
    state: Mutex<State>,
    work: Condvar,
    /// Held while events are taken and delivered, which keeps them in order.
    sink: Mutex<Box<dyn FnMut(JournalEvent) + Send>>,
}

struct State {
    appender: Appender,
    creates: VecDeque<Create>,
    events: VecDeque<JournalEvent>,
    slots_failing: BTreeSet<u64>,
    ended: bool,
    stopping: bool,
}

enum Work {
    Create(Create),
    /// There are events to deliver.
    Deliver,
}

struct Create {
    slot: u64,
    object: Bytes,
    attempt: u32,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl JournalWriter {
    /// Opens the journal for a leader. `on_event` runs on the journal's own threads, one call at a time; it must not drop
    /// the writer. The records of the leadership are not looked at and may be taken out before.
    ///
    /// # Errors
    /// Passes on what the system says when it has no threads left.
    pub fn start(
        store: Arc<dyn Store>,
        leadership: Leadership,
        on_event: impl FnMut(JournalEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            log: leadership.log,
            state: Mutex::new(State {
                appender: Appender::new(&leadership, PIPELINE_DEPTH),
                creates: VecDeque::new(),
                events: VecDeque::new(),
                slots_failing: BTreeSet::new(),
                ended: false,
                stopping: false,
            }),
            work: Condvar::new(),
            sink: Mutex::new(Box::new(on_event)),
        });
        let mut writer = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..PIPELINE_DEPTH {
            let shared = Arc::clone(&writer.shared);
            let name = format!("journal-{}-{number}", leadership.log.shard);
            writer
                .threads
                .push(thread::Builder::new().name(name).spawn(move || shared.run())?);
        }
        Ok(writer)
    }

    /// Appends a record; never waits. Sequence numbers must rise, and come back in [`JournalEvent::Durable`].
    ///
    /// # Errors
    /// Says why the record was not taken.
    pub fn append(&self, sequence: u64, record: Bytes) -> Result<(), AppendError> {
        self.append_all([(sequence, record)])
    }

    /// Appends several records, in one slot as far as they fit; never waits.
    ///
    /// # Errors
    /// Says why a record was not taken; those before it were.
    pub fn append_all(&self, records: impl IntoIterator<Item = (u64, Bytes)>) -> Result<(), AppendError> {
        let mut state = self.shared.lock();
        let mut records = records.into_iter();
        let taken = records.try_for_each(|(sequence, record)| state.appender.push(sequence, record));
        let mut ops = Vec::new();
        state.appender.dispatch(Moment::now(), &mut ops);
        self.shared.perform(&mut state, ops);
        taken
    }

    /// Bytes of records that wait for a place in the pipeline: how far the storage lags behind.
    pub fn bytes_waiting(&self) -> usize {
        self.shared.lock().appender.bytes_waiting()
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // a thread that panicked has said so; there is nobody here to tell
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One creator thread.
    fn run(&self) {
        while let Some(work) = self.next_work() {
            if let Work::Create(create) = work {
                let outcome = self.create(&create);
                self.report(create.slot, outcome);
            }
            self.deliver();
        }
    }

    /// Waits for something to do, and through its pause if it is a repeat; `None` when the writer stops.
    fn next_work(&self) -> Option<Work> {
        let mut state = self.lock();
        let create = loop {
            if state.stopping {
                return None;
            }
            if let Some(create) = state.creates.pop_front() {
                break create;
            }
            let (now, mut ops) = (Moment::now(), Vec::new());
            state.appender.tick(now, &mut ops);
            self.perform(&mut state, ops);
            if !state.events.is_empty() {
                return Some(Work::Deliver);
            }
            if state.creates.is_empty() {
                let pause = if state.ended {
                    IDLE_MAX
                } else {
                    state.appender.pause(now)
                };
                state = self.wait(state, pause);
            }
        };
        let until = Instant::now() + backoff(create.attempt);
        loop {
            let pause = until.saturating_duration_since(Instant::now());
            if state.stopping {
                return None;
            }
            if pause.is_zero() {
                return Some(Work::Create(create));
            }
            state = self.wait(state, pause);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, pause: Duration) -> MutexGuard<'a, State> {
        let waited = self.work.wait_timeout(state, pause);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn create(&self, create: &Create) -> Result<Outcome, LogError> {
        let (shard, slot) = (self.log.shard, create.slot);
        let key = slot_key(shard, slot);
        let outcome = match self.store.put_if_absent(&key, &create.object) {
            Ok(Put::Created) => Outcome::Created,
            Ok(Put::Exists) => match find_slot(&*self.store, self.log, slot)? {
                Found::Whole(there) => Outcome::Taken {
                    term: there.head.term,
                    nonce: there.head.nonce,
                },
                // a store may say so of a create that conflicted with one that then failed
                Found::Missing => return Err(LogError::Vanished { key }),
                Found::Damaged { source, .. } => return Err(LogError::Damaged { key, source }),
            },
            Err(source) => return Err(LogError::Store { key, source }),
        };
        // rule R7: only now, when the slot is there, does the absence of a marker say something
        match is_marked(&*self.store, shard, slot) {
            Ok(true) => Ok(Outcome::Collected),
            Ok(false) => Ok(outcome),
            Err(source) => Err(LogError::Store {
                key: marker_key(shard, chunk_of(slot)),
                source,
            }),
        }
    }

    fn report(&self, slot: u64, outcome: Result<Outcome, LogError>) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        let outcome = match outcome {
            Ok(outcome) => {
                if state.slots_failing.remove(&slot) && state.slots_failing.is_empty() {
                    state.events.push_back(JournalEvent::Recovered);
                }
                outcome
            }
            Err(error) => {
                if state.slots_failing.is_empty() {
                    state.events.push_back(JournalEvent::Failing { error });
                }
                state.slots_failing.insert(slot);
                Outcome::Unknown
            }
        };
        let mut ops = Vec::new();
        state.appender.settle(slot, outcome, Moment::now(), &mut ops);
        self.perform(&mut state, ops);
    }

    fn perform(&self, state: &mut State, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Create {
                    slot,
                    object,
                    attempt,
                } => {
                    state.creates.push_back(Create {
                        slot,
                        object,
                        attempt,
                    });
                    // all: threads that wait out a pause listen to the same condition
                    self.work.notify_all();
                }
                Op::Acknowledge {
                    upto_sequence,
                    places,
                } => {
                    state.events.push_back(JournalEvent::Durable {
                        upto_sequence,
                        places,
                    });
                }
                Op::StandDown { term } => {
                    state.ended = true;
                    state.creates.clear();
                    state.events.push_back(JournalEvent::Deposed { term });
                }
                Op::Expire(expiry) => {
                    state.ended = true;
                    state.creates.clear();
                    state.events.push_back(JournalEvent::Expired { expiry });
                    // an append may have found out; a creator tells
                    self.work.notify_all();
                }
            }
        }
    }

    fn deliver(&self) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(event) = self.lock().events.pop_front() else {
                return;
            };
            sink(event);
        }
    }
}

fn backoff(attempt: u32) -> Duration {
    match attempt.checked_sub(1) {
        None => Duration::ZERO,
        Some(repeats) => (BACKOFF_MIN * (1 << repeats.min(8))).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests;
