//! Parts of gangs whose ranks go on from epoch to epoch, all on this host: that of a rank that is lost is played by one that never
//! comes.

use std::thread;

use phalanx_protocol::gang::{GangNode, Placement};
use phalanx_protocol::id::{GrantId, WorkerId};
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::{RangeSet, Term};

use super::*;
use crate::context::TaskContext;
use crate::ranks::{Communicator, Standing};

/// Long enough that nobody gives up by chance.
const LONG: Duration = Duration::from_secs(60);

/// An epoch of three ranks on one node.
fn gang(epoch: u32, starting: RangeSet) -> HostGang {
    let node = GangNode {
        worker: WorkerId(1),
        address: "127.0.0.1:1".to_owned(),
        name: "near".to_owned(),
    };
    HostGang {
        placement: Placement {
            epoch,
            nodes: vec![node],
            node_of: vec![0; 3],
            is_led: false,
            starting,
            respawns: true,
        },
        node: 0,
        credential: None,
    }
}

fn ranks(start: u64, end: u64) -> RangeSet {
    IndexRange::new(start, end).into()
}

/// A rank's life in a part, as a slot runs it.
fn live<R>(part: &Arc<Part>, rank: u64, body: impl Fn(&Communicator) -> R + Sync) -> Result<R, Failed> {
    let grant = GrantId {
        term: Term(1),
        number: rank,
    };
    let (gang, epoch) = part.enter(rank, grant)?;
    let standing = Standing {
        context: TaskContext::standalone(rank),
        epoch,
        succession: Some(Arc::clone(part) as Arc<dyn Succession>),
    };
    let end = gang.live(rank as usize, standing, &body);
    part.leave(rank);
    let end = end.map_err(|_| (FailureCause::Panic, "it has panicked".to_owned()))?;
    part.await_others(rank).map(|()| end)
}

/// Waits until that is so.
fn eventually(is_so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "it does not come to that");
        thread::yield_now();
    }
}

/// Loses rank 2 to the gang that the others are in, once they are.
fn lose(part: &Part) {
    eventually(|| lock(&part.progress).ranks.len() == 2);
    if let Some(Ok(gang)) = lock(&part.progress).epoch.gang() {
        gang.leave(2);
    }
}

/// What a rank does that goes on after a loss: the sum of what all have then.
fn go_on(comm: &Communicator) -> Result<(u32, usize), CommError> {
    assert!(comm.receive::<()>(2, 0).is_err(), "it is missing");
    let next = comm.respawn()?;
    Ok((next.epoch(), next.all_reduce(next.rank(), |a, b| a + b)?))
}

#[test]
fn ranks_that_run_on_meet_those_that_start_beside_them() {
    let part = Part::patient(gang(1, ranks(0, 3)), None, LONG);
    thread::scope(|scope| {
        let left = [0, 1].map(|rank| {
            let part = &part;
            scope.spawn(move || live(part, rank, go_on))
        });
        lose(&part);
        assert!(part.go_on(&gang(2, ranks(2, 3)), None));
        let replaced = live(&part, 2, |comm| {
            (comm.epoch(), comm.all_reduce(2_usize, |a, b| a + b))
        });
        assert!(matches!(replaced, Ok((2, Ok(3)))), "{replaced:?}");
        for left in left {
            assert!(matches!(left.join().unwrap(), Ok(Ok((2, 3)))));
        }
    });
}

#[test]
fn ranks_wait_as_long_as_an_epoch_is_announced_and_else_let_all_start_again() {
    for is_announced in [true, false] {
        let part = Part::patient(gang(1, ranks(0, 3)), None, Duration::ZERO);
        thread::scope(|scope| {
            let left = [0, 1].map(|rank| {
                let part = &part;
                scope.spawn(move || live(part, rank, |comm| go_on(comm).is_ok()))
            });
            if is_announced {
                part.expect(2);
            }
            lose(&part);
            if is_announced {
                assert!(part.go_on(&gang(2, ranks(2, 3)), None));
                live(&part, 2, |comm| comm.all_reduce(2_usize, |a, b| a + b).unwrap()).unwrap();
            }
            for left in left {
                match left.join().unwrap() {
                    Ok(is_replaced) => assert!(is_announced && is_replaced),
                    Err((cause, why)) => {
                        assert!(!is_announced && cause == FailureCause::Lost, "{why}");
                        assert!(why.contains("nobody but ranks"), "{why}");
                    }
                }
            }
        });
    }
}

#[test]
fn a_rank_that_has_returned_lets_all_start_again() {
    for is_before in [true, false] {
        let part = Part::patient(gang(1, ranks(0, 3)), None, LONG);
        thread::scope(|scope| {
            let first = scope.spawn(|| live(&part, 0, |_| ()));
            let second = scope.spawn(|| live(&part, 1, |comm| go_on(comm).is_ok()));
            eventually(|| !is_before || lock(&part.progress).succeeded.is_some());
            lose(&part);
            assert!(part.go_on(&gang(2, ranks(2, 3)), None));
            for end in [first.join().unwrap().map(|()| true), second.join().unwrap()] {
                let (cause, why) = end.unwrap_err();
                assert_eq!(cause, FailureCause::Lost);
                assert!(why.contains("rank 0") && why.contains("all start again"), "{why}");
            }
        });
    }
}

#[test]
fn who_has_not_begun_begins_in_the_latest_epoch() {
    let part = Part::patient(gang(1, ranks(0, 3)), None, LONG);
    assert!(part.go_on(&gang(2, ranks(2, 3)), None));
    assert!(part.go_on(&gang(3, ranks(2, 3)), None));
    thread::scope(|scope| {
        let lives = [0, 1, 2].map(|rank| {
            let part = &part;
            scope.spawn(move || live(part, rank, |comm| (comm.epoch(), comm.barrier().is_ok())))
        });
        let ends = lives.map(|life| life.join().unwrap());
        assert!(ends.iter().all(|end| *end == Ok((3, true))), "{ends:?}");
    });
}
