//! Ranks of the SDK for the tests of the command line: `fixture_ranks RANKS RANKS_PER_NODE TRACE [fail | count | survive | endure]`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use phalanx::{CheckpointError, Cluster, Communicator};

/// Ranks agree round by round whether the file `TRACE.go` is there, and end once it is, with the sum of their numbers and how
/// many they are on their node. Each leaves a line of `TRACE` when it begins, and when an operation fails: what, the process
/// of its worker, and why.
#[phalanx::ranks]
fn rounds(comm: &Communicator, path: String) -> Result<(usize, usize), String> {
    trace(&path, "begins", "")?;
    let gate = format!("{path}.go");
    loop {
        let mine = usize::from(Path::new(&gate).exists());
        let all = comm.all_reduce(mine, |a, b| a.min(b)).map_err(|error| {
            let why = error.to_string();
            trace(&path, "fails", &why).err().unwrap_or(why)
        })?;
        if all == 1 {
            break;
        }
        sleep(Duration::from_millis(2));
    }
    let sum = comm.all_reduce(comm.rank(), |a, b| a + b);
    Ok((
        sum.map_err(|error| error.to_string())?,
        comm.split_by_node().size(),
    ))
}

/// Who a rank is, and among how many.
#[phalanx::ranks]
fn who(comm: &Communicator) -> (usize, usize) {
    (comm.rank(), comm.size())
}

/// Steps that [`count`] takes.
const STEPS: u64 = 20;

/// Ranks sum over steps, checkpoint after each fourth, and end with the sum. In the first start of the gang they checkpoint
/// after step 10, too, but the last rank waits instead: what the others have saved stays torn. Each leaves a line when it begins,
/// with its step.
#[phalanx::ranks]
fn count(comm: &Communicator, path: String) -> Result<u64, String> {
    let text = |error: CheckpointError| error.to_string();
    let (from, mut sum) = comm.restore().map_err(text)?.unwrap_or((0_u64, 0_u64));
    trace(&path, "begins", &from.to_string())?;
    for step in from + 1..=STEPS {
        let all = comm.all_reduce(step + comm.rank() as u64, |a, b| a + b);
        sum += all.map_err(|error| error.to_string())?;
        let tears = step == 10 && comm.epoch() == 1;
        if tears && comm.rank() + 1 == comm.size() {
            trace(&path, "waits", "")?;
            while !comm.context().is_cancelled() {
                sleep(Duration::from_millis(2));
            }
        }
        if tears || step % 4 == 0 {
            comm.checkpoint(&(step, sum)).map_err(text)?;
        }
    }
    Ok(sum)
}

/// Like [`rounds`], but those that are left go on without what is lost, and end with how many they are.
#[phalanx::ranks]
fn survive(comm: &Communicator, path: String) -> Result<usize, String> {
    trace(&path, "begins", &comm.rank().to_string())?;
    let gate = format!("{path}.go");
    let mut all = comm.duplicate();
    loop {
        let mine = usize::from(Path::new(&gate).exists());
        match all.all_reduce(mine, |a, b| a.min(b)) {
            Ok(1) => return Ok(all.size()),
            Ok(_) => sleep(Duration::from_millis(2)),
            Err(error) => {
                all.revoke();
                all = all.shrink();
                trace(&path, "shrinks", &error.to_string())?;
            }
        }
    }
}

/// Ranks sum over steps, checkpoint after each fourth, and go on with replacements for those that are lost. In the first epoch the
/// last rank waits at step 10, for ever. Each leaves a line when it begins, with its process and its step, and ends with the sum and
/// its process.
#[phalanx::ranks]
fn endure(comm: &Communicator, path: String) -> Result<(u64, u32), String> {
    let pid = std::process::id();
    let sum = add_up(comm, &path, true).map_err(|error| error.to_string())?;
    Ok((sum, pid))
}

fn add_up(comm: &Communicator, path: &str, begins: bool) -> Result<u64, CheckpointError> {
    let sum = || {
        let (from, mut sum) = comm.restore()?.unwrap_or((0_u64, 0_u64));
        if begins {
            let (rank, pid) = (comm.rank(), std::process::id());
            let _ = trace(path, "begins", &format!("{rank} {pid} {from}"));
        }
        for step in from + 1..=STEPS {
            if step == 10 && comm.epoch() == 1 && comm.rank() + 1 == comm.size() {
                let _ = trace(path, "waits", &std::process::id().to_string());
                while !comm.context().is_cancelled() {
                    sleep(Duration::from_millis(2));
                }
            }
            sum += comm.all_reduce(step + comm.rank() as u64, |a, b| a + b)?;
            if step % 4 == 0 {
                comm.checkpoint(&(step, sum))?;
            }
        }
        Ok(sum)
    };
    match sum() {
        Err(_) if !comm.failed().is_empty() => add_up(&comm.respawn()?, path, false),
        result => result,
    }
}

fn trace(path: &str, what: &str, why: &str) -> Result<(), String> {
    let line = format!("{what} {} {why}\n", parent_id());
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|error| error.to_string())
}

/// Prints what the ranks return.
#[phalanx::main]
#[expect(
    clippy::print_stdout,
    reason = "what the ranks return is what the test asks for"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::connect()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [ranks, per_node, path, what @ ..] = words.as_slice() else {
        return Err("RANKS RANKS_PER_NODE TRACE [fail | count | survive | endure]".into());
    };
    let (n_ranks, per_node, path) = (ranks.parse()?, per_node.parse()?, (*path).to_owned());
    match what {
        [] => {
            let ranks = cluster.ranks::<rounds>(n_ranks, &path);
            println!("{:?}", ranks.ranks_per_node(per_node).collect()?);
        }
        ["fail"] => {
            let ranks = cluster.ranks::<rounds>(n_ranks, &path).fail_on_loss();
            println!("{:?}", ranks.ranks_per_node(per_node).collect()?);
        }
        ["count"] => {
            let ranks = cluster.ranks::<count>(n_ranks, &path);
            println!("{:?}", ranks.ranks_per_node(per_node).collect()?);
        }
        ["survive"] => {
            let ranks = cluster.ranks::<survive>(n_ranks, &path).shrink_on_loss();
            println!("{:?}", ranks.ranks_per_node(per_node).collect_survivors()?);
        }
        ["endure"] => {
            let ranks = cluster.ranks::<endure>(n_ranks, &path).respawn_on_loss();
            println!("{:?}", ranks.ranks_per_node(per_node).collect()?);
        }
        _ => return Err("what?".into()),
    }
    Ok(())
}
