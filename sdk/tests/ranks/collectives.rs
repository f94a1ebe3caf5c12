//! Collective operations beside others, where they break, and on large numbers; `properties` compares each with a naive one.

use std::sync::{Arc, Barrier};

use phalanx::Communicator;
use phalanx::ranks::{Algorithm, CommError};

use crate::gangs::{
    Affine, Random, SIZES, each_gang, each_gang_of, ends_of, fresh_seed, gangs_of, gangs_over_quic,
    pretended_gangs, then,
};

/// What rank `rank` gives: the same wherever it is asked for.
fn given(rank: usize, length: usize) -> Vec<Affine> {
    let mut random = Random(rank as u64);
    (0..length)
        .map(|_| {
            let both = random.next();
            [(both >> 32) as u32 | 1, both as u32]
        })
        .collect()
}

fn combined(ranks: std::ops::Range<usize>, length: usize) -> Option<Vec<Affine>> {
    let all = ranks.map(|rank| given(rank, length));
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

/// All operations on numbers of which each rank gives so many, or so many for each, against naive ones.
fn check_numbers(comm: &Communicator, root: usize, length: usize) -> Result<(), CommError> {
    let (n, own) = (comm.size(), comm.rank());
    let all: Vec<Vec<Affine>> = (0..n).map(|rank| given(rank, n * length)).collect();
    let part = |to: usize| to * length..(to + 1) * length;
    let first = |rank: usize| all[rank][part(0)].to_vec();
    let sum = combined(0..n, n * length).unwrap_or_default();

    let mut buffer = first(own);
    comm.broadcast_slice(root, &mut buffer)?;
    assert_eq!(buffer, first(root));
    let mut buffer = first(own);
    comm.reduce_slice(root, &mut buffer, then)?;
    assert!(own != root || buffer == sum[part(0)]);
    let mut buffer = first(own);
    comm.all_reduce_slice(&mut buffer, then)?;
    assert_eq!(buffer, sum[part(0)]);
    let every: Vec<Affine> = (0..n).flat_map(first).collect();
    let gathered = comm.gather_slice(root, &first(own))?;
    assert_eq!(gathered, (own == root).then(|| every.clone()));
    assert_eq!(comm.all_gather_slice(&first(own))?, every);
    let scattered = comm.scatter_slice(root, Some(&all[own]))?;
    assert_eq!(scattered, all[root][part(own)]);
    let crossed: Vec<Affine> = all.iter().flat_map(|theirs| theirs[part(own)].to_vec()).collect();
    assert_eq!(comm.all_to_all_slice(&all[own])?, crossed);
    let of_part = comm.reduce_scatter_slice(&all[own], then)?;
    assert_eq!(of_part, sum[part(own)]);
    let mut buffer = first(own);
    comm.scan_slice(&mut buffer, then)?;
    assert_eq!(
        buffer,
        combined(0..own + 1, n * length).unwrap_or_default()[part(0)]
    );
    let before = comm.exscan_slice(&first(own), then)?;
    let expected = combined(0..own, n * length);
    assert_eq!(before, expected.map(|sum| sum[part(0)].to_vec()));
    Ok(())
}

/// The operations on values that have several algorithms, against naive ones.
fn check_values(comm: &Communicator, root: usize) -> Result<(), CommError> {
    let (n, own) = (comm.size(), comm.rank());
    let every: Vec<String> = (0..n).map(word).collect();
    let for_each = |from: usize| {
        (0..n)
            .map(|to| format!("{from} to {to}, "))
            .collect::<Vec<String>>()
    };
    let for_own: Vec<String> = (0..n).map(|from| for_each(from)[own].clone()).collect();

    let broadcast = comm.broadcast(root, (own == root).then(|| word(root)))?;
    assert_eq!(broadcast, word(root));
    let reduced = comm.reduce(root, word(own), joined)?;
    assert_eq!(reduced, (own == root).then(|| words(0..n)));
    assert_eq!(comm.all_reduce(word(own), joined)?, words(0..n));
    let gathered = comm.gather(root, word(own))?;
    assert_eq!(gathered, (own == root).then(|| every.clone()));
    assert_eq!(comm.all_gather(word(own))?, every);
    assert_eq!(comm.all_to_all(for_each(own))?, for_own);
    let of_own = comm.reduce_scatter(for_each(own), joined)?;
    assert_eq!(of_own, for_own.concat());
    assert_eq!(comm.scan(word(own), joined)?, words(0..own + 1));
    let before = comm.exscan(word(own), joined)?;
    assert_eq!(before, (own > 0).then(|| words(0..own)));
    comm.barrier()
}

#[test]
fn every_algorithm_gives_what_a_naive_one_gives() {
    for n in [1, 2, 3, 5, 6, 8] {
        let mut gangs = pretended_gangs(n, fresh_seed());
        if n >= 6 {
            gangs.extend(gangs_over_quic(n));
        }
        for (gang, _) in gangs {
            let ends = ends_of(gang, move |comm| {
                // so that the ranks of a node are apart
                let mixed = comm.split(Some(0), (comm.rank() % 2) as i64).unwrap().unwrap();
                for algorithm in Algorithm::ALL {
                    for comm in [comm, &mixed] {
                        comm.insist_on(Some(algorithm));
                        check_numbers(comm, 0, 6).unwrap();
                        check_numbers(comm, n - 1, 0).unwrap();
                        check_values(comm, n / 2).unwrap();
                    }
                }
            });
            assert!(ends.iter().all(Result::is_ok), "{gang:?}: {ends:?}");
        }
    }
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

/// An operation on numbers of which all ranks give the same count.
type OfOneLength = fn(&Communicator, Vec<u8>) -> Result<(), CommError>;

const OF_ONE_LENGTH: [(&str, OfOneLength); 9] = [
    ("broadcast", |comm, mut own| comm.broadcast_slice(0, &mut own)),
    ("reduce", |comm, mut own| comm.reduce_slice(0, &mut own, u8::max)),
    ("all_reduce", |comm, mut own| {
        comm.all_reduce_slice(&mut own, u8::max)
    }),
    ("gather", |comm, own| comm.gather_slice(0, &own).map(drop)),
    ("all_gather", |comm, own| comm.all_gather_slice(&own).map(drop)),
    ("all_to_all", |comm, own| {
        let all = own.repeat(comm.size());
        let came = comm.all_to_all_slice(&all)?;
        assert_eq!(came.len(), all.len());
        Ok(())
    }),
    ("reduce_scatter", |comm, own| {
        comm.reduce_scatter_slice(&own.repeat(comm.size()), u8::max)
            .map(drop)
    }),
    ("scan", |comm, mut own| comm.scan_slice(&mut own, u8::max)),
    ("exscan", |comm, own| comm.exscan_slice(&own, u8::max).map(drop)),
];

#[test]
fn a_length_that_differs_breaks_the_operation_everywhere() {
    let insisted = Algorithm::ALL.map(Some);
    let algorithms = [None].into_iter().chain(insisted);
    for (n, algorithm) in [2, 3, 5, 8]
        .into_iter()
        .flat_map(|n| algorithms.clone().map(move |own| (n, own)))
    {
        for (turn, (name, operation)) in OF_ONE_LENGTH.into_iter().enumerate() {
            // shorter than the others', and longer
            for other in [3, 5] {
                let mut gangs = pretended_gangs(n, fresh_seed());
                if turn == n % OF_ONE_LENGTH.len() && algorithm.is_none() {
                    gangs.extend(gangs_over_quic(n));
                }
                for (gang, _) in gangs {
                    let all_know = Barrier::new(n);
                    let ends = ends_of(gang, move |comm| {
                        let length = if comm.rank() == n - 1 { other } else { 4 };
                        comm.insist_on(algorithm);
                        let first = operation(comm, vec![1; length]);
                        let second = comm.barrier();
                        // the end of a rank would be told of, too
                        all_know.wait();
                        (first, second)
                    });
                    let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
                    let wrong = |first: &_| matches!(first, Err(CommError::WrongLength { .. }));
                    assert!(
                        ends.iter().any(|(first, _)| wrong(first)),
                        "{name} ({algorithm:?}) by {gang:?}: {ends:?}"
                    );
                    let broken = |second: &_| matches!(second, Err(CommError::CollectiveFailed { .. }));
                    assert!(
                        ends.iter().all(|(_, second)| broken(second)),
                        "{name} ({algorithm:?}) by {gang:?}: {ends:?}"
                    );
                }
            }
        }
    }
}

/// Has one of 4 ranks give so many bytes and the others `most`, which is to be an error.
fn check_lengths(name: &str, operation: OfOneLength, most: usize, (odd, length): (usize, usize)) {
    for (gang, _) in pretended_gangs(4, fresh_seed()) {
        let ends = ends_of(gang, move |comm| {
            let length = if comm.rank() == odd { length } else { most };
            (operation(comm, vec![1; length]), comm.barrier())
        });
        let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
        let wrong = |first: &_| {
            matches!(
                first,
                Err(CommError::WrongLength { .. } | CommError::CallsDiffer { .. })
            )
        };
        assert!(
            ends.iter().any(|(first, _)| wrong(first)),
            "{name} of {most} bytes, and {length} of rank {odd}, by {gang:?}: {ends:?}"
        );
    }
}

#[test]
fn lengths_on_both_sides_of_a_cutoff_are_an_error_and_no_wait() {
    for (name, operation) in OF_ONE_LENGTH {
        let cutoffs: &[usize] = match name {
            "broadcast" => &[2 << 20],
            "reduce" => &[256 << 10],
            "all_reduce" => &[64 << 10, 256 << 10, 1 << 20],
            "all_gather" => &[16 << 10],
            "all_to_all" => &[(1 << 10) + 1],
            "reduce_scatter" => &[64 << 10],
            _ => &[],
        };
        for &cutoff in cutoffs {
            for odd in [0, 3] {
                for other in [cutoff - 1, cutoff / 2, cutoff / 4] {
                    check_lengths(name, operation, cutoff, (odd, other));
                    check_lengths(name, operation, other, (odd, cutoff));
                }
            }
        }
    }
}

/// A collective operation that ranks have to call alike.
type Called = fn(&Communicator) -> Result<(), CommError>;

/// Pairs of different ones, in which a rank that calls the first hears from one that calls the second, or the other way round.
const DIFFERENT: [(&str, Called, Called); 6] = [
    ("another operation", Communicator::barrier, |comm| {
        comm.all_reduce(1, |a, b| a + b).map(|_| ())
    }),
    ("an operation with a root", Communicator::barrier, |comm| {
        comm.reduce(0, 1, |a, b| a + b).map(|_| ())
    }),
    (
        "a prefix",
        |comm| comm.scan(1, |a, b| a + b).map(|_| ()),
        |comm| comm.exscan(1, |a, b| a + b).map(|_| ()),
    ),
    ("one more duplicate", Communicator::barrier, |comm| {
        drop(comm.duplicate());
        comm.barrier()
    }),
    ("one more split by node", Communicator::barrier, |comm| {
        drop(comm.split_by_node());
        comm.barrier()
    }),
    (
        "half the length",
        |comm| comm.all_reduce_slice(&mut vec![1_u8; 64 << 10], |a, _| a),
        |comm| comm.all_reduce_slice(&mut vec![1_u8; 32 << 10], |a, _| a),
    ),
];

#[test]
fn ranks_that_call_different_operations_are_told_so_and_do_not_wait() {
    for (what, usual, other) in DIFFERENT {
        for n in [2, 3, 5, 8] {
            for (gang, _) in pretended_gangs(n, fresh_seed()) {
                let all_know = Barrier::new(n);
                let ends = ends_of(gang, move |comm| {
                    let called = if comm.rank() == n - 1 { other } else { usual };
                    let end = (called(comm), comm.barrier());
                    // the end of a rank would be told of, too
                    all_know.wait();
                    end
                });
                let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
                let told = |(first, second): &(_, _)| {
                    [first, second].iter().any(|end| {
                        matches!(
                            end,
                            Err(CommError::CallsDiffer { .. } | CommError::WrongLength { .. })
                        )
                    })
                };
                assert!(ends.iter().any(told), "{what} by {n} in {gang:?}: {ends:?}");
                let failed = |(_, second): &(_, Result<_, _>)| second.is_err();
                assert!(ends.iter().all(failed), "{what} by {n} in {gang:?}: {ends:?}");
            }
        }
    }
}

#[test]
fn whoever_waits_in_an_earlier_operation_than_the_one_that_tells_is_told_too() {
    // inner ranks of the tree: they hear from below, and those above wait for them
    for (n, odd) in [(4, 2), (5, 2), (8, 4)] {
        for (gang, _) in pretended_gangs(n, fresh_seed()) {
            let all_know = Barrier::new(n);
            let ends = ends_of(gang, move |comm| {
                let _more = (comm.rank() == odd).then(|| comm.duplicate());
                let first = comm.reduce(0, 1, |a, b| a + b).map(drop);
                let end = (first, comm.barrier());
                // the end of a rank would be told of, too
                all_know.wait();
                end
            });
            let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
            let told = matches!(ends[odd].0, Err(CommError::CallsDiffer { .. }));
            let failed = |(_, second): &(_, Result<_, _>)| second.is_err();
            assert!(
                told && ends[0].0.is_err() && ends.iter().all(failed),
                "{gang:?}: {ends:?}"
            );
        }
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
    for n in SIZES {
        let (root, all_know) = (n / 2, Arc::new(Barrier::new(n)));
        each_gang_of(
            n,
            move |rank| {
                let error = rank.comm.broadcast::<u8>(root, None).unwrap_err();
                // the end of a rank would be told of, too
                all_know.wait();
                error
            },
            |errors| {
                for (rank, error) in errors.into_iter().enumerate() {
                    let expected = if rank == root {
                        matches!(error, CommError::RootGaveNothing { root: named } if named == root)
                    } else {
                        matches!(error, CommError::CollectiveFailed { rank: named } if named == root)
                    };
                    assert!(expected, "rank {rank}: {error}");
                }
            },
        );
    }
}

#[test]
fn large_numbers_go_to_and_come_from_every_root() {
    let (n, length) = (6, 131_075);
    let all = combined(0..n, length).unwrap();
    for gang in gangs_of(n, fresh_seed()) {
        let all = all.clone();
        let ends = ends_of(gang, move |comm| {
            for root in 0..n {
                let mut buffer = given(comm.rank(), length);
                comm.reduce_slice(root, &mut buffer, then).unwrap();
                if comm.rank() != root {
                    buffer.fill([0, 0]);
                }
                comm.broadcast_slice(root, &mut buffer).unwrap();
                assert!(buffer == all, "root {root}");
            }
        });
        assert!(ends.iter().all(Result::is_ok), "{gang:?}: {ends:?}");
    }
}
