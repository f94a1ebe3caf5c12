//! What `srun` and the process that keeps the ranks of its step on another node say to each other: frames of a length (`u32`,
//! little-endian) and that many bytes, by which `sbcast` talks to what receives its file, too.

use std::io;

use bytes::Bytes;
use phalanx_protocol::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::gpus::RankGpus;

/// Bytes of one frame, after its length: of the one that says what all ranks are to run.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes of one piece of what ranks read and write.
pub(super) const PIECE_BYTES: usize = 16 << 10;
/// Bytes that a rank was sent to read and has not read.
pub(super) const INPUT_WINDOW_BYTES: usize = 4 * PIECE_BYTES;

/// A rank that is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RankOrder {
    pub(super) rank: u32,
    /// The program and its arguments.
    pub(super) words: Vec<Bytes>,
    /// Where, if not where the process is that starts it.
    pub(super) directory: Option<Bytes>,
    /// Variables that are not those of that process; none is taken away.
    pub(super) environment: Vec<(Bytes, Option<Bytes>)>,
    /// It is sent what it reads; else that is nothing.
    pub(super) reads: bool,
    /// The cpus that it may use, if that is said.
    pub(super) cpus: Option<Vec<u32>>,
    /// The gpus of that node that it sees, if not all of its job.
    pub(super) gpus: Option<RankGpus>,
}

/// To the other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToFar {
    /// The first frame: all ranks, and by which name and number those of Open MPI find each other's memory.
    Start {
        ranks: Vec<RankOrder>,
        name: String,
        number: u32,
    },
    /// What a rank reads; its end if empty.
    Input(u32, Bytes),
    /// What a rank is told through its socket; its end if empty.
    Pmi(u32, Bytes),
    /// A rank is to be killed.
    Kill(u32),
    /// The ranks, and all that they have started, are to be sent a signal.
    Signal(i32),
}

/// From the other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromFar {
    /// A rank was not started, and none that follows: whether its program is not there, and the reason.
    NotStarted(u32, bool, String),
    /// What a rank writes; its end if empty.
    Output(u32, Bytes),
    /// The same of what it writes its errors to.
    Errors(u32, Bytes),
    /// A rank has read so much.
    Taken(u32, u32),
    /// It reads no more.
    Deaf(u32),
    /// What it says through its socket; its end if empty.
    Pmi(u32, Bytes),
    /// It has ended, with that status as the system words it.
    Ended(u32, i32),
}

/// Reads a frame; none at the end.
///
/// # Errors
/// As the system says, and if it is none.
pub(in crate::slurm) async fn hear<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    let said = codec::decode(&bytes);
    said.map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a frame.
///
/// # Errors
/// As the system says, and if it is too long.
pub(in crate::slurm) async fn say<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    said: &T,
) -> io::Result<()> {
    let bytes = codec::encode(said);
    if bytes.len() > FRAME_BYTES_MAX {
        let message = "the variables and arguments of its tasks are too long for one node";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.write_all(&[&length.to_le_bytes()[..], &bytes].concat()).await
}
