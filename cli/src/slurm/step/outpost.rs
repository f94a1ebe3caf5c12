//! The ranks of a step on another node than its launcher: started there by this process, which the host of the job has started
//! with its standard input connected to the launcher. It starts what that says, carries what the ranks read and write, and
//! ends with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use phalanx_pmi::OpenMpi;
use phalanx_protocol::step::PASSED_ON;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::SignalKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cpus::spawn_on;
use super::ignored;
use super::words::{FromFar, PIECE_BYTES, RankOrder, ToFar, hear, say};
use crate::process::runtime;

/// Frames that wait to be sent.
const FRAMES_MAX: usize = 64;
/// How long what ranks have left behind may go on writing once all of them have ended.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// The lowest number that the connection may have: not one that ranks have.
const OWN_FD_MIN: i32 = 3;

/// Keeps the ranks of which it is told on standard input, until all have ended or nobody is there any more; its exit code.
pub(in crate::slurm) fn run() -> u8 {
    let served = runtime().map_err(|_| io::ErrorKind::Other.into());
    let served = served.and_then(|runtime| {
        let ended = runtime.block_on(async {
            let _told =
                ignored(PASSED_ON.map(SignalKind::from_raw)).map_err(|_| io::ErrorKind::Unsupported)?;
            let own = fcntl_dupfd_cloexec(std::io::stdin(), OWN_FD_MIN)?;
            let socket = Socket::from(own);
            socket.set_nonblocking(true)?;
            serve(UnixStream::from_std(socket)?).await
        });
        // what still waits to be read or written concerns nobody
        runtime.shutdown_background();
        ended
    });
    u8::from(served.is_err())
}

/// What is known of a rank that runs.
struct Rank {
    input: Option<mpsc::UnboundedSender<Bytes>>,
    pmi: Option<OwnedWriteHalf>,
    kill: Option<oneshot::Sender<()>>,
}

type Say = mpsc::Sender<FromFar>;

/// What goes on for ranks.
#[derive(Debug, Default)]
struct Tasks {
    /// Each until a rank has ended.
    living: JoinSet<()>,
    /// Each while a rank writes.
    writing: JoinSet<()>,
    /// What nobody waits for.
    beside: JoinSet<()>,
}

async fn serve(socket: UnixStream) -> io::Result<()> {
    let (mut from, mut to) = socket.into_split();
    let (tell, mut told) = mpsc::channel(FRAMES_MAX);
    let sending = tokio::spawn(async move {
        while let Some(said) = told.recv().await {
            say(&mut to, &said).await?;
        }
        Ok::<_, io::Error>(())
    });
    let Some(ToFar::Start { ranks, name, number }) = hear(&mut from).await? else {
        return Ok(());
    };
    let open_mpi = OpenMpi::find(&format!("{name}-{}", std::process::id()), number);
    // what ranks are sent is bounded by windows
    let (hearing, mut heard) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(async move {
        while let Ok(Some(said)) = hear::<ToFar>(&mut from).await {
            if hearing.send(said).await.is_err() {
                return;
            }
        }
    });
    let mut tasks = Tasks::default();
    let mut known = BTreeMap::new();
    for order in &ranks {
        match start(order, open_mpi.as_ref(), &tell, &mut tasks) {
            Ok(rank) => drop(known.insert(order.rank, rank)),
            Err(error) => {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let why = error.to_string();
                let _ = tell.send(FromFar::NotStarted(order.rank, is_missing, why)).await;
                break;
            }
        }
    }
    loop {
        tokio::select! {
            ended = tasks.living.join_next() => if ended.is_none() { break },
            said = heard.recv() => match said {
                Some(said) => obey(said, &mut known).await,
                // ends this process too
                None => {
                    let _ = kill_process_group(getpgrp(), Signal::KILL);
                    return Ok(());
                }
            },
        }
    }
    let _ = timeout(OUTPUT_WAIT, async {
        while tasks.writing.join_next().await.is_some() {}
    })
    .await;
    // what ranks have left behind may hold their other ends
    tasks.writing.shutdown().await;
    tasks.beside.shutdown().await;
    drop((known, tell));
    sending.await.map_err(io::Error::other)?
}

