//! What happens within a session, and that it stays there.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use phalanx_protocol::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use phalanx_transport::{
    Accepted, CloseReason, Connection, ConnectionLost, Credential, Dialer, EndpointKeys, EndpointOptions,
    FrameError, Listener, Role,
};

use tokio::sync::oneshot;

use crate::cluster::{ANY, PATIENCE, Server, authority, patient, session, within};

/// Sends a number and gets it back.
async fn assert_echoes(near: &Connection, far: &Connection) {
    let (mut writer, mut reader) = near.open_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
    writer.send(&42u64).await.unwrap();
    let (mut far_writer, mut far_reader) = far.accept_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
    let number: u64 = far_reader.recv().await.unwrap().unwrap();
    far_writer.send(&number).await.unwrap();
    assert_eq!(reader.recv::<u64>().await.unwrap(), Some(42));
}

#[tokio::test]
async fn frames_arrive_as_sent_both_ways_and_the_largest_fits() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    within(assert_echoes(&near, &far)).await;

    let largest = vec![3; DATA_FRAME_BYTES_MAX];
    let send = async {
        let mut writer = far.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
        writer.send_bytes(&largest).await.unwrap();
        writer.finish().await.unwrap();
    };
    let receive = async {
        let mut reader = near.accept_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
        assert!(reader.recv_bytes().await.unwrap().unwrap() == largest);
        assert!(reader.recv_bytes().await.unwrap().is_none());
    };
    within(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn bytes_behind_the_frames_of_a_stream_arrive_whole() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let rest: Vec<u8> = (0..20_000_000u32).map(|index| (index / 7) as u8).collect();
    let send = async {
        let mut writer = far.open_uni(CONTROL_FRAME_BYTES_MAX).await.unwrap();
        writer.queue(&1u64).unwrap();
        writer.send_rest(rest.clone().into()).await.unwrap();
    };
    let receive = async {
        let mut reader = near.accept_uni(CONTROL_FRAME_BYTES_MAX).await.unwrap();
        assert_eq!(reader.recv::<u64>().await.unwrap(), Some(1));
        assert!(reader.recv_rest(rest.len()).await.unwrap() == rest);
    };
    within(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn whoever_dials_demands_the_role_that_its_options_name() {
    let lab = authority("lab");
    let options = EndpointOptions {
        dialled_role: Role::Worker,
        ..patient()
    };
    let n1 = lab.issue(Role::Worker, "n1").unwrap();
    let mut worker = Server::with(&n1, &options);
    let scheduler = Server::scheduler(&lab);
    let n2 = lab.issue(Role::Worker, "n2").unwrap();
    let dialer = Dialer::with_options(&n2, options).unwrap();
    let near = within(dialer.dial(worker.address)).await.unwrap();
    let far = worker.next_connection().await;
    assert_eq!(
        (near.peer().name.as_str(), far.peer().name.as_str()),
        ("n1", "n2")
    );
    assert!(
        within(dialer.dial(scheduler.address))
            .await
            .unwrap_err()
            .is_permanent()
    );
    let dialer = Dialer::with_options(&n2, patient()).unwrap();
    assert!(
        within(dialer.dial(worker.address))
            .await
            .unwrap_err()
            .is_permanent()
    );
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_no_session_and_no_newcomer() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let stranger = UdpSocket::bind(ANY).unwrap();
    let mut noise = 1u64;
    for round in 0..500usize {
        let mut datagram: Vec<u8> = (0..round * 3)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect();
        // every other one looks like the first packet of a QUIC version 1 connection
        if round % 2 == 0 && datagram.len() > 5 {
            datagram[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        }
        stranger.send_to(&datagram, server.address).unwrap();
        if round % 50 == 0 {
            within(assert_echoes(&near, &far)).await;
        }
    }
    let (newcomer, newcomer_far) = session(&mut server, &lab, "n2").await;
    within(assert_echoes(&newcomer, &newcomer_far)).await;
    assert!(near.close_reason().is_none());
}

#[tokio::test]
async fn an_oversized_frame_ends_that_session_only() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let (good_near, good_far) = session(&mut server, &lab, "n2").await;

    let mut writer = near.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
    let oversized = vec![0; CONTROL_FRAME_BYTES_MAX + 1];
    let refuse = async {
        let mut reader = far.accept_uni(CONTROL_FRAME_BYTES_MAX).await.unwrap();
        let error = reader.recv_bytes().await.unwrap_err();
        assert!(
            matches!(error, FrameError::TooLarge { bytes, .. } if bytes == oversized.len()),
            "{error:?}"
        );
        far.close(CloseReason::ProtocolViolation, &error.to_string());
    };
    // whether the writer still gets rid of all its bytes is a matter of timing
    let _ = within(async { tokio::join!(writer.send_bytes(&oversized), refuse) }).await;
    let ConnectionLost::Closed { reason, text } = within(near.closed()).await else {
        panic!("it was closed")
    };
    assert_eq!(reason, CloseReason::ProtocolViolation);
    assert_eq!(text, "a frame of 1048577 bytes is over the limit of 1048576");
    within(assert_echoes(&good_near, &good_far)).await;
}

#[tokio::test]
async fn a_close_carries_its_reason_to_whoever_waits() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let (mut writer, mut reader) = near.open_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
    writer.send(&1u64).await.unwrap();
    far.close(CloseReason::Superseded, "a newer session of `n1` began");
    let error = within(reader.recv::<u64>()).await.unwrap_err();
    let FrameError::Lost(lost) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        lost.to_string(),
        "the peer closed the connection (superseded): a newer session of `n1` began"
    );
    assert!(matches!(within(far.closed()).await, ConnectionLost::ClosedHere));
    assert!(matches!(
        within(near.open_uni(8)).await.unwrap_err(),
        ConnectionLost::Closed { .. }
    ));
}

