//! Ranks that go on with replacements for those that panic, as if these were lost with their nodes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use phalanx::ranks::{CommError, Ending};
use phalanx::{CheckpointError, Communicator};

use crate::gangs::{Random, ends_of, fresh_seed, gangs_of};

const STEPS: u64 = 12;

/// Sums over steps, checkpoints after each third, and goes on with replacements; `falls` says whether a rank panics now.
fn add_up(comm: &Communicator, falls: &impl Fn(&Communicator, u64) -> bool) -> Result<u64, CheckpointError> {
    let sum = || {
        let (from, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
        for step in from..STEPS {
            assert!(!falls(comm, step), "this rank is to fail");
            sum += comm.all_reduce(step + comm.rank() as u64, |a, b| a + b)?;
            if step % 3 == 2 {
                comm.checkpoint(&(step + 1, sum))?;
            }
        }
        Ok(sum)
    };
    match sum() {
        Err(_) if !comm.failed().is_empty() => add_up(&comm.respawn()?, falls),
        result => result,
    }
}

/// Waits until all have begun, in the first epoch.
fn begin(comm: &Communicator) {
    if comm.epoch() == 1 {
        comm.barrier().expect("nobody has failed yet");
    }
}

fn undisturbed(ranks: u64) -> u64 {
    ranks * (0..STEPS).sum::<u64>() + STEPS * (0..ranks).sum::<u64>()
}

#[test]
fn a_rank_that_is_lost_is_replaced_and_all_go_on_from_the_last_checkpoint() {
    for n in [2, 3, 5] {
        for gang in gangs_of(n, fresh_seed()) {
            let threads = Arc::new(Mutex::new(Vec::<(usize, u32, ThreadId)>::new()));
            let began = Arc::clone(&threads);
            let ends = ends_of(gang.respawn(1), move |comm| {
                let began_as = (comm.rank(), comm.epoch(), thread::current().id());
                began.lock().unwrap().push(began_as);
                let falls =
                    |comm: &Communicator, step| step == 7 && comm.epoch() == 1 && comm.rank() == n - 1;
                add_up(comm, &falls).unwrap()
            });
            let sums: Vec<u64> = ends.into_iter().map(Result::unwrap).collect();
            assert_eq!(sums, vec![undisturbed(n as u64); n], "{gang:?}");
            let began = threads.lock().unwrap();
            let again: Vec<_> = began.iter().filter(|(_, epoch, _)| *epoch == 2).collect();
            assert_eq!((began.len(), again.len()), (n + 1, 1), "the others run on");
            assert_eq!(again[0].0, n - 1);
        }
    }
}

#[test]
fn ranks_that_are_lost_at_any_time_are_replaced_and_the_result_is_the_same() {
    for seed in 0..12 {
        let n = 3 + seed as usize % 3;
        for gang in gangs_of(n, fresh_seed()) {
            let falls_left = Arc::new(AtomicU32::new(4));
            let ends = ends_of(gang.respawn(4), move |comm| {
                let random = Mutex::new(Random(seed * 100 + comm.rank() as u64 + u64::from(comm.epoch())));
                let falls = |_: &Communicator, _| {
                    let is_meant = random.lock().unwrap().below(12) == 0;
                    let take = |left: u32| left.checked_sub(1);
                    is_meant
                        && falls_left
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                            .is_ok()
                };
                add_up(comm, &falls).map_err(|error| error.to_string())
            });
            let sums: Vec<Result<u64, String>> = ends.into_iter().map(Result::unwrap).collect();
            assert_eq!(sums, vec![Ok(undisturbed(n as u64)); n], "seed {seed}, {gang:?}");
        }
    }
}

#[test]
fn whoever_waits_for_a_rank_that_goes_on_is_told_and_follows() {
    for gang in gangs_of(3, fresh_seed()) {
        let ends = ends_of(gang.respawn(1), |comm| {
            begin(comm);
            if comm.epoch() == 1 {
                match comm.rank() {
                    0 => assert!(comm.receive::<()>(2, 0).is_err()),
                    // nobody ever sends that
                    1 => match comm.receive::<()>(0, 0) {
                        Err(CommError::RankEnded { rank: 0, ending }) => assert_eq!(ending, Ending::Left),
                        other => panic!("{other:?}"),
                    },
                    _ => panic!("this rank is to fail"),
                }
            }
            match comm.epoch() {
                1 => comm.respawn().unwrap().all_reduce(1, |a, b| a + b).unwrap(),
                _ => comm.all_reduce(1, |a, b| a + b).unwrap(),
            }
        });
        assert!(ends.into_iter().all(|end| end == Ok(3)), "{gang:?}");
    }
}

#[test]
fn what_was_sent_in_one_epoch_is_not_received_in_the_next() {
    for gang in gangs_of(3, fresh_seed()) {
        let ends = ends_of(gang.respawn(1), |comm| {
            begin(comm);
            if comm.epoch() > 1 {
                return comm.receive::<String>(0, 7);
            }
            match comm.rank() {
                0 => {
                    comm.send(1, 7, "old".to_owned()).unwrap();
                    // before it fails, and rank 1 therefore leaves
                    comm.send(2, 0, ()).unwrap();
                    assert!(comm.receive::<()>(2, 0).is_err());
                    let next = comm.respawn().unwrap();
                    next.send(1, 7, "new".to_owned()).unwrap();
                    next.send(2, 7, "new".to_owned()).unwrap();
                    Ok("sent".to_owned())
                }
                1 => {
                    // else it may have left before that is sent
                    comm.probe(0, 7).unwrap();
                    assert!(comm.receive::<()>(2, 0).is_err());
                    comm.respawn().unwrap().receive::<String>(0, 7)
                }
                _ => {
                    comm.receive::<()>(0, 0).unwrap();
                    panic!("this rank is to fail")
                }
            }
        });
        let said: Vec<String> = ends.into_iter().map(|end| end.unwrap().unwrap()).collect();
        assert_eq!(said, ["sent", "new", "new"], "{gang:?}");
    }
}

#[test]
fn where_nobody_is_replaced_that_is_said_at_once() {
    for gang in gangs_of(3, fresh_seed()) {
        let ends = ends_of(gang, |comm| {
            assert!(matches!(comm.respawn(), Err(CommError::NobodyFailed)));
            begin(comm);
            if comm.rank() == 2 {
                panic!("this rank is to fail");
            }
            assert!(comm.receive::<()>(2, 0).is_err());
            assert!(matches!(comm.respawn(), Err(CommError::NotReplaced)));
        });
        assert!(ends[0].is_ok() && ends[1].is_ok(), "{ends:?}");
    }
}

#[test]
fn those_that_are_left_are_told_when_nobody_more_is_replaced() {
    for gang in gangs_of(4, fresh_seed()) {
        let failed_lives = Arc::new(AtomicUsize::new(0));
        let ends = ends_of(gang.respawn(1), move |comm| {
            begin(comm);
            match comm.rank() {
                3 => {
                    failed_lives.fetch_add(1, Ordering::SeqCst);
                    panic!("this rank is to fail")
                }
                _ => {
                    assert!(comm.barrier().is_err());
                    let next = comm.respawn().unwrap();
                    assert!(next.barrier().is_err());
                    assert!(matches!(next.respawn(), Err(CommError::NotReplaced)));
                }
            }
            failed_lives.load(Ordering::SeqCst)
        });
        let failed: BTreeSet<usize> = (0..4).filter(|&rank| ends[rank].is_err()).collect();
        assert_eq!(failed, BTreeSet::from([3]), "{ends:?}");
        assert_eq!(ends[0], Ok(2), "{gang:?}");
    }
}

#[test]
fn a_rank_that_has_returned_is_missed_by_its_name() {
    for gang in gangs_of(3, fresh_seed()) {
        let ends = ends_of(gang.respawn(1), |comm| {
            begin(comm);
            match (comm.rank(), comm.epoch()) {
                (2, _) => return None,
                (1, 1) => panic!("this rank is to fail"),
                (1, _) => {
                    let _ = comm.barrier();
                    return None;
                }
                _ => assert!(comm.receive::<()>(1, 0).is_err()),
            }
            match comm.respawn().unwrap().barrier() {
                Err(CommError::RankEnded { rank, ending }) => Some((rank, ending)),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(ends[0], Ok(Some((2, Ending::Returned))), "{gang:?}");
    }
}
