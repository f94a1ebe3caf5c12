//! A job followed from a thread without async: what happens there arrives here over a bounded channel.
//!
//! Results travel as whole blocks, so a channel hop is paid once per thousands of values. Progress is the newest view in
//! a cell of its own; the channel only carries the news that there is one, and where the channel is full, the reader is
//! awake anyway and looks.

use phalanx_protocol::JobId;
use phalanx_protocol::view::JobView;
use tokio::sync::{mpsc, watch};

use crate::client::{Client, ResultEvent};
use crate::cluster::{Cluster, Running};
use crate::error::ClientError;

/// Blocks that wait for the reader; at most this many times a result file's size in memory.
const WAITING_MAX: usize = 8;

/// Called with a job's view when it has moved on.
pub(crate) type Callback = Box<dyn FnMut(&JobView) + Send>;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only whether it is over.
    Changes,
    /// Its results too.
    Results { in_order: bool },
}

/// What happened, or that there is a new view.
type Signal = Option<Result<ResultEvent, ClientError>>;
/// There is a new view.
const PROGRESS: Signal = None;

/// What happens to a job, in order, up to its end.
pub(crate) struct Events {
    signals: mpsc::Receiver<Signal>,
    newest: watch::Receiver<Option<JobView>>,
    callbacks: Vec<Callback>,
    is_over: bool,
    /// Dropped with this: nobody follows for nobody.
    _running: Vec<Running<()>>,
}

impl Events {
    /// Begins to follow a job; `callbacks` run inside [`Events::next`].
    pub(crate) fn start(cluster: &Cluster, job: JobId, mode: Mode, callbacks: Vec<Callback>) -> Self {
        let (sender, signals) = mpsc::channel(WAITING_MAX);
        let (newest_sender, newest) = watch::channel(None);
        let mut running = Vec::new();
        match mode {
            Mode::Changes => {
                running.push(cluster.spawn(|client| watch_to_end(client, job, newest_sender, sender)));
            }
            Mode::Results { in_order } => {
                if !callbacks.is_empty() {
                    let sender = sender.clone();
                    running.push(cluster.spawn(|client| report_progress(client, job, newest_sender, sender)));
                }
                running.push(cluster.spawn(move |client| stream_results(client, job, in_order, sender)));
            }
        }
        Self {
            signals,
            newest,
            callbacks,
            is_over: false,
            _running: running,
        }
    }

    /// What happens next; blocks until then. `None` after the end, after an error, and if the cluster's thread ended.
    ///
    /// # Panics
    /// If called inside an async runtime.
    pub(crate) fn next(&mut self) -> Option<Result<ResultEvent, ClientError>> {
        while !self.is_over {
            let signal = self.signals.blocking_recv();
            if self.newest.has_changed().unwrap_or(false) {
                let view = self.newest.borrow_and_update().clone();
                // the end is told below, once and last
                if let Some(view) = view.filter(|view| view.outcome.is_none()) {
                    self.call_back(&view);
                }
            }
            let Some(event) = signal? else { continue };
            match &event {
                Ok(ResultEvent::Ended(view)) => {
                    self.is_over = true;
                    let view = view.clone();
                    self.call_back(&view);
                }
                Err(_) => self.is_over = true,
                Ok(ResultEvent::Block { .. } | ResultEvent::NoResults(_) | ResultEvent::Failed(_)) => {}
            }
            return Some(event);
        }
        None
    }

    fn call_back(&mut self, view: &JobView) {
        for callback in &mut self.callbacks {
            callback(view);
        }
    }
}

async fn stream_results(client: Client, job: JobId, in_order: bool, sender: mpsc::Sender<Signal>) {
    let mut results = client.results(job, in_order);
    loop {
        let event = match results.next().await {
            Ok(None) => return,
            Ok(Some(event)) => Ok(event),
            Err(error) => Err(error),
        };
        let is_last = event.is_err();
        // an error means that nobody reads any more
        if sender.send(Some(event)).await.is_err() || is_last {
            return;
        }
    }
}

/// Progress is a courtesy: if it cannot be followed, the stream of results says why.
async fn report_progress(
    client: Client,
    job: JobId,
    newest: watch::Sender<Option<JobView>>,
    sender: mpsc::Sender<Signal>,
) {
    let mut watch = client.watch(job);
    while let Ok(Some(view)) = watch.next().await {
        newest.send_replace(Some(view));
        // full means that the reader has signals to look at, and then looks here too
        let _ = sender.try_send(PROGRESS);
    }
}

async fn watch_to_end(
    client: Client,
    job: JobId,
    newest: watch::Sender<Option<JobView>>,
    sender: mpsc::Sender<Signal>,
) {
    let mut watch = client.watch(job);
    let end = loop {
        match watch.next().await {
            Ok(Some(view)) if view.outcome.is_some() => break Ok(ResultEvent::Ended(view)),
            Ok(Some(view)) => {
                newest.send_replace(Some(view));
                let _ = sender.try_send(PROGRESS);
            }
            Ok(None) => return,
            Err(error) => break Err(error),
        }
    };
    // an error means that nobody reads any more
    let _ = sender.send(Some(end)).await;
}
