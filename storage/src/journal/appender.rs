//! Rules R4 and R5 as a state machine: records in, creates and acknowledgements out. No I/O, no clock, no randomness.
//!
//! Records collect while the pipeline is full and go out together when a place is free. A pipeline of depth *D* spans
//! *D* slots: slot *s* is created only when every slot up to *s - D* is settled. The first slots after the fence, where
//! a deposed leader may have written, are created one at a time. The caller performs each [`Op::Create`] and reports
//! its outcome by [`Appender::settle`]; it may repeat a create as often as it likes, since its bytes never change.

use std::collections::VecDeque;

use bytes::Bytes;
use phalanx_protocol::Term;

use super::PIPELINE_DEPTH_MAX;
use super::acquire::Leadership;
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
}

/// One slot on its way.
#[derive(Debug, Clone)]
struct Flight {
    slot: u64,
    nonce: u128,
    sequences: Vec<u64>,
    records: Vec<Bytes>,
    places: Vec<Place>,
    object: Bytes,
    attempt: u32,
    settled: bool,
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
    deposed: Option<Term>,
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
            deposed: None,
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
        if let Some(term) = self.deposed {
            return Err(AppendError::Deposed { term });
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
    pub fn dispatch(&mut self, ops: &mut Vec<Op>) {
        while self.deposed.is_none() && !self.waiting.is_empty() && self.place_is_free() {
            let (sequences, records) = self.take_batch();
            let flight = self.launch(sequences, records, ops);
            self.flights.push_back(flight);
        }
    }

    /// Takes in what became of a create.
    pub fn settle(&mut self, slot: u64, outcome: Outcome, ops: &mut Vec<Op>) {
        let position = self
            .flights
            .iter()
            .position(|flight| flight.slot == slot && !flight.settled);
        let Some(position) = position.filter(|_| self.deposed.is_none()) else {
            return;
        };
        let flight = &mut self.flights[position];
        match outcome {
            Outcome::Created => flight.settled = true,
            Outcome::Taken { nonce, .. } if nonce == flight.nonce => flight.settled = true,
            Outcome::Unknown => {
                flight.attempt += 1;
                ops.push(Op::Create {
                    slot,
                    object: flight.object.clone(),
                    attempt: flight.attempt,
                });
                return;
            }
            Outcome::Taken { term, .. } if term < self.term && self.flights.len() == 1 => {
                self.reissue(ops);
                return;
            }
            // a higher term; or a lower one where only a pipeline deeper than any allowed can have written
            Outcome::Taken { term, .. } => {
                self.stand_down(term, ops);
                return;
            }
        }
        self.acknowledge(ops);
        self.dispatch(ops);
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
    fn launch(&mut self, sequences: Vec<u64>, records: Vec<Bytes>, ops: &mut Vec<Op>) -> Flight {
        let (slot, nonce) = (self.next_slot, self.nonces.draw());
        self.next_slot += 1;
        let head = SlotHead {
            log: self.log,
            slot,
            term: self.term,
            nonce,
            kind: SlotKind::Data,
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
            sequences,
            records,
            places,
            object,
            attempt: 0,
            settled: false,
        }
    }

    /// The only slot in flight is void: its records go to the next one.
    fn reissue(&mut self, ops: &mut Vec<Op>) {
        if let Some(void) = self.flights.pop_front() {
            let flight = self.launch(void.sequences, void.records, ops);
            self.flights.push_front(flight);
        }
    }

    fn stand_down(&mut self, term: Term, ops: &mut Vec<Op>) {
        self.deposed = Some(term);
        self.flights.clear();
        self.waiting.clear();
        self.bytes_waiting = 0;
        ops.push(Op::StandDown { term });
    }

    fn acknowledge(&mut self, ops: &mut Vec<Op>) {
        let mut places = Vec::new();
        while self.flights.front().is_some_and(|flight| flight.settled) {
            let Some(flight) = self.flights.pop_front() else {
                break;
            };
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
