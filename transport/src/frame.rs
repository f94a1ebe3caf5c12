//! Frames on a byte stream: a length (u32, little endian), then that many bytes.
//!
//! The limit is checked on the header, before anything is allocated for the payload, and the buffer then grows with
//! what has arrived and not with what was promised. Writers check the same limit, so that a frame which the peer would
//! refuse is an error here. Both halves keep what is unfinished inside themselves, so both may be used in
//! `tokio::select!`.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use phalanx_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::CloseReason;
use crate::error::ConnectionLost;

/// Bytes of the length field.
const HEADER_BYTES: usize = size_of::<u32>();
/// The least room that a reader offers to the stream; idle streams hold no more than this.
const READ_BYTES_MIN: usize = 4 << 10;
/// The most that a reader asks for at once beyond what it already holds.
const READ_BYTES_MAX: usize = 256 << 10;
/// Room that a reader makes at once for the rest of a stream; pages that nothing fills cost nothing.
const REST_BYTES_AT_ONCE: usize = 64 << 20;
/// A writer's buffer that grew past this is given back once it is sent.
const WRITE_BUFFER_KEPT_BYTES: usize = 256 << 10;

/// Why a frame was not sent or received. A writer goes on after [`FrameError::TooLarge`] and [`FrameError::Unencodable`],
/// a reader after [`FrameError::Malformed`]; everything else ends the stream.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame over the limit, announced by the peer or about to be sent.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A frame that holds no such value.
    #[error("a frame holds no value of the expected kind")]
    Malformed(#[source] codec::DecodeError),
    /// A value that has no byte form.
    #[error("a value cannot be sent")]
    Unencodable(#[source] codec::EncodeError),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, {missing} bytes short")]
    Truncated {
        /// Bytes that were missing, of the header if that was not complete.
        missing: usize,
    },
    /// The peer gave this stream up; the connection stands.
    #[error("the peer gave the stream up ({reason})")]
    Abandoned {
        /// Why.
        reason: CloseReason,
    },
    /// The connection ended.
    #[error("the connection is lost")]
    Lost(#[source] ConnectionLost),
    /// A stream that is no QUIC stream failed, or one was used after its end.
    #[error("the stream failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(lost) = inner.and_then(|inner| inner.downcast_ref::<ConnectionLost>()) {
            return Self::Lost(lost.clone());
        }
        if let Some(quinn::ReadError::Reset(code)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Self::Abandoned {
                reason: CloseReason::from_code(code.into_inner()),
            };
        }
        if let Some(quinn::WriteError::Stopped(code)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Self::Abandoned {
                reason: CloseReason::from_code(code.into_inner()),
            };
        }
        Self::Io(error)
    }
}

/// Sends frames on `S`.
///
/// `queue` puts a frame into the writer's buffer, `flush` hands the buffer to the stream in as few writes as it takes,
/// and `send` is both. Flushed means that the stream has the bytes (for QUIC: within its send window, and sent as the
/// congestion window allows), not that the peer has them. Nothing waits to be combined with later frames.
#[derive(Debug)]
pub struct FrameWriter<S> {
    stream: S,
    frame_bytes_max: usize,
    /// Frames, headers included, of which the first `written` bytes are with the stream.
    buffer: Vec<u8>,
    written: usize,
}