#[tokio::test]
async fn an_endpoints_close_reaches_every_peer() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let dialer = Dialer::with_options(&lab.issue(Role::User, "ada").unwrap(), patient()).unwrap();
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push((
            within(dialer.dial(server.address)).await.unwrap(),
            server.next_connection().await,
        ));
    }
    within(dialer.close(CloseReason::Done, "all results read")).await;
    for (_, far) in connections {
        let lost = within(far.closed()).await;
        assert!(
            matches!(
                lost,
                ConnectionLost::Closed {
                    reason: CloseReason::Done,
                    ..
                }
            ),
            "{lost:?}"
        );
    }
}

#[tokio::test]
async fn delivered_means_that_a_close_right_after_loses_nothing() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let mut writer = near.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
    let send = async {
        writer.queue_bytes(&[5; 500_000]).unwrap();
        writer.delivered().await.unwrap();
        near.close(CloseReason::Done, "");
    };
    let receive = async {
        let mut reader = far.accept_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
        let frame = reader.recv_bytes().await.unwrap().unwrap();
        assert_eq!(frame.len(), 500_000);
    };
    within(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn an_abandoned_stream_says_why_and_the_session_goes_on() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    let mut writer = near.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
    writer.send(&1u64).await.unwrap();
    let reader = within(far.accept_uni(DATA_FRAME_BYTES_MAX)).await.unwrap();
    reader.abandon(CloseReason::Cancelled);
    let refused = within(async {
        loop {
            if let Err(error) = writer.send_bytes(&[0; 1000]).await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    let refused = refused.await;
    assert!(
        matches!(
            refused,
            FrameError::Abandoned {
                reason: CloseReason::Cancelled
            }
        ),
        "{refused:?}"
    );

    let mut writer = near.open_uni(DATA_FRAME_BYTES_MAX).await.unwrap();
    writer.send(&1u64).await.unwrap();
    let mut reader = within(far.accept_uni(DATA_FRAME_BYTES_MAX)).await.unwrap();
    assert_eq!(within(reader.recv::<u64>()).await.unwrap(), Some(1));
    writer.abandon(CloseReason::Internal);
    let told = within(reader.recv::<u64>()).await.unwrap_err();
    assert!(
        matches!(
            told,
            FrameError::Abandoned {
                reason: CloseReason::Internal
            }
        ),
        "{told:?}"
    );
    within(assert_echoes(&near, &far)).await;
}

/// Runs a scheduler on a thread and runtime of its own until it has accepted one connection, then ends the runtime
/// without another packet, as a killed process would. Sends its address first.
fn scheduler_that_vanishes(
    credential: Credential,
    options: EndpointOptions,
    keys: Option<EndpointKeys>,
    dies: oneshot::Receiver<()>,
) -> (SocketAddr, thread::JoinHandle<()>) {
    let (sender, address) = mpsc::channel();
    let life = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let held = runtime.block_on(async {
            let mut listener = Listener::bind_with(ANY, &credential, &options, keys.as_ref()).unwrap();
            sender.send(listener.local_address().unwrap()).unwrap();
            let Some(Accepted::Connection(connection)) = listener.accept().await else {
                panic!("nobody came")
            };
            dies.await.unwrap();
            (listener, connection)
        });
        runtime.shutdown_background();
        drop(held);
    });
    (address.recv_timeout(PATIENCE).unwrap(), life)
}

#[tokio::test]
async fn a_restarted_scheduler_with_its_keys_says_so_long_before_the_idle_timeout() {
    let lab = authority("lab");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoint.keys");
    let options = EndpointOptions {
        idle_timeout: PATIENCE * 10,
        keep_alive_interval: Duration::from_millis(50),
        ..patient()
    };
    let (die, dies) = oneshot::channel();
    let keys = EndpointKeys::load_or_create(&path).unwrap();
    let scheduler = lab.issue(Role::Scheduler, "s1").unwrap();
    let (address, life) = scheduler_that_vanishes(scheduler, options.clone(), Some(keys), dies);
    let worker = lab.issue(Role::Worker, "n1").unwrap();
    let connection = within(
        Dialer::with_options(&worker, options.clone())
            .unwrap()
            .dial(address),
    )
    .await
    .unwrap();
    die.send(()).unwrap();
    life.join().unwrap();

    let keys = EndpointKeys::load_or_create(&path).unwrap();
    let scheduler = lab.issue(Role::Scheduler, "s1").unwrap();
    let _restarted = Server::of(Listener::bind_with(address, &scheduler, &options, Some(&keys)).unwrap());
    let lost = within(connection.closed()).await;
    assert!(matches!(lost, ConnectionLost::Restarted), "{lost:?}");
}
