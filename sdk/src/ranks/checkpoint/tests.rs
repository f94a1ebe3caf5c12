//! Starts of gangs, one after the other or at once, that share a storage.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use phalanx_protocol::{GrantId, JobId, TaskId, Term};
use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::*;
use crate::checkpoint::Vault;
use crate::host::board::Lines;
use crate::ranks::{Hosted, Standing};

/// Sizes of gangs.
const SIZES: [u32; 5] = [1, 2, 3, 5, 8];
const JOB: JobId = JobId(42);

fn task(rank: u64) -> TaskId {
    TaskId {
        job: JOB,
        index: rank,
    }
}

/// Runs one start of the gang on a storage; rank `r` has the `r`th grant from `first_grant` on, and a vault of its own.
fn start<R: Send>(
    ranks: u32,
    folder: &Path,
    first_grant: u64,
    body: impl Fn(&Communicator, &Vault) -> R + Sync,
) -> Vec<R> {
    let gang = Hosted::new(ranks).unwrap();
    let life = |rank: u64| {
        let vault = Arc::new(Vault::on_storage(folder.into()));
        let line = Lines::private(1).of_slot(0);
        let context = TaskContext::new(JOB, Arc::default(), line, Arc::clone(&vault), None);
        context.running().store(rank, Ordering::Relaxed);
        context.begin(GrantId {
            term: Term(1),
            number: first_grant + rank,
        });
        let standing = Standing {
            context,
            epoch: 1,
            succession: None,
        };
        let body = |comm: &Communicator| body(comm, &vault);
        gang.live(rank as usize, standing, &body).unwrap()
    };
    let life = &life;
    thread::scope(|scope| {
        let lives = (0..u64::from(ranks)).map(|rank| scope.spawn(move || life(rank)));
        let lives: Vec<_> = lives.collect();
        lives.into_iter().map(|life| life.join().unwrap()).collect()
    })
}

/// What each rank saves of a moment.
fn state(comm: &Communicator, moment: u64) -> (u64, u64) {
    (moment, comm.rank() as u64)
}

fn restored(ranks: u32, folder: &Path) -> Vec<Option<(u64, u64)>> {
    start(ranks, folder, 1000, |comm, _| comm.restore().unwrap())
}

fn all_at(ranks: u32, moment: u64) -> Vec<Option<(u64, u64)>> {
    (0..ranks).map(|rank| Some((moment, rank.into()))).collect()
}

/// Files below a folder of the job's checkpoints.
fn files(folder: &Path, below: &str) -> Vec<std::path::PathBuf> {
    let path = folder.join(format!("jobs/{JOB}/checkpoints/{below}"));
    let mut files: Vec<_> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn all_ranks_resume_from_the_last_complete_checkpoint_though_some_have_saved_later_ones() {
    for ranks in SIZES {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(restored(ranks, folder.path()), vec![None; ranks as usize]);
        start(ranks, folder.path(), 1, |comm, _| {
            comm.checkpoint(&state(comm, 4)).unwrap();
            comm.checkpoint(&state(comm, 8)).unwrap();
            // the gang dies before the last rank has saved
            if comm.rank() + 1 < comm.size() {
                let desk = comm.context().desk();
                desk.save_part(task(comm.rank() as u64), &state(comm, 12))
                    .unwrap();
            }
        });
        let saved = files(folder.path(), "ranks/0").len();
        assert_eq!(saved, if ranks == 1 { 2 } else { 3 });
        assert_eq!(restored(ranks, folder.path()), all_at(ranks, 8));
    }
}

#[test]
fn a_damaged_part_of_one_rank_lets_all_resume_from_the_checkpoint_before() {
    for ranks in SIZES {
        let part = format!("ranks/{}", ranks / 2);
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 1, |comm, _| {
            (1..=3).for_each(|moment| comm.checkpoint(&state(comm, moment)).unwrap());
        });
        assert_eq!(files(folder.path(), &part).len(), 2, "older ones are gone");
        let newest = files(folder.path(), &part).pop().unwrap();
        std::fs::write(newest, "torn").unwrap();
        assert_eq!(restored(ranks, folder.path()), all_at(ranks, 2));
        std::fs::remove_file(&files(folder.path(), "ranks/0")[0]).unwrap();
        assert_eq!(restored(ranks, folder.path()), vec![None; ranks as usize]);
    }
}

