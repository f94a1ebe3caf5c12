//! Whether the leader's process still answers, seen over the network: quicker than its card where it dies on another machine.
//!
//! Only a loss that says something counts: a port that is closed now, a process that was restarted or stopped, after a
//! connection that stood. Silence is left to the card, and a leader that was never reached proves nothing.

use std::net::SocketAddr;
use std::time::Duration;

use phalanx_transport::{CloseReason, Connection, ConnectionLost, Dialer};
use tokio::time::{sleep, timeout};

/// How long a leader that was lost is looked for before it counts as gone.
const REACH_AGAIN: Duration = Duration::from_millis(300);
/// Pause between attempts to reach a leader at all.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns once the scheduler at `addresses` was reached, then lost, and cannot be reached again.
pub(crate) async fn lost(dialer: &Dialer, addresses: &[String]) {
    let addresses: Vec<SocketAddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let mut connection = None;
    loop {
        let Some(reached) = connection.take() else {
            connection = reach(dialer, &addresses).await;
            if connection.is_none() {
                sleep(PAUSE).await;
            }
            continue;
        };
        if !tells(&reached.closed().await) {
            continue;
        }
        match timeout(REACH_AGAIN, reach(dialer, &addresses)).await {
            Ok(Some(again)) => connection = Some(again),
            Ok(None) | Err(_) => return,
        }
    }
}

async fn reach(dialer: &Dialer, addresses: &[SocketAddr]) -> Option<Connection> {
    for &address in addresses {
        match dialer.dial(address).await {
            Ok(connection) => return Some(connection),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "no contact to the leader"
            ),
        }
    }
    None
}

/// Whether an end of a connection says something of the process behind it.
fn tells(lost: &ConnectionLost) -> bool {
    match lost {
        ConnectionLost::PortClosed | ConnectionLost::Restarted => true,
        ConnectionLost::Closed { reason, .. } => *reason == CloseReason::Shutdown,
        ConnectionLost::ClosedHere | ConnectionLost::TimedOut | ConnectionLost::Failed(_) => false,
    }
}
