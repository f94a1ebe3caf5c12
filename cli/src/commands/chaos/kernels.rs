//! The kernels that run while things go wrong. Their results are known beforehand: calling them here gives the same.

use std::thread::sleep;
use std::time::Duration;

use phalanx::ranks::CommError;
use phalanx::{CheckpointError, Communicator};

/// Rounds between two checkpoints of a gang.
const ROUNDS_PER_CHECKPOINT: u64 = 10;

/// Takes some milliseconds, then returns a number that is the index's alone.
#[phalanx::kernel(reduce = u64::wrapping_add)]
pub(super) fn chaos_digest(number: u64, millis: &u64) -> u64 {
    sleep(Duration::from_millis(*millis));
    digest(number)
}

/// Ranks that pass numbers round their ring, some milliseconds a round, and then add up what they have seen. They also return the
/// epoch in which they did.
#[phalanx::ranks]
pub(super) fn chaos_ring(comm: &Communicator, (rounds, millis): (u64, u64)) -> Result<(u64, u32), String> {
    let sum = pass_round(comm, rounds, millis).map_err(|error| error.to_string())?;
    Ok((sum, comm.epoch()))
}

fn pass_round(comm: &Communicator, rounds: u64, millis: u64) -> Result<u64, CommError> {
    let (n, rank) = (comm.size(), comm.rank());
    let mut number = digest(rank as u64);
    for _ in 0..rounds {
        sleep(Duration::from_millis(millis));
        comm.send((rank + 1) % n, 0, number)?;
        number = digest(comm.receive((rank + n - 1) % n, 0)?);
    }
    comm.all_reduce(number, u64::wrapping_add)
}

/// The same by ranks that save what they have now and then, and go on from there with replacements for those that are lost.
#[phalanx::ranks]
pub(super) fn chaos_relay(
    comm: &Communicator,
    (rounds, millis): (u64, u64),
) -> Result<(u64, u32), CheckpointError> {
    match relay(comm, rounds, millis) {
        Err(_) if !comm.failed().is_empty() => chaos_relay(&comm.respawn()?, (rounds, millis)),
        result => Ok((result?, comm.epoch())),
    }
}

fn relay(comm: &Communicator, rounds: u64, millis: u64) -> Result<u64, CheckpointError> {
    let (n, rank) = (comm.size(), comm.rank());
    let (from, mut number) = comm.restore()?.unwrap_or((0, digest(rank as u64)));
    for round in from..rounds {
        sleep(Duration::from_millis(millis));
        comm.send((rank + 1) % n, 0, number)?;
        number = digest(comm.receive((rank + n - 1) % n, 0)?);
        if round % ROUNDS_PER_CHECKPOINT == 0 {
            comm.checkpoint(&(round + 1, number))?;
        }
    }
    Ok(comm.all_reduce(number, u64::wrapping_add)?)
}

/// The same by ranks that begin again without those that are lost. They return the sum, and how many they were.
#[phalanx::ranks]
pub(super) fn chaos_remnant(comm: &Communicator, (rounds, millis): (u64, u64)) -> (u64, u64) {
    let mut left = comm.duplicate();
    loop {
        match pass_round(&left, rounds, millis) {
            Ok(sum) => return (sum, left.size() as u64),
            Err(_) => {
                left.revoke();
                left = left.shrink();
            }
        }
    }
}

/// The sum that each of so many ranks returns, of whichever of these gangs.
pub(super) fn ring_sum(ranks: u64, rounds: u64) -> u64 {
    let numbers = (0..ranks).map(|rank| (0..=rounds).fold(rank, |number, _| digest(number)));
    numbers.fold(0, u64::wrapping_add)
}

/// What [`chaos_digest`] returns: SplitMix64's mixing function (Steele, Lea, Flood 2014).
pub(super) fn digest(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
