//! Reports that are not known to be durable: numbered from 1, kept until acknowledged, sent again to every new session.
//!
//! Pure. The outbox also decides when the hosts must pause: when it holds more than
//! [`UNDURABLE_BYTES_MAX`], until it is down to half of that. What waits for a result file counts too.

use std::collections::VecDeque;
use std::sync::Arc;

use phalanx_protocol::limits::UNDURABLE_BYTES_MAX;
use phalanx_protocol::message::worker::Report;
use phalanx_protocol::record::ResultData;

/// What a report or a range in it costs beside its results, in bytes; a round figure.
const ENTRY_BYTES: usize = 64;

/// The unacknowledged reports of this worker.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    /// Number of the last report made.
    last_number: u64,
    /// How many of `kept`, from the front, were sent in this session.
    sent_count: usize,
    kept_bytes: usize,
    /// Results that are not in a report yet.
    waiting_bytes: usize,
    paused: bool,
}

#[derive(Debug)]
struct Kept {
    report: Arc<Report>,
    bytes: usize,
}

impl Outbox {
    /// Numbers a report (whatever number it has) and keeps it to be sent.
    pub(crate) fn add(&mut self, mut report: Report) {
        self.last_number += 1;
        report.number = self.last_number;
        let bytes = report_bytes(&report);
        self.kept_bytes += bytes;
        self.kept.push_back(Kept {
            report: Arc::new(report),
            bytes,
        });
    }

    /// The next report that this session has not sent.
    pub(crate) fn next_unsent(&self) -> Option<&Arc<Report>> {
        self.kept.get(self.sent_count).map(|kept| &kept.report)
    }

    /// Notes that [`Outbox::next_unsent`] was sent.
    pub(crate) fn mark_sent(&mut self) {
        self.sent_count = (self.sent_count + 1).min(self.kept.len());
    }

    /// Begins a session: everything that is kept has to be sent to it, in order.
    pub(crate) fn rewind(&mut self) {
        self.sent_count = 0;
    }

    /// Forgets the reports up to `number`.
    pub(crate) fn acknowledged(&mut self, number: u64) {
        while let Some(front) = self.kept.front()
            && front.report.number <= number
        {
            self.kept_bytes -= front.bytes;
            self.kept.pop_front();
            self.sent_count = self.sent_count.saturating_sub(1);
        }
    }

    /// Whether everything is durable.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Counts bytes of results that wait to be written to a file.
    pub(crate) fn waits(&mut self, bytes: usize) {
        self.waiting_bytes += bytes;
    }

    /// Takes back what [`Outbox::waits`] counted.
    pub(crate) fn waited(&mut self, bytes: usize) {
        self.waiting_bytes -= bytes;
    }

    /// Whether hosts must pause from now on, after a change; `storage_fails` pauses them whatever is kept.
    pub(crate) fn pause_change(&mut self, storage_fails: bool) -> Option<bool> {
        let bytes = self.kept_bytes + self.waiting_bytes;
        let limit = if self.paused {
            UNDURABLE_BYTES_MAX / 2
        } else {
            UNDURABLE_BYTES_MAX
        };
        let paused = storage_fails || bytes > limit;
        (paused != std::mem::replace(&mut self.paused, paused)).then_some(paused)
    }

    /// Whether hosts are paused now.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Asserts that numbers have no gaps and that bytes add up.
    ///
    /// # Panics
    /// If they do not.
    pub(crate) fn check(&self) {
        let numbers = self.kept.iter().rev().map(|kept| kept.report.number);
        assert!(
            numbers
                .zip((0..=self.last_number).rev())
                .all(|(number, expected)| number == expected),
            "KEEP: a report is missing from the outbox"
        );
        assert_eq!(
            self.kept_bytes,
            self.kept.iter().map(|kept| kept.bytes).sum::<usize>()
        );
        assert!(self.sent_count <= self.kept.len(), "more was sent than there is");
    }
}

