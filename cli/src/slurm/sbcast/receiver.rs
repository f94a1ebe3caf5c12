//! The end of `sbcast` on another node: a process that the host of the job has started with its standard input connected to the
//! sender. What both say is here; the sender's end is in [`super::far`].

use std::io;
use std::os::unix::net::UnixStream as Socket;

use bytes::Bytes;
use rustix::io::fcntl_dupfd_cloexec;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::copy::{Copy, CopyError, Order};
use crate::process::runtime;
use crate::slurm::step::words::{hear, say};

/// What receives there: this program, by this word.
pub(super) const RECEIVER: &str = "step-file";
/// The lowest number that the connection may have.
const OWN_FD_MIN: i32 = 3;

/// To the other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToReceiver {
    /// The first frame. [`FromReceiver::Begun`] follows.
    Begin(Order),
    /// The next bytes.
    Bytes(Bytes),
    /// That was all. [`FromReceiver::Ready`] follows.
    End,
    /// All nodes have theirs: it is to be put in its place. [`FromReceiver::Placed`] follows.
    Place,
    /// Nothing comes of it; the other end is about to close.
    Abandon,
}

/// From the other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromReceiver {
    /// Bytes are wanted, or not: another node writes to the same folder.
    Begun {
        /// Which of these it is.
        takes_bytes: bool,
    },
    /// It has all.
    Ready,
    /// It is there.
    Placed,
    /// It will not be. The last frame.
    Failed(CopyError),
}

/// Receives the file that standard input tells of; the exit code.
pub(in crate::slurm) fn run() -> u8 {
    let served = runtime().map_err(|_| io::ErrorKind::Other.into());
    let served = served.and_then(|runtime| {
        runtime.block_on(async {
            let socket = Socket::from(fcntl_dupfd_cloexec(std::io::stdin(), OWN_FD_MIN)?);
            socket.set_nonblocking(true)?;
            serve(UnixStream::from_std(socket)?).await
        })
    });
    u8::from(served.is_err())
}

/// Why nothing comes of a copy.
#[derive(Debug)]
enum Ended {
    /// The sender wants it no more, or is gone.
    Unwanted,
    Failed(CopyError),
}

impl From<CopyError> for Ended {
    fn from(error: CopyError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Unwanted
    }
}

pub(super) async fn serve(mut socket: UnixStream) -> io::Result<()> {
    match receive(&mut socket).await {
        Ok(()) => say(&mut socket, &FromReceiver::Placed).await,
        Err(Ended::Failed(error)) => say(&mut socket, &FromReceiver::Failed(error)).await,
        Err(Ended::Unwanted) => Ok(()),
    }
}

async fn receive(socket: &mut UnixStream) -> Result<(), Ended> {
    let Some(ToReceiver::Begin(order)) = hear(socket).await? else {
        return Err(Ended::Unwanted);
    };
    let mut copy = Copy::begin(&order)?;
    let takes_bytes = copy.is_some();
    say(socket, &FromReceiver::Begun { takes_bytes }).await?;
    loop {
        match (hear(socket).await?, copy.as_mut()) {
            (Some(ToReceiver::Bytes(bytes)), Some(copy)) => copy.write(&bytes)?,
            (Some(ToReceiver::Bytes(_)), None) => {}
            (Some(ToReceiver::End), copy) => {
                copy.map_or(Ok(()), Copy::finish)?;
                say(socket, &FromReceiver::Ready).await?;
            }
            (Some(ToReceiver::Place), _) => return Ok(copy.map_or(Ok(()), Copy::place)?),
            (Some(ToReceiver::Abandon | ToReceiver::Begin(_)) | None, _) => return Err(Ended::Unwanted),
        }
    }
}
