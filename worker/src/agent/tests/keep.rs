//! Invariant KEEP, over stories made at random.

use proptest::prelude::*;

use super::*;

/// A host in the property test: what it was given and has not finished.
#[derive(Default)]
struct Model {
    given: Vec<(GrantId, RangeSet)>,
}

proptest! {
    /// Every granted task of a job that stays open is held, reported or given back, and none of them twice.
    #[test]
    fn keep_each_granted_task_is_held_or_reported_or_given_back(
        steps in prop::collection::vec((0u8..7, 0u64..40, 1usize..200_000), 1..120)
    ) {
        let mut world = World::new();
        world.run(J1, 1, H1, 2);
        let mut host = Model::default();
        let mut granted = 0;
        let mut grants = 0;
        let mut back = RangeSet::new();
        let mut writes: Vec<ResultWrite> = Vec::new();
        for (step, count, bytes) in steps {
            let mut effects = match step {
                0 => {
                    grants += 1;
                    let range = range(granted, granted + count + 1);
                    granted = range.end;
                    host.given.push((grant(grants), range.into()));
                    world.grant(J1, grants, range)
                }
                1 | 2 => {
                    let Some((grant, left)) = host.given.iter_mut().find(|(_, left)| !left.is_empty()) else { continue };
                    let Some(taken) = left.take_first(count + 1) else { continue };
                    let bytes = if step == 1 { bytes % 100 } else { bytes };
                    world.host(H1, FromHost::Progress(with_result(grant.number, taken.start, taken.end, bytes)))
                }
                3 => {
                    let Some((grant, left)) = host.given.last_mut() else { continue };
                    let Some(last) = left.iter().next_back() else { continue };
                    let tail = range(last.end - last.len().min(count), last.end);
                    left.remove(tail);
                    back.insert(tail);
                    let grant = *grant;
                    world.host(H1, FromHost::Returned { grant, range: tail })
                }
                4 => match writes.pop() {
                    Some(write) if count % 3 > 0 => {
                        world.hear(Input::Written { job: J1, opening: write.opening, name: Some("f".into()) })
                    }
                    Some(write) => world.hear(Input::Written { job: J1, opening: write.opening, name: None }),
                    None => continue,
                },
                5 => world.later(Duration::from_secs(1)),
                _ => {
                    world.hear(Input::Disconnected);
                    // a job that holds nothing is closed then, which ends this story
                    if host.given.iter().all(|(_, left)| left.is_empty()) && writes.is_empty() { break }
                    world.connect();
                    continue;
                }
            };
            for effect in effects.drain(..) {
                if let Effect::Write(write) = effect { writes.push(write) }
            }
            prop_assert!(writes.len() <= 1, "one result file of a job at a time");
        }
        world.hear(Input::Disconnected);
        let held = world.connect();
        let reports = world.reports();
        let reported = reports.iter().flat_map(|report| &report.done).flat_map(|(_, ranges)| ranges.iter().copied());
        let all: Vec<IndexRange> = held.iter().map(|held| held.range).chain(reported).chain(back.iter()).collect();
        prop_assert_eq!(all.iter().map(|range| range.len()).sum::<u64>(), granted);
        prop_assert_eq!(all.into_iter().collect::<RangeSet>().len(), granted);
    }
}
