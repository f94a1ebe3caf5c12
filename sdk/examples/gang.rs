//! Ranks of a job, for the tests: `gang sum N`, `gang spread N NODES`, `gang restarts MARKER RETRIES`, `gang resumes NODES`,
//! `gang shrinks WHAT`, `gang respawns`.

#![expect(clippy::print_stdout, reason = "what it finds is its output")]

use std::path::PathBuf;

use phalanx::ranks::CommError;
use phalanx::{CheckpointError, Cluster, Communicator, EmbeddedOptions};

/// The sum over all ranks of what each has.
#[phalanx::ranks]
fn weigh(comm: &Communicator, factor: u64) -> Result<(usize, u64), CommError> {
    let sum = comm.all_reduce(comm.rank() as u64 * factor, |a, b| a + b)?;
    Ok((comm.rank(), sum))
}

/// How many ranks there are, on this node, and what all have together.
#[phalanx::ranks]
fn survey(comm: &Communicator, factor: u64) -> Result<(usize, usize, u64), CommError> {
    let sum = comm.all_reduce(comm.rank() as u64 * factor, |a, b| a + b)?;
    Ok((comm.size(), comm.split_by_node().size(), sum))
}

/// The last rank fails, while the others wait for it.
#[phalanx::ranks]
fn refuse(comm: &Communicator, reason: String) -> Result<u64, String> {
    if comm.rank() + 1 == comm.size() {
        return Err(reason);
    }
    comm.all_reduce(1, |a, b| a + b)
        .map_err(|error| error.to_string())
}

/// Rank 2 panics where nobody has left the marker, while the others wait for it.
#[phalanx::ranks]
fn stumble(comm: &Communicator, marker: PathBuf) -> Result<usize, String> {
    if comm.rank() == 2 && !marker.exists() {
        std::fs::write(&marker, "").map_err(|error| error.to_string())?;
        panic!("rank 2 stumbles");
    }
    if comm.rank() == 0 && comm.size() > 3 {
        // needs nobody, so it succeeds in every epoch
        return Ok(0);
    }
    let next = (comm.rank() % 3) + 1;
    comm.send(next, 1, comm.rank())
        .map_err(|error| error.to_string())?;
    let before = if comm.rank() == 1 { 3 } else { comm.rank() - 1 };
    comm.receive::<usize>(before, 1)
        .map_err(|error| error.to_string())
}

/// Sums over steps, and checkpoints after each fourth; the last rank panics in the first start of the gang at step 10. Says in
/// which start it ended, from which step on, and with what.
#[phalanx::ranks]
fn resume(comm: &Communicator) -> Result<(u32, u64, u64), CheckpointError> {
    let (from, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
    for step in from..20 {
        if step == 10 && comm.epoch() == 1 && comm.rank() + 1 == comm.size() {
            panic!("the last rank stumbles");
        }
        sum += comm.all_reduce(step + comm.context().index(), |a, b| a + b)?;
        if (step + 1) % 4 == 0 {
            comm.checkpoint(&(step + 1, sum))?;
        }
    }
    Ok((comm.epoch(), from, sum))
}

/// The last rank takes its process with it; those that are left say how many they are and what they have together, unless they
/// are told to give up.
#[phalanx::ranks]
fn survive(comm: &Communicator, what: String) -> Result<(usize, usize), CommError> {
    if comm.rank() + 1 == comm.size() {
        std::process::abort();
    }
    let sum = comm.all_reduce(comm.rank(), |a, b| a + b);
    let error = sum.err().filter(|_| what == "gives up");
    error.map_or(Ok(()), Err)?;
    comm.revoke();
    let left = comm.shrink();
    Ok((left.size(), left.all_reduce(comm.rank(), |a, b| a + b)?))
}

/// Sums over steps, and checkpoints after each fourth; the last rank takes its process with it at step 10 in the first epoch, and
/// the others go on with replacements. Says in which epoch each began, from which step each went on last, and with what it ended.
#[phalanx::ranks]
fn endure(comm: &Communicator) -> Result<(u32, u64, u64), CheckpointError> {
    let (from, sum) = add_up(comm)?;
    Ok((comm.epoch(), from, sum))
}

fn add_up(comm: &Communicator) -> Result<(u64, u64), CheckpointError> {
    let sum = || {
        let (from, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
        for step in from..20 {
            if step == 10 && comm.epoch() == 1 && comm.rank() + 1 == comm.size() {
                std::process::abort();
            }
            sum += comm.all_reduce(step + comm.context().index(), |a, b| a + b)?;
            if (step + 1) % 4 == 0 {
                comm.checkpoint(&(step + 1, sum))?;
            }
        }
        Ok((from, sum))
    };
    match sum() {
        Err(_) if !comm.failed().is_empty() => add_up(&comm.respawn()?),
        result => result,
    }
}

#[phalanx::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (workers, cpus) = match words.first() {
        Some(&"spread" | &"refuse" | &"resumes" | &"shrinks" | &"respawns") => (3, 2),
        _ => (1, 4),
    };
    let options = EmbeddedOptions {
        workers,
        cpus: Some(cpus),
        ..EmbeddedOptions::default()
    };
    let cluster = Cluster::embedded_with(&options)?;
    match *words {
        ["sum", ranks] => println!("{:?}", cluster.ranks::<weigh>(ranks.parse()?, &10).collect()?),
        ["spread", ranks, nodes] => {
            let ranks = cluster.ranks::<survey>(ranks.parse()?, &10);
            println!("{:?}", ranks.nodes(nodes.parse()?).collect()?);
        }
        ["refuse", reason] => {
            let ranks = cluster.ranks::<refuse>(4, &reason.to_owned());
            println!("{:?}", ranks.ranks_per_node(2).collect()?);
        }
        ["restarts", marker, retries] => {
            let ranks = cluster.ranks::<stumble>(4, &PathBuf::from(marker));
            println!("{:?}", ranks.retry_errors(retries.parse()?).collect()?);
        }
        ["resumes", nodes] => {
            let ranks = cluster.ranks::<resume>(2, &()).nodes(nodes.parse()?);
            println!("{:?}", ranks.retry_errors(1).collect()?);
        }
        ["shrinks", what] => {
            let ranks = cluster.ranks::<survive>(6, &what.to_owned()).nodes(3);
            println!("{:?}", ranks.shrink_on_loss().collect_survivors()?);
        }
        ["respawns"] => {
            let ranks = cluster.ranks::<endure>(4, &()).nodes(2);
            println!("{:?}", ranks.respawn_on_loss().collect()?);
        }
        _ => return Err("what?".into()),
    }
    Ok(())
}