impl<S> FrameWriter<S> {
    /// A writer whose frames have at most `frame_bytes_max` bytes of payload (and never more than `u32::MAX`).
    pub fn new(stream: S, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            frame_bytes_max: frame_bytes_max.min(u32::MAX as usize),
            buffer: Vec::new(),
            written: 0,
        }
    }

    /// Bytes that are queued and not yet with the stream. Whoever queues without flushing bounds this.
    pub fn queued_bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Puts `value` into the buffer as one frame; it is sent by the next flush.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Unencodable`]; nothing is queued then.
    pub fn queue<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FrameError> {
        self.queue_with(|buffer| codec::encode_into(value, buffer).map_err(FrameError::Unencodable))
    }

    /// Puts `payload` into the buffer as one frame; it is sent by the next flush.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`]; nothing is queued then.
    pub fn queue_bytes(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.check_limit(payload.len())?;
        self.queue_with(|buffer| {
            buffer.extend_from_slice(payload);
            Ok(())
        })
    }

    /// Puts the encoding of `head`, and `tail` behind it as it is, into the buffer as one frame; it is sent by the next
    /// flush. The reader takes it with `recv_bytes` and `codec::decode_prefix`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Unencodable`]; nothing is queued then.
    pub fn queue_parts<T: Serialize + ?Sized>(&mut self, head: &T, tail: &[u8]) -> Result<(), FrameError> {
        self.check_limit(tail.len())?;
        self.queue_with(|buffer| {
            codec::encode_into(head, buffer).map_err(FrameError::Unencodable)?;
            buffer.extend_from_slice(tail);
            Ok(())
        })
    }

    fn queue_with(
        &mut self,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        let appended = append(&mut self.buffer);
        let payload_bytes = self.buffer.len() - start - HEADER_BYTES;
        if let Err(error) = appended.and_then(|()| self.check_limit(payload_bytes)) {
            self.buffer.truncate(start);
            return Err(error);
        }
        // the limit is at most u32::MAX
        let header = (payload_bytes as u32).to_le_bytes();
        self.buffer[start..start + HEADER_BYTES].copy_from_slice(&header);
        Ok(())
    }

    fn check_limit(&self, bytes: usize) -> Result<(), FrameError> {
        match bytes <= self.frame_bytes_max {
            true => Ok(()),
            false => Err(FrameError::TooLarge {
                bytes,
                limit: self.frame_bytes_max,
            }),
        }
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncWrite + Unpin> FrameWriter<S> {
    /// Sends `value` as one frame.
    ///
    /// Cancel safe in this sense: a dropped `send` never tears a frame. What the stream has not taken stays queued and
    /// goes out with the next flush.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn send<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), FrameError> {
        self.queue(value)?;
        self.flush().await
    }

    /// Sends `payload` as one frame, as it is; the reader takes it with `recv_bytes`. Cancel safe like
    /// [`FrameWriter::send`].
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn send_bytes(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.queue_bytes(payload)?;
        self.flush().await
    }

    /// Hands all queued frames to the stream; waits while the peer's window is full. Cancel safe.
    ///
    /// # Errors
    /// [`FrameError::Lost`], [`FrameError::Abandoned`] or [`FrameError::Io`].
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        while self.written < self.buffer.len() {
            match self.stream.write(&self.buffer[self.written..]).await? {
                0 => return Err(FrameError::Io(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BUFFER_KEPT_BYTES);
        self.written = 0;
        self.stream.flush().await?;
        Ok(())
    }

    /// Flushes, then ends the stream: the peer's reader gets `None` after the last frame.
    ///
    /// # Errors
    /// Like [`FrameWriter::flush`].
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.stream.shutdown().await?;
        Ok(())
    }
}

/// Receives frames from `S`.
///
/// Every `recv` is cancel safe: what has arrived of a frame stays in the reader, so a call that `tokio::select!` drops
/// loses nothing and the next one goes on where it stopped.
#[derive(Debug)]
pub struct FrameReader<S> {
    stream: S,
    frame_bytes_max: usize,
    /// What has arrived and is not yet taken; a frame's header comes first.
    buffer: BytesMut,
    /// Bytes to ask the stream for; follows what it delivers.
    read_bytes: usize,
}

impl<S> FrameReader<S> {
    /// A reader that refuses frames with more than `frame_bytes_max` bytes of payload.
    pub fn new(stream: S, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            frame_bytes_max,
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// Takes the next value if it has arrived completely already, without waiting: after a `recv`, this drains what
    /// came with it.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Malformed`].
    pub fn recv_buffered<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        self.take_frame()?
            .map(|frame| codec::decode(&frame).map_err(FrameError::Malformed))
            .transpose()
    }

    /// Bytes of the frame at the front, header included, once its header has arrived.
    fn frame_bytes(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*header) as usize;
        match bytes <= self.frame_bytes_max {
            true => Ok(Some(HEADER_BYTES + bytes)),
            false => Err(FrameError::TooLarge {
                bytes,
                limit: self.frame_bytes_max,
            }),
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.frame_bytes()? {
            Some(bytes) if bytes <= self.buffer.len() => {
                let mut frame = self.buffer.split_to(bytes);
                frame.advance(HEADER_BYTES);
                Ok(Some(frame.freeze()))
            }
            Some(_) | None => Ok(None),
        }
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Receives the next value; `None` when the peer finished the stream after a whole frame. Cancel safe.
    ///
    /// # Errors
    /// [`FrameError`]. After [`FrameError::Malformed`] the next frame can still be received; after
    /// [`FrameError::TooLarge`] every further call says so again.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let frame = self.recv_bytes().await?;
        frame
            .map(|frame| codec::decode(&frame).map_err(FrameError::Malformed))
            .transpose()
    }

    /// Receives the next frame's payload as it is; `None` when the peer finished the stream. Cancel safe.
    ///
    /// # Errors
    /// [`FrameError`], but never [`FrameError::Malformed`].
    pub async fn recv_bytes(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let missing = self.frame_bytes()?.unwrap_or(HEADER_BYTES) - self.buffer.len();
            // a large frame's buffer at most doubles with each read, so a promise alone costs nothing
            let grown = missing.min(self.buffer.len());
            self.buffer.reserve(self.read_bytes.max(grown));
            let room = self.buffer.capacity() - self.buffer.len();
            match self.stream.read_buf(&mut self.buffer).await? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(FrameError::Truncated { missing }),
                bytes if bytes == room => self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX),
                bytes if bytes < self.read_bytes / 4 => {
                    self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN)
                }
                _ => {}
            }
        }
    }

    /// Receives the `bytes` bytes that follow the frames so far and are no frames themselves. What comes behind them
    /// is thrown away.
    ///
    /// # Errors
    /// [`FrameError`], but never [`FrameError::Malformed`].
    pub async fn recv_rest(mut self, bytes: usize) -> Result<Bytes, FrameError> {
        let mut rest = std::mem::take(&mut self.buffer);
        while rest.len() < bytes {
            let missing = bytes - rest.len();
            // beyond that it at most doubles with each read, like a frame's buffer
            rest.reserve(missing.min(rest.len().max(REST_BYTES_AT_ONCE)));
            let room = missing.min(rest.capacity() - rest.len());
            if self.stream.read_buf(&mut (&mut rest).limit(room)).await? == 0 {
                return Err(FrameError::Truncated { missing });
            }
        }
        rest.truncate(bytes);
        Ok(rest.freeze())
    }
}

#[cfg(test)]
mod tests;
