//! Which gpus of a node a step gets. Pure.

use phalanx_protocol::step::StepGpus;

/// Chooses gpus for so many ranks of a node whose gpus are of these types, among those at `candidates`, the first ones first:
/// rank after rank if each has its own. None if there are too few. One whose type nobody knows may be of any.
pub(super) fn choose(
    kinds: &[Option<String>],
    candidates: &[u32],
    asked: &StepGpus,
    ranks: u32,
) -> Option<Vec<u32>> {
    let owners = if asked.per_rank { ranks } else { 1 };
    let needed = u64::from(owners) * u64::from(asked.count());
    if needed == 0 || needed > candidates.len() as u64 {
        return (needed == 0).then(Vec::new);
    }
    let mut left = candidates.to_vec();
    let mut given = vec![Vec::new(); owners as usize];
    // whoever takes any leaves those of a type to who asks for it
    let (typed, any): (Vec<_>, Vec<_>) = asked.counts.iter().partition(|(kind, _)| kind.is_some());
    for (kind, count) in typed.into_iter().chain(any) {
        let is_meant = |&gpu: &u32| match (kind, kinds.get(gpu as usize)) {
            (Some(kind), Some(Some(known))) => kind == known,
            (Some(_) | None, _) => true,
        };
        for given in &mut given {
            for _ in 0..*count {
                let next = left.iter().position(is_meant)?;
                given.push(left.remove(next));
            }
        }
    }
    given.iter_mut().for_each(|given| given.sort_unstable());
    Some(given.concat())
}

/// How many of so many ranks a node has gpus for.
pub(super) fn most_ranks(kinds: &[Option<String>], candidates: &[u32], asked: &StepGpus, ranks: u32) -> u32 {
    let fits = |&ranks: &u32| choose(kinds, candidates, asked, ranks).is_some();
    if !asked.per_rank {
        return if fits(&1) { ranks } else { 0 };
    }
    let there = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let most = there.checked_div(asked.count()).unwrap_or(u32::MAX).min(ranks);
    (0..=most).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(per_rank: bool, counts: &[(&str, u32)]) -> StepGpus {
        let kind = |kind: &str| (!kind.is_empty()).then(|| kind.to_owned());
        StepGpus {
            per_rank,
            counts: counts.iter().map(|&(name, count)| (kind(name), count)).collect(),
        }
    }

    #[test]
    fn each_rank_has_its_own_and_types_come_first() {
        let kinds = ["a", "b", "a", "b"].map(|kind| Some(kind.to_owned()));
        let all = [0, 1, 2, 3];
        let of = |asked: &StepGpus, ranks| choose(&kinds, &all, asked, ranks);
        assert_eq!(of(&asked(true, &[("", 1)]), 3), Some(vec![0, 1, 2]));
        assert_eq!(of(&asked(true, &[("", 2)]), 3), None);
        assert_eq!(of(&asked(false, &[("", 2)]), 9), Some(vec![0, 1]));
        assert_eq!(of(&asked(true, &[("", 1), ("a", 1)]), 2), Some(vec![0, 1, 2, 3]));
        assert_eq!(of(&asked(true, &[("b", 1)]), 2), Some(vec![1, 3]));
        assert_eq!(of(&asked(true, &[("b", 1)]), 3), None);
        assert_eq!(
            choose(&[None, None], &[1], &asked(false, &[("b", 1)]), 1),
            Some(vec![1])
        );
        assert_eq!(of(&StepGpus::default(), u32::MAX), Some(vec![]));
    }

    #[test]
    fn a_node_has_room_for_as_many_ranks_as_it_has_gpus() {
        let kinds = vec![None; 5];
        let of = |asked: &StepGpus| most_ranks(&kinds, &[0, 1, 2, 3, 4], asked, 7);
        assert_eq!(of(&asked(true, &[("", 2)])), 2);
        assert_eq!(of(&asked(false, &[("", 5)])), 7);
        assert_eq!(of(&asked(false, &[("", 6)])), 0);
        assert_eq!(of(&StepGpus::default()), 7);
    }
}
