//! Sessions with a scheduler, one after the other: connects, carries frames both ways, and connects again.
//!
//! What is said is the agent's business: this task tells it when a connection stands and when it is gone. Everything on
//! the two streams passes through bounded channels, so a slow scheduler fills those and not memory.

mod route;
mod search;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_transport::{
    CloseReason, ConnectError, Connection, ConnectionLost, Dialer, FrameError, Patience, StreamReader,
    StreamWriter,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::worker::{AddressSource, WorkerError};
use route::Route;
use search::Search;

/// Control messages that wait for the session's writer; with more, the session is given up.
pub(crate) const CONTROL_MESSAGES_MAX: usize = 16_384;
/// Reports that wait for the session's writer; others wait in the outbox.
pub(crate) const REPORTS_MAX: usize = 64;
/// What the scheduler said and the agent has not taken.
pub(crate) const SESSION_EVENTS_MAX: usize = 256;
/// Bytes queued for a stream before further frames wait in their channel.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// How long a scheduler may take to welcome this worker.
const WELCOME_WAIT: Duration = Duration::from_secs(10);
/// How long the last words may take to arrive.
const FINISH_WAIT: Duration = Duration::from_secs(1);

/// What a session tells the agent.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few of them at a time")]
pub(crate) enum SessionEvent {
    /// A connection stands; `say` and `reports` lead to the scheduler.
    Connected {
        say: mpsc::Sender<Say>,
        reports: mpsc::Sender<Arc<Report>>,
    },
    /// The scheduler said something.
    Said(ToWorker),
    /// The connection is gone, another one is sought.
    Disconnected,
    /// No scheduler takes this worker for longer than one waits that holds nothing: does it hold tasks, or reports?
    Unfound(oneshot::Sender<bool>),
}

/// What the agent has a session say.
#[derive(Debug)]
pub(crate) enum Say {
    /// This.
    Message(FromWorker),
    /// Nothing more, ever: deliver what was said and end.
    Finish,
}

/// What the sessions' task needs.
pub(crate) struct Sessions {
    pub(crate) dialer: Dialer,
    pub(crate) addresses: AddressSource,
    /// How long to look for a scheduler; see [`crate::WorkerConfig`].
    pub(crate) rejoin_for: Duration,
    /// The root of the shared storage.
    pub(crate) storage: PathBuf,
    pub(crate) seed: u64,
    pub(crate) events: mpsc::Sender<SessionEvent>,
}

/// Why a connection ended.
enum End {
    /// It is sought again.
    Lost,
    /// The agent wants no more.
    Finished,
    /// The scheduler does not want this worker.
    Refused(WorkerError),
    /// It does not lead, and said where the leader is, if it knew.
    SentOn(String),
}

struct Streams {
    connection: Connection,
    control_writer: StreamWriter,
    control_reader: StreamReader,
    report_writer: StreamWriter,
    say: mpsc::Receiver<Say>,
    reports: mpsc::Receiver<Arc<Report>>,
}

impl Sessions {
    /// Runs sessions until the agent is done, or no scheduler takes this worker for too long.
    pub(crate) async fn run(self) -> Result<(), WorkerError> {
        let ended = self.run_all().await;
        self.dialer
            .close(CloseReason::Shutdown, "the worker has ended")
            .await;
        ended
    }