fn report_bytes(report: &Report) -> usize {
    let ranges: usize = report.done.iter().map(|(_, ranges)| ranges.len()).sum();
    let failures = report.failed.iter().flat_map(|(_, failures)| failures);
    let failures: usize = failures.map(|failure| ENTRY_BYTES + failure.message.len()).sum();
    let results = report.results.iter().map(|block| match &block.data {
        ResultData::Inline(bytes) => ENTRY_BYTES + bytes.len(),
        ResultData::File { name, .. } => ENTRY_BYTES + name.len(),
    });
    ENTRY_BYTES * (1 + ranges) + failures + results.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use phalanx_protocol::record::ResultBlock;
    use phalanx_protocol::{IndexRange, JobId};
    use proptest::prelude::*;

    fn report(result_bytes: usize) -> Report {
        let range = IndexRange::new(0, 1);
        let data = ResultData::Inline(Bytes::from(vec![0; result_bytes]));
        Report {
            usage: Vec::new(),
            number: 0,
            job: JobId(1),
            done: Vec::new(),
            failed: Vec::new(),
            results: vec![ResultBlock {
                range,
                keep: vec![range],
                data,
            }],
            busy_nanos: 0,
            backlog: 0,
        }
    }

    fn send_all(outbox: &mut Outbox) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(report) = outbox.next_unsent() {
            sent.push(report.number);
            outbox.mark_sent();
        }
        sent
    }

    #[test]
    fn a_new_session_gets_all_that_was_not_acknowledged_in_order() {
        let mut outbox = Outbox::default();
        (0..4).for_each(|_| outbox.add(report(1)));
        assert_eq!(send_all(&mut outbox), [1, 2, 3, 4]);
        outbox.acknowledged(2);
        outbox.add(report(1));
        outbox.rewind();
        assert_eq!(send_all(&mut outbox), [3, 4, 5]);
        outbox.acknowledged(5);
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_acknowledgement_of_an_earlier_session_may_come_before_its_report_is_sent_again() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|_| outbox.add(report(1)));
        outbox.acknowledged(2);
        assert_eq!(send_all(&mut outbox), [3]);
    }

    #[test]
    fn hosts_pause_when_it_is_full_and_go_on_when_it_is_half_empty() {
        let mut outbox = Outbox::default();
        let quarter = UNDURABLE_BYTES_MAX / 4;
        let mut changes: Vec<_> = Vec::new();
        for _ in 0..4 {
            outbox.add(report(quarter));
            changes.push(outbox.pause_change(false));
        }
        assert_eq!(changes, [None, None, None, Some(true)]);
        outbox.acknowledged(2);
        assert_eq!(outbox.pause_change(false), None);
        outbox.acknowledged(3);
        assert_eq!(outbox.pause_change(false), Some(false));
    }

    #[test]
    fn what_waits_for_a_file_counts_and_failing_storage_pauses() {
        let mut outbox = Outbox::default();
        outbox.waits(UNDURABLE_BYTES_MAX + 1);
        assert_eq!(outbox.pause_change(false), Some(true));
        outbox.waited(UNDURABLE_BYTES_MAX + 1);
        assert_eq!(outbox.pause_change(false), Some(false));
        assert_eq!(outbox.pause_change(true), Some(true));
        assert!(outbox.is_paused());
        assert_eq!(outbox.pause_change(false), Some(false));
    }

    proptest! {
        #[test]
        fn keep_every_report_reaches_a_scheduler_that_lives_long_enough(
            steps in prop::collection::vec((0u8..4, 0u64..20), 0..120)
        ) {
            let mut outbox = Outbox::default();
            let mut made = 0u64;
            let mut durable = 0u64;
            let mut arrived = Vec::new();
            for (step, number) in steps {
                match step {
                    0 => { outbox.add(report(number as usize)); made += 1; }
                    1 => if let Some(report) = outbox.next_unsent() {
                        arrived.push(report.number);
                        outbox.mark_sent();
                    },
                    2 => { outbox.rewind(); arrived.clear(); }
                    _ => {
                        // a scheduler acknowledges only what arrived
                        let number = number.min(arrived.last().copied().unwrap_or(0)).max(durable);
                        durable = number;
                        outbox.acknowledged(number);
                    }
                }
                outbox.check();
            }
            outbox.rewind();
            prop_assert_eq!(send_all(&mut outbox), (durable + 1..=made).collect::<Vec<_>>());
        }
    }
}