async fn obey(said: ToFar, known: &mut BTreeMap<u32, Rank>) {
    match said {
        ToFar::Input(rank, bytes) => {
            if let Some(rank) = known.get_mut(&rank) {
                match bytes.is_empty() {
                    true => rank.input = None,
                    // it may read no more
                    false => drop(rank.input.as_ref().map(|input| input.send(bytes))),
                }
            }
        }
        ToFar::Pmi(rank, bytes) => {
            let rank = known.get_mut(&rank);
            if let Some((rank, mut end)) = rank.and_then(|rank| rank.pmi.take().map(|end| (rank, end)))
                && !bytes.is_empty()
                && end.write_all(&bytes).await.is_ok()
            {
                rank.pmi = Some(end);
            }
        }
        ToFar::Kill(rank) => {
            let kill = known.get_mut(&rank).and_then(|rank| rank.kill.take());
            // it may have ended
            let _ = kill.map(|kill| kill.send(()));
        }
        ToFar::Signal(number) => {
            if let Some(signal) = Signal::from_named_raw(number) {
                // this process only listens to those that are passed on
                let _ = kill_process_group(getpgrp(), signal);
            }
        }
        ToFar::Start { .. } => {}
    }
}

/// Starts a rank, and what carries its bytes.
fn start(order: &RankOrder, open_mpi: Option<&OpenMpi>, tell: &Say, tasks: &mut Tasks) -> io::Result<Rank> {
    let text = |bytes: &Bytes| OsStr::from_bytes(bytes).to_owned();
    let mut words = order.words.iter().map(text);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).kill_on_drop(true);
    if let Some(directory) = &order.directory {
        command.current_dir(text(directory));
    }
    if let Some(gpus) = &order.gpus {
        gpus.tell(&mut command);
    }
    for (name, value) in &order.environment {
        match value {
            Some(value) => command.env(text(name), text(value)),
            None => command.env_remove(text(name)),
        };
    }
    if let Some(open_mpi) = open_mpi {
        command.envs(open_mpi.variables());
    }
    let (near, far) = Socket::pair()?;
    command.env("PMI_FD", far.as_raw_fd().to_string());
    command.stdin(if order.reads {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    phalanx::tell_own_pid(command.as_std_mut(), "SLURM_TASK_PID")?;
    let far = OwnedFd::from(far);
    fcntl_setfd(&far, FdFlags::empty())?;
    let started = spawn_on(order.cpus.as_deref(), true, &mut command);
    drop(far);
    let mut child = started?;
    near.set_nonblocking(true)?;
    let (pmi_from, pmi) = UnixStream::from_std(near)?.into_split();
    let rank = order.rank;
    tasks.beside.spawn(carry(pmi_from, tell.clone(), move |bytes| {
        FromFar::Pmi(rank, bytes)
    }));
    if let Some(output) = child.stdout.take() {
        tasks.writing.spawn(carry(output, tell.clone(), move |bytes| {
            FromFar::Output(rank, bytes)
        }));
    }
    if let Some(errors) = child.stderr.take() {
        tasks.writing.spawn(carry(errors, tell.clone(), move |bytes| {
            FromFar::Errors(rank, bytes)
        }));
    }
    let input = child.stdin.take().map(|stdin| {
        // the launcher sends no more than a window ahead
        let (input, pieces) = mpsc::unbounded_channel();
        tasks.beside.spawn(feed(rank, stdin, pieces, tell.clone()));
        input
    });
    let (kill, killed) = oneshot::channel();
    tasks.living.spawn(outlive(rank, child, killed, tell.clone()));
    Ok(Rank {
        input,
        pmi: Some(pmi),
        kill: Some(kill),
    })
}

/// Sends on what is read, and its end.
async fn carry(mut from: impl AsyncRead + Unpin, tell: Say, word: impl Fn(Bytes) -> FromFar) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let bytes = Bytes::copy_from_slice(&piece[..count]);
        if tell.send(word(bytes)).await.is_err() {
            return;
        }
    }
    let _ = tell.send(word(Bytes::new())).await;
}

/// Gives a rank what it is to read.
async fn feed(rank: u32, mut stdin: ChildStdin, mut pieces: mpsc::UnboundedReceiver<Bytes>, tell: Say) {
    while let Some(piece) = pieces.recv().await {
        if stdin.write_all(&piece).await.is_err() {
            let _ = tell.send(FromFar::Deaf(rank)).await;
            return;
        }
        let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        if tell.send(FromFar::Taken(rank, count)).await.is_err() {
            return;
        }
    }
}

/// Waits for the end of a rank, which may be asked for, and tells of it.
async fn outlive(rank: u32, mut child: Child, killed: oneshot::Receiver<()>, tell: Say) {
    let ended = tokio::select! {
        status = child.wait() => status,
        Ok(()) = killed => {
            // it may just have ended
            let _ = child.start_kill();
            child.wait().await
        }
    };
    // one that cannot be waited for is gone
    let status = ended.map_or(Signal::KILL.as_raw(), |status| status.into_raw());
    let _ = tell.send(FromFar::Ended(rank, status)).await;
}
