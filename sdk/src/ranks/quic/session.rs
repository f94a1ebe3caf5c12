//! The session with another host: sends what its link holds, and gives what comes to the inlet. It ends with a cause; the first
//! thing that a host must not send ends it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phalanx_transport::{CloseReason, Connection, ConnectionLost, FrameError, StreamReader, StreamWriter};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::inlet::{Inlet, Violation};
use super::link::{Outgoing, Transfer};
use super::wire::{Bulk, FRAME_BYTES_MAX, Frame};
use crate::ranks::delays::Delays;
use crate::ranks::gang::{Gang, Notice};
use crate::ranks::payload::Gone;

/// Bytes that are queued before they are handed to the stream.
const FLUSHED_BYTES: usize = 256 << 10;

/// From which on a delay is timed: the clock is as coarse as a millisecond, and a shorter one is a turn of the other tasks.
const TIMED_MIN: Duration = Duration::from_micros(100);

/// Why the session with a host ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// The connection ended.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The stream of frames ended, or cannot be read.
    #[error("{}", with_cause(.0))]
    Stream(FrameError),
    /// The other side sent what it must not.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Another host says that this one is lost.
    #[error("another host of the gang has lost it")]
    Told,
    /// All ranks of the gang have ended.
    #[error("all ranks have ended")]
    Finished,
}

/// The connection's end says more than the stream's.
fn with_cause(error: &FrameError) -> String {
    match error {
        FrameError::Lost(lost) => lost.to_string(),
        FrameError::TooLarge { .. }
        | FrameError::Malformed(_)
        | FrameError::Unencodable(_)
        | FrameError::Truncated { .. }
        | FrameError::Abandoned { .. }
        | FrameError::Io(_) => error.to_string(),
    }
}

impl From<FrameError> for Cause {
    fn from(error: FrameError) -> Self {
        Cause::Stream(error)
    }
}

/// The session with one host.
pub(super) struct Session {
    pub inlet: Inlet,
    pub connection: Connection,
    /// How late what comes is to be, if it is.
    pub delays: Option<Mutex<Delays>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Session(with host {})", self.inlet.host)
    }
}

impl Session {
    /// Goes on until the connection ends or has to be ended.
    pub(super) async fn run(self: Arc<Self>, writer: StreamWriter, reader: StreamReader) -> Cause {
        // the first to end names the cause
        let ended = tokio::select! {
            ended = self.read(reader) => ended,
            ended = self.take_bulk() => ended,
            ended = self.write(writer) => ended,
        };
        let cause = ended.err().unwrap_or(Cause::Finished);
        match &cause {
            Cause::Violation(violation) => {
                let text = violation.to_string();
                self.connection.close(CloseReason::ProtocolViolation, &text);
            }
            Cause::Finished => self.connection.close(CloseReason::Done, ""),
            Cause::Told => self.connection.close(CloseReason::Refused, "given up as lost"),
            Cause::Lost(_) | Cause::Stream(_) => self.connection.close(CloseReason::Internal, ""),
        }
        cause
    }

    async fn write(&self, mut writer: StreamWriter) -> Result<(), Cause> {
        let mut transfers = JoinSet::new();
        writer.set_priority(1);
        while let Some(batch) = self.inlet.link.outgoing().await {
            for outgoing in batch {
                match outgoing {
                    Outgoing::Frame(frame) => writer.queue(&frame)?,
                    Outgoing::Eager(head, bytes) => writer.queue_parts(&Frame::Eager(head), &bytes)?,
                    Outgoing::Bulk(bulk, bytes) => {
                        transfers.spawn(send_bulk(self.connection.clone(), bulk, bytes));
                    }
                }
                if writer.queued_bytes() >= FLUSHED_BYTES {
                    writer.flush().await?;
                }
            }
            writer.flush().await?;
            // those that have failed did so with the connection
            while transfers.try_join_next().is_some() {}
        }
        match self.inlet.link.is_closed() {
            true => Err(Cause::Told),
            false => Ok(writer.delivered().await?),
        }
    }

    async fn read(&self, mut reader: StreamReader) -> Result<(), Cause> {
        while let Some(frame) = reader.recv_bytes().await? {
            // whatever comes behind it waits, too
            self.delay().await;
            self.inlet.take(&frame)?;
        }
        Ok(self.inlet.end()?)
    }

    /// Waits for as long as what has come is to be late.
    async fn delay(&self) {
        let Some(delays) = &self.delays else { return };
        let delay = delays.lock().unwrap_or_else(PoisonError::into_inner).next();
        match delay < TIMED_MIN {
            true => yield_now().await,
            false => sleep(delay).await,
        }
    }

    async fn take_bulk(self: &Arc<Self>) -> Result<(), Cause> {
        let mut transfers: JoinSet<Result<(), Cause>> = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni(FRAME_BYTES_MAX) => {
                    let (session, stream) = (Arc::clone(self), stream?);
                    transfers.spawn(async move { session.receive_bulk(stream).await });
                }
                Some(ended) = transfers.join_next() => match ended {
                    Ok(ended) => ended?,
                    // never aborted while this goes on, so this is a panic: pass it on
                    Err(error) => if let Ok(panic) = error.try_into_panic() { std::panic::resume_unwind(panic) },
                },
            }
        }
    }

    /// Receives a large message that was asked for, and rings for its receiver.
    async fn receive_bulk(&self, mut reader: StreamReader) -> Result<(), Cause> {
        let Some(Bulk { id }) = reader.recv().await? else {
            return Err(Violation::Malformed.into());
        };
        let transfer = self.inlet.link.arriving(id);
        let transfer = transfer.ok_or(Violation::UnknownMessage { id })?;
        // whatever becomes of this, its receiver does not wait for ever
        let arriving = Arriving {
            gang: Arc::clone(&self.inlet.gang),
            transfer,
        };
        let bytes = reader.recv_rest(arriving.transfer.bytes).await?;
        self.delay().await;
        arriving.transfer.end(Ok(bytes));
        Ok(())
    }
}

async fn send_bulk(connection: Connection, bulk: Bulk, bytes: Bytes) -> Result<(), Cause> {
    let mut writer = connection.open_uni(FRAME_BYTES_MAX).await?;
    writer.queue(&bulk)?;
    Ok(writer.send_rest(bytes).await?)
}

/// A message that arrives: its end rings for the receiver.
struct Arriving {
    gang: Arc<Gang>,
    transfer: Arc<Transfer>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // counts only if it has not arrived
        self.transfer.end(Err(Gone));
        let place = self.transfer.to;
        self.gang.apply(Notice::Room { place });
    }
}
