//! Finding a scheduler among addresses that may be dead, late, or wrong.

use std::net::UdpSocket;
use std::time::Duration;

use phalanx_transport::{ConnectError, Dialer, EndpointOptions, Listener, Patience, Reconnect, Role};
use tokio::time::Instant;

use crate::cluster::{ANY, Server, authority, dialer, within};

#[tokio::test]
async fn a_dead_address_does_not_hold_up_its_neighbour() {
    let lab = authority("lab");
    let dead = UdpSocket::bind(ANY).unwrap();
    let server = Server::scheduler(&lab);
    // the dead address alone would take all the patience that `within` has
    let hour = Duration::from_secs(3600);
    let options = EndpointOptions {
        handshake_timeout: hour,
        idle_timeout: hour,
        ..EndpointOptions::default()
    };
    let dialer = Dialer::with_options(&lab.issue(Role::User, "ada").unwrap(), options).unwrap();
    let mut reconnect = Reconnect::new(dialer, vec![dead.local_addr().unwrap(), server.address], 1);
    let connection = within(reconnect.connect(Patience::Forever)).await.unwrap();
    assert_eq!(connection.remote_address(), server.address);
}

#[tokio::test]
async fn a_scheduler_that_starts_late_is_found() {
    let lab = authority("lab");
    let silent = UdpSocket::bind(ANY).unwrap();
    let address = silent.local_addr().unwrap();
    let options = EndpointOptions {
        handshake_timeout: Duration::from_millis(100),
        ..EndpointOptions::default()
    };
    let worker = lab.issue(Role::Worker, "n1").unwrap();
    let mut reconnect = Reconnect::new(
        Dialer::with_options(&worker, options.clone()).unwrap(),
        vec![address],
        1,
    );
    let connect = tokio::spawn(async move { reconnect.connect(Patience::Forever).await });
    // the first attempt has surely failed by the time that one like it, begun later, has
    let probe = Dialer::with_options(&worker, options).unwrap();
    within(probe.dial(address)).await.unwrap_err();
    drop(silent);
    let _server = Server::of(Listener::bind(address, &lab.issue(Role::Scheduler, "s1").unwrap()).unwrap());
    within(connect).await.unwrap().unwrap();
}

#[tokio::test]
async fn silence_until_the_deadline_is_told() {
    let silent = UdpSocket::bind(ANY).unwrap();
    let options = EndpointOptions {
        handshake_timeout: Duration::from_millis(50),
        ..EndpointOptions::default()
    };
    let user = authority("lab").issue(Role::User, "ada").unwrap();
    let addresses = vec![silent.local_addr().unwrap()];
    let mut reconnect = Reconnect::new(Dialer::with_options(&user, options).unwrap(), addresses, 1);
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = within(reconnect.connect(Patience::Until(deadline)))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
    assert!(Instant::now() >= deadline);
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_told_at_once() {
    let server = Server::scheduler(&authority("lab"));
    let stranger = dialer(&authority("lab"), Role::User, "ada");
    let mut reconnect = Reconnect::new(stranger, vec![server.address], 1);
    let far_away = Patience::Until(Instant::now() + Duration::from_secs(3600));
    let error = within(reconnect.connect(far_away)).await.unwrap_err();
    assert!(matches!(error, ConnectError::OtherCluster { .. }), "{error:?}");

    let mut nowhere = Reconnect::new(dialer(&authority("lab"), Role::User, "ada"), Vec::new(), 1);
    let error = within(nowhere.connect(Patience::Forever)).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAddress), "{error:?}");
}

/// Which of two schedulers is reached, five times in a row.
async fn visited() -> Vec<usize> {
    let lab = authority("lab");
    let servers = [Server::scheduler(&lab), Server::scheduler(&lab)];
    let addresses = servers.iter().map(|server| server.address).collect();
    let mut reconnect = Reconnect::new(dialer(&lab, Role::Worker, "n1"), addresses, 1);
    let mut visited = Vec::new();
    for is_of_use in [false, true, true, false, false] {
        let connection = within(reconnect.connect(Patience::Forever)).await.unwrap();
        visited.push(
            servers
                .iter()
                .position(|server| server.address == connection.remote_address())
                .unwrap(),
        );
        if is_of_use {
            reconnect.settled();
        }
    }
    visited
}

#[tokio::test]
async fn an_address_is_kept_when_it_was_of_use_and_left_when_not() {
    let mut others = Vec::new();
    // on a busy machine the neighbour of an address may answer first, because it is dialled too after a moment
    for _ in 0..20 {
        let visited = visited().await;
        if visited == [0, 1, 1, 1, 0] {
            return;
        }
        others.push(visited);
    }
    panic!("{others:?}");
}
