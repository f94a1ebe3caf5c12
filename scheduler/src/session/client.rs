//! A client's connection: each of its streams carries one request, served by a task of its own.

use phalanx_protocol::limits::{DATA_FRAME_BYTES_MAX, INPUT_PIECE_BYTES_MAX};
use phalanx_protocol::message::client::{InputPiece, OutputQuery, Refusal, Reply, Request};
use phalanx_protocol::view::TaskState;
use phalanx_protocol::{IndexRange, JobSpec, RangeSet};
use phalanx_storage::{InputError, Outputs, PAGE_TASKS_MAX, StreamedInput};
use phalanx_transport::{CloseReason, Connection, FrameError, Role, StreamReader, StreamWriter};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Context, Desk, follow, upload};
use crate::driver::error_text;
use crate::event::{Command, Event, Query};

/// Who asks.
#[derive(Debug, Clone)]
struct Caller {
    user: String,
    admin: bool,
}

pub(super) async fn session(connection: Connection, desk: Desk) {
    let peer = connection.peer();
    let caller = Caller {
        user: peer.name.clone(),
        admin: peer.role == Role::Admin,
    };
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi(DATA_FRAME_BYTES_MAX) => match stream {
                Ok((writer, reader)) => {
                    requests.spawn(request(connection.clone(), desk.clone(), caller.clone(), writer, reader));
                }
                Err(lost) => {
                    tracing::debug!(user = caller.user, reason = %lost, "a client's connection has ended");
                    break;
                }
            },
            Some(_) = requests.join_next() => {}
        }
    }
}

async fn request(
    connection: Connection,
    mut desk: Desk,
    caller: Caller,
    mut writer: StreamWriter,
    mut reader: StreamReader,
) {
    let served = answer(&mut desk, caller, &mut writer, &mut reader).await;
    let ended = match served {
        Ok(()) => writer.finish().await,
        Err(error) => Err(error),
    };
    match ended {
        // the client went away or lost interest: nobody else's concern
        Ok(()) | Err(FrameError::Lost(_) | FrameError::Abandoned { .. }) => {}
        Err(error) => {
            tracing::warn!(reason = error_text(&error), "a client broke the protocol");
            connection.close(CloseReason::ProtocolViolation, &error.to_string());
        }
    }
}

/// Answers a request under the leadership that there is, and sends the client on when there is none or it ends.
async fn answer(
    desk: &mut Desk,
    caller: Caller,
    writer: &mut StreamWriter,
    reader: &mut StreamReader,
) -> Result<(), FrameError> {
    let Some(request) = reader.recv::<Request>().await? else {
        return Ok(());
    };
    if request == Request::Schedulers {
        return writer.send(&desk.schedulers()).await;
    }
    let leader = match desk.leadership().await {
        // whole frames are queued, so what is cut off here can be followed by another one
        Ok(context) => tokio::select! {
            served = serve(&context, request, caller, writer, reader) => return served,
            () = desk.over(context.term) => desk.leader(),
        },
        Err(leader) => leader,
    };
    writer.send(&Reply::Refused(Refusal::NotLeader { leader })).await
}

async fn serve(
    context: &Context,
    request: Request,
    caller: Caller,
    writer: &mut StreamWriter,
    reader: &mut StreamReader,
) -> Result<(), FrameError> {
    let reply = match request {
        Request::FindMissing(blobs) => Reply::Missing(context.missing(blobs).await),
        Request::PutBlob { blob, bytes } => upload::receive(context, blob, bytes, reader).await?,
        Request::Submit(spec) => submit(context, caller, spec).await,
        Request::Cancel(job) => command(context, caller, Command::Cancel(job)).await,
        Request::Requeue { job, tasks } => command(context, caller, Command::Requeue { job, tasks }).await,
        Request::CancelTasks { job, tasks } => {
            command(context, caller, Command::CancelTasks { job, tasks }).await
        }
        Request::Signal { job, tasks, signal } => {
            command(context, caller, Command::Signal { job, tasks, signal }).await
        }
        Request::Jobs => query(context, Query::Jobs).await,
        Request::Job(job) => query(context, Query::Job(job)).await,
        Request::Workers => query(context, Query::Workers).await,
        Request::Explain(job) => query(context, Query::Explain(job)).await,
        Request::Tasks { job, tasks } => query(context, Query::Tasks { job, tasks }).await,
        Request::Retry(job) => command(context, caller, Command::Retry(job)).await,
        Request::Hold(job) => command(context, caller, Command::Hold { job, held: true }).await,
        Request::Release(job) => command(context, caller, Command::Hold { job, held: false }).await,
        Request::Drain(worker) => command(context, caller, Command::Drain(worker)).await,
        Request::Schedulers => Reply::Refused(Refusal::Full {
            what: "it cannot do that yet".to_owned(),
        }),
        Request::Output(query) => output(context, query).await,
        Request::Input(piece) => input(context, caller, piece).await,
        Request::Watch(job) => return follow::watch(context, job, writer).await,
        Request::Results { job, in_order, have } => {
            return follow::results(context, job, in_order, have, writer).await;
        }
    };
    writer.send(&reply).await
}

