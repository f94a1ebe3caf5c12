//! The async client: requests to whichever scheduler leads, repeated over a lost connection until patience is over.
//!
//! Each request has a stream of its own: one frame asks, one or more answer. All requests may be repeated: blobs are
//! named by their hash, a submission carries its own random name, and a stream of results says what it has already. The
//! story: [`Client`] (here) asks through [`link`] (the connection, and the way back to one) and [`exchange`] (one stream
//! and what its end means); [`upload`] and [`stream`] are the two longer conversations.

mod exchange;
#[cfg(test)]
pub(crate) mod fake;
mod link;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::command::TaskSignal;
use phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{InputPiece, OutputPage, OutputQuery, Reply, Request};
use phalanx_protocol::view::{Explanation, JobView, TasksPage, WorkerView};
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, WorkerId};
use phalanx_transport::{CloseReason, ConnectError, Credential, Dialer, Reconnect};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::{ClientError, Interruption, ProtocolError};
use exchange::{Cut, Retry};
use link::{Link, Links};

pub(crate) use upload::hash_file;

pub use stream::{ResultEvent, ResultStream, Watch};

/// How long a client tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long to look for a scheduler to begin with. 2 s.
    pub connect_patience: Duration,
    /// The same where nobody has answered, not even that nothing listens there: its machine may be very busy. 10 s.
    pub silence_patience: Duration,
    /// How long a request goes on after the connection is lost; streams count it anew after each answer. 30 s.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_patience: Duration::from_secs(2),
            silence_patience: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

/// A client of a cluster's schedulers. Clones share one connection.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use phalanx::{Client, ClientOptions};
/// use phalanx_transport::{ClusterDirectory, Role};
///
/// let directory = ClusterDirectory::open(&ClusterDirectory::default_root()?)?;
/// let credential = directory.credential(Role::User)?;
/// let client = Client::connect(&["10.0.0.1:7878".parse()?], &credential, ClientOptions::default()).await?;
/// for job in client.jobs().await? {
///     println!("{} {} {}", job.job, job.name, job.state());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dialer: Dialer,
    links: Links,
    patience: Duration,
    /// Where the connection lives.
    runtime: Handle,
}

impl Client {
    /// Connects to whichever of `addresses` answers first. The connection lives on the calling tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Credential`] or [`ClientError::Connect`].
    pub async fn connect(
        addresses: &[SocketAddr],
        credential: &Credential,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let dialer = Dialer::new(credential).map_err(ClientError::Credential)?;
        let mut seed = [0; 8];
        // without randomness the pauses are those of every other client, which is no harm
        let _ = getrandom::fill(&mut seed);
        let reconnect = Reconnect::new(dialer.clone(), addresses.to_vec(), u64::from_le_bytes(seed));
        let links = Links::new(reconnect);
        let begin = Instant::now();
        let reached = match links.get(begin + options.connect_patience).await {
            Err(ConnectError::NoAnswer { .. }) => links.get(begin + options.silence_patience).await,
            reached => reached,
        };
        let (link, _) = reached.map_err(ClientError::Connect)?;
        let client = Self {
            shared: Arc::new(Shared {
                dialer,
                links,
                patience: options.patience,
                runtime: Handle::current(),
            }),
        };
        client.ask_for_schedulers(link);
        Ok(client)
    }

