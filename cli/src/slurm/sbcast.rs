//! `sbcast`: copies a file to all nodes of the job that it runs in, whole or not at all: [`copy`] on each node; on the others
//! by a process there ([`receiver`]) to which this one is connected ([`far`]). No node puts its copy in its place before all
//! have theirs.

mod copy;
mod far;
mod receiver;

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{ArgAction, Parser};
use phalanx_protocol::hostlist;

use self::copy::{Copy, Order};
use self::far::{FarNode, FarNodes};
pub(super) use self::receiver::run as receive;
use super::step::job_nodes;
use super::{Complaint, Name, inform, words};
use crate::process::runtime;

/// Bytes that are read and sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Copies a file to all nodes of a job
#[derive(Debug, Parser)]
#[command(
    name = "sbcast",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// The file
    #[arg(value_name = "SOURCE")]
    source: PathBuf,

    /// Where it is to be on each node, absolute; a directory keeps its name
    #[arg(value_name = "DESTINATION")]
    destination: PathBuf,

    /// Replaces what is there
    #[arg(short = 'f', long)]
    force: bool,

    /// Keeps times and permissions
    #[arg(short = 'p', long)]
    preserve: bool,

    /// The job; by default the one that this runs in
    #[arg(short = 'j', long, value_name = "ID")]
    jobid: Option<String>,

    /// Accepted; what crosses the network is not compressed
    #[arg(short = 'C', long, value_name = "LIBRARY", num_args = 0..=1, require_equals = true)]
    compress: Option<Option<String>>,

    /// Accepted; each node is sent the file from here
    #[arg(short = 'F', long, value_name = "NUMBER")]
    fanout: Option<String>,

    /// Accepted
    #[arg(short = 's', long, value_name = "SIZE")]
    size: Option<String>,

    /// Accepted
    #[arg(short = 't', long, value_name = "SECONDS")]
    timeout: Option<String>,

    /// Accepted; libraries are not copied
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true)]
    send_libs: Option<Option<String>>,

    /// Says which nodes have it
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Sbcast, words)? else {
        return Ok(0);
    };
    let own = std::env::var("SLURM_JOB_ID").ok();
    let is_own = match (&arguments.jobid, &own) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(asked), Some(own)) => {
            let element = std::env::var("SLURM_ARRAY_JOB_ID")
                .ok()
                .zip(std::env::var("SLURM_ARRAY_TASK_ID").ok())
                .map(|(job, task)| format!("{job}_{task}"));
            asked == own || Some(asked) == element.as_ref()
        }
    };
    let Some(own) = own.filter(|_| is_own) else {
        return Err(Complaint::new(
            "this is not inside the job: write it into the batch script, or behind salloc",
        ));
    };
    let nodes = nodes()?;
    let (file, order) = read(&arguments, &own)?;
    runtime()?.block_on(async {
        let others = (0..).zip(&nodes).skip(1);
        let far: Result<Vec<FarNode>, Complaint> = others
            .map(|(position, name)| FarNode::start(position, name))
            .collect();
        let mut far = FarNodes { nodes: far? };
        let done = copy(file, &arguments, &order, &mut far).await;
        if done.is_err() {
            far.abandon().await;
        }
        done
    })?;
    if arguments.verbose > 0 {
        let (from, to) = (arguments.source.display(), arguments.destination.display());
        let of = hostlist::compress(&nodes);
        inform(Name::Sbcast, &format!("`{from}` is copied to `{to}` of {of}"));
    }
    Ok(0)
}

/// The names of the nodes that are to have it, this one first.
fn nodes() -> Result<Vec<String>, Complaint> {
    let list = std::env::var("SLURM_JOB_NODELIST").unwrap_or_default();
    let all = hostlist::expand(&list).unwrap_or_default();
    let reachable = job_nodes();
    match all.len() > reachable.len() {
        true => Err(Complaint::with_hint(
            format!("the other nodes of {list} cannot be reached from here"),
            "call it in the batch script itself",
        )),
        // there is one, whatever its name
        false if all.is_empty() => Ok(reachable),
        false => Ok(all),
    }
}

/// Opens the file, and says what nodes are to have of it.
fn read(arguments: &Arguments, job: &str) -> Result<(File, Order), Complaint> {
    let (source, destination) = (&arguments.source, &arguments.destination);
    if !destination.is_absolute() {
        return Err(Complaint::new(format!(
            "`{}` is not absolute: a node has no working directory; write it as in /tmp/data",
            destination.display()
        )));
    }
    let opened = File::open(source).and_then(|file| {
        let known = file.metadata()?;
        let kept = arguments
            .preserve
            .then(|| Ok((known.accessed()?, known.modified()?)));
        let kept = kept.transpose().map_err(|error: std::io::Error| error)?;
        match known.is_file() {
            true => Ok((file, known.permissions().mode(), kept)),
            false => Err(std::io::Error::other("it is no file")),
        }
    });
    let (file, mode, kept) = opened.map_err(|error| cannot_read(arguments, &error))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let order = Order {
        destination: Bytes::copy_from_slice(destination.as_os_str().as_bytes()),
        name: Bytes::copy_from_slice(source.file_name().unwrap_or_default().as_bytes()),
        token: format!("{job}-{}-{}", std::process::id(), since.as_nanos()),
        force: arguments.force,
        mode,
        kept,
    };
    Ok((file, order))
}

fn cannot_read(arguments: &Arguments, error: &std::io::Error) -> Complaint {
    Complaint::new(format!("cannot read `{}`: {error}", arguments.source.display()))
}

/// Copies the file to this node and the others; if that fails somewhere, nobody has it, and nobody has been told so.
async fn copy(
    mut file: File,
    arguments: &Arguments,
    order: &Order,
    far: &mut FarNodes,
) -> Result<(), Complaint> {
    let complain = |error: copy::CopyError| Complaint::new(error.to_string());
    let failed = |far: &FarNodes| match far.failures() {
        lines if lines.is_empty() => Ok(()),
        lines => Err(Complaint { lines, code: 1 }),
    };
    let mut here = Copy::begin(order).map_err(complain)?;
    far.begin(order).await;
    failed(far)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| cannot_read(arguments, &error))?;
        if count == 0 {
            break;
        }
        if let Some(here) = &mut here {
            here.write(&piece[..count]).map_err(complain)?;
        }
        far.send(&piece[..count]).await;
        failed(far)?;
    }
    here.as_mut().map_or(Ok(()), Copy::finish).map_err(complain)?;
    far.end().await;
    failed(far)?;
    here.map_or(Ok(()), Copy::place).map_err(complain)?;
    far.place().await;
    failed(far)
}