    async fn run_all(&self) -> Result<(), WorkerError> {
        let mut route = Route::new(&self.addresses, self.dialer.clone(), self.seed);
        let mut search = Search::begin(self.rejoin_for, Instant::now());
        let mut has_joined = false;
        loop {
            let round_end = search.round_end(Instant::now());
            let connection = match route.reconnect.connect(Patience::Until(round_end)).await {
                Ok(connection) => connection,
                Err(error) => {
                    // what was right once may become right again: an upgrade, a restored certificate
                    let is_hopeless = error.is_permanent() && !has_joined && !route.is_empty();
                    let is_empty = matches!(error, ConnectError::NoAddress);
                    let unreachable = WorkerError::Unreachable {
                        tried_for: search.lasted(Instant::now()),
                        cause: error,
                    };
                    if is_hopeless {
                        return Err(unreachable);
                    }
                    self.go_on(&mut search, unreachable).await?;
                    if is_empty {
                        sleep_until(round_end).await;
                    }
                    route.ask_again();
                    continue;
                }
            };
            let mut joined = false;
            let end = self.serve(connection, &mut route, &mut joined).await;
            if joined {
                route.reconnect.settled();
                (search, has_joined) = (Search::begin(self.rejoin_for, Instant::now()), true);
            }
            let (setback, leader) = match end {
                End::Finished => return Ok(()),
                End::Refused(error) if !has_joined => return Err(error),
                // it has room for this worker again as soon as another leaves
                End::Refused(error) => (error, None),
                End::Lost => (WorkerError::NotTaken, None),
                End::SentOn(leader) => (WorkerError::NotTaken, Some(leader)),
            };
            self.go_on(&mut search, setback).await?;
            route.ask_again();
            if let Some(leader) = leader {
                route.send_on(&leader);
            }
        }
    }

    /// Decides whether to go on looking for a scheduler after `setback`; only what nobody would miss ends by itself.
    async fn go_on(&self, search: &mut Search, setback: WorkerError) -> Result<(), WorkerError> {
        let now = Instant::now();
        if search.is_word_due(now) {
            let seconds = search.lasted(now).as_secs();
            tracing::warn!(
                seconds,
                "no scheduler takes this worker; it goes on looking for one"
            );
        }
        if !search.is_over(now) {
            return Ok(());
        }
        let (reply, holds_work) = oneshot::channel();
        // a driver that is gone holds nothing
        let _ = self.events.send(SessionEvent::Unfound(reply)).await;
        if !holds_work.await.unwrap_or(false) {
            return Err(setback);
        }
        let is_gone = matches!(self.storage.try_exists(), Ok(false));
        match search.is_in_vain(now, is_gone) {
            true => Err(WorkerError::StorageGone {
                path: self.storage.clone(),
                tried_for: search.lasted(now),
            }),
            false => Ok(()),
        }
    }

    async fn serve(&self, connection: Connection, route: &mut Route<'_>, joined: &mut bool) -> End {
        let scheduler = connection.remote_address();
        let (say_sender, say) = mpsc::channel(CONTROL_MESSAGES_MAX);
        let (report_sender, reports) = mpsc::channel(REPORTS_MAX);
        let mut streams = match open(connection, say, reports).await {
            Ok(streams) => streams,
            Err(error) => {
                tracing::debug!(%scheduler, error = &error as &dyn std::error::Error, "no streams");
                return match error {
                    ConnectionLost::Closed {
                        reason: CloseReason::NotLeader,
                        text,
                    } => End::SentOn(text),
                    ConnectionLost::Closed { .. }
                    | ConnectionLost::ClosedHere
                    | ConnectionLost::TimedOut
                    | ConnectionLost::PortClosed
                    | ConnectionLost::Restarted
                    | ConnectionLost::Failed(_) => End::Lost,
                };
            }
        };
        let connected = SessionEvent::Connected {
            say: say_sender,
            reports: report_sender,
        };
        if self.events.send(connected).await.is_err() {
            return End::Finished;
        }
        match self.carry(&mut streams, route, joined).await {
            Ok(()) => {
                streams.finish().await;
                End::Finished
            }
            Err(error) => {
                tracing::info!(%scheduler, error = &error as &dyn std::error::Error, "the session with the scheduler ended");
                let end = streams.end(&error, *joined);
                // if nobody listens any more, the worker has ended
                let _ = self.events.send(SessionEvent::Disconnected).await;
                end
            }
        }
    }

