//! Collective operations beside others, where they break, and on large numbers; `properties` compares each with a naive one.

use phalanx::Communicator;
use phalanx::ranks::CommError;

use crate::gangs::{
    Affine, Random, each_gang, each_gang_of, fresh_seed, gangs_of, gangs_over_quic, pretended_gangs, then,
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

const OF_ONE_LENGTH: [(&str, OfOneLength); 7] = [
    ("broadcast", |comm, mut own| comm.broadcast_slice(0, &mut own)),
    ("reduce", |comm, mut own| comm.reduce_slice(0, &mut own, u8::max)),
    ("all_reduce", |comm, mut own| {
        comm.all_reduce_slice(&mut own, u8::max)
    }),
    ("gather", |comm, own| comm.gather_slice(0, &own).map(drop)),
    ("all_gather", |comm, own| comm.all_gather_slice(&own).map(drop)),
    ("scan", |comm, mut own| comm.scan_slice(&mut own, u8::max)),
    ("exscan", |comm, own| comm.exscan_slice(&own, u8::max).map(drop)),
];

#[test]
fn a_length_that_differs_breaks_the_operation_everywhere() {
    for n in [2, 3, 5, 8] {
        for (turn, (name, operation)) in OF_ONE_LENGTH.into_iter().enumerate() {
            // shorter than the others', and longer
            for other in [3, 5] {
                let mut gangs = pretended_gangs(n, fresh_seed());
                if turn == n % OF_ONE_LENGTH.len() {
                    gangs.extend(gangs_over_quic(n));
                }
                for (gang, _) in gangs {
                    let ends = gang.run(|comm| {
                        let length = if comm.rank() == n - 1 { other } else { 4 };
                        let first = operation(comm, vec![1; length]);
                        (first, comm.barrier())
                    });
                    let ends: Vec<_> = ends.into_iter().map(Result::unwrap).collect();
                    let wrong = |first: &_| matches!(first, Err(CommError::WrongLength { .. }));
                    assert!(
                        ends.iter().any(|(first, _)| wrong(first)),
                        "{name} by {gang:?}: {ends:?}"
                    );
                    let broken = |second: &_| matches!(second, Err(CommError::CollectiveFailed { .. }));
                    assert!(
                        ends.iter().all(|(_, second)| broken(second)),
                        "{name} by {gang:?}: {ends:?}"
                    );
                }
            }
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
    let (n, length) = (6, 131_075);
    let all = combined(0..n, length).unwrap();
    for gang in gangs_of(n, fresh_seed()) {
        let ends = gang.run(|comm| {
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
