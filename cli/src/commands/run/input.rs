//! This process's standard input, sent to the one task of a job, or to the ranks of a step, as it comes.

use std::io::Read;
use std::os::fd::AsFd;
use std::thread;

use bytes::Bytes;
use phalanx::{Client, ClientError};
use phalanx_protocol::JobId;
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::limits::INPUT_PIECE_BYTES_MAX;
use phalanx_protocol::message::client::{InputPiece, Refusal};
use tokio::sync::mpsc;

use crate::ui::error::CliError;

/// Pieces that are read ahead of what the cluster has taken.
const PIECES_AHEAD_MAX: usize = 2;
/// The null device, which has nothing to read: its major and minor number.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Standard input, being read.
#[derive(Debug)]
pub(crate) struct Input {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
}

/// Whether there may be anything to read: not from the null device, nor from a terminal that is another's now.
pub(crate) fn is_there() -> bool {
    let stdin = std::io::stdin();
    let Ok(stat) = rustix::fs::fstat(&stdin) else {
        return false;
    };
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let is_character =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if is_character && device == NULL_DEVICE {
        return false;
    }
    // whoever reads from the terminal in the background is stopped
    match rustix::termios::tcgetpgrp(stdin.as_fd()) {
        Ok(foreground) => foreground == rustix::process::getpgrp(),
        Err(_) => true,
    }
}

impl Input {
    /// Begins to read. The thread that does cannot be woken, and ends with the process.
    pub(crate) fn start() -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buffer = vec![0; INPUT_PIECE_BYTES_MAX];
            loop {
                let read = match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let is_over = read.is_err();
                if sender.blocking_send(read).is_err() || is_over {
                    return;
                }
            }
        });
        Self { pieces }
    }

    /// The next piece; an empty one at the end.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) async fn next(&mut self) -> std::io::Result<Bytes> {
        self.pieces.recv().await.unwrap_or_else(|| Ok(Bytes::new()))
    }

    /// Sends all that is read to a job, and that it ends. What is left when the job is over is nobody's.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the cluster does not take it: the task has not got all of it, and waits for more.
    pub(super) async fn send(&mut self, client: &Client, job: JobId) -> Result<(), CliError> {
        let mut offset = 0;
        loop {
            let bytes = self.next().await.map_err(|error| {
                let what = format!("cannot read standard input: {error}");
                CliError::new(ExitCode::Internal, what)
            })?;
            let is_last = bytes.is_empty();
            let length = bytes.len() as u64;
            let piece = InputPiece {
                job,
                offset,
                bytes,
                is_last,
            };
            match client.send_input(piece).await {
                Ok(()) => {}
                Err(ClientError::Refused(Refusal::Over(_))) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if is_last {
                return Ok(());
            }
            offset += length;
        }
    }
}
