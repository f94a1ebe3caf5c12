//! Ranks of the SDK for the tests of the command line: `fixture_ranks RANKS RANKS_PER_NODE TRACE`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use phalanx::{Cluster, Communicator};

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
    let [ranks, per_node, path] = words.as_slice() else {
        return Err("RANKS RANKS_PER_NODE TRACE".into());
    };
    let ranks = cluster.ranks::<rounds>(ranks.parse()?, path);
    println!("{:?}", ranks.ranks_per_node(per_node.parse()?).collect()?);
    Ok(())
}