#[test]
fn ranks_that_were_given_up_save_nothing_over_what_a_later_start_has_saved() {
    for ranks in SIZES {
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 11, |comm, _| {
            comm.checkpoint(&state(comm, 20)).unwrap();
        });
        start(ranks, folder.path(), 1, |comm, _| {
            (30..40).for_each(|moment| comm.checkpoint(&state(comm, moment)).unwrap());
        });
        assert_eq!(restored(ranks, folder.path()), all_at(ranks, 20));
    }
}

/// A state that has a byte form at some ranks only.
struct Picky(bool);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            true => serializer.serialize_u64(1),
            false => Err(S::Error::custom("not this one")),
        }
    }
}

#[test]
fn a_checkpoint_that_fails_at_one_rank_fails_at_all_and_leaves_the_one_before() {
    for ranks in SIZES {
        let odd = ranks as usize / 2;
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 1, |comm, _| {
            comm.checkpoint(&state(comm, 1)).unwrap();
            let error = comm.checkpoint(&Picky(comm.rank() != odd)).unwrap_err();
            match comm.rank() {
                own if own == odd => assert!(matches!(error, CheckpointError::Encode(_)), "{error}"),
                _ => assert!(
                    matches!(error, CheckpointError::Elsewhere { rank } if rank == odd),
                    "{error}"
                ),
            }
            comm.barrier().unwrap();
            assert_eq!(comm.restore().unwrap(), Some(state(comm, 1)));
        });
        for rank in 0..ranks {
            assert_eq!(
                files(folder.path(), &format!("ranks/{rank}")).len(),
                1,
                "rank {rank}"
            );
        }
    }
}

#[test]
fn a_state_of_another_type_at_one_rank_fails_at_all() {
    for ranks in SIZES {
        let odd = ranks as usize / 2;
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 1, |comm, _| {
            match comm.rank() {
                own if own == odd => comm.checkpoint(&1_u8).unwrap(),
                _ => comm.checkpoint(&"text".to_owned()).unwrap(),
            }
            let error = comm.restore::<String>().unwrap_err();
            match comm.rank() {
                own if own == odd => assert!(matches!(error, CheckpointError::Decode(_)), "{error}"),
                _ => assert!(
                    matches!(error, CheckpointError::Elsewhere { rank } if rank == odd),
                    "{error}"
                ),
            }
        });
    }
}

#[test]
fn a_checkpoint_is_due_at_all_ranks_once_one_is_asked_for_it() {
    for ranks in SIZES {
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 1, |comm, vault| {
            assert!(!comm.checkpoint_due().unwrap());
            if comm.rank() + 1 == comm.size() {
                vault.call();
            }
            comm.barrier().unwrap();
            assert!(comm.checkpoint_due().unwrap());
            comm.checkpoint(&0).unwrap();
            assert!(!comm.checkpoint_due().unwrap());
        });
    }
}

#[test]
fn a_checkpoint_is_of_all_ranks_or_an_error_that_says_what_is_missing() {
    for ranks in SIZES.into_iter().filter(|&ranks| ranks > 1) {
        let folder = tempfile::tempdir().unwrap();
        start(ranks, folder.path(), 1, |comm, _| {
            let half = comm.split(Some(u64::from(comm.rank() == 0)), 0).unwrap().unwrap();
            let error = half.checkpoint(&1).unwrap_err();
            assert!(
                matches!(error, CheckpointError::NotAllRanks { of, .. } if of == comm.size()),
                "{error}"
            );
            comm.duplicate().checkpoint(&state(comm, 1)).unwrap();
            assert_eq!(comm.restore().unwrap(), Some(state(comm, 1)));
            if comm.rank() + 1 == comm.size() {
                return;
            }
            let error = comm.checkpoint(&state(comm, 2)).unwrap_err();
            assert!(matches!(error, CheckpointError::Ranks(_)), "{error}");
        });
        assert_eq!(restored(ranks, folder.path()), all_at(ranks, 1));
    }
}
