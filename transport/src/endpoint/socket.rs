//! UDP sockets with buffers that hold a burst.
//!
//! With the kernel's default of 208 KiB, one burst of a bulk stream overruns the receiver's buffer, the losses look like
//! congestion and the stream collapses. So larger buffers are asked for, and what was granted is looked at.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::icmp;

/// Below this, bulk streams are expected to suffer.
const BUFFER_BYTES_WANTED_MIN: usize = 1 << 20;

/// Bytes that the kernel granted for a socket's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// For what is sent.
    pub send_bytes: usize,
    /// For what has arrived and is not yet read.
    pub receive_bytes: usize,
}

impl SocketBuffers {
    /// Whether both buffers hold a burst of a bulk stream.
    pub fn are_sufficient(self) -> bool {
        self.send_bytes.min(self.receive_bytes) >= BUFFER_BYTES_WANTED_MIN
    }
}

/// Binds a UDP socket and asks for `buffer_bytes` each way. On `[::]` it takes IPv4 too.
pub(super) fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    socket.set_nonblocking(true)?;
    icmp::keep_answers(&socket, address.is_ipv6())?;
    socket.bind(&address.into())?;
    let buffers = SocketBuffers {
        send_bytes: granted(socket.send_buffer_size()?),
        receive_bytes: granted(socket.recv_buffer_size()?),
    };
    if !buffers.are_sufficient() {
        tracing::warn!(
            receive_bytes = buffers.receive_bytes,
            send_bytes = buffers.send_bytes,
            asked_bytes = buffer_bytes,
            "the system grants small socket buffers, bulk transfers will be slow: \
             `sysctl -w net.core.rmem_max={buffer_bytes} net.core.wmem_max={buffer_bytes}`"
        );
    }
    Ok((socket.into(), buffers))
}

/// Linux books twice what was asked for, for its own overhead, and reports that.
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") {
        reported / 2
    } else {
        reported
    }
}
