//! What a host says ended, cut and joined into portions that make one report each. Pure.

use bytes::Bytes;
use phalanx_protocol::limits::{REPORT_INLINE_BYTES_MAX, RESULT_FILE_BYTES_MAX};
use phalanx_protocol::message::host::Progress;
use phalanx_protocol::record::{ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::{GrantId, IndexRange, RangeSet};

/// What a portion may weigh beside its results, so that a report stays far below a frame: see [`weight`].
const PORTION_WEIGHT_MAX: usize = 4 << 20;
/// What a range, a block or a failure weighs, in bytes, beside its text.
const ENTRY_WEIGHT: usize = 64;
/// What it weighs what one task has used, in bytes: five numbers.
const USAGE_WEIGHT: usize = 45;

/// Bytes of all results.
pub(crate) fn result_bytes(progress: &Progress) -> usize {
    progress.results.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Whether the results ride in the report.
pub(crate) fn is_inline(progress: &Progress) -> bool {
    result_bytes(progress) <= REPORT_INLINE_BYTES_MAX
}

/// Whether it makes one report as it is.
pub(crate) fn is_portion(progress: &Progress) -> bool {
    let bytes = result_bytes(progress);
    let is_one_result = progress.results.len() == 1;
    weight(progress) <= PORTION_WEIGHT_MAX && (bytes <= RESULT_FILE_BYTES_MAX || is_one_result)
}

fn weight(progress: &Progress) -> usize {
    let ranges: usize = progress.done.iter().map(|(_, ranges)| 1 + ranges.len()).sum();
    let failures = progress.failed.iter().flat_map(|(_, failures)| failures);
    let failures: usize = failures.map(failure_weight).sum();
    let usage = USAGE_WEIGHT * progress.usage.len();
    ENTRY_WEIGHT * (ranges + progress.results.len()) + failures + usage
}

fn failure_weight(failure: &TaskFailure) -> usize {
    ENTRY_WEIGHT + failure.message.len()
}

/// Joins `later` to `earlier` if both together are one portion; gives it back if not.
pub(crate) fn join(earlier: &mut Progress, later: Progress) -> Option<Progress> {
    let fits = result_bytes(earlier) + result_bytes(&later) <= RESULT_FILE_BYTES_MAX
        && weight(earlier) + weight(&later) <= PORTION_WEIGHT_MAX;
    if !fits {
        return Some(later);
    }
    for (grant, ranges) in later.done {
        append_done(&mut earlier.done, grant, ranges);
    }
    earlier.failed.extend(later.failed);
    earlier.results.extend(later.results);
    earlier.usage.extend(later.usage);
    earlier.busy_nanos = earlier.busy_nanos.saturating_add(later.busy_nanos);
    earlier.backlog = later.backlog;
    None
}

fn append_done(done: &mut Vec<(GrantId, Vec<IndexRange>)>, grant: GrantId, ranges: Vec<IndexRange>) {
    let Some((_, before)) = done.iter_mut().find(|(other, _)| *other == grant) else {
        done.push((grant, ranges));
        return;
    };
    for range in ranges {
        match before.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => before.push(range),
        }
    }
}

/// Cuts progress into portions, in order. Every result is in the portion that says its tasks are done; the time spent is
/// in the last one. What no honest host says may leave a piece that is no portion: the caller checks.
pub(crate) fn split(progress: Progress) -> Vec<Progress> {
    if is_portion(&progress) {
        return vec![progress];
    }
    let backlog = progress.backlog;
    let mut rest = progress.done;
    let mut usage = progress.usage;
    let mut portions = Vec::new();
    for blocks in group(progress.results, RESULT_FILE_BYTES_MAX, |(_, bytes)| bytes.len()) {
        let covered: RangeSet = blocks.iter().map(|&(range, _)| range).collect();
        let done = take_covered(&mut rest, &covered);
        portions.push(Progress {
            done,
            results: blocks,
            backlog,
            ..Progress::default()
        });
    }
    let failures = progress
        .failed
        .into_iter()
        .flat_map(|(grant, failures)| failures.into_iter().map(move |failure| (grant, failure)));
    for failures in group(failures.collect(), PORTION_WEIGHT_MAX, |(_, failure)| {
        failure_weight(failure)
    }) {
        let failed = failures
            .into_iter()
            .map(|(grant, failure)| (grant, vec![failure]))
            .collect();
        portions.push(Progress {
            failed,
            backlog,
            ..Progress::default()
        });
    }
    let ranges = rest
        .into_iter()
        .flat_map(|(grant, ranges)| ranges.into_iter().map(move |range| (grant, range)));
    for ranges in group(ranges.collect(), PORTION_WEIGHT_MAX, |_| ENTRY_WEIGHT) {
        let mut done = Vec::new();
        ranges
            .into_iter()
            .for_each(|(grant, range)| append_done(&mut done, grant, vec![range]));
        portions.push(Progress {
            done,
            backlog,
            ..Progress::default()
        });
    }
    portions
        .iter_mut()
        .for_each(|portion| portion.take_usage(&mut usage));
    portions.push(Progress {
        busy_nanos: progress.busy_nanos,
        backlog,
        ..Progress::default()
    });
    portions
}

/// Neighbours in groups of at most `limit`, or of one; at most as many as a portion may have.
fn group<T>(items: Vec<T>, limit: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let count_max = PORTION_WEIGHT_MAX / ENTRY_WEIGHT / 4;
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut total = 0;
    for item in items {
        let item_size = size(&item);
        match groups.last_mut() {
            Some(last) if total + item_size <= limit && last.len() < count_max => last.push(item),
            Some(_) | None => {
                total = 0;
                groups.push(vec![item]);
            }
        }
        total += item_size;
    }
    groups
}

/// Moves what of `done` lies in `covered` out of it.
fn take_covered(
    done: &mut [(GrantId, Vec<IndexRange>)],
    covered: &RangeSet,
) -> Vec<(GrantId, Vec<IndexRange>)> {
    let mut taken = Vec::new();
    for (grant, ranges) in done {
        let inside: Vec<IndexRange> = ranges.iter().flat_map(|&range| covered.pieces(range)).collect();
        if !inside.is_empty() {
            *ranges = ranges.iter().flat_map(|&range| covered.gaps(range)).collect();
            taken.push((*grant, inside));
        }
    }
    taken
}

/// All results of a portion as one file's content.
pub(crate) fn file_content(progress: &Progress) -> Vec<u8> {
    let mut content = Vec::with_capacity(result_bytes(progress));
    progress
        .results
        .iter()
        .for_each(|(_, bytes)| content.extend_from_slice(bytes));
    content
}

/// The tasks between the first and the last result of a portion.
pub(crate) fn file_range(progress: &Progress) -> IndexRange {
    let ranges = || progress.results.iter().map(|(range, _)| range);
    let start = ranges().map(|range| range.start).min().unwrap_or(0);
    let end = ranges().map(|range| range.end).max().unwrap_or(0);
    IndexRange::new(start, end)
}

/// The results of a portion as blocks of a report: of the file `file`, or inline. Only tasks in `done` are kept.
pub(crate) fn blocks(
    results: Vec<(IndexRange, Bytes)>,
    file: Option<&str>,
    done: &[(GrantId, Vec<IndexRange>)],
) -> Vec<ResultBlock> {
    let done: RangeSet = done
        .iter()
        .flat_map(|(_, ranges)| ranges.iter().copied())
        .collect();
    let mut offset = 0;
    let mut blocks = Vec::with_capacity(results.len());
    for (range, bytes) in results {
        let length = bytes.len() as u64;
        let data = match file {
            None => ResultData::Inline(bytes),
            Some(name) => ResultData::File {
                name: name.to_owned(),
                offset,
                bytes: length,
                crc32c: crc32c::crc32c(&bytes),
            },
        };
        offset += length;
        let keep = done.pieces(range);
        if !keep.is_empty() {
            blocks.push(ResultBlock { range, keep, data });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_protocol::Term;
    use phalanx_protocol::record::FailureCause;
    use proptest::prelude::*;

    fn grant(number: u64) -> GrantId {
        GrantId {
            term: Term(1),
            number,
        }
    }

    fn done(number: u64, start: u64, end: u64) -> Progress {
        Progress {
            done: vec![(grant(number), vec![IndexRange::new(start, end)])],
            ..Progress::default()
        }
    }

    #[test]
    fn neighbours_of_one_grant_become_one_range() {
        let mut earlier = done(1, 0, 5);
        assert_eq!(
            join(
                &mut earlier,
                Progress {
                    backlog: 3,
                    busy_nanos: 7,
                    ..done(1, 5, 9)
                }
            ),
            None
        );
        assert_eq!(join(&mut earlier, done(2, 20, 21)), None);
        let ranges = vec![IndexRange::new(0, 9)];
        assert_eq!(
            earlier.done,
            [(grant(1), ranges), (grant(2), vec![IndexRange::new(20, 21)])]
        );
        assert_eq!((earlier.busy_nanos, earlier.backlog), (7, 0));
    }

    #[test]
    fn a_long_list_of_failures_becomes_several_reports() {
        let failure = |index| TaskFailure {
            index,
            cause: FailureCause::Error,
            message: "x".repeat(4096),
        };
        let failed = vec![(grant(1), (0..3000).map(failure).collect())];
        let portions = split(Progress {
            failed,
            ..Progress::default()
        });
        assert!(portions.len() > 2 && portions.iter().all(is_portion));
        let count: usize = portions
            .iter()
            .flat_map(|portion| &portion.failed)
            .map(|(_, some)| some.len())
            .sum();
        assert_eq!(count, 3000);
    }

    #[test]
    fn a_block_keeps_only_what_its_report_says_is_done() {
        let results = vec![(IndexRange::new(0, 10), Bytes::from_static(b"0123456789"))];
        let said = done(1, 2, 4).done;
        let blocks = blocks(results, Some("0-9-t1-1"), &said);
        assert_eq!(blocks[0].keep, [IndexRange::new(2, 4)]);
        assert_eq!(
            blocks[0].data,
            ResultData::File {
                name: "0-9-t1-1".to_owned(),
                offset: 0,
                bytes: 10,
                crc32c: crc32c::crc32c(b"0123456789"),
            }
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_when_progress_is_cut(
            lengths in prop::collection::vec((1u64..5, 0usize..5 << 20), 1..12)
        ) {
            let mut progress = Progress { busy_nanos: 9, backlog: 4, ..Progress::default() };
            let mut start = 0;
            for (tasks, bytes) in lengths {
                let range = IndexRange::new(start, start + tasks);
                append_done(&mut progress.done, grant(start % 2), vec![range]);
                if bytes % 3 > 0 {
                    progress.results.push((range, Bytes::from(vec![0; bytes])));
                }
                start += tasks;
            }
            let portions = split(progress.clone());
            prop_assert!(portions.iter().all(is_portion));
            let results: Vec<_> = portions.iter().flat_map(|portion| portion.results.clone()).collect();
            prop_assert_eq!(&results, &progress.results);
            let pieces = portions.iter().flat_map(|portion| &portion.done).flat_map(|(_, ranges)| ranges);
            prop_assert_eq!(pieces.clone().map(|range| range.len()).sum::<u64>(), start);
            prop_assert_eq!(pieces.copied().collect::<RangeSet>(), RangeSet::from(IndexRange::new(0, start)));
            prop_assert_eq!(portions.iter().map(|portion| portion.busy_nanos).sum::<u64>(), 9);
            for portion in &portions {
                let blocks = blocks(portion.results.clone(), None, &portion.done);
                prop_assert!(blocks.iter().all(|block| block.keep == [block.range]));
            }
        }
    }
}
