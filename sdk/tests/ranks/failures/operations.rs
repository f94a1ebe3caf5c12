//! Collective operations of which a rank is missing.

use std::time::{Duration, Instant};

use phalanx::Communicator;
use phalanx::ranks::{CommError, Ending, LocalGang, wait_any};

use super::{all_end, assert_ended, gangs_of_some, panics};
use crate::gangs::{Random, ends_of, fresh_seed, gangs_over_quic, pretended_gangs};

/// One collective operation, whatever it gives.
type Operation = fn(&Communicator) -> Result<(), CommError>;

/// Operations for which each rank needs each other, so that none can complete without one.
const NEED_ALL: [(&str, Operation); 10] = [
    ("barrier", |comm| comm.barrier()),
    ("all_reduce", |comm| comm.all_reduce(1, |a, b| a + b).map(|_| ())),
    ("all_reduce_slice", |comm| {
        comm.all_reduce_slice(&mut [1; 50_000], |a, b| a + b)
    }),
    ("all_gather", |comm| comm.all_gather(1).map(|_| ())),
    ("all_gather_slice", |comm| {
        comm.all_gather_slice(&[1; 9_000]).map(|_| ())
    }),
    ("all_to_all", |comm| {
        comm.all_to_all(vec![1; comm.size()]).map(|_| ())
    }),
    ("reduce_scatter", |comm| {
        comm.reduce_scatter(vec![1; comm.size()], |a, b| a + b)
            .map(|_| ())
    }),
    ("broadcast and barrier", |comm| {
        comm.broadcast(0, Some(1))?;
        comm.barrier()
    }),
    ("scan and barrier", |comm| {
        comm.scan(1, |a, b| a + b)?;
        comm.barrier()
    }),
    ("split", |comm| comm.split(Some(0), 0).map(|_| ())),
];

#[test]
fn a_collective_fails_at_all_survivors_and_names_the_rank_that_ended() {
    for n in [2, 3, 5, 8] {
        for (name, operation) in NEED_ALL {
            for (how, panicking) in [(Ending::Panicked, true), (Ending::Returned, false)] {
                let victim = n / 2;
                all_end(
                    gangs_of_some(n, panicking && n % 2 == 1),
                    move |comm| {
                        let mut random = Random(comm.rank() as u64);
                        comm.barrier().unwrap();
                        random.dawdle();
                        if comm.rank() == victim {
                            if panicking { panics() } else { return }
                        }
                        assert_ended(operation(comm), victim, how);
                        assert_ended(operation(comm), victim, how);
                    },
                    |ends| {
                        let survivors = ends.iter().enumerate().filter(|(rank, _)| *rank != victim);
                        for (rank, end) in survivors {
                            assert!(end.is_ok(), "{name} of {n}, rank {rank}: {end:?}");
                        }
                    },
                );
            }
        }
    }
}

/// An operation with a root, which some do not heed.
type Rooted = fn(&Communicator, usize) -> Result<(), CommError>;

/// The rank that asks, the one that has ended, and the root.
struct Who {
    rank: usize,
    victim: usize,
    root: usize,
}

/// Which ranks cannot do without the one that has ended. All others may succeed or be told.
type Needs = fn(&Who) -> bool;

/// Numbers that are cut into parts in every operation that does so.
const MANY: usize = 200_000;

fn add(left: u64, right: u64) -> u64 {
    left + right
}

/// Each operation alone.
const ALONE: [(&str, Rooted, Needs); 24] = {
    let all: Needs = |_| true;
    let of_root: Needs = |who| who.victim == who.root;
    let at_root: Needs = |who| who.rank == who.root;
    let above: Needs = |who| who.rank > who.victim;
    let of_or_at_root: Needs = |who| who.victim == who.root || who.rank == who.root;
    [
        (
            "broadcast",
            |comm, root| comm.broadcast(root, Some(1)).map(drop),
            of_root,
        ),
        (
            "broadcast_slice",
            |comm, root| comm.broadcast_slice(root, &mut [1]),
            of_root,
        ),
        (
            "broadcast_slice of many",
            |comm, root| comm.broadcast_slice(root, &mut vec![1_u64; MANY]),
            of_root,
        ),
        (
            "reduce",
            |comm, root| comm.reduce(root, 1, add).map(drop),
            at_root,
        ),
        (
            "reduce_slice",
            |comm, root| comm.reduce_slice(root, &mut [1], add),
            at_root,
        ),
        (
            "reduce_slice of many",
            |comm, root| comm.reduce_slice(root, &mut vec![1; MANY], add),
            at_root,
        ),
        ("gather", |comm, root| comm.gather(root, 1).map(drop), at_root),
        (
            "gather_slice",
            |comm, root| comm.gather_slice(root, &[1]).map(drop),
            at_root,
        ),
        (
            "scatter",
            |comm, root| comm.scatter(root, Some(vec![1; comm.size()])).map(drop),
            of_root,
        ),
        (
            "scatter_slice",
            |comm, root| {
                comm.scatter_slice(root, Some(&vec![1; 9 * comm.size()]))
                    .map(drop)
            },
            of_root,
        ),
        ("all_gather", |comm, _| comm.all_gather(1).map(drop), all),
        (
            "all_gather_slice",
            |comm, _| comm.all_gather_slice(&[1]).map(drop),
            all,
        ),
        (
            "all_gather_slice of many",
            |comm, _| comm.all_gather_slice(&[1_u64; 9_000]).map(drop),
            all,
        ),
        (
            "all_to_all",
            |comm, _| comm.all_to_all(vec![1; comm.size()]).map(drop),
            all,
        ),
        (
            "all_to_all_slice",
            |comm, _| comm.all_to_all_slice(&vec![1; comm.size()]).map(drop),
            all,
        ),
        (
            "all_to_all_slice of many",
            |comm, _| comm.all_to_all_slice(&vec![1; 900 * comm.size()]).map(drop),
            all,
        ),
        (
            "reduce_scatter",
            |comm, _| comm.reduce_scatter(vec![1; comm.size()], add).map(drop),
            all,
        ),
        (
            "reduce_scatter_slice",
            |comm, _| comm.reduce_scatter_slice(&vec![1; comm.size()], add).map(drop),
            all,
        ),
        ("scan", |comm, _| comm.scan(1, add).map(drop), above),
        ("exscan", |comm, _| comm.exscan(1, add).map(drop), above),
        (
            "exscan_slice",
            |comm, _| comm.exscan_slice(&[1; 9], add).map(drop),
            above,
        ),
        ("scan_slice", |comm, _| comm.scan_slice(&mut [1; 9], add), above),
        ("send_receive", exchange, of_or_at_root),
        ("wait_any", send_to_root, at_root),
    ]
};

