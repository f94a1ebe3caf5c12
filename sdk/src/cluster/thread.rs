//! The thread on which a cluster's connections live, and how other threads have work done there.
//!
//! It ends with its [`ClientThread`]. Work that is then unfinished is dropped, and whoever waits for it is told: nobody
//! waits for ever for a thread that has ended, also if it panicked.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// A thread that runs a tokio runtime of its own.
#[derive(Debug)]
pub(super) struct ClientThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ClientThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            // an error means that the sender was dropped, which is as good a reason to stop
            let _ = runtime.block_on(stopped);
            // a name that does not resolve or a file system that hangs is not waited for
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("phalanx-client".to_owned())
            .spawn(body)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Does `work` there and waits for it; `None` if the thread has ended or `work` panicked.
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.spawn(work).wait()
    }

    /// Starts `work` there.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let (sender, receiver) = sync_channel(1);
        let task = self.handle.spawn(async move {
            // nobody waits for it any more if this fails
            let _ = sender.try_send(work.await);
        });
        Running {
            receiver,
            task: task.abort_handle(),
        }
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // a panic there was reported by the panic hook, and who waited for its work was told
            let _ = thread.join();
        }
    }
}

/// Work under way on a cluster's thread; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Running<T> {
    receiver: Receiver<T>,
    task: AbortHandle,
}

impl<T> Running<T> {
    /// Waits for the end of the work; `None` if the thread has ended or the work panicked.
    pub(crate) fn wait(self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_ends_the_wait_and_not_the_thread() {
        let thread = ClientThread::start().unwrap();
        assert_eq!(thread.run::<u8>(async { panic!("on purpose") }), None);
        assert_eq!(thread.run(async { 7 }), Some(7));
    }

    #[test]
    fn work_for_a_stopped_thread_ends_the_wait() {
        let thread = ClientThread::start().unwrap();
        let handle = thread.handle.clone();
        let endless = thread.spawn(std::future::pending::<u8>());
        drop(thread);
        assert_eq!(endless.wait(), None);
        let late = ClientThread {
            handle,
            stop: None,
            thread: None,
        };
        assert_eq!(late.run(async { 7 }), None);
    }
}
