//! Which peers' ports are closed, as their kernels say: a datagram to a port that no socket has is answered with an ICMP
//! "port unreachable", and Linux keeps these answers in the socket's error queue if it is asked to (`ip(7)`, `IP_RECVERR`).
//!
//! Such an answer proves nothing: it may be old, and anybody who guesses our port can forge it. What follows from it is
//! decided in [`peers`](super::peers). It may also be missing: kernels answer each address six times at once, then once a
//! second, except over loopback. The other errors of the queue (a datagram over the path's limit, a network that is down) are
//! thrown away: quinn finds the path's limit itself, and a silent network is the idle timeout's matter.

#![expect(
    unsafe_code,
    reason = "no safe wrapper of the system calls knows this socket option and its messages"
)]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{MsgHdrMut, SockAddr, SockRef};

/// Room for all control messages of one error; those that quinn asks for are among them.
const CONTROL_BYTES: usize = 256;
/// Bytes before a control message's data: its length, level and type, padded to a word.
const HEADER_BYTES: usize =
    (size_of::<usize>() + 2 * size_of::<c_int>()).next_multiple_of(size_of::<usize>());

/// Asks the kernel to keep the ICMP answers to what `socket` sends.
pub(super) fn keep_answers(socket: &impl AsFd, is_ipv6: bool) -> io::Result<()> {
    // an IPv6 socket may send IPv4 too
    set(socket, libc::IPPROTO_IP, libc::IP_RECVERR)?;
    match is_ipv6 {
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        false => Ok(()),
    }
}

fn set(socket: &impl AsFd, level: c_int, option: c_int) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the descriptor is open while it is borrowed, and the pointer is to an integer of the length that is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the next error from the socket's queue: the address to which a datagram was sent, if it is said that nobody
/// listens there, `None` if it is about something else.
///
/// # Errors
/// `WouldBlock` if the queue is empty.
pub(super) fn next_answer(socket: &impl AsFd) -> io::Result<Option<SocketAddr>> {
    // room for an address of either family
    let mut destination = SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let mut control = [MaybeUninit::new(0); CONTROL_BYTES];
    let mut message = MsgHdrMut::new()
        .with_addr(&mut destination)
        .with_control(&mut control);
    SockRef::from(socket).recvmsg(&mut message, libc::MSG_ERRQUEUE)?;
    let control_bytes = message.control_len().min(CONTROL_BYTES);
    // SAFETY: all of it was initialized above, and the kernel has only written over it.
    let control = control.map(|byte| unsafe { byte.assume_init() });
    match says_port_unreachable(&control[..control_bytes]) {
        true => Ok(destination.as_socket()),
        false => Ok(None),
    }
}

/// Whether one of the control messages is an extended error that says that a port is closed.
fn says_port_unreachable(mut control: &[u8]) -> bool {
    while let Some((level, kind, data, rest)) = split_message(control) {
        let is_error = (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
            || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
        // a `sock_extended_err` begins with the error's number and its origin
        if let (true, Some(error), Some(origin)) = (is_error, int_at(data, 0), data.get(4)) {
            return error == libc::ECONNREFUSED
                && [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(origin);
        }
        control = rest;
    }
    false
}

/// Level, type and data of the first control message, and what follows it.
fn split_message(control: &[u8]) -> Option<(c_int, c_int, &[u8], &[u8])> {
    let bytes = usize::from_ne_bytes(*control.first_chunk()?);
    let data = control.get(HEADER_BYTES..bytes)?;
    let level = int_at(control, size_of::<usize>())?;
    let kind = int_at(control, size_of::<usize>() + size_of::<c_int>())?;
    let rest = control
        .get(bytes.next_multiple_of(size_of::<usize>())..)
        .unwrap_or_default();
    Some((level, kind, data, rest))
}

fn int_at(bytes: &[u8], position: usize) -> Option<c_int> {
    bytes
        .get(position..)?
        .first_chunk()
        .map(|int| c_int::from_ne_bytes(*int))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;

    /// A socket of `local`'s family that keeps answers, and takes IPv4 too if it is of the other one.
    fn socket(local: SocketAddr) -> UdpSocket {
        super::super::socket::bind(local, 1 << 20).unwrap().0
    }

    fn closed_port(address: SocketAddr) -> SocketAddr {
        UdpSocket::bind(address).unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_closed_port_is_named_on_either_family() {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let mapped = |address: SocketAddr| {
            let ip = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            SocketAddr::from((ip, address.port()))
        };
        let mut cases = vec![(v4, closed_port(v4))];
        // not every machine has IPv6
        if UdpSocket::bind(v6).is_ok() {
            cases.extend([(v6, closed_port(v6)), (any_v6, mapped(closed_port(v4)))]);
        }
        for (local, closed) in cases {
            let socket = socket(local);
            // quinn asks for this, and it comes first
            set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO).unwrap();
            socket.send_to(b"?", closed).unwrap();
            // loopback answers before the send returns, or soon after on a busy machine
            let until = Instant::now() + Duration::from_secs(20);
            let answer = loop {
                match next_answer(&socket) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                        std::thread::yield_now();
                    }
                    answer => break answer.unwrap(),
                }
            };
            assert_eq!(answer, Some(closed));
            let empty = next_answer(&socket).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }

    /// Control messages as the kernel writes them, the last one an error with this number and origin.
    fn control(error: c_int, origin: u8) -> Vec<u8> {
        let [a, b, c, d] = error.to_ne_bytes();
        let mut control = vec![];
        for (kind, data) in [
            (libc::IP_PKTINFO, &[0; 12][..]),
            (libc::IP_RECVERR, &[a, b, c, d, origin, 3, 3, 0][..]),
        ] {
            control.extend((HEADER_BYTES + data.len()).to_ne_bytes());
            control.extend(libc::IPPROTO_IP.to_ne_bytes());
            control.extend(kind.to_ne_bytes());
            control.extend(data);
            control.resize(control.len().next_multiple_of(size_of::<usize>()), 0);
        }
        control
    }

    #[test]
    fn only_a_refusal_by_icmp_closes_a_port() {
        assert!(says_port_unreachable(&control(
            libc::ECONNREFUSED,
            libc::SO_EE_ORIGIN_ICMP
        )));
        for (error, origin) in [
            (libc::ECONNREFUSED, libc::SO_EE_ORIGIN_LOCAL),
            (libc::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP),
            (libc::EHOSTUNREACH, libc::SO_EE_ORIGIN_ICMP),
        ] {
            assert!(
                !says_port_unreachable(&control(error, origin)),
                "{error} {origin}"
            );
        }
    }

    #[test]
    fn control_messages_that_are_cut_off_say_nothing() {
        let whole = control(libc::ECONNREFUSED, libc::SO_EE_ORIGIN_ICMP);
        for bytes in 0..whole.len() {
            assert!(!says_port_unreachable(&whole[..bytes]), "{bytes} bytes");
        }
    }
}
