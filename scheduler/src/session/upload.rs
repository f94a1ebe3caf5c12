//! Blobs that clients send: streamed to storage, checked against their name, durable before they are confirmed.

use phalanx_protocol::BlobId;
use phalanx_protocol::limits::BLOB_BYTES_MAX;
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_storage::{BlobError, BlobWriter};
use phalanx_transport::{FrameError, StreamReader};
use tokio::task::spawn_blocking;

use super::Context;
use crate::driver::error_text;

/// Receives a blob's bytes, up to the end of the stream.
pub(super) async fn receive(
    context: &Context,
    blob: BlobId,
    bytes: u64,
    reader: &mut StreamReader,
) -> Result<Reply, FrameError> {
    if bytes > BLOB_BYTES_MAX {
        let what = format!("a blob of {bytes} bytes is larger than {BLOB_BYTES_MAX}");
        return Ok(Reply::Refused(Refusal::Full { what }));
    }
    let blobs = context.blobs.clone();
    let mut writer = on_thread(move || blobs.writer()).await;
    while let Some(piece) = reader.recv_bytes().await? {
        // after an error the rest is read and dropped, so that the client hears the reason and not a broken stream
        if let Ok(open) = writer {
            writer = on_thread(move || write(open, &piece)).await;
        }
    }
    let finished = match writer {
        Ok(open) => on_thread(move || open.finish(blob)).await,
        Err(error) => Err(error),
    };
    Ok(match finished {
        Ok(()) => Reply::Done,
        Err(BlobError::Hash { .. }) => Reply::Refused(Refusal::BlobDamaged(blob)),
        Err(error) => Reply::Refused(Refusal::Storage {
            error: error_text(&error),
        }),
    })
}

fn write(mut writer: BlobWriter, piece: &[u8]) -> Result<BlobWriter, BlobError> {
    writer.write(piece)?;
    Ok(writer)
}

/// Storage calls block, so they are made on tokio's threads for that.
async fn on_thread<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(error) => Err(BlobError::Source(std::io::Error::other(error))),
    }
}
