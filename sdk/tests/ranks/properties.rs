//! Every collective operation against a naive one, in the form for values and in the one for slices: on random gangs, with random
//! lengths, roots and values, with an operator that does not commute, by the algorithm that they choose and by any other, and in
//! communicators whose ranks are in any order; and all of them after each other in any order.
//!
//! A case that fails, or does not come to an end, is shrunk and printed; its seed is then in `proptest-regressions/properties.txt`
//! and is run first from then on.

mod sequences;

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Range;

use phalanx::Communicator;
use phalanx::ranks::{Algorithm, LocalGang};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseResult;

use self::sequences::{Come, OPERATIONS, Operation};
use crate::gangs::{Affine, Random, ends_of, then};

/// Lengths in numbers of 8 bytes at which another algorithm is taken, but the last.
const CUTOFFS: [usize; 4] = [128, 2_048, 8_192, 32_768];
/// The last: of an all_reduce in two levels, and of a broadcast among 8 ranks of a node.
const CUTOFF_OF_LARGE: usize = 131_072;
/// Numbers that one rank gives at the most.
const GIVEN_MAX: usize = CUTOFF_OF_LARGE + 2;
/// How long a case that fails is made smaller, in milliseconds.
const SHRINK_MS_MAX: u32 = 120_000;

/// What is between the nodes.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    /// Delays of that seed.
    Delays(u64),
    /// And delays of that seed, if there is one.
    Quic(Option<u64>),
}

/// A gang, and what its ranks call.
#[derive(Debug, Clone)]
struct Case {
    per_node: usize,
    between: Between,
    /// The keys by which the ranks are ordered: each number below their count, once.
    order: Vec<i64>,
    root: usize,
    length: usize,
    /// What the operations are to take in place of their choice.
    algorithm: Option<Algorithm>,
    seed: u64,
}

/// What one rank gives.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    numbers: Vec<Affine>,
}

fn lengths() -> impl Strategy<Value = usize> {
    let around = |cutoff: usize| cutoff - 2..cutoff + 3;
    prop_oneof![
        2 => Just(0),
        8 => 1..20_usize,
        6 => select(&CUTOFFS[..]).prop_flat_map(around),
        1 => 8_200..20_000_usize,
        2 => around(CUTOFF_OF_LARGE),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let gang = (1..=8_usize).prop_flat_map(|ranks| {
        let in_order: Vec<i64> = (0..ranks as i64).collect();
        let order = prop_oneof![Just(in_order.clone()), Just(in_order).prop_shuffle()];
        (order, 1..=ranks, 0..ranks)
    });
    let between = prop_oneof![
        4 => Just(Between::Nothing),
        5 => any::<u64>().prop_map(Between::Delays),
        1 => any::<Option<u64>>().prop_map(Between::Quic),
    ];
    let algorithm = prop_oneof![Just(None), select(&Algorithm::ALL[..]).prop_map(Some)];
    let case = (gang, between, lengths(), algorithm, any::<u64>());
    case.prop_map(
        |((order, per_node, root), between, length, algorithm, seed)| Case {
            per_node,
            between,
            order,
            root,
            length,
            algorithm,
            seed,
        },
    )
}

impl Case {
    fn ranks(&self) -> usize {
        self.order.len()
    }

    /// Numbers of one part, if each rank gives a part for each.
    fn part(&self) -> usize {
        self.length.min(GIVEN_MAX / self.ranks())
    }

    /// The numbers of a rank's part.
    fn part_of(&self, rank: usize) -> Range<usize> {
        rank * self.part()..(rank + 1) * self.part()
    }

    /// What all give, by rank, if it is so many numbers.
    fn given(&self, length: usize) -> Vec<Given> {
        let give = |rank: usize| {
            let mut random = Random(self.seed ^ (rank as u64) << 32);
            let number = |_| {
                let both = random.next();
                [(both >> 32) as u32 | 1, both as u32]
            };
            let numbers = (0..length).map(number).collect();
            let letter = char::from(b'a' + random.below(26) as u8);
            let text = format!("{rank}{}", String::from(letter).repeat(random.below(length + 10)));
            Given { text, numbers }
        };
        (0..self.ranks()).map(give).collect()
    }

    /// Runs the gang, each rank of it with what it gives, and checks that it ends and what each gets; `expected` says what that is.
    fn check<R: PartialEq + Debug + Send + 'static>(
        &self,
        given: &[Given],
        part: impl Fn(&Communicator, Given) -> R + Send + Sync + 'static,
        expected: impl Fn(usize) -> R,
    ) -> TestCaseResult {
        let per_node = NonZeroUsize::new(self.per_node).expect("a node has ranks");
        let gang = LocalGang::new(self.ranks()).ranks_per_node(per_node);
        let gang = match self.between {
            Between::Nothing => gang,
            Between::Delays(seed) => gang.delayed(seed),
            Between::Quic(None) => gang.over_quic(),
            Between::Quic(Some(seed)) => gang.over_quic().delayed(seed),
        };
        let (order, algorithm) = (self.order.clone(), self.algorithm);
        let (seed, given) = (self.seed, given.to_vec());
        let ends = ends_of(gang, move |comm| {
            let ordered = comm.split(Some(0), order[comm.rank()]);
            let ordered = ordered.ok().flatten().expect("all ranks are of one color");
            ordered.insist_on(algorithm);
            let mut random = Random(seed ^ ordered.rank() as u64);
            random.dawdle();
            (ordered.rank(), part(&ordered, given[ordered.rank()].clone()))
        });
        for end in ends {
            let (rank, got) = end.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
            let expected = expected(rank);
            prop_assert!(
                got == expected,
                "rank {rank} got {} instead of {}",
                excerpt(&got),
                excerpt(&expected)
            );
        }
        Ok(())
    }
}

