//! The ranks of a step that are on another node, as their launcher sees them: it has them started by the hosts of its job, and
//! carries what they read, write and ask by the one connection that they all share.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::step::{StepProgram, StepReach};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::lease::{LeaseError, reach};
use super::words::{FromFar, INPUT_WINDOW_BYTES, PIECE_BYTES, RankOrder, ToFar, hear, say};

/// What starts ranks on the other node: this program, by this word.
pub(super) const OUTPOST: &str = "step-ranks";
/// Bytes of a rank's output that are read before somebody takes them.
const OUTPUT_BYTES: usize = 4 * PIECE_BYTES;

/// Tells the other node something. What is said is bounded by what ranks may be sent ahead, and by what they ask.
pub(super) type Say = mpsc::UnboundedSender<ToFar>;

/// How a rank elsewhere ended, if not with a status.
#[derive(Debug, thiserror::Error)]
pub(super) enum FarError {
    /// Its program is not there.
    #[error("{0}")]
    NotFound(String),
    /// It could not be started.
    #[error("{0}")]
    NotStarted(String),
    /// Its node is gone, or cannot be reached.
    #[error("its node is lost")]
    Lost,
}

/// A rank on another node.
#[derive(Debug)]
pub(super) struct FarRank {
    rank: u32,
    say: Say,
    ended: oneshot::Receiver<Result<ExitStatus, FarError>>,
}

impl FarRank {
    /// Waits for its end. Cancel safe.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, FarError> {
        (&mut self.ended).await.unwrap_or(Err(FarError::Lost))
    }

    /// Has it killed.
    pub(super) fn kill(&self) {
        // whoever is gone has killed it
        let _ = self.say.send(ToFar::Kill(self.rank));
    }
}

/// What a rank on another node is given to read.
#[derive(Debug)]
pub(super) struct FarInput {
    rank: u32,
    say: Say,
    room: Arc<Semaphore>,
}

impl FarInput {
    /// Sends it all of that, as it reads it; whether it still does.
    pub(super) async fn write_all(&mut self, piece: &[u8]) -> bool {
        for part in piece.chunks(PIECE_BYTES) {
            let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let Ok(room) = self.room.acquire_many(count).await else {
                return false;
            };
            room.forget();
            let said = ToFar::Input(self.rank, Bytes::copy_from_slice(part));
            if self.say.send(said).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for FarInput {
    fn drop(&mut self) {
        // the end of what it reads
        let _ = self.say.send(ToFar::Input(self.rank, Bytes::new()));
    }
}

/// What there is of a rank on another node.
#[derive(Debug)]
pub(super) struct FarEnds {
    pub(super) rank: FarRank,
    pub(super) input: Option<FarInput>,
    pub(super) output: DuplexStream,
    pub(super) errors: DuplexStream,
}

/// A rank that is to be started there.
pub(super) struct FarStart {
    pub(super) order: RankOrder,
    /// Its end of the exchange by which MPI libraries find each other.
    pub(super) pmi: Option<OwnedFd>,
}

/// One of the other nodes of a step.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) say: Say,
    /// Ends with this.
    _carrying: JoinSet<()>,
}

/// What of a rank is needed to give it what comes from it.
struct Known {
    output: Option<DuplexStream>,
    errors: Option<DuplexStream>,
    pmi: Option<OwnedWriteHalf>,
    room: Arc<Semaphore>,
    ended: Option<oneshot::Sender<Result<ExitStatus, FarError>>>,
}

/// A program with its variables as an order for another node.
pub(super) fn order(rank: u32, command: &Command, reads: bool, cpus: Option<Vec<u32>>) -> RankOrder {
    let bytes = |text: &std::ffi::OsStr| Bytes::copy_from_slice(text.as_bytes());
    let command = command.as_std();
    let program = std::iter::once(command.get_program());
    RankOrder {
        rank,
        words: program.chain(command.get_args()).map(bytes).collect(),
        directory: command.get_current_dir().map(|path| bytes(path.as_os_str())),
        environment: command
            .get_envs()
            .map(|(name, value)| (bytes(name), value.map(bytes)))
            .collect(),
        reads,
        cpus,
        gpus: None,
    }
}

/// Connects to a node of the job of that task, where this program is started by that word in that directory.
///
/// # Errors
/// [`LeaseError`].
pub(in crate::slurm) fn connect(
    task: u64,
    node: u32,
    word: &str,
    directory: &Path,
) -> Result<Socket, LeaseError> {
    let bytes = |text: &std::ffi::OsStr| Bytes::copy_from_slice(text.as_bytes());
    let program = std::env::current_exe()?;
    let request = StepReach {
        task,
        node,
        program: StepProgram {
            words: vec![bytes(program.as_os_str()), bytes(word.as_ref())],
            environment: std::env::vars_os()
                .map(|(name, value)| (bytes(&name), bytes(&value)))
                .collect(),
            directory: bytes(directory.as_os_str()),
        },
    };
    reach(&request)
}

impl Far {
    /// Has ranks started by whoever is at the other end. `name` and `number` are for Open MPI.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn start(
        socket: Socket,
        ranks: Vec<FarStart>,
        (name, number): (String, u32),
    ) -> io::Result<(Self, Vec<FarEnds>)> {
        socket.set_nonblocking(true)?;
        let (from, mut to) = UnixStream::from_std(socket)?.into_split();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            while let Some(said) = told.recv().await {
                if say(&mut to, &said).await.is_err() {
                    return;
                }
            }
        });
        let (mut ends, mut known, mut orders) = (Vec::new(), BTreeMap::new(), Vec::new());
        for start in ranks {
            let rank = start.order.rank;
            let (output, output_to) = duplex(OUTPUT_BYTES);
            let (errors, errors_to) = duplex(OUTPUT_BYTES);
            let room = Arc::new(Semaphore::new(INPUT_WINDOW_BYTES));
            let (ended, waiting) = oneshot::channel();
            let pmi = start
                .pmi
                .map(|end| listen(rank, end, &tell, &mut carrying))
                .transpose()?;
            ends.push(FarEnds {
                rank: FarRank {
                    rank,
                    say: tell.clone(),
                    ended: waiting,
                },
                input: start.order.reads.then(|| FarInput {
                    rank,
                    say: tell.clone(),
                    room: Arc::clone(&room),
                }),
                output,
                errors,
            });
            let of_rank = Known {
                output: Some(output_to),
                errors: Some(errors_to),
                pmi,
                room,
                ended: Some(ended),
            };
            known.insert(rank, of_rank);
            orders.push(start.order);
        }
        // its receiver is there
        let _ = tell.send(ToFar::Start {
            ranks: orders,
            name,
            number,
        });
        carrying.spawn(take_in(from, known));
        let far = Self {
            say: tell,
            _carrying: carrying,
        };
        Ok((far, ends))
    }
}

