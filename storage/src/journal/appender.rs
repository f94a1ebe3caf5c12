//! Rules R4, R5 and R6 as a state machine: records in, creates and acknowledgements out. No I/O, no clock, no randomness.
//!
//! Records collect while the pipeline is full and go out together when a place is free. A pipeline of depth *D* spans
//! *D* slots: slot *s* is created only when every slot up to *s - D* is settled. The first slots after the fence, where
//! a deposed leader may have written, are created one at a time. The caller performs each [`Op::Create`] and reports
//! its outcome by [`Appender::settle`]; it may repeat a create as often as it likes, since its bytes never change.
//!
//! Self-expiry (R6): the leader is sure of itself as of the start of the create that made its newest slot *in order*. Once
//! that is longer ago than [`EXPIRY`] it does not lead any more, whatever its creates say: it may have slept through its
//! deposition and the deletion of what deposed it. Neither a void slot nor one that is settled before its predecessors
//! makes it surer. An idle leader appends empty slots to stay sure.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::Term;

use super::acquire::Leadership;
use super::{EXPIRY, NO_OP_INTERVAL, PIPELINE_DEPTH_MAX};
use crate::clock::Moment;
use crate::slot::{LogId, Nonces, Place, RECORD_BYTES_MAX, RECORD_HEAD_BYTES, SlotHead, SlotKind, encode};

/// Payload bytes of one slot, unless a single record is larger.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of records that may wait for a place in the pipeline.
pub const WAITING_BYTES_MAX: usize = 256 << 20;

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Create this slot's object and report the outcome.
    Create {
        /// The slot.
        slot: u64,
        /// Its bytes.
        object: Bytes,
        /// How many times it was tried before; from 1 on, wait a little first.
        attempt: u32,
    },
    /// These records are durable and count for ever, as does every one before them.
    Acknowledge {
        /// The sequence number of the last one.
        upto_sequence: u64,
        /// Where each newly acknowledged one lies.
        places: Vec<(u64, Place)>,
    },
    /// Someone else leads. Nothing more will be acknowledged, nothing more may be tried.
    StandDown {
        /// The term found in the way.
        term: Term,
    },
    /// The lead is over, and whether someone else has it is not known. Nothing more will be acknowledged or may be tried.
    Expire(Expiry),
}

/// Why a lead is over though no other leader was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Expiry {
    /// Rule R6: for too long no slot of its own was settled in order. The process slept, or the storage failed for so long.
    #[error("no slot was written for more than {} s", EXPIRY.as_secs())]
    Silent,
    /// Rule R7: the slot lies in a part of the log that was given up for deletion.
    #[error("the log has been given up up to where this leader writes, slot {slot}")]
    Collected {
        /// The slot.
        slot: u64,
    },
}

/// What became of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It made the object.
    Created,
    /// The slot was taken, and this is what lies there.
    Taken {
        /// Its term.
        term: Term,
        /// Its nonce.
        nonce: u128,
    },
    /// An error: it may or may not be there.
    Unknown,
    /// It is there, and its chunk carries a marker (rule R7).
    Collected,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It can't be written at all.
    #[error("a record of {bytes} bytes is over the limit of {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The storage is too slow, or failing.
    #[error("{bytes_waiting} bytes wait for the storage, the limit is {WAITING_BYTES_MAX}")]
    Backlog {
        /// What waits already.
        bytes_waiting: usize,
    },
    /// Sequence numbers must rise.
    #[error("record {sequence} comes after record {last}")]
    Sequence {
        /// The record's.
        sequence: u64,
        /// That of the one before.
        last: u64,
    },
    /// Someone else leads.
    #[error("another scheduler leads with term {term}")]
    Deposed {
        /// The term found in the way.
        term: Term,
    },
    /// The lead is over.
    #[error("this scheduler's lead has expired: {0}")]
    Expired(Expiry),
}

/// One slot on its way.
#[derive(Debug, Clone)]
struct Flight {
    slot: u64,
    nonce: u128,
    kind: SlotKind,
    sequences: Vec<u64>,
    records: Vec<Bytes>,
    places: Vec<Place>,
    object: Bytes,
    attempt: u32,
    /// When the first attempt began, and the latest.
    first_begun: Moment,
    last_begun: Moment,
    /// Once settled: when the create began that made it, at the latest.
    made_after: Option<Moment>,
}

/// How a lead ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Deposed(Term),
    Expired(Expiry),
}