/// As much of a value as a person reads.
fn excerpt(value: &impl Debug) -> String {
    format!("{value:?}").chars().take(300).collect()
}

fn joined(left: String, right: String) -> String {
    left + &right
}

/// What ranks give, combined from the lowest to the highest; nothing of none.
fn combined(given: &[Given]) -> Option<(String, Vec<Affine>)> {
    let (first, rest) = given.split_first()?;
    let mut numbers = first.numbers.clone();
    for given in rest {
        for (sum, &number) in numbers.iter_mut().zip(&given.numbers) {
            *sum = then(*sum, number);
        }
    }
    Some((texts(given).concat(), numbers))
}

fn texts(given: &[Given]) -> Vec<String> {
    given.iter().map(|given| given.text.clone()).collect()
}

fn numbers(given: &[Given]) -> Vec<Affine> {
    given.iter().flat_map(|given| given.numbers.clone()).collect()
}

/// What a rank gives to each rank.
fn letters(given: &Given, ranks: usize) -> Vec<String> {
    (0..ranks)
        .map(|to| format!("{} for {to}. ", given.text))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // one that hangs is found to do so only after a while, each time that it is shrunk
        max_shrink_time: SHRINK_MS_MAX,
        ..ProptestConfig::with_cases(48)
    })]

    #[test]
    fn broadcast_gives_all_the_roots_value(case in cases()) {
        let (root, given) = (case.root, case.given(case.length));
        case.check(
            &given,
            move |comm, mut own| {
                let text = comm.broadcast(root, (comm.rank() == root).then_some(own.text)).unwrap();
                comm.broadcast_slice(root, &mut own.numbers).unwrap();
                (text, own.numbers)
            },
            |_| (given[root].text.clone(), given[root].numbers.clone()),
        )?;
    }

    #[test]
    fn reduce_combines_in_the_order_of_ranks_for_the_root(case in cases()) {
        let (root, given) = (case.root, case.given(case.length));
        let all = combined(&given);
        case.check(
            &given,
            move |comm, mut own| {
                let text = comm.reduce(root, own.text, joined).unwrap();
                comm.reduce_slice(root, &mut own.numbers, then).unwrap();
                assert_eq!(text.is_some(), comm.rank() == root);
                text.map(|text| (text, own.numbers))
            },
            |rank| all.clone().filter(|_| rank == root),
        )?;
    }

    #[test]
    fn all_reduce_combines_in_the_order_of_ranks_for_all(case in cases()) {
        let given = case.given(case.length);
        let all = combined(&given);
        case.check(
            &given,
            move |comm, mut own| {
                let text = comm.all_reduce(own.text, joined).unwrap();
                comm.all_reduce_slice(&mut own.numbers, then).unwrap();
                Some((text, own.numbers))
            },
            |_| all.clone(),
        )?;
    }

    #[test]
    fn gather_gives_the_root_all_values_in_order(case in cases()) {
        let (root, given) = (case.root, case.given(case.length));
        case.check(
            &given,
            move |comm, own| {
                let texts = comm.gather(root, own.text).unwrap();
                (texts, comm.gather_slice(root, &own.numbers).unwrap())
            },
            |rank| match rank == root {
                true => (Some(texts(&given)), Some(numbers(&given))),
                false => (None, None),
            },
        )?;
    }

    #[test]
    fn all_gather_gives_all_values_in_order(case in cases()) {
        let given = case.given(case.length);
        case.check(
            &given,
            move |comm, own| {
                let texts = comm.all_gather(own.text).unwrap();
                (texts, comm.all_gather_slice(&own.numbers).unwrap())
            },
            |_| (texts(&given), numbers(&given)),
        )?;
    }

    #[test]
    fn scatter_gives_each_rank_its_part(case in cases()) {
        let (root, ranks) = (case.root, case.ranks());
        let given = case.given(ranks * case.part());
        case.check(
            &given,
            move |comm, own| {
                let at_root = comm.rank() == root;
                let text = comm.scatter(root, at_root.then(|| letters(&own, ranks))).unwrap();
                let numbers = comm.scatter_slice(root, at_root.then_some(&own.numbers[..])).unwrap();
                (text, numbers)
            },
            |rank| {
                let root = &given[root];
                (letters(root, ranks)[rank].clone(), root.numbers[case.part_of(rank)].to_vec())
            },
        )?;
    }

    #[test]
    fn all_to_all_gives_each_rank_a_part_of_each(case in cases()) {
        let ranks = case.ranks();
        let given = case.given(ranks * case.part());
        case.check(
            &given,
            move |comm, own| {
                let texts = comm.all_to_all(letters(&own, ranks)).unwrap();
                (texts, comm.all_to_all_slice(&own.numbers).unwrap())
            },
            |rank| {
                let texts = given.iter().map(|given| letters(given, ranks)[rank].clone());
                let numbers = given.iter().flat_map(|given| given.numbers[case.part_of(rank)].to_vec());
                (texts.collect(), numbers.collect())
            },
        )?;
    }

    #[test]
    fn reduce_scatter_combines_each_ranks_part_in_the_order_of_ranks(case in cases()) {
        let ranks = case.ranks();
        let given = case.given(ranks * case.part());
        let (_, all) = combined(&given).unwrap();
        case.check(
            &given,
            move |comm, own| {
                let text = comm.reduce_scatter(letters(&own, ranks), joined).unwrap();
                (text, comm.reduce_scatter_slice(&own.numbers, then).unwrap())
            },
            |rank| {
                let text = given.iter().map(|given| letters(given, ranks)[rank].clone());
                (text.collect(), all[case.part_of(rank)].to_vec())
            },
        )?;
    }

    #[test]
    fn scan_combines_the_ranks_up_to_and_with_ones_own(case in cases()) {
        let given = case.given(case.length);
        case.check(
            &given,
            move |comm, mut own| {
                let text = comm.scan(own.text, joined).unwrap();
                comm.scan_slice(&mut own.numbers, then).unwrap();
                Some((text, own.numbers))
            },
            |rank| combined(&given[..=rank]),
        )?;
    }

    #[test]
    fn exscan_combines_the_ranks_before_ones_own(case in cases()) {
        let given = case.given(case.length);
        case.check(
            &given,
            move |comm, own| {
                let text = comm.exscan(own.text, joined).unwrap();
                let numbers = comm.exscan_slice(&own.numbers, then).unwrap();
                assert_eq!(text.is_some(), numbers.is_some());
                text.zip(numbers)
            },
            |rank| combined(&given[..rank]),
        )?;
    }

    #[test]
    fn nobody_leaves_a_barrier_before_all_have_come(case in cases()) {
        let come = Come::nobody(case.ranks());
        case.check(
            &case.given(0),
            move |comm, _| {
                let mut random = Random(case.seed ^ comm.rank() as u64);
                for turn in 1..=20 {
                    random.dawdle();
                    come.pass(comm, turn).unwrap();
                }
            },
            |_| (),
        )?;
    }

    #[test]
    fn operations_that_follow_each_other_in_any_order_do_not_mix(
        case in cases(),
        operations in vec(select(&OPERATIONS[..]), 1..24),
    ) {
        let (ranks, come) = (case.ranks(), Come::nobody(case.ranks()));
        let turns: Vec<(usize, usize, Operation)> = operations
            .into_iter()
            .enumerate()
            .map(|(turn, operation)| (turn + 1, (case.root + turn) % ranks, operation))
            .collect();
        let (seed, naive) = (case.seed, turns.clone());
        case.check(
            &case.given(0),
            move |comm, _| {
                let mut random = Random(seed ^ comm.rank() as u64);
                let perform = |&(turn, root, operation): &(usize, usize, Operation)| {
                    random.dawdle();
                    operation.perform(comm, turn, root, &come).unwrap()
                };
                turns.iter().map(perform).collect::<Vec<_>>()
            },
            |rank| {
                let turns = naive.iter();
                turns
                    .map(|&(turn, root, operation)| operation.naive(rank, ranks, turn, root))
                    .collect()
            },
        )?;
    }
}
