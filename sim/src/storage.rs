//! Virtual shared storage: records are appended in groups, one group at a time, whole or not at all.

use std::collections::VecDeque;

use phalanx_protocol::Term;
use phalanx_protocol::record::Record;

#[derive(Debug)]
pub(crate) struct Storage {
    /// What a restarted scheduler finds.
    pub(crate) durable: Vec<(Term, Record)>,
    /// Of the scheduler that appends.
    pub(crate) term: Term,
    pub(crate) failing: bool,
    waiting: VecDeque<(u64, Record)>,
    in_flight: Vec<(u64, Record)>,
}

impl Storage {
    pub(crate) fn new() -> Self {
        Self {
            durable: Vec::new(),
            term: Term(0),
            failing: false,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
        }
    }

    pub(crate) fn append(&mut self, sequence: u64, record: Record) {
        self.waiting.push_back((sequence, record));
    }

    /// Starts an append of everything that waits; `false` if there is nothing to do or one is under way.
    pub(crate) fn start(&mut self) -> bool {
        if self.waiting.is_empty() || !self.in_flight.is_empty() {
            return false;
        }
        self.in_flight = self.waiting.drain(..).collect();
        true
    }

    /// Ends an append; returns the last sequence number that is durable now, and the new records.
    pub(crate) fn finish(&mut self) -> Option<(u64, Vec<Record>)> {
        let last = self.in_flight.last()?.0;
        let records: Vec<Record> = self.in_flight.drain(..).map(|(_, record)| record).collect();
        self.durable
            .extend(records.iter().map(|record| (self.term, record.clone())));
        Some((last, records))
    }

    /// The scheduler is gone. What waited is lost; what was under way may have landed.
    pub(crate) fn abandon(&mut self, landed: bool) -> Vec<Record> {
        self.waiting.clear();
        let records = if landed { self.finish() } else { None };
        self.in_flight.clear();
        records.map(|(_, records)| records).unwrap_or_default()
    }
}
