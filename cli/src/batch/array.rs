//! The ids of an array's elements: `0-15:4`, `1,3,5-7%2`. Kept as arithmetic progressions: costs grow with the text that
//! somebody wrote, never with the number of elements.

use std::collections::BTreeSet;
use std::fmt;

use phalanx_protocol::ArrayIds;
use phalanx_protocol::command::ArrayPart;

/// Ids and counts are below this.
pub(crate) const ARRAY_ID_MAX: u64 = 1 << 40;

/// Pieces that overlap and have steps are sorted out one by one, if they have no more elements than this.
const OVERLAP_MAX: u64 = 65_536;

/// The elements `first`, `first + step`, ... of an array, `count` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    /// At least 1.
    pub(crate) count: u64,
    /// At least 1; 1 if there is one element only.
    pub(crate) step: u64,
}

impl Segment {
    fn one(id: u64) -> Self {
        Self {
            first: id,
            count: 1,
            step: 1,
        }
    }

    /// The largest id.
    pub(crate) fn last(self) -> u64 {
        self.first + (self.count - 1) * self.step
    }
}

/// The ids of an array, each once, and how many of its elements may run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArraySpec {
    /// Ascending, and no two of them interleave; at least one.
    pub(crate) segments: Vec<Segment>,
    /// `%N`; none if all may.
    pub(crate) limit: Option<u64>,
}

/// Why a text names no array.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArrayError {
    #[error(
        "an array is written as ids and ranges, with a step or a limit if need be, as in 0-99, 1,3,5-7, 0-15:4 or 1-1000%10"
    )]
    Form,
    #[error("the range `{text}` ends before it begins")]
    Backwards { text: String },
    #[error("the range `{text}` has a step of 0")]
    ZeroStep { text: String },
    #[error("the ids of an array are below 2^40")]
    TooLarge,
    #[error(
        "the range `{text}` interleaves with others and is too long for that; write ranges that do not overlap"
    )]
    Overlap { text: String },
}

impl ArraySpec {
    /// Reads the ids of an array; brackets around them, as in `12_[1-3]`, may be there.
    ///
    /// # Errors
    ///
    /// See [`ArrayError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ArrayError> {
        let text = text.trim();
        let inner = text
            .strip_prefix('[')
            .map_or(Some(text), |rest| rest.strip_suffix(']'))
            .ok_or(ArrayError::Form)?;
        let (ids, limit) = match inner.split_once('%') {
            Some((ids, limit)) => (ids, Some(number(limit)?)),
            None => (inner, None),
        };
        let segments: Vec<Segment> = ids.split(',').map(segment).collect::<Result<_, _>>()?;
        Ok(Self {
            segments: in_order(segments)?,
            // Slurm's meaning of 0
            limit: limit.filter(|&limit| limit > 0),
        })
    }

    /// The numbers of the job's tasks.
    ///
    /// # Panics
    /// Never: what was parsed is ascending and below 2^40.
    pub(crate) fn ids(&self) -> ArrayIds {
        let parts = self.segments.iter().map(|segment| ArrayPart {
            first: segment.first,
            count: segment.count,
            step: segment.step,
        });
        ArrayIds::new(parts.collect()).expect("parsed segments ascend")
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> u64 {
        self.segments.iter().map(|segment| segment.count).sum()
    }

    /// The smallest id.
    pub(crate) fn first(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.first)
    }

    /// Whether an element has this id.
    pub(crate) fn contains(&self, id: u64) -> bool {
        let after = self.segments.partition_point(|segment| segment.first <= id);
        after.checked_sub(1).is_some_and(|position| {
            let segment = self.segments[position];
            id <= segment.last() && (id - segment.first).is_multiple_of(segment.step)
        })
    }
}

impl fmt::Display for ArraySpec {
    /// `1-3,7,10-20:5%2`, as it is written; Slurm's lists put brackets around it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            let (first, last) = (segment.first, segment.last());
            match (segment.count, segment.step) {
                (1, _) => write!(f, "{first}")?,
                (_, 1) => write!(f, "{first}-{last}")?,
                (2, _) => write!(f, "{first},{last}")?,
                (_, step) => write!(f, "{first}-{last}:{step}")?,
            }
        }
        match self.limit {
            Some(limit) => write!(f, "%{limit}"),
            None => Ok(()),
        }
    }
}

