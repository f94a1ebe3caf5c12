//! A worker's connection: its control stream both ways and its report stream, between the wire and the driver.

use std::time::Duration;

use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_protocol::message::worker::{FromWorker, Report, ToWorker};
use phalanx_scheduler_core::SessionId;
use phalanx_transport::{CloseReason, Connection, ConnectionLost, FrameError, StreamReader, StreamWriter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Context, Desk};
use crate::driver::error_text;
use crate::event::{Event, WORKER_QUEUE_MAX, WorkerLink};

/// How long a worker may take to say something before it is sent elsewhere nevertheless.
const FIRST_WORDS_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn session(connection: Connection, mut desk: Desk) {
    let context = tokio::select! {
        leadership = desk.leadership() => match leadership {
            Ok(context) => context,
            Err(_) => return send_on(&connection, &desk).await,
        },
        _ = connection.closed() => return,
    };
    let session = context.next_session();
    let outcome = tokio::select! {
        outcome = converse(&connection, &context, session) => outcome,
        () = desk.over(context.term) => {
            return connection.close(CloseReason::NotLeader, &desk.leader_text());
        }
    };
    let orderly = match &outcome {
        Ok(()) => true,
        Err(FrameError::Lost(ConnectionLost::Closed { reason, .. })) => {
            matches!(reason, CloseReason::Done | CloseReason::Shutdown)
        }
        Err(_) => false,
    };
    // fails only if the driver is gone, and with it everything that needs to know
    if context
        .events
        .send(Event::Gone { session, orderly })
        .await
        .is_err()
    {
        return connection.close(CloseReason::NotLeader, &desk.leader_text());
    }
    match outcome {
        Ok(()) => connection.close(CloseReason::Done, "the session is over"),
        Err(FrameError::Lost(lost)) => tracing::debug!(reason = %lost, "a worker's connection is lost"),
        Err(error) => {
            tracing::warn!(reason = error_text(&error), "a worker broke the protocol");
            connection.close(CloseReason::ProtocolViolation, &error.to_string());
        }
    }
}

/// Ends the session of a worker that has to go elsewhere. It can read where to only once it has seen its handshake end, which
/// its first words show.
async fn send_on(connection: &Connection, desk: &Desk) {
    let _said = timeout(FIRST_WORDS_WAIT, connection.accept_bi(CONTROL_FRAME_BYTES_MAX)).await;
    connection.close(CloseReason::NotLeader, &desk.leader_text());
}

async fn converse(connection: &Connection, context: &Context, session: SessionId) -> Result<(), FrameError> {
    let (writer, mut reader) = connection
        .accept_bi(CONTROL_FRAME_BYTES_MAX)
        .await
        .map_err(FrameError::Lost)?;
    let Some(FromWorker::Join(join)) = reader.recv().await? else {
        connection.close(
            CloseReason::ProtocolViolation,
            "a worker's first message must be `Join`",
        );
        return Ok(());
    };
    let (messages, queue) = mpsc::channel(WORKER_QUEUE_MAX);
    let (refused, refusal) = oneshot::channel();
    let link = WorkerLink { messages, refused };
    let address = connection.remote_address().to_string();
    if context
        .events
        .send(Event::Joined {
            session,
            address,
            join: Box::new(join),
            link,
        })
        .await
        .is_err()
    {
        return Ok(());
    }
    tokio::select! {
        ended = write(writer, queue) => ended,
        ended = read_control(reader, context, session) => ended,
        ended = read_reports(connection, context, session) => ended,
        Ok(refusal) = refusal => {
            connection.close(CloseReason::Refused, &refusal.to_string());
            Ok(())
        }
    }
}

async fn write(mut writer: StreamWriter, mut queue: mpsc::Receiver<ToWorker>) -> Result<(), FrameError> {
    while let Some(message) = queue.recv().await {
        writer.queue(&message)?;
        while let Ok(message) = queue.try_recv() {
            writer.queue(&message)?;
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn read_control(
    mut reader: StreamReader,
    context: &Context,
    session: SessionId,
) -> Result<(), FrameError> {
    while let Some(message) = reader.recv().await? {
        if context
            .events
            .send(Event::Said { session, message })
            .await
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

async fn read_reports(
    connection: &Connection,
    context: &Context,
    session: SessionId,
) -> Result<(), FrameError> {
    let mut reader = connection
        .accept_uni(DATA_FRAME_BYTES_MAX)
        .await
        .map_err(FrameError::Lost)?;
    while let Some(report) = reader.recv::<Report>().await? {
        if context
            .events
            .send(Event::Reported {
                session,
                report: Box::new(report),
            })
            .await
            .is_err()
        {
            break;
        }
    }
    Ok(())
}
