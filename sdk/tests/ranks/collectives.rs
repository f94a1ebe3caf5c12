//! Every collective operation against a naive one, on random values, with an operator that does not commute.

use std::sync::Mutex;

use phalanx::ranks::CommError;

use crate::gangs::{Dawdler, Random, SIZES, each_gang, each_gang_of};

/// An affine map of numbers; to follow one by the other is associative and does not commute.
type Affine = [u32; 2];

fn then(first: Affine, second: Affine) -> Affine {
    [
        first[0].wrapping_mul(second[0]),
        second[0].wrapping_mul(first[1]).wrapping_add(second[1]),
    ]
}

/// What rank `rank` gives in a case: the same wherever it is asked for.
fn given(case: u64, rank: usize, length: usize) -> Vec<Affine> {
    let mut random = Random(case << 32 | rank as u64);
    (0..length)
        .map(|_| {
            let both = random.next();
            [(both >> 32) as u32 | 1, both as u32]
        })
        .collect()
}

fn combined(case: u64, ranks: std::ops::Range<usize>, length: usize) -> Option<Vec<Affine>> {
    let all = ranks.map(|rank| given(case, rank, length));
    all.reduce(|left, right| left.into_iter().zip(right).map(|(l, r)| then(l, r)).collect())
}

fn joined(left: String, right: String) -> String {
    left + &right
}

fn word(rank: usize) -> String {
    format!("<{rank}>")
}

fn words(ranks: std::ops::Range<usize>) -> String {
    ranks.map(word).collect()
}

/// Lengths on both sides of all cut-offs but those of broadcast and reduce; the large ones are multiples of no size.
const LENGTHS: [usize; 6] = [0, 1, 3, 40, 2_500, 9_001];