    /// Carries frames until the agent has nothing more to say.
    async fn carry(
        &self,
        streams: &mut Streams,
        route: &mut Route<'_>,
        joined: &mut bool,
    ) -> Result<(), FrameError> {
        let welcome_deadline = Instant::now() + WELCOME_WAIT;
        loop {
            let control_queued = streams.control_writer.queued_bytes();
            let reports_queued = streams.report_writer.queued_bytes();
            tokio::select! {
                said = streams.control_reader.recv::<ToWorker>() => {
                    let Some(message) = said? else { return Err(ended()) };
                    if let ToWorker::Schedulers(addresses) = &message {
                        route.tell(addresses);
                        continue;
                    }
                    if let ToWorker::Welcome { term, .. } = &message {
                        if !route.admits(*term) {
                            tracing::warn!(%term, "a deposed scheduler welcomes this worker; looking for the leader");
                            return Err(ended());
                        }
                        *joined = true;
                    }
                    if self.events.send(SessionEvent::Said(message)).await.is_err() {
                        return Ok(());
                    }
                }
                say = streams.say.recv(), if control_queued < QUEUED_BYTES_MAX => match say {
                    Some(Say::Message(message)) => streams.control_writer.queue(&message)?,
                    Some(Say::Finish) => return Ok(()),
                    // the agent gave this session up
                    None => return Err(ended()),
                },
                // closed together with `say`, whose last word counts
                Some(report) = streams.reports.recv(), if reports_queued < QUEUED_BYTES_MAX => {
                    streams.report_writer.queue(&*report)?;
                }
                () = sleep_until(welcome_deadline), if !*joined => {
                    return Err(FrameError::Io(std::io::ErrorKind::TimedOut.into()));
                }
                flushed = streams.control_writer.flush(), if control_queued > 0 => flushed?,
                flushed = streams.report_writer.flush(), if reports_queued > 0 => flushed?,
            }
        }
    }
}

fn ended() -> FrameError {
    FrameError::Io(std::io::ErrorKind::UnexpectedEof.into())
}

async fn open(
    connection: Connection,
    say: mpsc::Receiver<Say>,
    reports: mpsc::Receiver<Arc<Report>>,
) -> Result<Streams, ConnectionLost> {
    let (control_writer, control_reader) = connection.open_bi(CONTROL_FRAME_BYTES_MAX).await?;
    let report_writer = connection.open_uni(DATA_FRAME_BYTES_MAX).await?;
    Ok(Streams {
        connection,
        control_writer,
        control_reader,
        report_writer,
        say,
        reports,
    })
}

impl Streams {
    /// Delivers what is queued.
    async fn finish(mut self) {
        while let Ok(report) = self.reports.try_recv() {
            if self.report_writer.queue(&*report).is_err() {
                break;
            }
        }
        while let Ok(Say::Message(message)) = self.say.try_recv() {
            if self.control_writer.queue(&message).is_err() {
                break;
            }
        }
        let (reports, control) = (self.report_writer, self.control_writer);
        let delivered = async { (reports.delivered().await, control.delivered().await) };
        // the scheduler may be gone, and then takes what was not delivered from others
        let _ = timeout(FINISH_WAIT, delivered).await;
        self.connection.close(CloseReason::Done, "the worker has left");
    }

    /// Judges how the connection ended, and closes it if it stands.
    fn end(&self, error: &FrameError, joined: bool) -> End {
        let closed = self.connection.close_reason();
        self.connection.close(
            match error {
                FrameError::Malformed(_) | FrameError::TooLarge { .. } | FrameError::Truncated { .. } => {
                    CloseReason::ProtocolViolation
                }
                FrameError::Unencodable(_)
                | FrameError::Abandoned { .. }
                | FrameError::Lost(_)
                | FrameError::Io(_) => CloseReason::Done,
            },
            &error.to_string(),
        );
        match closed {
            Some(ConnectionLost::Closed {
                reason: CloseReason::Refused,
                text,
            }) if !joined => End::Refused(WorkerError::Refused { text }),
            Some(ConnectionLost::Closed {
                reason: CloseReason::NotLeader,
                text,
            }) => End::SentOn(text),
            Some(_) | None => End::Lost,
        }
    }
}
