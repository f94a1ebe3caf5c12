//! Turns what slots have finished into progress messages that fit a frame.

use phalanx_protocol::id::GrantId;
use phalanx_protocol::limits::{DATA_FRAME_BYTES_MAX, TASK_RESULT_BYTES_MAX};
use phalanx_protocol::message::host::Progress;
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::usage::TaskUsage;

use crate::kernel::output::Block;

/// What one message holds at the most, by our estimate.
const MESSAGE_BYTES_HIGH: usize = DATA_FRAME_BYTES_MAX - (1 << 20);
/// What a range or a failure takes beside its text, at the most.
const ENTRY_BYTES: usize = 64;

// a message takes even the largest single result
const _: () = assert!(TASK_RESULT_BYTES_MAX + ENTRY_BYTES < MESSAGE_BYTES_HIGH);

/// Messages for `blocks` (sorted, each with results that fit a frame) and `failed`, with what their tasks have used; at
/// least one.
pub(super) fn messages(
    blocks: Vec<Block>,
    mut failed: Vec<(GrantId, TaskFailure)>,
    mut usage: Vec<TaskUsage>,
    busy_nanos: u64,
    backlog: u64,
) -> Vec<Progress> {
    let mut packer = Packer::default();
    for Block { grant, range, bytes } in blocks {
        packer.reserve(ENTRY_BYTES + bytes.len());
        add_range(&mut packer.current.done, grant, range);
        if !bytes.is_empty() {
            packer.current.results.push((range, bytes.into()));
        }
    }
    failed.sort_unstable_by_key(|(grant, failure)| (*grant, failure.index));
    for (grant, failure) in failed {
        packer.reserve(ENTRY_BYTES + failure.message.len());
        match packer.current.failed.last_mut() {
            Some((last, failures)) if *last == grant => failures.push(failure),
            Some(_) | None => packer.current.failed.push((grant, vec![failure])),
        }
    }
    let mut messages = packer.full;
    messages.push(packer.current);
    messages[0].busy_nanos = busy_nanos;
    for message in &mut messages {
        message.take_usage(&mut usage);
        message.backlog = backlog;
    }
    messages
}

/// Fills one message after the other.
#[derive(Default)]
struct Packer {
    full: Vec<Progress>,
    current: Progress,
    bytes: usize,
}

impl Packer {
    /// Makes sure that the current message has room.
    fn reserve(&mut self, bytes: usize) {
        if self.bytes + bytes > MESSAGE_BYTES_HIGH && self.bytes > 0 {
            self.full.push(std::mem::take(&mut self.current));
            self.bytes = 0;
        }
        self.bytes += bytes;
    }
}

/// Adds a range behind those of its grant, joined to the last where they touch.
fn add_range(done: &mut Vec<(GrantId, Vec<IndexRange>)>, grant: GrantId, range: IndexRange) {
    match done.last_mut() {
        Some((last, ranges)) if *last == grant => match ranges.last_mut() {
            Some(before) if before.end == range.start => before.end = range.end,
            Some(_) | None => ranges.push(range),
        },
        Some(_) | None => done.push((grant, vec![range])),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::FailureCause;
    use phalanx_protocol::{RangeSet, Term, codec};

    use super::*;

    const GRANT: GrantId = GrantId {
        term: Term(1),
        number: 1,
    };

    fn block(start: u64, end: u64, bytes: usize) -> Block {
        Block {
            grant: GRANT,
            range: IndexRange::new(start, end),
            bytes: vec![7; bytes],
        }
    }

    fn used(index: u64) -> TaskUsage {
        TaskUsage {
            index,
            ran_millis: 1,
            user_micros: 2,
            system_micros: 3,
            rss_kib: 4,
        }
    }

    #[test]
    fn neighbours_are_one_range_and_empty_results_no_block() {
        let messages = messages(
            vec![block(0, 5, 0), block(5, 9, 3), block(11, 12, 0)],
            vec![],
            vec![used(12), used(11), used(8)],
            77,
            3,
        );
        assert_eq!(messages.len(), 1);
        assert_eq!(
            messages[0].done,
            [(GRANT, vec![IndexRange::new(0, 9), IndexRange::new(11, 12)])]
        );
        assert_eq!(messages[0].results.len(), 1);
        assert_eq!((messages[0].busy_nanos, messages[0].backlog), (77, 3));
        // nothing is said of a task that has not ended
        assert_eq!(messages[0].usage, [used(11), used(8)]);
    }

    #[test]
    fn large_results_are_split_over_messages_that_fit_a_frame() {
        let blocks = (0..6).map(|index| block(index, index + 1, 8 << 20)).collect();
        let failure = |index| TaskFailure {
            index,
            cause: FailureCause::Error,
            message: "x".repeat(4096),
        };
        let failed = (6..5000).map(|index| (GRANT, failure(index))).collect();
        let usage = (0..5000).rev().map(used).collect();
        let messages = messages(blocks, failed, usage, 1, 0);
        assert!(messages.len() > 6);
        let mut done = 0;
        let (mut failed, mut measured) = (0, 0);
        for message in &messages {
            assert!(codec::encode(message).len() <= DATA_FRAME_BYTES_MAX);
            let ranges: u64 = message
                .done
                .iter()
                .flat_map(|(_, ranges)| ranges)
                .map(|range| range.len())
                .sum();
            let taken = RangeSet::from_iter(message.usage.iter().map(TaskUsage::range));
            let done_here = message.done.iter().flat_map(|(_, ranges)| ranges);
            assert!(done_here.copied().all(|range| taken.contains_range(range)));
            measured += message.usage.len();
            assert_eq!(
                ranges,
                message.results.len() as u64,
                "results travel with their tasks"
            );
            done += ranges;
            failed += message
                .failed
                .iter()
                .map(|(_, failures)| failures.len())
                .sum::<usize>();
        }
        assert_eq!((done, failed, measured), (6, 4994, 5000));
        assert_eq!(messages.iter().map(|message| message.busy_nanos).sum::<u64>(), 1);
    }
}