/// Decides what a leader writes where, and when a record counts as durable.
#[derive(Debug, Clone)]
pub struct Appender {
    log: LogId,
    term: Term,
    next_slot: u64,
    pipeline_depth: u64,
    nonces: Nonces,
    waiting: VecDeque<(u64, Bytes)>,
    bytes_waiting: usize,
    last_sequence: Option<u64>,
    /// In slot order.
    flights: VecDeque<Flight>,
    /// Rule R6.
    sure_since: Moment,
    last_launch: Moment,
    end: Option<End>,
}

impl Appender {
    /// Begins where a leadership begins.
    ///
    /// # Panics
    /// If the depth is not within `1..=PIPELINE_DEPTH_MAX`.
    pub fn new(leadership: &Leadership, pipeline_depth: u64) -> Self {
        assert!(
            (1..=PIPELINE_DEPTH_MAX).contains(&pipeline_depth),
            "pipeline depth {pipeline_depth}"
        );
        Self {
            log: leadership.log,
            term: leadership.term,
            next_slot: leadership.next_slot,
            pipeline_depth,
            nonces: leadership.nonces.clone(),
            waiting: VecDeque::new(),
            bytes_waiting: 0,
            last_sequence: None,
            flights: VecDeque::new(),
            sure_since: leadership.sure_since,
            last_launch: leadership.sure_since,
            end: None,
        }
    }

    /// The log that it writes.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Bytes of records that wait for a place in the pipeline.
    pub fn bytes_waiting(&self) -> usize {
        self.bytes_waiting
    }

