//! The numbers of an array's elements for ranges of its tasks. Costs grow with the parts of the array, not with its
//! elements, except where these are asked for one by one.

use phalanx_protocol::{ArrayIds, IndexRange, RangeSet};

use crate::batch::array::{ArraySpec, Segment};

/// The numbers of tasks, ascending.
pub(super) fn numbers(array: &ArrayIds, range: IndexRange) -> impl Iterator<Item = u64> {
    segments(array, range)
        .into_iter()
        .flat_map(|segment| (0..segment.count).map(move |position| segment.first + position * segment.step))
}

/// Tasks as they are written: `4-9%2`; none if there are none.
pub(super) fn spec(array: &ArrayIds, ranges: &[IndexRange], limit: Option<u32>) -> Option<ArraySpec> {
    let segments: Vec<Segment> = ranges.iter().flat_map(|range| segments(array, *range)).collect();
    (!segments.is_empty()).then_some(ArraySpec {
        segments,
        limit: limit.map(u64::from),
    })
}

/// The tasks that have some numbers, ascending and joined where they are neighbours; numbers that the array doesn't have
/// are left out.
pub(super) fn ranges(array: &ArrayIds, wanted: &ArraySpec) -> Vec<IndexRange> {
    let mut found = RangeSet::new();
    let mut before = 0;
    for part in array.parts() {
        for segment in &wanted.segments {
            // the part's positions that lie between the first and the last number
            let position = |distance: u64| distance / part.step;
            let first = position((segment.first.saturating_sub(part.first)).next_multiple_of(part.step));
            let Some(last) = segment.last().checked_sub(part.first).map(position) else {
                continue;
            };
            let between = IndexRange::new(first, last + 1).intersection(IndexRange::new(0, part.count));
            if segment.step == 1 {
                found.insert(IndexRange::new(before + between.start, before + between.end));
                continue;
            }
            for position in between.start..between.end {
                if (part.first + position * part.step - segment.first).is_multiple_of(segment.step) {
                    found.insert(IndexRange::new(before + position, before + position + 1));
                }
            }
        }
        before += part.count;
    }
    found.iter().collect()
}

fn segments(array: &ArrayIds, range: IndexRange) -> Vec<Segment> {
    let mut before = 0;
    let mut segments = Vec::new();
    for part in array.parts() {
        let own = range.intersection(IndexRange::new(before, before + part.count));
        if !own.is_empty() {
            segments.push(Segment {
                first: part.first + (own.start - before) * part.step,
                count: own.end - own.start,
                step: if own.end - own.start == 1 { 1 } else { part.step },
            });
        }
        before += part.count;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> ArrayIds {
        ArraySpec::parse(text).unwrap().ids()
    }

    #[test]
    fn tasks_are_called_by_their_numbers() {
        let array = ids("1,3,10-20:5");
        let range = |start, end| IndexRange::new(start, end);
        assert_eq!(numbers(&array, range(1, 4)).collect::<Vec<_>>(), [3, 10, 15]);
        let shown = |ranges: &[IndexRange], limit| spec(&array, ranges, limit).map(|spec| spec.to_string());
        assert_eq!(shown(&[range(0, 5)], None).as_deref(), Some("1,3,10-20:5"));
        assert_eq!(
            shown(&[range(1, 2), range(3, 5)], Some(4)).as_deref(),
            Some("3,15,20%4")
        );
        assert_eq!(shown(&[], None), None);
    }

    #[test]
    fn numbers_are_found_among_the_tasks() {
        let array = ids("1,3,10-20:5");
        let found = |text: &str| {
            let ranges = ranges(&array, &ArraySpec::parse(text).unwrap());
            ranges
                .iter()
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("0-100"), [(0, 5)]);
        assert_eq!(found("3,11-15"), [(1, 2), (3, 4)]);
        assert_eq!(found("2,30"), []);
        assert_eq!(found("0-20:10"), [(2, 3), (4, 5)]);
        let long = ids("0-999999999999");
        assert_eq!(
            ranges(&long, &ArraySpec::parse("7-9").unwrap()),
            [IndexRange::new(7, 10)]
        );
    }
}
