//! A host that sends what it must not: it is lost with the cause named, and nobody else is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::codec;
use phalanx_protocol::gang::{Peers, host_name};
use phalanx_transport::{Authority, Connection, Credential, Dialer, Role, StreamWriter};

use super::account::WINDOW_BYTES;
use super::meeting::hello;
use super::port::{GangPort, options};
use super::wire::{Bulk, EAGER_BYTES_MAX, FRAME_BYTES_MAX, Frame, Head, Lane, Load};
use crate::ranks::envelope::{Context, Envelope, Kind};
use crate::ranks::error::{CommError, Ending};
use crate::ranks::gang::Notice;
use crate::ranks::matching::LANE_MESSAGES_MAX;
use crate::ranks::payload::Form;

const PATIENCE: Duration = Duration::from_secs(20);
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The host that misbehaves, and its rank.
const CULPRIT: u32 = 2;

fn credential(authority: &Authority, host: u32) -> Credential {
    authority.issue(Role::Worker, &host_name(host)).unwrap()
}

fn head(sender: u32, to: u32) -> Head {
    let context = Context::new(0, Kind::PointToPoint);
    Head {
        to,
        envelope: Envelope {
            context,
            source: sender,
            tag: 77,
            sender,
        },
        form: Form {
            type_hash: 0,
            number_bytes: Some(1),
        },
    }
}

/// Something on the stream of frames.
#[derive(Clone)]
enum Bad {
    Frame(Frame),
    /// A frame with so many bytes behind it, so many times.
    Tail(Frame, usize, usize),
    /// A frame's bytes.
    Bytes(Vec<u8>),
    /// A large message that nobody has asked for.
    Bulk(u64),
}

async fn send(bad: Bad, connection: &Connection, writer: &mut StreamWriter) {
    match bad {
        Bad::Frame(frame) => writer.send(&frame).await.unwrap(),
        Bad::Tail(frame, bytes, times) => {
            for _ in 0..times {
                writer.queue_parts(&frame, &vec![0; bytes]).unwrap();
                // fails once the other side has had enough
                if writer.flush().await.is_err() {
                    return;
                }
            }
        }
        Bad::Bytes(bytes) => writer.send_bytes(&bytes).await.unwrap(),
        Bad::Bulk(id) => {
            let mut stream = connection.open_uni(FRAME_BYTES_MAX).await.unwrap();
            stream.queue(&Bulk { id }).unwrap();
            stream.send_rest(Bytes::from_static(b"unasked")).await.unwrap();
        }
    }
}

/// A host that meets hosts 0 and 1 and sends the first one `bad`.
async fn misbehave(credential: Credential, peers: Peers, bad: Bad) {
    // larger frames than are allowed
    let limit = 1 << 20;
    let dialer = Dialer::with_options(&credential, options()).unwrap();
    let mut met = Vec::new();
    for host in 0..CULPRIT {
        let connection = dialer.dial(peers.addresses[host as usize]).await.unwrap();
        let (mut writer, mut reader) = connection.open_bi(limit).await.unwrap();
        writer.send(&hello(&peers)).await.unwrap();
        assert!(reader.recv_bytes().await.unwrap().is_some());
        met.push((connection, writer, reader));
    }
    let (connection, writer, _) = &mut met[0];
    send(bad, connection, writer).await;
    connection.closed().await;
}

/// What host 0 gives as the cause of the culprit's loss.
fn cause_of(bad: Bad) -> String {
    let authority = Authority::create("gang").unwrap();
    let ports: Vec<GangPort> = (0..CULPRIT)
        .map(|host| GangPort::open(HERE, credential(&authority, host).to_pem()).unwrap())
        .collect();
    let peers = |here| Peers {
        here,
        addresses: ports.iter().map(GangPort::address).chain([HERE]).collect(),
        hosts: vec![0, 1, CULPRIT],
    };
    let (culprit, culprits_peers) = (credential(&authority, CULPRIT), peers(CULPRIT));
    let bad_host = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(misbehave(culprit, culprits_peers, bad));
    });
    let all_peers = [peers(0), peers(1)];
    let hosts = ports.into_iter().zip(all_peers).map(|(port, peers)| {
        thread::spawn(move || {
            port.join(peers, PATIENCE).unwrap().run(|comm| {
                let lost = comm.receive::<()>(CULPRIT as usize, 1).unwrap_err();
                let ending = Ending::Lost;
                assert!(
                    matches!(lost, CommError::RankEnded { rank: 2, ending: found } if found == ending),
                    "{lost}"
                );
                let other = 1 - comm.rank();
                assert_eq!(
                    comm.send_receive::<_, usize>(other, comm.rank(), other, 0)
                        .unwrap(),
                    other
                );
            })
        })
    });
    let hosts: Vec<_> = hosts.collect();
    let outcomes: Vec<_> = hosts.into_iter().map(|host| host.join().unwrap()).collect();
    bad_host.join().unwrap();
    for outcome in &outcomes {
        assert!(outcome.ranks.iter().all(|(_, end)| end.is_ok()), "{outcome:?}");
        let lost: Vec<u32> = outcome.losses.iter().map(|loss| loss.host).collect();
        assert_eq!(lost, [CULPRIT]);
    }
    outcomes[0].losses[0].cause.clone()
}

