//! The two halves of a stream: quinn's, whose errors say why the connection was lost in this crate's words.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CloseReason, Shared, StreamReader, StreamWriter};
use crate::frame::FrameError;

/// The sending half of a stream; its io errors hold a [`ConnectionLost`](crate::ConnectionLost) if that is the cause.
pub struct SendHalf {
    stream: quinn::SendStream,
    connection: Arc<Shared>,
}

/// The receiving half of a stream; its io errors hold a [`ConnectionLost`](crate::ConnectionLost) if that is the cause.
pub struct RecvHalf {
    stream: quinn::RecvStream,
    connection: Arc<Shared>,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream, connection: Arc<Shared>) -> Self {
        Self { stream, connection }
    }
}

impl RecvHalf {
    pub(super) fn new(stream: quinn::RecvStream, connection: Arc<Shared>) -> Self {
        Self { stream, connection }
    }
}

impl Shared {
    /// Says why the connection was lost, if that is why a stream failed.
    fn word(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref();
        let lost = if let Some(quinn::ReadError::ConnectionLost(lost)) =
            inner.and_then(|inner| inner.downcast_ref())
        {
            lost
        } else if let Some(quinn::WriteError::ConnectionLost(lost)) =
            inner.and_then(|inner| inner.downcast_ref())
        {
            lost
        } else {
            return error;
        };
        io::Error::new(error.kind(), self.lost(lost.clone()))
    }

    fn worded<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        outcome.map_err(|error| self.word(error))
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes);
        self.connection.worded(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx);
        self.connection.worded(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx);
        self.connection.worded(shut)
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buffer);
        self.connection.worded(read)
    }
}

impl std::fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendHalf({})", self.stream.id())
    }
}

impl std::fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvHalf({})", self.stream.id())
    }
}

impl StreamWriter {
    /// Finishes the stream and waits until the peer's machine has all of it. The peer's program may not have read it yet.
    ///
    /// # Errors
    /// [`FrameError`] if the connection ends or the peer stops the stream first.
    pub async fn delivered(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        let half = self.stream_mut();
        // an error means that the stream is finished already
        let _ = half.stream.finish();
        match half.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(FrameError::Abandoned {
                reason: CloseReason::from_code(code.into_inner()),
            }),
            Err(quinn::StoppedError::ConnectionLost(lost)) => {
                Err(FrameError::Lost(half.connection.lost(lost)))
            }
            Err(error @ quinn::StoppedError::ZeroRttRejected) => Err(FrameError::Io(error.into())),
        }
    }

    /// Sends `bytes` as they are behind the frames so far, and finishes the stream; the reader takes them with
    /// `recv_rest`. They are not copied.
    ///
    /// # Errors
    /// [`FrameError::Lost`], [`FrameError::Abandoned`] or [`FrameError::Io`].
    pub async fn send_rest(mut self, bytes: Bytes) -> Result<(), FrameError> {
        self.flush().await?;
        let half = self.stream_mut();
        let written = half.stream.write_chunk(bytes).await;
        written.map_err(|error| half.connection.word(error.into()))?;
        // an error means that the peer wants no more of it
        let _ = half.stream.finish();
        Ok(())
    }

    /// Gives the stream up: the peer's reader gets [`FrameError::Abandoned`] instead of a clean end.
    pub fn abandon(mut self, reason: CloseReason) {
        // fails only if the stream has ended already, which is what is asked for
        let _ = self.stream_mut().stream.reset(reason.to_varint());
    }

    /// Sets how this stream ranks among those of the connection that have bytes to send; 0 unless set, higher first.
    pub fn set_priority(&mut self, priority: i32) {
        // fails only on a stream that has ended, where it has no meaning
        let _ = self.stream_mut().stream.set_priority(priority);
    }
}

impl StreamReader {
    /// Tells the peer to send no more on this stream: its writer gets [`FrameError::Abandoned`].
    pub fn abandon(mut self, reason: CloseReason) {
        // fails only if the stream has ended already, which is what is asked for
        let _ = self.stream_mut().stream.stop(reason.to_varint());
    }
}