/// Each rank sends to the root while it receives from there.
fn exchange(comm: &Communicator, root: usize) -> Result<(), CommError> {
    if comm.rank() != root {
        return comm.send_receive(root, 1, root, 0).map(|_: u64| ());
    }
    let others = || (0..comm.size()).filter(|&other| other != root);
    // nobody is to miss the root because it gave up
    others().for_each(|other| drop(comm.send(other, 0, 1_u64)));
    let outcomes: Vec<_> = others().map(|other| comm.receive::<i32>(other, 0)).collect();
    outcomes.into_iter().try_for_each(|outcome| outcome.map(drop))
}

/// Each rank sends to the root, which takes what comes first.
fn send_to_root(comm: &Communicator, root: usize) -> Result<(), CommError> {
    if comm.rank() != root {
        return comm.send(root, 0, ());
    }
    let others = (0..comm.size()).filter(|&other| other != root);
    let requests = others.map(|other| comm.ireceive::<()>(other, 0));
    let mut requests = requests.collect::<Result<Vec<_>, _>>()?;
    // nobody is to miss the root because it gave up
    let outcomes: Vec<_> = std::iter::from_fn(|| wait_any(&mut requests)).collect();
    outcomes
        .into_iter()
        .try_for_each(|(_, outcome)| outcome.map(drop))
}

/// In which whoever needs a rank that has ended is told.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Lets `victim` end and the others call some of [`ALONE`], each in a communicator of its own and for two roots.
fn lose_one(comm: &Communicator, victim: usize, how: Ending, operations: &[usize]) {
    let mut random = Random((comm.rank() + operations[0]) as u64);
    comm.barrier().expect("nobody has ended yet");
    random.dawdle();
    let rank = comm.rank();
    if rank == victim {
        if how == Ending::Panicked { panics() } else { return }
    }
    for (name, operation, needs) in operations.iter().map(|&index| ALONE[index]) {
        for root in [victim, (victim + 1) % comm.size()] {
            let part = comm.duplicate();
            let begun = Instant::now();
            let outcome = operation(&part, root);
            let elapsed = begun.elapsed();
            assert!(elapsed < TOLD_WITHIN, "{name} from {root}: {elapsed:?}");
            match outcome {
                Ok(()) => assert!(!needs(&Who { rank, victim, root }), "{name} from {root} succeeds"),
                lost => assert_ended(lost, victim, how),
            }
        }
    }
}

#[test]
fn whoever_needs_a_rank_that_has_ended_is_told_in_every_operation() {
    let all = ALONE.len();
    for n in [2, 3, 5, 8] {
        let check = |gang: LocalGang, first: usize, count: usize| {
            let victim = first % n;
            let how = if first.is_multiple_of(2) {
                Ending::Panicked
            } else {
                Ending::Returned
            };
            let operations: Vec<usize> = (first..first + count).map(|index| index % all).collect();
            let ends = ends_of(gang, move |comm| lose_one(comm, victim, how, &operations));
            for (rank, end) in ends.iter().enumerate().filter(|(rank, _)| *rank != victim) {
                assert!(
                    end.is_ok(),
                    "{gang:?}, {} without {victim}, rank {rank}: {end:?}",
                    ALONE[first].0
                );
            }
        };
        for first in 0..all {
            // it ends while the first goes on, and has ended when the next begins
            pretended_gangs(n, fresh_seed())
                .into_iter()
                .for_each(|(gang, _)| check(gang, first, 2));
        }
        gangs_over_quic(n)
            .into_iter()
            .for_each(|(gang, _)| check(gang, n, all));
    }
}