    /// Takes a record. It goes out with the next [`Appender::dispatch`] that finds a place free.
    ///
    /// # Errors
    /// Says why it was not taken; the records before it are not affected.
    pub fn push(&mut self, sequence: u64, record: Bytes) -> Result<(), AppendError> {
        match self.end {
            None => {}
            Some(End::Deposed(term)) => return Err(AppendError::Deposed { term }),
            Some(End::Expired(expiry)) => return Err(AppendError::Expired(expiry)),
        }
        if record.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: record.len() });
        }
        if self.bytes_waiting + record.len() > WAITING_BYTES_MAX {
            return Err(AppendError::Backlog {
                bytes_waiting: self.bytes_waiting,
            });
        }
        if let Some(last) = self.last_sequence.filter(|last| *last >= sequence) {
            return Err(AppendError::Sequence { sequence, last });
        }
        self.last_sequence = Some(sequence);
        self.bytes_waiting += record.len();
        self.waiting.push_back((sequence, record));
        Ok(())
    }

    /// Sends off what waits, as far as the pipeline has places.
    pub fn dispatch(&mut self, now: Moment, ops: &mut Vec<Op>) {
        while self.leads(now, ops) && !self.waiting.is_empty() && self.place_is_free() {
            let (sequences, records) = self.take_batch();
            let flight = self.launch(SlotKind::Data, sequences, records, now, ops);
            self.flights.push_back(flight);
        }
    }

    /// Lets time pass: an idle leader says that it is there, one that was silent for too long gives up.
    pub fn tick(&mut self, now: Moment, ops: &mut Vec<Op>) {
        let idle = self.flights.is_empty() && self.waiting.is_empty();
        if self.leads(now, ops) && idle && now.since(self.last_launch) >= NO_OP_INTERVAL {
            let flight = self.launch(SlotKind::NoOp, Vec::new(), Vec::new(), now, ops);
            self.flights.push_back(flight);
        }
    }

    /// How long [`Appender::tick`] has nothing to do, if nothing else happens.
    pub fn pause(&self, now: Moment) -> Duration {
        let since = match self.flights.is_empty() {
            true => NO_OP_INTERVAL.saturating_sub(now.since(self.last_launch)),
            false => EXPIRY.saturating_sub(now.since(self.sure_since)),
        };
        // rule R6 says longer than
        since + Duration::from_millis(1)
    }

    /// Takes in what became of a create.
    pub fn settle(&mut self, slot: u64, outcome: Outcome, now: Moment, ops: &mut Vec<Op>) {
        let position = self
            .flights
            .iter()
            .position(|flight| flight.slot == slot && flight.made_after.is_none());
        let Some(position) = position.filter(|_| self.leads(now, ops)) else {
            return;
        };
        let flight = &mut self.flights[position];
        match outcome {
            Outcome::Created => flight.made_after = Some(flight.last_begun),
            Outcome::Taken { nonce, .. } if nonce == flight.nonce => {
                flight.made_after = Some(flight.first_begun);
            }
            Outcome::Unknown => {
                flight.attempt += 1;
                flight.last_begun = now;
                ops.push(Op::Create {
                    slot,
                    object: flight.object.clone(),
                    attempt: flight.attempt,
                });
                return;
            }
            Outcome::Collected => {
                self.expire(Expiry::Collected { slot }, ops);
                return;
            }
            Outcome::Taken { term, .. } if term < self.term && self.flights.len() == 1 => {
                self.reissue(now, ops);
                return;
            }
            // a higher term; or a lower one where only a pipeline deeper than any allowed can have written
            Outcome::Taken { term, .. } => {
                self.finish(End::Deposed(term));
                ops.push(Op::StandDown { term });
                return;
            }
        }
        self.acknowledge(ops);
        self.dispatch(now, ops);
    }

    /// Whether it still leads; expires if it was not sure of that for too long.
    fn leads(&mut self, now: Moment, ops: &mut Vec<Op>) -> bool {
        if self.end.is_none() && now.since(self.sure_since) > EXPIRY {
            self.expire(Expiry::Silent, ops);
        }
        self.end.is_none()
    }

    fn place_is_free(&self) -> bool {
        let Some(oldest) = self.flights.front() else {
            return true;
        };
        let first_beyond_void = self.term.0 + PIPELINE_DEPTH_MAX - 1;
        oldest.slot >= first_beyond_void && self.next_slot < oldest.slot + self.pipeline_depth
    }

    fn take_batch(&mut self) -> (Vec<u64>, Vec<Bytes>) {
        let mut payload_bytes = 0;
        let mut sequences = Vec::new();
        let mut records = Vec::new();
        while let Some((_, record)) = self.waiting.front() {
            payload_bytes += RECORD_HEAD_BYTES + record.len();
            if payload_bytes > PAYLOAD_BYTES_MAX && !records.is_empty() {
                break;
            }
            let Some((sequence, record)) = self.waiting.pop_front() else {
                break;
            };
            self.bytes_waiting -= record.len();
            sequences.push(sequence);
            records.push(record);
        }
        (sequences, records)
    }

    /// Assigns the next slot to a batch and sends it off.
    fn launch(
        &mut self,
        kind: SlotKind,
        sequences: Vec<u64>,
        records: Vec<Bytes>,
        now: Moment,
        ops: &mut Vec<Op>,
    ) -> Flight {
        self.last_launch = now;
        let (slot, nonce) = (self.next_slot, self.nonces.draw());
        self.next_slot += 1;
        let head = SlotHead {
            log: self.log,
            slot,
            term: self.term,
            nonce,
            kind,
        };
        let (object, places) = encode(&head, &records);
        ops.push(Op::Create {
            slot,
            object: object.clone(),
            attempt: 0,
        });
        Flight {
            slot,
            nonce,
            kind,
            sequences,
            records,
            places,
            object,
            attempt: 0,
            first_begun: now,
            last_begun: now,
            made_after: None,
        }
    }

    /// The only slot in flight is void: its records go to the next one.
    fn reissue(&mut self, now: Moment, ops: &mut Vec<Op>) {
        if let Some(void) = self.flights.pop_front() {
            let flight = self.launch(void.kind, void.sequences, void.records, now, ops);
            self.flights.push_front(flight);
        }
    }

    fn expire(&mut self, expiry: Expiry, ops: &mut Vec<Op>) {
        self.finish(End::Expired(expiry));
        ops.push(Op::Expire(expiry));
    }

    fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.flights.clear();
        self.waiting.clear();
        self.bytes_waiting = 0;
    }

    fn acknowledge(&mut self, ops: &mut Vec<Op>) {
        let mut places = Vec::new();
        while let Some(made_after) = self.flights.front().and_then(|flight| flight.made_after) {
            let Some(flight) = self.flights.pop_front() else {
                break;
            };
            if made_after.boot > self.sure_since.boot {
                self.sure_since = made_after;
            }
            places.extend(flight.sequences.into_iter().zip(flight.places));
        }
        if let Some(&(upto_sequence, _)) = places.last() {
            ops.push(Op::Acknowledge {
                upto_sequence,
                places,
            });
        }
    }
}

#[cfg(test)]
mod tests;
