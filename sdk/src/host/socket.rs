//! Frames on the socket between a worker and its host: a length (`u32`, little-endian), then that many bytes.
//!
//! What is sent is queued first, under whatever lock makes it true, and written afterwards without that lock: frames
//! leave in the order in which they were queued, and a worker that reads slowly holds up only those who write.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use phalanx_protocol::codec;
use phalanx_protocol::limits::DATA_FRAME_BYTES_MAX;
use serde::Serialize;

use super::lock;

/// Reads the bytes of one frame; none at the end of the stream.
pub(super) fn read_frame(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match reader.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => reader.read_exact(&mut len[1..])?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > DATA_FRAME_BYTES_MAX {
        let message = format!("a frame of {len} bytes, at most {DATA_FRAME_BYTES_MAX} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// A message as it goes over the wire.
///
/// # Panics
/// If the message is larger than a frame may be, which its maker has to see to.
pub(super) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    codec::encode_into(message, &mut bytes).expect("protocol types have a byte form");
    let len = bytes.len() - 4;
    assert!(len <= DATA_FRAME_BYTES_MAX, "a frame of {len} bytes");
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    bytes
}

/// What is to be sent, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<VecDeque<Vec<u8>>>,
    stream: Mutex<UnixStream>,
}

impl Outbox {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            queue: Mutex::default(),
            stream: Mutex::new(stream),
        }
    }

    /// Queues a frame; whoever does so calls [`Self::send`] once it holds no lock.
    pub(super) fn post(&self, frame: Vec<u8>) {
        lock(&self.queue).push_back(frame);
    }

    /// Whether something is queued.
    pub(super) fn has_posts(&self) -> bool {
        !lock(&self.queue).is_empty()
    }

    /// Writes what is queued. A failure is not reported here: the reading side sees the end of the stream.
    pub(super) fn send(&self) {
        if !self.has_posts() {
            return;
        }
        let mut stream = lock(&self.stream);
        loop {
            let Some(frame) = lock(&self.queue).pop_front() else {
                return;
            };
            if stream.write_all(&frame).is_err() {
                lock(&self.queue).clear();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_a_clean_end_is_no_error() {
        let mut bytes = frame(&"hello");
        bytes.extend(frame(&7u64));
        let mut reader = bytes.as_slice();
        assert_eq!(
            codec::decode::<String>(&read_frame(&mut reader).unwrap().unwrap()).unwrap(),
            "hello"
        );
        assert_eq!(
            codec::decode::<u64>(&read_frame(&mut reader).unwrap().unwrap()).unwrap(),
            7
        );
        assert!(read_frame(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_torn_or_oversized_frame_is_refused_before_it_is_allocated() {
        assert!(read_frame(&mut &[9, 0][..]).is_err());
        assert!(read_frame(&mut &[9, 0, 0, 0, 1][..]).is_err());
        assert!(
            read_frame(&mut &[255, 255, 255, 255][..])
                .unwrap_err()
                .to_string()
                .contains("4294967295")
        );
    }
}
