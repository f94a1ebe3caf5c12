//! Blobs on their way to shared storage: hashed here, skipped when they are there, sent in frames of at most 1 MiB.

use std::fs::File;
use std::io;
use std::path::Path;

use phalanx_protocol::BlobId;
use phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{Reply, Request};
use phalanx_transport::{FrameError, StreamWriter};
use tokio::io::AsyncReadExt;

use super::Client;
use super::exchange::{Cut, Retry, receive};
use super::link::Link;
use crate::error::{ClientError, ProtocolError};

/// Bytes of a blob in one frame.
const PIECE_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX;
/// Blobs in one question; more take several.
const QUESTION_BLOBS_MAX: usize = 16_384;

/// What a blob is made from.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Bytes(&'a [u8]),
    File { path: &'a Path, bytes: u64 },
}

impl Content<'_> {
    fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => bytes,
        }
    }
}

impl Client {
    /// Which of these blobs the cluster's storage lacks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find_missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, ClientError> {
        let mut missing = Vec::new();
        for some in blobs.chunks(QUESTION_BLOBS_MAX) {
            let answer = |reply| {
                if let Reply::Missing(blobs) = reply {
                    Some(blobs)
                } else {
                    None
                }
            };
            let request = Request::FindMissing(some.to_vec());
            missing.extend(self.ask(request, answer).await?);
        }
        Ok(missing)
    }

    /// Makes sure that these bytes are on the cluster's storage, and returns the name they have there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ensure_blob(&self, bytes: &[u8]) -> Result<BlobId, ClientError> {
        let blob = BlobId(*blake3::hash(bytes).as_bytes());
        self.ensure(blob, Content::Bytes(bytes)).await?;
        Ok(blob)
    }

    /// Makes sure that a program is on the cluster's storage, and returns the name it has there. The file is hashed
    /// on a thread of its own, and read only as far as it is sent.
    ///
    /// # Errors
    /// [`ClientError::File`] if it cannot be read, or another [`ClientError`].
    pub async fn ensure_program(&self, path: &Path) -> Result<BlobId, ClientError> {
        let (blob, _) = self.hash_file(path).await?;
        self.ensure_hashed_program(path, blob).await?;
        Ok(blob)
    }

    /// The same for a program whose hash is known.
    pub(crate) async fn ensure_hashed_program(&self, path: &Path, blob: BlobId) -> Result<(), ClientError> {
        let data = tokio::fs::metadata(path).await.map_err(unreadable(path))?;
        let bytes = data.len();
        self.ensure(blob, Content::File { path, bytes }).await
    }

    /// A file's name as a blob, and its length.
    async fn hash_file(&self, path: &Path) -> Result<(BlobId, u64), ClientError> {
        let owned = path.to_owned();
        let hashed = tokio::task::spawn_blocking(move || hash_file(&owned)).await;
        hashed
            .map_err(|_| ClientError::Stopped)?
            .map_err(unreadable(path))
    }

    async fn ensure(&self, blob: BlobId, content: Content<'_>) -> Result<(), ClientError> {
        if self.find_missing(&[blob]).await?.is_empty() {
            return Ok(());
        }
        let mut retry = Retry::new(self.shared.patience);
        loop {
            let link = self.link(&mut retry).await?;
            match put_once(&link, blob, content).await {
                Ok(()) => return Ok(()),
                Err(cut) => self.survive(&link, cut, &mut retry)?,
            }
        }
    }
}

/// The BLAKE3 hash of a file, and its length. Blocks.
pub(crate) fn hash_file(path: &Path) -> io::Result<(BlobId, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok((BlobId(*hasher.finalize().as_bytes()), hasher.count()))
}

async fn put_once(link: &Link, blob: BlobId, content: Content<'_>) -> Result<(), Cut> {
    let (mut writer, mut reader) = link.connection.open_bi(CONTROL_FRAME_BYTES_MAX).await?;
    let request = Request::PutBlob {
        blob,
        bytes: content.len(),
    };
    writer.queue(&request)?;
    match send(&mut writer, content).await {
        Ok(()) => writer.finish().await?,
        // it has said why before all of the blob was sent
        Err(Unsent::Frame(FrameError::Abandoned { .. })) => {}
        Err(Unsent::Frame(error)) => return Err(error.into()),
        Err(Unsent::File(error)) => return Err(Cut::Final(error)),
    }
    if receive(link, &mut reader).await? == Reply::Done {
        Ok(())
    } else {
        Err(Cut::Final(ClientError::Protocol(ProtocolError::WrongReply)))
    }
}

/// Why a blob was not sent to its end.
enum Unsent {
    Frame(FrameError),
    File(ClientError),
}

impl From<FrameError> for Unsent {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

async fn send(writer: &mut StreamWriter, content: Content<'_>) -> Result<(), Unsent> {
    let (path, bytes) = match content {
        Content::Bytes(bytes) => {
            for piece in bytes.chunks(PIECE_BYTES_MAX) {
                writer.send_bytes(piece).await?;
            }
            return Ok(writer.flush().await?);
        }
        Content::File { path, bytes } => (path, bytes),
    };
    let failed = |cause| Unsent::File(unreadable(path)(cause));
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut piece = Vec::new();
    let mut missing = bytes;
    while missing > 0 {
        piece.resize(missing.min(PIECE_BYTES_MAX as u64) as usize, 0);
        file.read_exact(&mut piece).await.map_err(failed)?;
        writer.send_bytes(&piece).await?;
        missing -= piece.len() as u64;
    }
    Ok(writer.flush().await?)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.to_owned();
    move |cause| ClientError::File { path, cause }
}
