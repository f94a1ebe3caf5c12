//! How the hosts of a gang meet: dials, callers, and what both sides say first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::codec;
use phalanx_protocol::gang::{Peers, host_name};
use phalanx_transport::{
    Accepted, CloseReason, ConnectError, Connection, Dialer, FrameError, Listener, StreamReader, StreamWriter,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::port::JoinError;
use super::wire::{FRAME_BYTES_MAX, Hello};

/// Time between two dials to a host that does not answer yet.
const DIAL_INTERVAL: Duration = Duration::from_millis(50);

/// A host that was met.
pub(super) struct Met {
    pub host: u32,
    pub connection: Connection,
    pub writer: StreamWriter,
    pub reader: StreamReader,
}

/// Why a host was not met.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error("{0}")]
    Dial(#[from] ConnectError),
    #[error("{0}")]
    Lost(#[from] phalanx_transport::ConnectionLost),
    #[error("{0}")]
    Stream(#[from] FrameError),
    #[error("it belongs to another gang, or to another start of this one")]
    OtherGang,
    #[error("{address} is host {found}")]
    OtherHost {
        address: std::net::SocketAddr,
        found: String,
    },
}

/// What both sides say first.
pub(super) fn hello(peers: &Peers) -> Hello {
    let hash = blake3::hash(&codec::encode(&peers.hosts));
    let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    Hello {
        hosts_hash: u64::from_le_bytes(first),
    }
}

/// Meets all other hosts, or says which one was not met.
pub(super) async fn meet(
    listener: &mut Listener,
    dialer: &Dialer,
    peers: &Arc<Peers>,
    patience: Duration,
) -> Result<Vec<Met>, JoinError> {
    let deadline = Instant::now() + patience;
    let here = peers.here;
    let mut missing: BTreeMap<u32, String> = (0..peers.addresses.len() as u32)
        .filter(|host| *host != here)
        .map(|host| (host, "it has not called".to_owned()))
        .collect();
    let mut meetings = JoinSet::new();
    for host in 0..here {
        meetings.spawn(dial(dialer.clone(), Arc::clone(peers), host, deadline));
    }
    let mut all = Vec::new();
    while let Some(host) = missing.keys().next().copied() {
        let event = async {
            tokio::select! {
                Some(ended) = meetings.join_next() => match ended {
                    Ok(ended) => Some(ended),
                    // never aborted while this goes on, so this is a panic: pass it on
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => None,
                    },
                },
                Some(accepted) = listener.accept() => {
                    match accepted {
                        Accepted::Connection(connection) => {
                            meetings.spawn(answer(connection, Arc::clone(peers)));
                        }
                        Accepted::Failed { remote, failure } => {
                            tracing::debug!(%remote, %failure, "a caller was not let in");
                        }
                    }
                    None
                }
            }
        };
        match timeout_at(deadline, event).await {
            Ok(Some(Ok(met))) => {
                // a second connection of one host is none
                if missing.remove(&met.host).is_some() {
                    all.push(met);
                }
            }
            Ok(Some(Err((Some(host), missed)))) if host < here => {
                let cause = missed.to_string();
                return Err(JoinError::NotMet { host, cause });
            }
            Ok(Some(Err((Some(host), missed)))) => {
                missing.insert(host, missed.to_string());
            }
            Ok(Some(Err((None, missed)))) => tracing::debug!(%missed, "a caller was sent away"),
            Ok(None) => {}
            Err(_) => {
                let cause = missing.remove(&host).unwrap_or_default();
                return Err(JoinError::NotMet { host, cause });
            }
        }
    }
    Ok(all)
}

/// Whom it concerned, if that is known, and why nothing came of it.
type Ended = Result<Met, (Option<u32>, Missed)>;

/// Dials a host until it answers.
async fn dial(dialer: Dialer, peers: Arc<Peers>, host: u32, deadline: Instant) -> Ended {
    let address = peers.addresses[host as usize];
    let connection = loop {
        match dialer.dial(address).await {
            Ok(connection) => break connection,
            Err(error) if error.is_permanent() || Instant::now() + DIAL_INTERVAL >= deadline => {
                return Err((Some(host), error.into()));
            }
            Err(_) => sleep(DIAL_INTERVAL).await,
        }
    };
    let met = async {
        let found = &connection.peer().name;
        if *found != host_name(host) {
            let found = found.clone();
            return Err(Missed::OtherHost { address, found });
        }
        let (mut writer, mut reader) = connection.open_bi(FRAME_BYTES_MAX).await?;
        writer.send(&hello(&peers)).await?;
        match reader.recv::<Hello>().await? {
            Some(theirs) if theirs == hello(&peers) => Ok((writer, reader)),
            Some(_) | None => Err(Missed::OtherGang),
        }
    };
    let (writer, reader) = met.await.map_err(|missed| (Some(host), missed))?;
    Ok(Met {
        host,
        connection,
        writer,
        reader,
    })
}

/// Hears who calls, and answers.
async fn answer(connection: Connection, peers: Arc<Peers>) -> Ended {
    let caller = connection.peer().name.parse().ok();
    let higher = peers.here + 1..peers.addresses.len() as u32;
    let Some(host) = caller.filter(|host| higher.contains(host)) else {
        connection.close(
            CloseReason::Refused,
            "no host of this gang calls this one by that name",
        );
        return Err((None, Missed::OtherGang));
    };
    let met = async {
        let (mut writer, mut reader) = connection.accept_bi(FRAME_BYTES_MAX).await?;
        let theirs = reader.recv::<Hello>().await?;
        if theirs != Some(hello(&peers)) {
            let text = "it belongs to another gang, or to another start of this one";
            connection.close(CloseReason::Refused, text);
            return Err(Missed::OtherGang);
        }
        writer.send(&hello(&peers)).await?;
        Ok((writer, reader))
    };
    let (writer, reader) = met.await.map_err(|missed| (Some(host), missed))?;
    Ok(Met {
        host,
        connection,
        writer,
        reader,
    })
}