/// Calls `part` on all sizes with lengths and roots that change.
#[track_caller]
fn each_case(part: impl Fn(&Dawdler<'_>, u64, usize, usize) + Sync) {
    for n in SIZES {
        each_gang_of(
            n,
            |rank| {
                for (case, length) in (0..).zip(LENGTHS) {
                    rank.dawdle();
                    part(rank, case, length, case as usize % n);
                }
            },
            |_| {},
        );
    }
}

#[test]
fn nobody_leaves_a_barrier_before_all_have_come() {
    for n in SIZES {
        let come = Mutex::new(vec![0; n]);
        crate::gangs::gangs_of(n).into_iter().for_each(|gang| {
            come.lock().unwrap().fill(0);
            let ends = gang.run(|comm| {
                let mut random = Random(comm.rank() as u64);
                for turn in 1..=50 {
                    random.dawdle();
                    come.lock().unwrap()[comm.rank()] = turn;
                    comm.barrier().unwrap();
                    assert!(come.lock().unwrap().iter().all(|&theirs| theirs >= turn));
                }
            });
            assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        });
    }
}

#[test]
fn broadcast_gives_all_the_roots_value() {
    each_case(|rank, case, length, root| {
        let comm = rank.comm;
        let own = (comm.rank() == root).then(|| word(root));
        assert_eq!(comm.broadcast(root, own).unwrap(), word(root));
        let mut buffer = given(case, comm.rank(), length);
        comm.broadcast_slice(root, &mut buffer).unwrap();
        assert_eq!(buffer, given(case, root, length));
    });
}

#[test]
fn reduce_combines_in_the_order_of_ranks_for_the_root() {
    each_case(|rank, case, length, root| {
        let comm = rank.comm;
        let all = comm.reduce(root, word(comm.rank()), joined).unwrap();
        assert_eq!(all, (comm.rank() == root).then(|| words(0..comm.size())));
        let mut buffer = given(case, comm.rank(), length);
        comm.reduce_slice(root, &mut buffer, then).unwrap();
        if comm.rank() == root {
            assert_eq!(Some(buffer), combined(case, 0..comm.size(), length));
        }
    });
}

#[test]
fn all_reduce_combines_in_the_order_of_ranks_for_all() {
    each_case(|rank, case, length, _| {
        let comm = rank.comm;
        let all = comm.all_reduce(word(comm.rank()), joined).unwrap();
        assert_eq!(all, words(0..comm.size()));
        let mut buffer = given(case, comm.rank(), length);
        comm.all_reduce_slice(&mut buffer, then).unwrap();
        assert_eq!(Some(buffer), combined(case, 0..comm.size(), length));
    });
}

#[test]
fn gather_and_all_gather_give_all_values_in_order() {
    each_case(|rank, case, length, root| {
        let comm = rank.comm;
        let n = comm.size();
        let all: Vec<String> = (0..n).map(word).collect();
        let at_root = comm.rank() == root;
        assert_eq!(
            comm.gather(root, word(comm.rank())).unwrap(),
            at_root.then(|| all.clone())
        );
        assert_eq!(comm.all_gather(word(comm.rank())).unwrap(), all);

        let own = given(case, comm.rank(), length);
        let all: Vec<Affine> = (0..n).flat_map(|rank| given(case, rank, length)).collect();
        assert_eq!(comm.all_gather_slice(&own).unwrap(), all);
        assert_eq!(comm.gather_slice(root, &own).unwrap(), at_root.then_some(all));
    });
}

#[test]
fn scatter_gives_each_rank_its_part() {
    each_case(|rank, case, length, root| {
        let comm = rank.comm;
        let n = comm.size();
        let at_root = comm.rank() == root;
        let values = at_root.then(|| (0..n).map(word).collect());
        assert_eq!(comm.scatter(root, values).unwrap(), word(comm.rank()));

        let numbers = given(case, root, n * length);
        let own = comm.scatter_slice(root, at_root.then_some(&numbers[..])).unwrap();
        assert_eq!(own, numbers[comm.rank() * length..][..length]);
    });
}

#[test]
fn all_to_all_gives_each_rank_a_part_of_each() {
    each_case(|rank, case, length, _| {
        let comm = rank.comm;
        let (n, own) = (comm.size(), comm.rank());
        let letter = |from: usize, to: usize| format!("{from} to {to}");
        let got = comm
            .all_to_all((0..n).map(|to| letter(own, to)).collect())
            .unwrap();
        assert_eq!(got, (0..n).map(|from| letter(from, own)).collect::<Vec<_>>());

        let got = comm.all_to_all_slice(&given(case, own, n * length)).unwrap();
        let expected: Vec<Affine> = (0..n)
            .flat_map(|from| given(case, from, n * length)[own * length..][..length].to_vec())
            .collect();
        assert_eq!(got, expected);
    });
}

#[test]
fn reduce_scatter_combines_each_ranks_part_in_the_order_of_ranks() {
    each_case(|rank, case, length, _| {
        let comm = rank.comm;
        let (n, own) = (comm.size(), comm.rank());
        let values = (0..n).map(|to| format!("{own}>{to} ")).collect();
        let expected: String = (0..n).map(|from| format!("{from}>{own} ")).collect();
        assert_eq!(comm.reduce_scatter(values, joined).unwrap(), expected);

        let got = comm
            .reduce_scatter_slice(&given(case, own, n * length), then)
            .unwrap();
        let all = combined(case, 0..n, n * length).unwrap();
        assert_eq!(got, all[own * length..][..length]);
    });
}

#[test]
fn scans_combine_the_ranks_up_to_ones_own() {
    each_case(|rank, case, _, _| {
        let comm = rank.comm;
        let own = comm.rank();
        assert_eq!(comm.scan(word(own), joined).unwrap(), words(0..own + 1));
        let before = (own > 0).then(|| words(0..own));
        assert_eq!(comm.exscan(word(own), joined).unwrap(), before);
        let numbers = given(case, own, 3);
        let by_number = |left: Vec<Affine>, right: Vec<Affine>| {
            left.into_iter()
                .zip(right)
                .map(|(left, right)| then(left, right))
                .collect()
        };
        let scanned = comm.scan(numbers, by_number).unwrap();
        assert_eq!(Some(scanned), combined(case, 0..own + 1, 3));
    });
}

#[test]
fn the_order_of_ranks_holds_where_those_of_a_node_are_apart() {
    each_gang_of(
        8,
        |rank| {
            let comm = rank.comm;
            // 0 4 1 5 2 6 3 7
            let own = comm.rank();
            let mixed = comm
                .split(Some(0), (own % 4 * 2 + own / 4) as i64)
                .unwrap()
                .unwrap();
            for root in 0..8 {
                rank.dawdle();
                let all = mixed.all_reduce(word(mixed.rank()), joined).unwrap();
                assert_eq!(all, words(0..8));
                let at_root = mixed.rank() == root;
                let reduced = mixed.reduce(root, word(mixed.rank()), joined).unwrap();
                assert_eq!(reduced, at_root.then(|| words(0..8)));
                let given = mixed.broadcast(root, at_root.then(|| word(root))).unwrap();
                assert_eq!(given, word(root));
                mixed.barrier().unwrap();
            }
        },
        |_| {},
    );
}

#[test]
fn collectives_and_messages_do_not_disturb_each_other() {
    each_gang(|rank| {
        let comm = rank.comm;
        let to = (comm.rank() + 1) % comm.size();
        let from = (comm.rank() + comm.size() - 1) % comm.size();
        for turn in 0..30_u64 {
            comm.send(to, 0, turn).unwrap();
            rank.dawdle();
            let sum = comm.all_reduce(turn, u64::wrapping_add).unwrap();
            assert_eq!(sum, turn * comm.size() as u64);
            comm.barrier().unwrap();
            assert_eq!(comm.receive::<u64>(from, 0).unwrap(), turn);
        }
    });
}

#[test]
fn a_length_that_differs_breaks_the_operation_everywhere() {
    for n in [2, 3, 5, 8] {
        each_gang_of(
            n,
            |rank| {
                let comm = rank.comm;
                let length = if comm.rank() == n - 1 { 3 } else { 4 };
                let first = comm.all_gather_slice(&vec![1_u8; length]);
                let second = comm.barrier();
                (first.is_err(), second)
            },
            |ends| {
                assert!(ends.iter().any(|(first, _)| *first));
                for (_, second) in ends {
                    assert!(
                        matches!(second, Err(CommError::CollectiveFailed { .. })),
                        "{second:?}"
                    );
                }
            },
        );
    }
}

#[test]
fn what_follows_a_broken_operation_takes_no_message_that_has_come() {
    each_gang_of(
        2,
        |rank| {
            let comm = rank.comm;
            if comm.rank() == 0 {
                comm.broadcast(0, Some(1_u32)).unwrap();
                comm.broadcast(0, Some(2_u32)).unwrap();
                comm.send(1, 0, ()).unwrap();
                return;
            }
            comm.receive::<()>(0, 0).unwrap();
            let first = comm.broadcast::<u8>(0, None);
            assert!(matches!(first, Err(CommError::WrongType { .. })), "{first:?}");
            let second = comm.broadcast::<u32>(0, None);
            assert!(
                matches!(second, Err(CommError::CollectiveFailed { rank: 1 })),
                "{second:?}"
            );
        },
        |_| {},
    );
}

#[test]
fn a_root_that_gives_nothing_is_an_error_everywhere() {
    each_gang_of(
        5,
        |rank| rank.comm.broadcast::<u8>(2, None).unwrap_err(),
        |errors| {
            for (rank, error) in errors.into_iter().enumerate() {
                let expected = if rank == 2 {
                    matches!(error, CommError::RootGaveNothing { root: 2 })
                } else {
                    matches!(error, CommError::CollectiveFailed { rank: 2 })
                };
                assert!(expected, "rank {rank}: {error}");
            }
        },
    );
}

#[test]
fn large_numbers_go_to_and_come_from_every_root() {
    let length = 131_075;
    for n in [3, 4, 6] {
        each_gang_of(
            n,
            |rank| {
                let comm = rank.comm;
                let all = combined(0, 0..n, length).unwrap();
                for root in 0..n {
                    let mut buffer = given(0, comm.rank(), length);
                    comm.reduce_slice(root, &mut buffer, then).unwrap();
                    if comm.rank() != root {
                        buffer.fill([0, 0]);
                    }
                    rank.dawdle();
                    comm.broadcast_slice(root, &mut buffer).unwrap();
                    assert_eq!(buffer, all);
                }
            },
            |_| {},
        );
    }
}
