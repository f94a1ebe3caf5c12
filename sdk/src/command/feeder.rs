//! Hands a task what is sent to its job while it runs: a thread that copies from shared storage to the pipe that is the
//! task's standard input.
//!
//! It looks for more in growing pauses, and ends when the input does, when the task reads no more, or when the task is over,
//! which the event wakes it for. Storage that fails is asked again: a task must not take that for the end of its input.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use phalanx_protocol::limits::INPUT_PIECE_BYTES_MAX;
use phalanx_storage::StreamedInput;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::wake::Wake;

/// The pause after which more is looked for, at first and at the most.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The thread; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Feeder {
    over: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts to feed a task; returns what it is to read from.
    ///
    /// # Errors
    /// If the system has no pipe or no thread left.
    pub(super) fn start(input: StreamedInput) -> io::Result<(Self, File)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // only this end: what the task reads from is as a shell would give it
        rustix::io::ioctl_fionbio(&write, true)?;
        let over = Arc::new(Wake::new()?);
        let seen = Arc::clone(&over);
        let thread = thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || feed(&input, &write, &seen))?;
        let feeder = Self {
            over,
            thread: Some(thread),
        };
        Ok((feeder, read.into()))
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.over.raise();
        if let Some(thread) = self.thread.take() {
            // a panic was printed where it happened
            let _ = thread.join();
        }
    }
}

fn feed(input: &StreamedInput, pipe: &OwnedFd, over: &Wake) {
    let mut offset = 0;
    let mut pause = PAUSE_MIN;
    loop {
        match input.read(offset, INPUT_PIECE_BYTES_MAX) {
            Ok(read) => {
                if !write_all(pipe, &read.bytes, over) || read.is_end {
                    return;
                }
                offset += read.bytes.len() as u64;
                if !read.bytes.is_empty() {
                    pause = PAUSE_MIN;
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "the input of a task cannot be read for now"),
        }
        let mut events = [PollFd::from_borrowed_fd(over.as_fd(), PollFlags::IN)];
        if wait(&mut events, Some(pause)) {
            return;
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Writes as the task reads; `false` if it reads no more, or is over.
fn write_all(pipe: &OwnedFd, mut bytes: &[u8], over: &Wake) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(pipe, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut events = [
                    PollFd::new(pipe, PollFlags::OUT),
                    PollFd::from_borrowed_fd(over.as_fd(), PollFlags::IN),
                ];
                wait(&mut events, None);
                if !events[1].revents().is_empty() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Waits for one of the events; says whether one came.
fn wait(events: &mut [PollFd<'_>], pause: Option<Duration>) -> bool {
    let pause = pause.map(|pause| Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(pause.subsec_nanos()),
    });
    // an interrupted wait is one that came to nothing
    poll(events, pause.as_ref()).is_ok_and(|count| count > 0)
}