#[track_caller]
fn assert_cause(bad: Bad, cause: &str) {
    assert_eq!(cause_of(bad), cause);
}

#[test]
fn what_is_no_frame_is_named() {
    assert_cause(Bad::Bytes(vec![200; 30]), "it sent a frame that cannot be read");
    assert_cause(Bad::Bytes(Vec::new()), "it sent a frame that cannot be read");
    let bytes = FRAME_BYTES_MAX + 1;
    let cause = format!("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}");
    assert_cause(Bad::Bytes(vec![0; bytes]), &cause);
    let bytes = EAGER_BYTES_MAX + 1;
    let cause = format!("it sent a message of {bytes} bytes where that cannot be");
    assert_cause(Bad::Tail(Frame::Eager(head(2, 0)), bytes, 1), &cause);
    let bytes = u64::MAX;
    let cause = format!("it sent a message of {bytes} bytes where that cannot be");
    let (head, id) = (head(2, 0), 0);
    assert_cause(Bad::Frame(Frame::Announced { head, id, bytes }), &cause);
    let fetch = Frame::Fetch { id: 0 };
    assert_cause(Bad::Tail(fetch, 1, 1), "it sent a frame that cannot be read");
}

#[test]
fn a_message_between_ranks_of_others_is_named() {
    for (sender, to) in [(1, 0), (2, 1), (2, 2), (0, 0), (2, 9)] {
        let cause = format!("it sent a message from rank {sender} to rank {to}, which are not its and ours");
        assert_cause(Bad::Tail(Frame::Eager(head(sender, to)), 8, 1), &cause);
    }
    let mut strange = head(2, 0);
    strange.envelope.source = 3;
    let announced = Frame::Announced {
        head: strange,
        id: 0,
        bytes: 1,
    };
    let cause = "it sent a message from rank 2 to rank 0, which are not its and ours";
    assert_cause(Bad::Frame(announced), cause);
}

#[test]
fn numbers_and_loads_of_messages_that_were_never_sent_are_named() {
    let unknown = "it named a message 7 that is not known";
    assert_cause(Bad::Frame(Frame::Fetch { id: 7 }), unknown);
    assert_cause(Bad::Frame(Frame::Forgo { id: 7 }), unknown);
    assert_cause(Bad::Bulk(7), unknown);
    let lane: Lane = head(0, 2).lane();
    let returned = Frame::Returns(vec![(lane, Load::one(1, true))]);
    assert_cause(
        Bad::Frame(returned),
        "it says that it received more than it was sent",
    );
}

#[test]
fn an_end_that_it_cannot_know_of_is_named() {
    for (place, ending) in [(0, Ending::Lost), (1, Ending::Returned), (9, Ending::Lost)] {
        let notice = Frame::Notice(Notice::Ended { place, ending });
        let cause = format!("it told of an end of rank {place} of which it cannot know");
        assert_cause(Bad::Frame(notice), &cause);
    }
}

#[test]
fn more_than_there_is_room_for_is_named() {
    let eager = Frame::Eager(head(2, 0));
    let times = WINDOW_BYTES as usize / EAGER_BYTES_MAX + 1;
    let flood = Bad::Tail(eager.clone(), EAGER_BYTES_MAX, times);
    assert_cause(flood, "it sent more unasked than 16777216 bytes");
    let overfull = Bad::Tail(eager, 0, LANE_MESSAGES_MAX + 1);
    assert_cause(overfull, "it sent more messages than rank 0 has room for");
}

#[test]
fn a_stream_of_frames_that_just_ends_is_a_loss() {
    let authority = Arc::new(Authority::create("gang").unwrap());
    let port = GangPort::open(HERE, credential(&authority, 0).to_pem()).unwrap();
    let peers = |here| Peers {
        here,
        addresses: vec![port.address(), HERE],
        hosts: vec![0, 1],
    };
    let (own, theirs, other) = (peers(0), peers(1), credential(&authority, 1));
    let bad_host = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let dialer = Dialer::with_options(&other, options()).unwrap();
            let connection = dialer.dial(theirs.addresses[0]).await.unwrap();
            let (mut writer, _reader) = connection.open_bi(FRAME_BYTES_MAX).await.unwrap();
            writer.queue_bytes(&codec::encode(&hello(&theirs))).unwrap();
            writer.finish().await.unwrap();
            connection.closed().await;
        });
    });
    let outcome = port.join(own, PATIENCE).unwrap().run(|comm| {
        assert!(comm.receive::<()>(1, 0).is_err());
    });
    bad_host.join().unwrap();
    assert!(outcome.ranks[0].1.is_ok(), "{outcome:?}");
    assert_eq!(outcome.losses.len(), 1);
    assert_eq!(
        outcome.losses[0].cause,
        "it ended its stream while ranks of it lived"
    );
}
