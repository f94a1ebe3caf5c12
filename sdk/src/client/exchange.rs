//! One stream with a scheduler: the request, its answer, and whether its failure is worth another attempt.

use std::time::Duration;

use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_transport::{CloseReason, ConnectionLost, FrameError, StreamReader};
use tokio::time::Instant;

use super::link::Link;
use crate::error::{ClientError, Interruption, ProtocolError};

/// Why an exchange gave no answer.
#[derive(Debug)]
pub(super) enum Cut {
    /// Another attempt may succeed.
    Retry(Interruption),
    /// Whoever was asked does not lead; another attempt may succeed where it says that the leader is.
    SentOn(Vec<String>),
    /// None will.
    Final(ClientError),
}

impl From<FrameError> for Cut {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Lost(ConnectionLost::Closed { reason, .. }) | FrameError::Abandoned { reason }
                if is_unwanted(reason) =>
            {
                Self::Final(ClientError::Ended(error))
            }
            FrameError::TooLarge { .. } | FrameError::Malformed(_) | FrameError::Unencodable(_) => {
                Self::Final(ClientError::Protocol(ProtocolError::Frame(error)))
            }
            FrameError::Truncated { .. }
            | FrameError::Abandoned { .. }
            | FrameError::Lost(_)
            | FrameError::Io(_) => Self::Retry(Interruption::Stream(error)),
        }
    }
}

impl From<ConnectionLost> for Cut {
    fn from(lost: ConnectionLost) -> Self {
        FrameError::Lost(lost).into()
    }
}

/// Whether the same request would be ended for the same reason again.
fn is_unwanted(reason: CloseReason) -> bool {
    match reason {
        CloseReason::Refused | CloseReason::ProtocolViolation => true,
        CloseReason::Dropped
        | CloseReason::Done
        | CloseReason::Shutdown
        | CloseReason::Busy
        | CloseReason::Superseded
        | CloseReason::NotLeader
        | CloseReason::Cancelled
        | CloseReason::Internal
        | CloseReason::Other(_) => false,
    }
}

/// Opens a stream and asks on it; answers have at most `frame_bytes_max` bytes.
pub(super) async fn open(
    link: &Link,
    request: &Request,
    frame_bytes_max: usize,
) -> Result<StreamReader, Cut> {
    let (mut writer, reader) = link.connection.open_bi(frame_bytes_max).await?;
    writer.send(request).await?;
    writer.finish().await?;
    Ok(reader)
}

/// Receives one answer; a refusal is none. Cancel safe.
pub(super) async fn receive(link: &Link, reader: &mut StreamReader) -> Result<Reply, Cut> {
    match reader.recv().await? {
        None => Err(Cut::Retry(Interruption::NoAnswer)),
        Some(Reply::Refused(Refusal::NotLeader { leader })) => Err(Cut::SentOn(leader)),
        Some(Reply::Refused(refusal)) => {
            link.mark_useful();
            Err(Cut::Final(ClientError::Refused(refusal)))
        }
        Some(reply) => {
            link.mark_useful();
            Ok(reply)
        }
    }
}

/// Asks once for one answer, which may be as long as a list of all jobs.
pub(super) async fn ask_once(link: &Link, request: &Request) -> Result<Reply, Cut> {
    let mut reader = open(link, request, DATA_FRAME_BYTES_MAX).await?;
    receive(link, &mut reader).await
}

/// How long a request still goes on. Patience begins with an interruption, and begins anew with one that follows an
/// answer or comes long after the last.
#[derive(Debug)]
pub(super) struct Retry {
    patience: Duration,
    deadline: Option<Instant>,
    last_interruption: Option<Instant>,
}

impl Retry {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            deadline: None,
            last_interruption: None,
        }
    }

    /// When patience is over, if it began now or earlier.
    pub(super) fn deadline(&mut self) -> Instant {
        *self
            .deadline
            .get_or_insert_with(|| Instant::now() + self.patience)
    }

    /// Says that something new was answered.
    pub(super) fn answered(&mut self) {
        self.deadline = None;
    }

    /// Allows another attempt, unless patience is over.
    pub(super) fn again(&mut self, cause: Interruption) -> Result<(), ClientError> {
        let now = Instant::now();
        let last = self.last_interruption.replace(now);
        if last.is_some_and(|last| now - last > self.patience) {
            // a stream was open in between, however silent
            self.deadline = None;
        }
        match now < self.deadline() {
            true => Ok(()),
            false => Err(self.lost(cause)),
        }
    }

    pub(super) fn lost(&self, cause: Interruption) -> ClientError {
        ClientError::Lost {
            patience: self.patience,
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_ends_in_a_row_of_interruptions_only() {
        let mut retry = Retry::new(Duration::from_secs(30));
        let mut after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            retry.again(Interruption::NoAnswer).is_ok()
        };
        assert!(after(0).await && after(20).await);
        assert!(!after(11).await, "31 s of interruptions");
        assert!(after(3600).await, "an hour of silence is no interruption");
        assert!(!after(30).await);
        retry.answered();
        assert!(retry.again(Interruption::NoAnswer).is_ok());
    }
}
