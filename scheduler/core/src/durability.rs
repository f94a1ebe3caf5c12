//! The one place where effects wait for durability (invariant KEEP): a line of effects, each behind the last record
//! that was appended before it.

use std::collections::VecDeque;

use phalanx_protocol::WorkerId;
use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::Record;

use crate::core::Core;
use crate::input::{Effect, Now};

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
    /// Goes to the process that sent the report, not to another that got its id meanwhile.
    Acknowledge {
        worker: WorkerId,
        instance: u128,
        number: u64,
    },
    /// Changes what people see of a job first.
    Record(Box<Record>),
}

impl Durability {
    /// Queues a record.
    pub(crate) fn append(&mut self, record: Record, effects: &mut Vec<Effect>) {
        self.appended += 1;
        let held = Held::Record(Box::new(record.clone()));
        self.waiting.push_back((self.appended, held));
        effects.push(Effect::Append {
            sequence: self.appended,
            record,
        });
    }

    /// Notes that everything up to `sequence` is durable.
    fn reached(&mut self, sequence: u64) {
        let appended = self.appended;
        assert!(sequence <= appended, "KEEP: record {sequence} was never appended");
        self.durable = self.durable.max(sequence);
    }

    /// The next thing that need not wait any more.
    fn pop(&mut self) -> Option<(u64, Held)> {
        self.waiting
            .pop_front_if(|(sequence, _)| *sequence <= self.durable)
    }
}

impl Core {
    /// Lets something out once everything that was appended up to now is durable.
    pub(crate) fn let_out_when_durable(&mut self, held: Held, effects: &mut Vec<Effect>) {
        if self.durability.durable == self.durability.appended {
            self.let_out(held, effects);
        } else {
            let after = self.durability.appended;
            self.durability.waiting.push_back((after, held));
        }
    }

    fn let_out(&mut self, held: Held, effects: &mut Vec<Effect>) {
        match held {
            Held::Effect(effect) => effects.push(*effect),
            Held::Acknowledge {
                worker,
                instance,
                number,
            } => {
                let model = self.workers.get(&worker);
                if model.is_some_and(|model| model.instance == instance) {
                    let message = ToWorker::Acknowledge { number };
                    effects.push(Effect::Send { worker, message });
                }
            }
            Held::Record(_) => unreachable!("records come out of the line, never past it"),
        }
    }

    pub(crate) fn appended(&mut self, now: Now, sequence: u64, effects: &mut Vec<Effect>) {
        self.durability.reached(sequence);
        while let Some((sequence, held)) = self.durability.pop() {
            match held {
                Held::Record(record) => self.record_durable(now, sequence, &record, effects),
                Held::Effect(_) | Held::Acknowledge { .. } => self.let_out(held, effects),
            }
        }
    }

    fn record_durable(&mut self, now: Now, sequence: u64, record: &Record, effects: &mut Vec<Effect>) {
        let id = record.job();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.see(record);
        effects.push(Effect::Publish { job: id, sequence });
        match record {
            Record::JobFinished { .. } => self.job_finished(now, id, effects),
            Record::JobReopened { .. } | Record::TasksRequeued { .. } => {
                self.finished.retain(|&over| over != id);
                // what is known of its start and its tasks has changed
                self.weigh_dependents(now, id, effects);
                self.start_gang(id, effects);
            }
            Record::TasksEnded { done, .. } => {
                self.free_counterparts(now, id, done, effects);
                self.weigh_after_tasks(now, record, effects);
            }
            Record::JobStarted { .. } => {
                // it need not wait again
                self.weigh_if_bound(now, id, effects);
                self.weigh_dependents(now, id, effects);
                self.start_gang(id, effects);
            }
            Record::TasksCancelled { .. } => self.weigh_after_tasks(now, record, effects),
            Record::JobSubmitted { .. } => self.feed_hungry(id, effects),
            Record::JobHeld { .. } => {}
        }
    }
}
