//! Ranks that end: whoever needs them is told, and nobody waits for ever.

mod operations;

use phalanx::Communicator;
use phalanx::ranks::{CommError, Ending, LocalGang, RankFailure, Source, Tags, wait_all};

use crate::gangs::{Random, SIZES, ends_of, fresh_seed, gangs_of, pretended_gangs};

/// Runs `body` on one node and on several, and fails where it does not come to an end.
#[track_caller]
fn each_gang_ends<R: Send + 'static>(
    n: usize,
    body: impl Fn(&Communicator) -> R + Send + Sync + Clone + 'static,
    check: impl Fn(Vec<Result<R, RankFailure>>),
) {
    all_end(gangs_of(n, fresh_seed()), body, check);
}

/// The same with these gangs.
#[track_caller]
fn all_end<R: Send + 'static>(
    gangs: Vec<LocalGang>,
    body: impl Fn(&Communicator) -> R + Send + Sync + Clone + 'static,
    check: impl Fn(Vec<Result<R, RankFailure>>),
) {
    for gang in gangs {
        check(ends_of(gang, body.clone()));
    }
}

/// Pretended gangs, and those over QUIC if `hosts`: to meet takes most of the time.
fn gangs_of_some(n: usize, hosts: bool) -> Vec<LocalGang> {
    match hosts {
        true => gangs_of(n, fresh_seed()),
        false => pretended_gangs(n, fresh_seed())
            .into_iter()
            .map(|(gang, _)| gang)
            .collect(),
    }
}

/// Sizes at which some ranks are left when one has ended.
const SEVERAL: [usize; 4] = [2, 3, 5, 8];

fn others_succeed<R>(ends: &[Result<R, RankFailure>], victim: usize) -> bool {
    let mut others = ends.iter().enumerate().filter(|(rank, _)| *rank != victim);
    others.all(|(_, end)| end.is_ok())
}

fn panics() -> ! {
    panic!("this rank is to fail")
}

