//! Frames over an in-memory pipe: limits, ends, cancellation, and bytes that no writer would send.

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;

const LIMIT: usize = 1 << 20;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Everything that a reader with `limit` makes of `bytes`, arriving through a pipe of `pipe_bytes`.
async fn read_all(bytes: &[u8], pipe_bytes: usize, limit: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let (mut near, far) = duplex(pipe_bytes);
    let write = async move {
        // a reader that has had enough closes the pipe
        let _ = near.write_all(bytes).await;
    };
    let read = async move {
        let mut reader = FrameReader::new(far, limit);
        let mut frames = Vec::new();
        loop {
            match reader.recv_bytes().await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    };
    tokio::join!(write, read).1
}

#[tokio::test]
async fn values_and_bytes_arrive_as_sent_then_the_end() {
    let (near, far) = duplex(64);
    let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
    let big = vec![9u8; 300_000];
    let send = async {
        writer.send(&(7u64, "seven")).await.unwrap();
        writer.queue_bytes(b"").unwrap();
        writer.queue_bytes(&big).unwrap();
        assert_eq!(writer.queued_bytes(), 4 + 4 + big.len());
        writer.finish().await.unwrap();
    };
    let receive = async {
        assert_eq!(reader.recv().await.unwrap(), Some((7u64, "seven".to_owned())));
        assert_eq!(reader.recv_bytes().await.unwrap().unwrap(), "");
        assert_eq!(reader.recv_bytes().await.unwrap().unwrap(), big);
        assert!(reader.recv_bytes().await.unwrap().is_none());
        assert!(reader.recv_bytes().await.unwrap().is_none());
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_small_frame_is_one_write() {
    let (near, mut far) = duplex(1024);
    FrameWriter::new(near, LIMIT).send_bytes(b"abc").await.unwrap();
    let mut arrived = [0; 64];
    let bytes = far.read(&mut arrived).await.unwrap();
    assert_eq!(arrived[..bytes], *b"\x03\0\0\0abc");
}

#[tokio::test]
async fn an_announced_length_is_judged_before_it_is_allocated() {
    let (mut near, far) = duplex(1024);
    near.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    drop(near);
    let mut reader = FrameReader::new(far, LIMIT);
    for _ in 0..2 {
        let error = reader.recv_bytes().await.unwrap_err();
        assert!(
            matches!(error, FrameError::TooLarge { bytes, limit } if bytes == u32::MAX as usize && limit == LIMIT)
        );
    }
    assert!(
        reader.buffer.capacity() <= READ_BYTES_MIN,
        "{}",
        reader.buffer.capacity()
    );
}

#[tokio::test]
async fn a_promise_within_the_limit_costs_no_more_than_what_arrives() {
    let (mut near, far) = duplex(1024);
    near.write_all(&(LIMIT as u32).to_le_bytes()).await.unwrap();
    near.write_all(&[0; 100]).await.unwrap();
    let mut reader = FrameReader::new(far, LIMIT);
    tokio::select! {
        biased;
        _ = reader.recv_bytes() => panic!("the frame is not complete"),
        () = tokio::task::yield_now() => {}
    }
    assert!(
        reader.buffer.capacity() <= 4 * READ_BYTES_MIN,
        "{}",
        reader.buffer.capacity()
    );
}

#[tokio::test]
async fn a_writer_refuses_what_its_peer_would_and_goes_on() {
    let (near, far) = duplex(1024);
    let (mut writer, mut reader) = (FrameWriter::new(near, 8), FrameReader::new(far, 8));
    assert!(matches!(
        writer.send_bytes(&[0; 9]).await,
        Err(FrameError::TooLarge { bytes: 9, limit: 8 })
    ));
    assert!(matches!(
        writer.send("longer than eight").await,
        Err(FrameError::TooLarge { .. })
    ));
    writer.send_bytes(&[1; 8]).await.unwrap();
    assert_eq!(reader.recv_bytes().await.unwrap().unwrap(), [1; 8].as_slice());
}

#[tokio::test]
async fn an_end_inside_a_frame_is_no_clean_end() {
    for (bytes, missing_bytes) in [
        (&b"\x05\0\0\0abc"[..], 2),
        (&b"\x05\0"[..], 2),
        (&b"\x05\0\0\0"[..], 5),
    ] {
        let (frames, error) = read_all(bytes, 64, LIMIT).await;
        assert!(frames.is_empty());
        assert!(
            matches!(error, Some(FrameError::Truncated { missing }) if missing == missing_bytes),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_malformed_value_leaves_the_next_frame_readable() {
    let (near, far) = duplex(1024);
    let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
    writer.send_bytes(b"\xff\xff").await.unwrap();
    writer.send(&5u64).await.unwrap();
    assert!(matches!(
        reader.recv::<u64>().await,
        Err(FrameError::Malformed(_))
    ));
    assert_eq!(reader.recv::<u64>().await.unwrap(), Some(5));
}

#[tokio::test]
async fn what_came_together_is_taken_without_waiting() {
    let (near, far) = duplex(1024);
    let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
    for number in 0..3u64 {
        writer.queue(&number).unwrap();
    }
    writer.flush().await.unwrap();
    assert_eq!(reader.recv_buffered::<u64>().unwrap(), None);
    assert_eq!(reader.recv::<u64>().await.unwrap(), Some(0));
    assert_eq!(reader.recv_buffered::<u64>().unwrap(), Some(1));
    assert_eq!(reader.recv_buffered::<u64>().unwrap(), Some(2));
    assert_eq!(reader.recv_buffered::<u64>().unwrap(), None);
}

#[tokio::test]
async fn a_dropped_recv_loses_nothing() {
    let (mut near, far) = duplex(1024);
    let mut reader = FrameReader::new(far, LIMIT);
    let mut received = Vec::new();
    for byte in b"\x03\0\0\0abc\x02\0\0\0de" {
        near.write_all(&[*byte]).await.unwrap();
        tokio::select! {
            biased;
            frame = reader.recv_bytes() => received.push(frame.unwrap().unwrap()),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(received, ["abc", "de"]);
}

#[tokio::test]
async fn a_dropped_send_tears_no_frame() {
    let (near, far) = duplex(5);
    let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
    tokio::select! {
        biased;
        _ = writer.send_bytes(b"first frame") => panic!("the pipe holds five bytes"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(writer.queued_bytes(), 10);
    let send = async {
        writer.send_bytes(b"second").await.unwrap();
    };
    let receive = async {
        [
            reader.recv_bytes().await.unwrap(),
            reader.recv_bytes().await.unwrap(),
        ]
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received.map(Option::unwrap), ["first frame", "second"]);
}

/// What the format says, written plainly: the whole frames at the front, and whether the rest is a clean end.
fn parse(mut bytes: &[u8], limit: usize) -> (Vec<Bytes>, bool) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        if length > limit || length > rest.len() {
            return (frames, false);
        }
        frames.push(Bytes::copy_from_slice(&rest[..length]));
        bytes = &rest[length..];
    }
    (frames, bytes.is_empty())
}

/// Bytes that are often nearly frames.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop::collection::vec(any::<u8>(), 0..40).prop_map(|payload| {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend(payload);
        bytes
    });
    let piece = prop_oneof![3 => frame, 1 => prop::collection::vec(any::<u8>(), 0..10)];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_as_the_format_says(bytes in nearly_frames(), pipe_bytes in 1usize..64) {
        let (frames, error) = block_on(read_all(&bytes, pipe_bytes, 32));
        let (expected, is_clean) = parse(&bytes, 32);
        prop_assert_eq!(frames, expected);
        prop_assert_eq!(error.is_none(), is_clean);
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        type Value = (u64, Vec<(String, Option<u32>)>);
        let (near, far) = duplex(1024);
        let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
        let received = block_on(async {
            writer.send_bytes(&bytes).await.unwrap();
            reader.recv::<Value>().await
        });
        prop_assert!(matches!(received, Ok(Some(_)) | Err(FrameError::Malformed(_))));
    }
}

#[tokio::test]
async fn what_follows_the_frames_arrives_as_it_is() {
    for length in [0, 3, 5_000, 3_000_000] {
        let (near, far) = duplex(10_000);
        let (mut writer, mut reader) = (FrameWriter::new(near, LIMIT), FrameReader::new(far, LIMIT));
        let rest: Vec<u8> = (0..length).map(|index: u32| index as u8).collect();
        let send = async {
            writer.queue_parts(&7u64, b"tail").unwrap();
            writer.flush().await.unwrap();
            writer.stream_mut().write_all(&rest).await.unwrap();
            writer.finish().await.unwrap();
        };
        let receive = async {
            let frame = reader.recv_bytes().await.unwrap().unwrap();
            let (head, used) = codec::decode_prefix::<u64>(&frame).unwrap();
            assert_eq!((head, &frame[used..]), (7, &b"tail"[..]));
            assert!(reader.recv_rest(rest.len()).await.unwrap() == rest);
        };
        tokio::join!(send, receive);
    }
}

#[tokio::test]
async fn a_rest_that_ends_early_says_how_much_is_missing() {
    let (mut near, far) = duplex(100);
    near.write_all(b"abc").await.unwrap();
    drop(near);
    let ended = FrameReader::new(far, LIMIT).recv_rest(1 << 40).await;
    assert!(
        matches!(ended, Err(FrameError::Truncated { missing }) if missing == (1 << 40) - 3),
        "{ended:?}"
    );
}

#[test]
fn a_head_and_a_tail_have_one_limit() {
    let mut writer = FrameWriter::new((), 8);
    assert!(matches!(
        writer.queue_parts(&7u8, &[0; 8]),
        Err(FrameError::TooLarge { bytes: 9, limit: 8 })
    ));
    assert_eq!(writer.queued_bytes(), 0);
    writer.queue_parts(&7u8, &[0; 7]).unwrap();
}