async fn submit(context: &Context, caller: Caller, spec: Box<JobSpec>) -> Reply {
    match context.missing(spec.work.blobs()).await.first() {
        Some(&blob) => Reply::Refused(Refusal::BlobMissing(blob)),
        None => command(context, caller, Command::Submit(spec)).await,
    }
}

/// Reads what tasks have written; whoever may see a job may see that.
async fn output(context: &Context, asked: OutputQuery) -> Reply {
    let IndexRange { start, end } = asked.tasks;
    let tasks = IndexRange::new(start, end.min(start.saturating_add(PAGE_TASKS_MAX)).max(start));
    let job = asked.job;
    let found = query(context, Query::Tasks { job, tasks }).await;
    let Reply::Tasks(page) = found else {
        return found;
    };
    let succeeded = page.tasks.iter().filter(|one| one.state == TaskState::Succeeded);
    let done = RangeSet::from_iter(succeeded.map(|one| one.range));
    let outputs = Outputs::new(context.blobs.root().to_owned());
    let read = move || outputs.read(&asked, |task| done.contains(task));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(page)) => Reply::Output(page),
        Ok(Err(error)) => Reply::Refused(Refusal::Storage {
            error: error_text(&error),
        }),
        Err(error) => Reply::Refused(Refusal::Storage {
            error: error.to_string(),
        }),
    }
}

/// Keeps what a job reads while it runs; only whose it is may send that.
async fn input(context: &Context, caller: Caller, piece: InputPiece) -> Reply {
    let InputPiece {
        job,
        offset,
        bytes,
        is_last,
    } = piece;
    let found = query(context, Query::Job(job)).await;
    let Reply::Job(view) = found else {
        return found;
    };
    if view.user != caller.user && !caller.admin {
        return Reply::Refused(Refusal::NotYours {
            job,
            owner: view.user,
            user: caller.user,
        });
    }
    if view.outcome.is_some() {
        return Reply::Refused(Refusal::Over(job));
    }
    if bytes.len() > INPUT_PIECE_BYTES_MAX {
        let what = format!("a piece of input has at most {INPUT_PIECE_BYTES_MAX} bytes");
        return Reply::Refused(Refusal::Full { what });
    }
    let kept = StreamedInput::new(context.blobs.root(), job);
    match tokio::task::spawn_blocking(move || kept.put(offset, &bytes, is_last)).await {
        Ok(Ok(())) => Reply::Done,
        Ok(Err(error @ (InputError::TooLong | InputError::Gap { .. } | InputError::Ended { .. }))) => {
            Reply::Refused(Refusal::Full {
                what: error.to_string(),
            })
        }
        Ok(Err(error @ InputError::Io(_))) => Reply::Refused(Refusal::Storage {
            error: error_text(&error),
        }),
        Err(error) => Reply::Refused(Refusal::Storage {
            error: error.to_string(),
        }),
    }
}

async fn command(context: &Context, caller: Caller, command: Command) -> Reply {
    let Caller { user, admin } = caller;
    let (reply, answer) = oneshot::channel();
    answered(
        context,
        Event::Command {
            user,
            admin,
            command,
            reply,
        },
        answer,
    )
    .await
}

pub(super) async fn query(context: &Context, query: Query) -> Reply {
    let (reply, answer) = oneshot::channel();
    answered(context, Event::Query { query, reply }, answer).await
}

async fn answered(context: &Context, event: Event, answer: oneshot::Receiver<Reply>) -> Reply {
    let sent = context.requests.send(event).await.is_ok();
    let reply = if sent { answer.await.ok() } else { None };
    reply.unwrap_or(Reply::Refused(Refusal::NotLeader { leader: Vec::new() }))
}