#[track_caller]
fn assert_ended<T: std::fmt::Debug>(outcome: Result<T, CommError>, who: usize, how: Ending) {
    match outcome {
        Err(CommError::RankEnded { rank, ending }) => assert_eq!((rank, ending), (who, how)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rank_that_panics_is_named_and_the_others_results_are_kept() {
    each_gang_ends(
        3,
        |comm| if comm.rank() == 1 { panics() } else { comm.rank() },
        |ends| {
            assert_eq!((&ends[0], &ends[2]), (&Ok(0), &Ok(2)));
            let failure = ends[1].as_ref().unwrap_err();
            assert_eq!(failure.to_string(), "rank 1 failed: this rank is to fail");
        },
    );
}

#[test]
fn a_receive_from_a_rank_that_ends_fails_before_and_after_the_end() {
    let ways = [(Ending::Panicked, true), (Ending::Returned, false)];
    for (n, (how, panicking)) in SEVERAL.into_iter().flat_map(|n| ways.map(|way| (n, way))) {
        each_gang_ends(
            n,
            move |comm| {
                if comm.rank() == 1 {
                    comm.receive::<()>(0, 0).unwrap();
                    comm.send(0, 2, "last words".to_owned()).unwrap();
                    if panicking { panics() } else { return }
                }
                if comm.rank() > 1 {
                    assert_ended(comm.receive::<()>(1, 0), 1, how);
                    return;
                }
                let posted = comm.ireceive::<()>(1, 1).unwrap();
                comm.send(1, 0, ()).unwrap();
                assert_ended(posted.wait(), 1, how);
                // what it sent before is not lost
                assert_eq!(comm.receive::<String>(1, 2).unwrap(), "last words");
                assert_ended(comm.receive::<()>(1, 1), 1, how);
                assert_ended(comm.probe(1, Tags::Any), 1, how);
                assert_ended(comm.send(1, 0, ()), 1, how);
                assert_ended(comm.isend(1, 0, ()), 1, how);
            },
            |ends| assert!(others_succeed(&ends, 1), "{ends:?}"),
        );
    }
}

#[test]
fn a_receive_from_any_fails_when_one_fails_unless_that_is_known() {
    for n in SEVERAL {
        each_gang_ends(
            n,
            |comm| match comm.rank() {
                0 => {
                    assert_ended(comm.receive::<()>(Source::Any, 0), 1, Ending::Panicked);
                    assert_ended(comm.receive::<()>(Source::Any, 0), 1, Ending::Panicked);
                    assert_eq!(comm.acknowledge_failures(), [1]);
                    for other in 2..comm.size() {
                        comm.send(other, 0, ()).unwrap();
                        assert_eq!(comm.receive::<usize>(Source::Any, 0).unwrap(), other);
                    }
                    // nobody is left
                    assert!(matches!(
                        comm.receive::<()>(Source::Any, 0),
                        Err(CommError::RankEnded { .. })
                    ));
                }
                1 => panics(),
                own => {
                    comm.receive::<()>(0, 0).unwrap();
                    comm.send(0, 0, own).unwrap();
                }
            },
            |ends| assert!(others_succeed(&ends, 1), "{ends:?}"),
        );
    }
}

#[test]
fn a_receive_from_any_goes_on_while_others_return() {
    for n in SEVERAL {
        each_gang_ends(
            n,
            move |comm| {
                if comm.rank() > 0 {
                    return comm.send(0, 0, comm.rank()).unwrap();
                }
                let sum: usize = (1..n)
                    .map(|_| comm.receive::<usize>(Source::Any, 0).unwrap())
                    .sum();
                assert_eq!(sum, n * (n - 1) / 2);
                assert!(comm.receive::<usize>(Source::Any, 0).is_err());
            },
            |ends| assert!(ends.iter().all(Result::is_ok), "{ends:?}"),
        );
    }
}

#[test]
fn a_panic_in_an_operator_ends_the_operation_everywhere() {
    for n in SEVERAL {
        each_gang_ends(
            n,
            move |comm| {
                let (own, victim) = (comm.rank(), n / 2);
                let combine = move |left: u32, right: u32| {
                    if own == victim {
                        panics()
                    }
                    left + right
                };
                // told by the broken operation or by the end, whichever comes first
                match comm.scan(1, combine).and_then(|_| comm.barrier()) {
                    Err(CommError::CollectiveFailed { rank } | CommError::RankEnded { rank, .. }) => {
                        assert_eq!(rank, victim);
                    }
                    other => panic!("{other:?}"),
                }
            },
            |ends| assert!(others_succeed(&ends, n / 2) && ends[n / 2].is_err(), "{ends:?}"),
        );
    }
}

#[test]
fn a_revoked_communicator_fails_at_all_and_leaves_the_others_alone() {
    for n in SEVERAL {
        each_gang_ends(
            n,
            move |comm| {
                let part = comm.duplicate();
                let revoker = n / 2;
                if part.rank() == revoker {
                    comm.receive::<()>(0, 9).unwrap();
                    part.revoke();
                } else {
                    let posted: Vec<_> = [0, revoker]
                        .into_iter()
                        .map(|from| part.ireceive::<()>(from, 0).unwrap())
                        .collect();
                    if part.rank() == 0 {
                        comm.send(revoker, 9, ()).unwrap();
                    }
                    assert!(matches!(wait_all(posted), Err(CommError::Revoked)));
                }
                assert!(matches!(part.barrier(), Err(CommError::Revoked)));
                assert!(matches!(part.send(0, 0, ()), Err(CommError::Revoked)));
                assert!(matches!(
                    part.receive::<()>(Source::Any, 0),
                    Err(CommError::Revoked)
                ));
                assert_eq!(part.agree(1), 1);
                comm.barrier().unwrap();
                let whole = part.shrink();
                assert_eq!((whole.rank(), whole.size()), (comm.rank(), n));
                whole.barrier().unwrap();
            },
            |ends| assert!(ends.iter().all(Result::is_ok), "{ends:?}"),
        );
    }
}

#[test]
fn those_that_are_left_go_on_in_a_shrunk_communicator() {
    // they fail one by one, at different times
    for (n, victims) in [(2, &[1][..]), (3, &[1, 2]), (5, &[0, 3]), (8, &[2, 5])] {
        each_gang_ends(
            n,
            move |comm| {
                let mut comm = comm.duplicate();
                let own = comm.rank();
                let mut sizes = Vec::new();
                for &victim in victims {
                    if own == victim {
                        panics();
                    }
                    let error = comm.barrier().unwrap_err();
                    let ended = matches!(
                        error,
                        CommError::RankEnded {
                            ending: Ending::Panicked,
                            ..
                        }
                    );
                    assert!(ended || matches!(error, CommError::Revoked), "{error}");
                    comm.revoke();
                    comm = comm.shrink();
                    sizes.push(comm.size());
                }
                while comm.all_gather(own).is_err() {
                    comm = comm.shrink();
                }
                comm.all_gather(own).unwrap()
            },
            |ends| {
                let expected: Vec<usize> = (0..n).filter(|rank| !victims.contains(rank)).collect();
                for (rank, end) in ends.into_iter().enumerate() {
                    match end {
                        Ok(left) => assert_eq!(left, expected),
                        Err(_) => assert!(victims.contains(&rank)),
                    }
                }
            },
        );
    }
}

#[test]
fn survivors_agree_whoever_ends_meanwhile() {
    for seed in 0..60 {
        all_end(
            gangs_of_some(SIZES[seed as usize % SIZES.len()], seed < 10),
            move |comm| {
                let mut random = Random(seed * 100 + comm.rank() as u64);
                let mut agreed = Vec::new();
                for turn in 0..4 {
                    for _ in 0..random.below(3) {
                        random.dawdle();
                    }
                    // leaders fail, too: at most one rank is left
                    if random.below(6) == 0 {
                        panics();
                    }
                    agreed.push((turn, comm.agree(random.next() | 1)));
                }
                (agreed, comm.shrink().size())
            },
            |ends| {
                let survivors: Vec<_> = ends.into_iter().flatten().collect();
                for other in &survivors {
                    assert_eq!(other, &survivors[0], "seed {seed}");
                    assert!(other.0.iter().all(|(_, bits)| bits & 1 == 1));
                }
                if let Some((_, size)) = survivors.first() {
                    assert_eq!(*size, survivors.len(), "seed {seed}");
                }
            },
        );
    }
}