/// One of the parts between commas: `7`, `1-3`, `0-15:4`.
fn segment(text: &str) -> Result<Segment, ArrayError> {
    let text = text.trim();
    let Some((first, rest)) = text.split_once('-') else {
        return number(text).map(Segment::one);
    };
    let (last, step) = match rest.split_once(':') {
        Some((last, step)) => (number(last)?, number(step)?),
        None => (number(rest)?, 1),
    };
    let first = number(first)?;
    let text = || text.to_owned();
    if step == 0 {
        return Err(ArrayError::ZeroStep { text: text() });
    }
    if last < first {
        return Err(ArrayError::Backwards { text: text() });
    }
    Ok(match (last - first) / step {
        0 => Segment::one(first),
        more => Segment {
            first,
            count: more + 1,
            step,
        },
    })
}

/// A number without a sign, which `parse` would take.
fn number(text: &str) -> Result<u64, ArrayError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ArrayError::Form);
    }
    let number = text.parse().map_err(|_| ArrayError::TooLarge)?;
    match number < ARRAY_ID_MAX {
        true => Ok(number),
        false => Err(ArrayError::TooLarge),
    }
}

/// The same ids, each once and ascending.
fn in_order(mut segments: Vec<Segment>) -> Result<Vec<Segment>, ArrayError> {
    segments.sort_unstable();
    let mut ordered: Vec<Segment> = Vec::new();
    let mut position = 0;
    while position < segments.len() {
        // all that overlap with one another, directly or through others
        let mut last = segments[position].last();
        let mut end = position + 1;
        while end < segments.len() && segments[end].first <= last {
            last = last.max(segments[end].last());
            end += 1;
        }
        for segment in untangle(&segments[position..end])? {
            join(&mut ordered, segment);
        }
        position = end;
    }
    Ok(ordered)
}

/// Segments that overlap, as segments that do not.
fn untangle(segments: &[Segment]) -> Result<Vec<Segment>, ArrayError> {
    let first = segments.iter().map(|segment| segment.first).min().unwrap_or(0);
    let last = segments.iter().map(|segment| segment.last()).max().unwrap_or(0);
    match segments {
        [only] => return Ok(vec![*only]),
        // they have no gaps, nor has the whole
        _ if segments.iter().all(|segment| segment.step == 1) => {
            return Ok(vec![Segment {
                first,
                count: last - first + 1,
                step: 1,
            }]);
        }
        _ => {}
    }
    let total: u64 = segments.iter().map(|segment| segment.count).sum();
    if total > OVERLAP_MAX {
        let longest = segments.iter().max_by_key(|segment| segment.count);
        let text = longest.map_or_else(String::new, |segment| {
            format!("{}-{}:{}", segment.first, segment.last(), segment.step)
        });
        return Err(ArrayError::Overlap { text });
    }
    let ids = |segment: &Segment| {
        let Segment { first, count, step } = *segment;
        (0..count).map(move |position| first + position * step)
    };
    let ids: BTreeSet<u64> = segments.iter().flat_map(ids).collect();
    let mut untangled: Vec<Segment> = Vec::new();
    for id in ids {
        grow(&mut untangled, id);
    }
    Ok(untangled)
}

/// Adds an id behind all others, to the last segment if it goes on in that one's step.
fn grow(segments: &mut Vec<Segment>, id: u64) {
    match segments.last_mut() {
        Some(segment) if segment.count == 1 => {
            segment.step = id - segment.first;
            segment.count = 2;
        }
        Some(segment) if segment.last() + segment.step == id => segment.count += 1,
        // two are a progression by chance: the second may be the beginning of the next one
        Some(segment) if segment.count == 2 && segment.step > 1 => {
            let second = segment.last();
            *segment = Segment::one(segment.first);
            segments.push(Segment {
                first: second,
                count: 2,
                step: id - second,
            });
        }
        _ => segments.push(Segment::one(id)),
    }
}

