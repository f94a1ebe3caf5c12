//! Frames, as they come from a peer: any cut into pieces, any length field, any content.

use std::pin::Pin;
use std::task::{Context, Poll};

use phalanx_protocol::message::client::{Reply, Request};
use phalanx_protocol::message::host::{FromHost, ToHost};
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_transport::{FrameError, FrameReader};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one frame.
const FRAME_BYTES_MAX: usize = 4096;

/// Hands bytes out in pieces of a few at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece_bytes: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.piece_bytes.min(self.bytes.len()).min(buffer.remaining());
        let (piece, rest) = self.bytes.split_at(count);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

/// Reads a stream to its end, or to the error that ends it. The first byte says which conversation it is, the second
/// how the bytes arrive.
///
/// # Panics
/// If the reader does not come to an end, or takes a frame over its limit.
pub fn frame(bytes: &[u8]) {
    let Some((&[kind, piece_bytes], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without any driver needs nothing of the system");
    let piece_bytes = usize::from(piece_bytes).max(1);
    runtime.block_on(async {
        let mut reader = FrameReader::new(Pieces { bytes, piece_bytes }, FRAME_BYTES_MAX);
        // each frame takes at least its header
        for _ in 0..=bytes.len() / 4 + 1 {
            let ended = match kind % 8 {
                0 => over(reader.recv::<Request>().await),
                1 => over(reader.recv::<Reply>().await),
                2 => over(reader.recv::<FromWorker>().await),
                3 => over(reader.recv::<ToWorker>().await),
                4 => over(reader.recv::<Report>().await),
                5 => over(reader.recv::<FromHost>().await),
                6 => over(reader.recv::<ToHost>().await),
                _ => {
                    let raw = reader.recv_bytes().await;
                    let bytes = raw
                        .as_ref()
                        .ok()
                        .and_then(Option::as_ref)
                        .map_or(0, bytes::Bytes::len);
                    assert!(bytes <= FRAME_BYTES_MAX, "a frame of {bytes} bytes");
                    over(raw)
                }
            };
            if ended {
                return;
            }
        }
        panic!("more frames than there were bytes for");
    });
}

/// Whether nothing more can come.
fn over<T>(received: Result<Option<T>, FrameError>) -> bool {
    match received {
        Ok(value) => value.is_none(),
        Err(FrameError::Malformed(_)) => false,
        Err(_) => true,
    }
}
