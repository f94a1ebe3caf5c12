//! Input lists on their way to storage: items become chunks of about 1 MiB, which are uploaded while the next ones are
//! being encoded.

use std::borrow::Borrow;
use std::collections::VecDeque;

use phalanx_protocol::job::{InputChunk, InputTable};
use phalanx_protocol::limits::{INPUT_CHUNK_BYTES, VALUE_BYTES_MAX};
use phalanx_protocol::{BlobId, IndexRange, codec};
use serde::Serialize;

use crate::cluster::{Cluster, Running};
use crate::error::{ClientError, JobError};

/// Chunks under way to storage at a time.
const UPLOADS_MAX: usize = 4;
/// Bytes of an item's length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Encodes and uploads a list; returns its table's name and how many items it has.
pub(super) fn upload<T, I>(cluster: &Cluster, items: I) -> Result<(BlobId, u64), JobError>
where
    T: Serialize,
    I: IntoIterator,
    I::Item: Borrow<T>,
{
    let mut uploads = Uploads::new(cluster);
    let mut chunk = ChunkWriter::default();
    for item in items {
        if chunk.push::<T>(item.borrow())? {
            uploads.start(chunk.take())?;
        }
    }
    if !chunk.is_empty() {
        uploads.start(chunk.take())?;
    }
    let table = codec::encode(&uploads.finish()?);
    let blob = cluster.block_on(|client| async move { client.ensure_blob(&table).await })?;
    Ok((blob, chunk.next))
}

/// Neighbouring items in the layout of [`InputChunk`].
#[derive(Debug, Default)]
struct ChunkWriter {
    bytes: Vec<u8>,
    first: u64,
    next: u64,
}

impl ChunkWriter {
    /// Appends an item; whether the chunk is full.
    #[inline]
    fn push<T: Serialize>(&mut self, item: &T) -> Result<bool, JobError> {
        let index = self.next;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        codec::encode_into(item, &mut self.bytes).map_err(|cause| JobError::Encode {
            what: format!("item {index}"),
            cause,
        })?;
        let bytes = self.bytes.len() - start - LENGTH_BYTES;
        match u32::try_from(bytes) {
            Ok(length) if bytes <= VALUE_BYTES_MAX => {
                self.bytes[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            }
            Ok(_) | Err(_) => return Err(JobError::ItemTooLarge { index, bytes }),
        }
        self.next += 1;
        Ok(self.bytes.len() >= INPUT_CHUNK_BYTES)
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The chunk so far; the next item begins another.
    fn take(&mut self) -> (IndexRange, Vec<u8>) {
        let items = IndexRange::new(self.first, self.next);
        self.first = self.next;
        let room = INPUT_CHUNK_BYTES + INPUT_CHUNK_BYTES / 8;
        (
            items,
            std::mem::replace(&mut self.bytes, Vec::with_capacity(room)),
        )
    }
}

/// Chunks under way, oldest first, and those that have arrived.
struct Uploads<'a> {
    cluster: &'a Cluster,
    running: VecDeque<(IndexRange, Running<Result<BlobId, ClientError>>)>,
    table: InputTable,
}

impl<'a> Uploads<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            running: VecDeque::new(),
            table: InputTable::default(),
        }
    }

    /// Starts another one; waits for the oldest while too many are under way.
    fn start(&mut self, (items, bytes): (IndexRange, Vec<u8>)) -> Result<(), ClientError> {
        if self.running.len() >= UPLOADS_MAX {
            self.await_oldest()?;
        }
        let upload = self
            .cluster
            .spawn(|client| async move { client.ensure_blob(&bytes).await });
        self.running.push_back((items, upload));
        Ok(())
    }

    fn finish(mut self) -> Result<InputTable, ClientError> {
        while !self.running.is_empty() {
            self.await_oldest()?;
        }
        Ok(self.table)
    }

    fn await_oldest(&mut self) -> Result<(), ClientError> {
        if let Some((items, upload)) = self.running.pop_front() {
            let blob = upload.wait().ok_or(ClientError::Stopped)??;
            self.table.chunks.push(InputChunk { items, blob });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a chunk the way a kernel host does.
    fn read(mut bytes: &[u8]) -> Vec<String> {
        let mut items = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() {
            let (item, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            items.push(codec::decode(item).unwrap());
            bytes = rest;
        }
        items
    }

    proptest! {
        #[test]
        fn chunks_hold_all_items_in_order(lengths in prop::collection::vec(0usize..300_000, 0..30)) {
            let items: Vec<String> = lengths.iter().map(|&length| "x".repeat(length)).collect();
            let mut writer = ChunkWriter::default();
            let mut chunks = Vec::new();
            for item in &items {
                if writer.push(item).unwrap() {
                    chunks.push(writer.take());
                }
            }
            if !writer.is_empty() {
                chunks.push(writer.take());
            }
            let mut next = 0;
            let mut found = Vec::new();
            for (position, (range, bytes)) in chunks.iter().enumerate() {
                let texts = read(bytes);
                prop_assert_eq!(*range, IndexRange::new(next, next + texts.len() as u64));
                prop_assert!(position + 1 == chunks.len() || bytes.len() >= INPUT_CHUNK_BYTES);
                next = range.end;
                found.extend(texts);
            }
            prop_assert_eq!(found, items);
        }
    }

    #[test]
    fn an_item_that_no_host_would_read_is_named() {
        let mut writer = ChunkWriter::default();
        writer.push(&"small".to_owned()).unwrap();
        let error = writer.push(&"x".repeat(VALUE_BYTES_MAX)).unwrap_err();
        assert!(matches!(error, JobError::ItemTooLarge { index: 1, .. }));
    }

    /// No gate: what it prints is for whoever works on encoding (`--no-capture`, and a release build).
    #[test]
    fn many_items_are_encoded() {
        const ITEMS: u64 = 2_000_000;
        let mut writer = ChunkWriter::default();
        let mut bytes = 0;
        let started = std::time::Instant::now();
        for item in 0..ITEMS {
            if writer.push(&(item * 1_000_003, item as u32)).unwrap() {
                bytes += writer.take().1.len();
            }
        }
        bytes += writer.take().1.len();
        let seconds = started.elapsed().as_secs_f64();
        println!("{:.0} M items/s, {bytes} bytes", ITEMS as f64 / seconds / 1e6);
        assert!(bytes as u64 > ITEMS * LENGTH_BYTES as u64);
    }
}