/// Adds a segment behind all others, to the last one if both have no gaps and touch.
fn join(segments: &mut Vec<Segment>, next: Segment) {
    match segments.last_mut() {
        Some(segment) if segment.step == 1 && next.step == 1 && segment.last() + 1 == next.first => {
            segment.count += next.count;
        }
        _ => segments.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> ArraySpec {
        ArraySpec::parse(text).unwrap()
    }

    fn ids(spec: &ArraySpec) -> Vec<u64> {
        let ids = |segment: &Segment| {
            let Segment { first, count, step } = *segment;
            (0..count).map(move |position| first + position * step)
        };
        spec.segments.iter().flat_map(ids).collect()
    }

    #[test]
    fn ids_are_written_one_by_one_or_as_ranges() {
        for (text, expected) in [
            ("7", vec![7]),
            ("1,3,5-7", vec![1, 3, 5, 6, 7]),
            ("0-15:4", vec![0, 4, 8, 12]),
            ("0-16:4", vec![0, 4, 8, 12, 16]),
            ("5-7:9", vec![5]),
            ("3-3", vec![3]),
            ("[1-3]", vec![1, 2, 3]),
            (" 1 , 2 ", vec![1, 2]),
        ] {
            let spec = spec(text);
            assert_eq!((ids(&spec), spec.limit), (expected, None), "{text}");
        }
    }

    #[test]
    fn a_limit_says_how_many_run_at_a_time() {
        assert_eq!(spec("1-1000%10").limit, Some(10));
        assert_eq!(spec("1-1000%0").limit, None);
        assert_eq!(spec("[1-3,7%2]").to_string(), "1-3,7%2");
    }

    #[test]
    fn ids_come_once_and_ascending() {
        for (text, expected) in [
            ("3,1,2", "1-3"),
            ("1-5,3-9", "1-9"),
            ("1-3,2", "1-3"),
            ("5,5,5", "5"),
            ("1-4,5-9", "1-9"),
            ("0-10:2,1-11:2", "0-11"),
            ("0-8:4,2", "0-4:2,8"),
            ("0-100:10,50", "0-100:10"),
            ("0-8:2,20-30:5", "0-8:2,20-30:5"),
            ("1,3", "1,3"),
            ("0-2:2", "0,2"),
        ] {
            assert_eq!(spec(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_trillion_elements_cost_one_segment() {
        let text = format!("0-{}", ARRAY_ID_MAX - 1);
        let spec = spec(&text);
        assert_eq!((spec.segments.len(), spec.count()), (1, ARRAY_ID_MAX));
        assert_eq!(spec.to_string(), text);
    }

    #[test]
    fn long_ranges_overlap_only_without_steps() {
        assert_eq!(spec("0-1000000000,5-2000000000").count(), 2_000_000_001);
        assert_eq!(
            ArraySpec::parse("0-1000000000:2,1-1000000000:3"),
            Err(ArrayError::Overlap {
                text: "0-1000000000:2".to_owned()
            })
        );
    }

    #[test]
    fn what_names_no_array_is_refused() {
        for text in [
            "", "a", "1-", "-1", "1--3", "1,,2", "1,", "+1", "1-3:", "1:2", "1-3:2:1", "1%", "1%a", "1%2%3",
            "%5", "[1-3", "1-3]", "1.5", "1-3 5",
        ] {
            assert_eq!(ArraySpec::parse(text), Err(ArrayError::Form), "{text}");
        }
        let text = |text: &str| text.to_owned();
        assert_eq!(
            ArraySpec::parse("5-3"),
            Err(ArrayError::Backwards { text: text("5-3") })
        );
        assert_eq!(
            ArraySpec::parse("1-3:0"),
            Err(ArrayError::ZeroStep { text: text("1-3:0") })
        );
        for text in ["1099511627776", "0-1099511627776", "99999999999999999999"] {
            assert_eq!(ArraySpec::parse(text), Err(ArrayError::TooLarge), "{text}");
        }
    }

    #[test]
    fn an_id_is_looked_for_without_counting() {
        let spec = spec("0-15:4,100-1000000000000");
        for (id, held) in [
            (0, true),
            (4, true),
            (5, false),
            (16, false),
            (99, false),
            (100, true),
            (999, true),
        ] {
            assert_eq!(spec.contains(id), held, "{id}");
        }
        let last = spec.segments.last().map(|segment| segment.last());
        assert_eq!((spec.first(), last), (0, Some(1_000_000_000_000)));
        assert!(!spec.contains(1_000_000_000_001));
    }

    proptest! {
        #[test]
        fn an_array_is_the_set_of_its_parts(
            parts in prop::collection::vec((0u64..60, 0u64..40, 1u64..7), 1..8),
            limit in prop::option::of(1u64..9),
        ) {
            let texts: Vec<String> =
                parts.iter().map(|(first, more, step)| format!("{first}-{}:{step}", first + more)).collect();
            let limit_text = limit.map_or(String::new(), |limit| format!("%{limit}"));
            let spec = spec(&format!("{}{limit_text}", texts.join(",")));
            let model: BTreeSet<u64> = parts
                .iter()
                .flat_map(|&(first, more, step)| (first..=first + more).step_by(step as usize))
                .collect();
            prop_assert_eq!(ids(&spec), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(spec.count(), model.len() as u64);
            prop_assert!((0..110).all(|id| spec.contains(id) == model.contains(&id)));
            prop_assert_eq!(ids(&ArraySpec::parse(&spec.to_string()).unwrap()), ids(&spec));
            prop_assert_eq!(spec.limit, limit);
        }

        #[test]
        fn any_text_is_an_array_or_refused(text in "[0-9,:%\\[\\]\\- ]{0,20}") {
            if let Ok(spec) = ArraySpec::parse(&text) {
                prop_assert!(spec.count() >= 1);
            }
        }
    }
}