/// Passes on what the exchange says to a rank; gives the end by which the rank is heard.
fn listen(rank: u32, end: OwnedFd, say: &Say, carrying: &mut JoinSet<()>) -> io::Result<OwnedWriteHalf> {
    let socket = Socket::from(end);
    socket.set_nonblocking(true)?;
    let (mut from, to) = UnixStream::from_std(socket)?.into_split();
    let say = say.clone();
    carrying.spawn(async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let said = ToFar::Pmi(rank, Bytes::copy_from_slice(&piece[..count]));
            if say.send(said).is_err() {
                return;
            }
        }
        let _ = say.send(ToFar::Pmi(rank, Bytes::new()));
    });
    Ok(to)
}

/// Gives out what comes from the other node, to its end. Ranks that have not ended by then are lost.
async fn take_in(mut from: OwnedReadHalf, mut known: BTreeMap<u32, Known>) {
    while let Ok(Some(said)) = hear::<FromFar>(&mut from).await {
        let rank = match said {
            FromFar::NotStarted(rank, ..)
            | FromFar::Output(rank, _)
            | FromFar::Errors(rank, _)
            | FromFar::Taken(rank, _)
            | FromFar::Deaf(rank)
            | FromFar::Pmi(rank, _)
            | FromFar::Ended(rank, _) => rank,
        };
        if let Some(known) = known.get_mut(&rank) {
            known.take_in(said).await;
        }
    }
}

impl Known {
    async fn take_in(&mut self, said: FromFar) {
        match said {
            FromFar::NotStarted(_, true, why) => self.end(Err(FarError::NotFound(why))),
            FromFar::NotStarted(_, false, why) => self.end(Err(FarError::NotStarted(why))),
            FromFar::Output(_, bytes) => write(&mut self.output, &bytes).await,
            FromFar::Errors(_, bytes) => write(&mut self.errors, &bytes).await,
            FromFar::Taken(_, count) => self.room.add_permits(count as usize),
            FromFar::Deaf(_) => self.room.close(),
            FromFar::Pmi(_, bytes) => write(&mut self.pmi, &bytes).await,
            FromFar::Ended(_, status) => self.end(Ok(ExitStatus::from_raw(status))),
        }
    }

    fn end(&mut self, how: Result<ExitStatus, FarError>) {
        self.room.close();
        // nobody waits for a rank twice
        let _ = self.ended.take().map(|ended| ended.send(how));
    }
}

/// Writes a piece, or the end; who takes no more gets no more.
async fn write(to: &mut Option<impl AsyncWriteExt + Unpin>, bytes: &[u8]) {
    let Some(writer) = to else { return };
    if bytes.is_empty() || writer.write_all(bytes).await.is_err() {
        *to = None;
    }
}
