//! The one place where effects wait for durability (invariant KEEP): a line of effects, each behind the last record
//! that was appended before it.

use std::collections::VecDeque;

use phalanx_protocol::record::Record;

use crate::input::Effect;

/// Numbers records and holds back what may not be seen before them.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    appended: u64,
    durable: u64,
    waiting: VecDeque<(u64, Held)>,
}

/// What waits.
#[derive(Debug)]
pub(crate) enum Held {
    /// Goes out as it is.
    Effect(Box<Effect>),
    /// Changes what people see of a job first.
    Record(Box<Record>),
}

impl Durability {
    /// Queues a record and returns its sequence number.
    pub(crate) fn append(&mut self, record: Record, effects: &mut Vec<Effect>) -> u64 {
        self.appended += 1;
        self.waiting
            .push_back((self.appended, Held::Record(Box::new(record.clone()))));
        effects.push(Effect::Append {
            sequence: self.appended,
            record,
        });
        self.appended
    }

    /// Lets `effect` out once everything that was appended up to now is durable.
    pub(crate) fn after_appended(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        if self.durable == self.appended {
            effects.push(effect);
        } else {
            self.waiting
                .push_back((self.appended, Held::Effect(Box::new(effect))));
        }
    }

    /// Notes that everything up to `sequence` is durable.
    pub(crate) fn reached(&mut self, sequence: u64) {
        assert!(
            sequence <= self.appended,
            "KEEP: record {sequence} was never appended"
        );
        self.durable = self.durable.max(sequence);
    }

    /// The next thing that need not wait any more.
    pub(crate) fn pop(&mut self) -> Option<(u64, Held)> {
        self.waiting
            .pop_front_if(|(sequence, _)| *sequence <= self.durable)
    }
}
