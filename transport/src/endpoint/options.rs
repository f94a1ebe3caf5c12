//! The settings of an endpoint, and why they are what they are.

use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::limits::STREAMS_PER_PEER_MAX;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::{BindError, SocketBuffers};
use crate::identity::Role;

/// Protocol and version, agreed on in the handshake (ALPN). Raised whenever a message changes.
pub const PROTOCOL_VERSION: &str = "phalanx/11";

/// Largest UDP payload that is tried unless told otherwise. Ten of them still fit one send with segmentation offload,
/// which is the most that quinn hands to the kernel at once. Anything larger is lost without an error, taken for a black
/// hole, and leaves the path at 1200 for a minute or more. Measured over loopback: 6500 moves 1.7 to 2 times the bytes of 1452 for
/// the same cpu time, and turning the offload off in favour of 64 KiB payloads gains nothing more (but costs 60 % where
/// the network's limit is 1500).
const UDP_PAYLOAD_BYTES_MAX: u16 = 6500;
/// What fits every Ethernet: the payload to stay at when a burst of larger ones would overrun the socket's buffers.
const UDP_PAYLOAD_BYTES_ETHERNET: u16 = 1452;
/// The least that QUIC needs.
const UDP_PAYLOAD_BYTES_MIN: u16 = 1200;

/// The settings of a listener or dialler. The defaults are for a cluster's network; tests shorten the times.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Protocol and version that both sides must name; at most 255 bytes.
    pub protocol: String,
    /// How often an otherwise silent connection is kept alive. 500 ms.
    pub keep_alive_interval: Duration,
    /// Silence after which the peer counts as gone; the smaller of both sides' values holds. 3 s.
    pub idle_timeout: Duration,
    /// How long a handshake may take, from the first packet to the greeting. 2 s.
    pub handshake_timeout: Duration,
    /// Bytes asked for as each of the socket's buffers. 4 MiB.
    pub socket_buffer_bytes: usize,
    /// Bytes that one stream may hold unread. 8 MiB.
    pub stream_window_bytes: u32,
    /// Bytes that one connection may hold unread, and unacknowledged: a peer's share of this process's memory. 16 MiB.
    pub connection_window_bytes: u32,
    /// Largest UDP payload to look for on a path, 1200 to 6550; no more than 1452 is used when the socket's buffers are
    /// small. 6500.
    pub udp_payload_bytes_max: u16,
    /// The role that a dialler demands of whom it dials; of no meaning to a listener. Scheduler.
    pub dialled_role: Role,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            protocol: PROTOCOL_VERSION.to_owned(),
            keep_alive_interval: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(2),
            socket_buffer_bytes: 4 << 20,
            stream_window_bytes: 8 << 20,
            connection_window_bytes: 16 << 20,
            udp_payload_bytes_max: UDP_PAYLOAD_BYTES_MAX,
            dialled_role: Role::Scheduler,
        }
    }
}

impl EndpointOptions {
    /// What quinn makes of these, for a socket with `buffers`.
    pub(super) fn transport(&self, buffers: SocketBuffers) -> Result<Arc<TransportConfig>, BindError> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| BindError::Option {
            option: "idle_timeout",
        })?;
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.udp_payload_bytes_within(buffers));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive_interval))
            // the default is 333 ms: a lost first packet would cost a second
            .initial_rtt(Duration::from_millis(5))
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_PEER_MAX))
            .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_PER_PEER_MAX))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_window_bytes))
            .send_window(u64::from(self.connection_window_bytes))
            .mtu_discovery_config(Some(mtu))
            .datagram_receive_buffer_size(None);
        Ok(Arc::new(transport))
    }

    /// Largest UDP payload that is wise with `buffers`.
    pub(super) fn udp_payload_bytes_within(&self, buffers: SocketBuffers) -> u16 {
        let wise = if buffers.are_sufficient() {
            u16::MAX
        } else {
            UDP_PAYLOAD_BYTES_ETHERNET
        };
        self.udp_payload_bytes_max.clamp(UDP_PAYLOAD_BYTES_MIN, wise)
    }
}