    /// Hands in a job and returns its id once the scheduler has it on durable storage. Handing in the same spec twice
    /// gives the same job: its `submission` names it. The program and other blobs must be there already:
    /// [`Client::ensure_program`], [`Client::ensure_blob`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the job is malformed or cannot ever run, or another [`ClientError`].
    pub async fn submit(&self, spec: JobSpec) -> Result<JobId, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Submitted(job) = reply {
                Some(job)
            } else {
                None
            }
        };
        self.ask(Request::Submit(Box::new(spec)), answer).await
    }

    /// Ends a job, its unstarted tasks unrun; returns once that is durable. A job that is over stays as it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job or it is somebody else's, or another [`ClientError`].
    pub async fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        let answer = |reply: Reply| (reply == Reply::Done).then_some(());
        self.ask(Request::Cancel(job), answer).await
    }

    /// Starts tasks of a job from the top, all of them if `tasks` is absent: those that have ended, and those that run, whose
    /// runs are ended and do not count. Of kernels, those that succeeded stay as they are. Returns how many, once that is
    /// durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if none of them has ended or runs, there is no such job or task or it is somebody else's, or
    /// another [`ClientError`].
    pub async fn requeue(&self, job: JobId, tasks: Option<RangeSet>) -> Result<u64, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Reopened { tasks } = reply {
                Some(tasks)
            } else {
                None
            }
        };
        self.ask(Request::Requeue { job, tasks }, answer).await
    }

    /// Ends tasks of a job, those that run too; its other tasks go on. Returns how many had not ended, once that is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job or task, or it is somebody else's, or another [`ClientError`].
    pub async fn cancel_tasks(&self, job: JobId, tasks: RangeSet) -> Result<u64, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Cancelled { tasks } = reply {
                Some(tasks)
            } else {
                None
            }
        };
        self.ask(Request::CancelTasks { job, tasks }, answer).await
    }

    /// Sends a signal to tasks of a command job that run, all of them if `tasks` is absent. It is not kept: what does not run
    /// now never hears of it, and a worker that is lost meanwhile does not pass it on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if none of them runs, the job runs kernels, there is no such job, task or signal, or it is
    /// somebody else's, or another [`ClientError`].
    pub async fn signal(
        &self,
        job: JobId,
        tasks: Option<RangeSet>,
        signal: TaskSignal,
    ) -> Result<(), ClientError> {
        let answer = |reply: Reply| (reply == Reply::Done).then_some(());
        self.ask(Request::Signal { job, tasks, signal }, answer).await
    }

    /// Runs the failed tasks of a job again, and those that were not run because it was stopped; returns how many, once
    /// that is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is nothing to run again, no such job or it is somebody else's, or another
    /// [`ClientError`].
    pub async fn retry(&self, job: JobId) -> Result<u64, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Reopened { tasks } = reply {
                Some(tasks)
            } else {
                None
            }
        };
        self.ask(Request::Retry(job), answer).await
    }

    /// Starts nothing more of a job until it is released; what runs goes on. Returns once that is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the job is over, there is none or it is somebody else's, or another [`ClientError`].
    pub async fn hold(&self, job: JobId) -> Result<(), ClientError> {
        let answer = |reply: Reply| (reply == Reply::Done).then_some(());
        self.ask(Request::Hold(job), answer).await
    }

    /// Lets a job that is held go on; returns once that is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the job is over, there is none or it is somebody else's, or another [`ClientError`].
    pub async fn release(&self, job: JobId) -> Result<(), ClientError> {
        let answer = |reply: Reply| (reply == Reply::Done).then_some(());
        self.ask(Request::Release(job), answer).await
    }

    /// Gives a worker nothing more: it finishes what runs, gives back what has not started, and leaves. Returns at once.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such worker, or another [`ClientError`].
    pub async fn drain(&self, worker: WorkerId) -> Result<(), ClientError> {
        let answer = |reply: Reply| (reply == Reply::Done).then_some(());
        self.ask(Request::Drain(worker), answer).await
    }

    /// A page of what tasks of a command job have written, as far as their output is packed: see [`OutputPage`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job or storage does not give it, or another [`ClientError`].
    pub async fn output(&self, query: OutputQuery) -> Result<OutputPage, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Output(page) = reply {
                Some(page)
            } else {
                None
            }
        };
        self.ask(Request::Output(query), answer).await
    }

    /// Sends a job of commands a piece of what it reads while it runs; it is durable when this returns.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the job is over, is not yours, or gets more than it may, or another [`ClientError`].
    pub async fn send_input(&self, piece: InputPiece) -> Result<(), ClientError> {
        let answer = |reply: Reply| matches!(reply, Reply::Done).then_some(());
        self.ask(Request::Input(piece), answer).await
    }

    /// All jobs that the scheduler remembers, newest last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Jobs(jobs) = reply {
                Some(jobs)
            } else {
                None
            }
        };
        self.ask(Request::Jobs, answer).await
    }

    /// One job as it is now.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job, or another [`ClientError`].
    pub async fn job(&self, job: JobId) -> Result<JobView, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Job(view) = reply {
                Some(view)
            } else {
                None
            }
        };
        self.ask(Request::Job(job), answer).await
    }

    /// A page that says what becomes of tasks of a job, from the first of `tasks` on: see [`TasksPage`]. Those behind it are
    /// asked for with `page.next` as their start.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job, or another [`ClientError`].
    pub async fn tasks(&self, job: JobId, tasks: IndexRange) -> Result<TasksPage, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Tasks(page) = reply {
                Some(page)
            } else {
                None
            }
        };
        self.ask(Request::Tasks { job, tasks }, answer).await
    }

    /// All workers as they are now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workers(&self) -> Result<Vec<WorkerView>, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Workers(workers) = reply {
                Some(workers)
            } else {
                None
            }
        };
        self.ask(Request::Workers, answer).await
    }

    /// Why a job is where it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such job, or another [`ClientError`].
    pub async fn explain(&self, job: JobId) -> Result<Explanation, ClientError> {
        let answer = |reply: Reply| {
            if let Reply::Explanation(explanation) = reply {
                Some(explanation)
            } else {
                None
            }
        };
        self.ask(Request::Explain(job), answer).await
    }

    /// One job at each change, up to and including its end.
    ///
    /// ```no_run
    /// # async fn example(client: phalanx::Client, job: phalanx::JobId) -> Result<(), phalanx::ClientError> {
    /// let mut watch = client.watch(job);
    /// while let Some(view) = watch.next().await? {
    ///     println!("{} of {} tasks", view.done, view.tasks);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, job: JobId) -> Watch {
        Watch::new(self.clone(), job)
    }

    /// The results of a job as they are durable, by index if `in_order`; from the first one, also if the job is long
    /// over.
    pub fn results(&self, job: JobId, in_order: bool) -> ResultStream {
        ResultStream::new(self.clone(), job, in_order)
    }

    /// Closes the connection, and waits a moment for the scheduler to take notice. Requests under way fail.
    pub async fn close(&self) {
        self.shared.dialer.close(CloseReason::Done, "").await;
    }

    /// Asks until there is an answer, a refusal, or no patience left. Only for requests that may be repeated.
    async fn ask<T>(&self, request: Request, read: impl Fn(Reply) -> Option<T>) -> Result<T, ClientError> {
        let mut retry = Retry::new(self.shared.patience);
        loop {
            let link = self.link(&mut retry).await?;
            match exchange::ask_once(&link, &request).await {
                Ok(reply) => {
                    return read(reply).ok_or(ClientError::Protocol(ProtocolError::WrongReply));
                }
                Err(cut) => self.survive(&link, cut, &mut retry)?,
            }
        }
    }

    /// The connection that stands, or a new one.
    async fn link(&self, retry: &mut Retry) -> Result<Link, ClientError> {
        let (link, is_new) = self
            .shared
            .links
            .get(retry.deadline())
            .await
            .map_err(|error| retry.lost(Interruption::Connect(error)))?;
        if is_new {
            self.ask_for_schedulers(link.clone());
        }
        Ok(link)
    }

    /// Asks in the background where the other schedulers are, so that one of them is found when this one is gone.
    fn ask_for_schedulers(&self, link: Link) {
        let shared = Arc::downgrade(&self.shared);
        let asking = async move {
            let mut reader = exchange::open(&link, &Request::Schedulers, CONTROL_FRAME_BYTES_MAX)
                .await
                .ok()?;
            // whoever does not answer is found out by the next request
            let Reply::Schedulers { all, .. } = reader.recv().await.ok()?? else {
                return None;
            };
            shared.upgrade()?.links.learn_others(&all);
            Some(())
        };
        drop(self.shared.runtime.spawn(asking));
    }

    /// Gives the connection up after an interruption, or says why there is no point in another attempt.
    fn survive(&self, link: &Link, cut: Cut, retry: &mut Retry) -> Result<(), ClientError> {
        match cut {
            Cut::Final(error) => Err(error),
            Cut::SentOn(leader) => {
                tracing::debug!(?leader, "sent on");
                self.shared.links.learn_leader(&leader);
                self.shared.links.forget(link);
                retry.again(Interruption::NoLeader)
            }
            Cut::Retry(cause) => {
                tracing::debug!(error = &cause as &dyn std::error::Error, "asking again");
                self.shared.links.forget(link);
                retry.again(cause)
            }
        }
    }
}
