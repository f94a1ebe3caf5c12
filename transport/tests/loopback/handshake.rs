//! Who gets in, and what those are told who do not.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use phalanx_transport::{
    Authority, ConnectError, Credential, Dialer, EndpointOptions, HandshakeFailure, PeerIdentity, Role,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::cluster::{ANY, Server, authority, dialer, patient, session, within};

#[tokio::test]
async fn each_side_learns_who_the_other_is() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let (near, far) = session(&mut server, &lab, "n1").await;
    assert_eq!(
        near.peer(),
        &PeerIdentity::new(Role::Scheduler, "s1", "lab").unwrap()
    );
    assert_eq!(far.peer(), &PeerIdentity::new(Role::Worker, "n1", "lab").unwrap());
    assert_eq!(near.remote_address(), server.address);
}

#[tokio::test]
async fn another_clusters_scheduler_is_named_as_such_and_goes_on_listening() {
    // the same name, so that only the authority tells them apart
    let (lab, other) = (authority("lab"), authority("lab"));
    let mut server = Server::scheduler(&lab);
    let error = within(dialer(&other, Role::User, "ada").dial(server.address))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::OtherCluster { .. }), "{error:?}");
    assert!(error.is_permanent());
    let expected = format!(
        "{} belongs to another cluster: the authority of `lab` did not issue its certificate",
        server.address
    );
    assert_eq!(error.to_string(), expected);
    let failure = server.next_failure().await;
    assert!(
        matches!(failure, HandshakeFailure::RefusedHere { .. }),
        "{failure:?}"
    );

    session(&mut server, &lab, "n1").await;
}

/// A credential that trusts `trusted`'s authority and was issued by another one.
fn credential_of_wrong_authority(trusted: &Authority, issuer: &Authority) -> Credential {
    let [trusting, issued] = [trusted, issuer].map(|authority| authority.issue(Role::Worker, "n1").unwrap());
    let last = |pem: &str| pem.rfind("-----BEGIN CERTIFICATE").unwrap();
    let (own, root) = (issued.to_pem(), trusting.to_pem());
    Credential::from_pem(&format!("{}{}", &own[..last(own)], &root[last(root)..])).unwrap()
}

#[tokio::test]
async fn a_credential_of_another_authority_is_refused_with_the_reason() {
    let (lab, other) = (authority("lab"), authority("lab"));
    let mut server = Server::scheduler(&lab);
    let credential = credential_of_wrong_authority(&lab, &other);
    let dialer = Dialer::with_options(&credential, patient()).unwrap();
    let error = within(dialer.dial(server.address)).await.unwrap_err();
    let expected = format!(
        "the scheduler at {} refused the worker credential of `n1`: it was issued by another cluster's authority",
        server.address
    );
    assert_eq!(error.to_string(), expected);
    let failure = server.next_failure().await;
    assert!(
        matches!(failure, HandshakeFailure::CredentialRefused { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn an_expired_credential_is_refused_with_the_reason() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    let credential = lab
        .issue_between(Role::User, "ada", hours_ago(2)..hours_ago(1))
        .unwrap();
    let dialer = Dialer::with_options(&credential, patient()).unwrap();
    let error = within(dialer.dial(server.address)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::CredentialRefused {
                why: "it is not valid today",
                ..
            }
        ),
        "{error:?}"
    );
    let failure = server.next_failure().await;
    assert!(
        matches!(
            failure,
            HandshakeFailure::CredentialRefused {
                why: "it is not valid today"
            }
        ),
        "{failure:?}"
    );
}

#[tokio::test]
async fn an_expired_scheduler_is_told_apart_from_a_foreign_one() {
    let lab = authority("lab");
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    let credential = lab
        .issue_between(Role::Scheduler, "s1", hours_ago(2)..hours_ago(1))
        .unwrap();
    let server = Server::with(&credential, &patient());
    let error = within(dialer(&lab, Role::User, "ada").dial(server.address))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::ServerExpired { .. }), "{error:?}");
}

#[tokio::test]
async fn a_caller_without_credential_is_refused() {
    let lab = authority("lab");
    let mut server = Server::scheduler(&lab);
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(lab.to_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![phalanx_transport::PROTOCOL_VERSION.into()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let endpoint = quinn::Endpoint::client(ANY).unwrap();
    let caller = endpoint
        .connect_with(config, server.address, "scheduler.phalanx")
        .unwrap();
    // the caller believes in the handshake until the refusal arrives
    let closed = within(async { caller.await?.accept_uni().await.map(drop) }).await;
    assert!(
        matches!(closed, Err(quinn::ConnectionError::ConnectionClosed(_))),
        "{closed:?}"
    );
    let failure = server.next_failure().await;
    assert!(matches!(failure, HandshakeFailure::NoCredential), "{failure:?}");
}

#[tokio::test]
async fn another_protocol_version_is_named_on_both_sides() {
    let lab = authority("lab");
    let newer = EndpointOptions {
        protocol: "phalanx/99".to_owned(),
        ..patient()
    };
    let mut server = Server::with(&lab.issue(Role::Scheduler, "s1").unwrap(), &newer);
    let error = within(dialer(&lab, Role::Worker, "n1").dial(server.address))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} does not speak {}",
            server.address,
            EndpointOptions::default().protocol
        )
    );
    assert!(error.hint().contains("same phalanx version"));
    assert_eq!(
        server.next_failure().await.to_string(),
        "the caller does not speak phalanx/99"
    );
}

#[tokio::test]
async fn no_other_role_can_pose_as_a_scheduler() {
    let lab = authority("lab");
    for role in [Role::Worker, Role::User, Role::Admin] {
        let server = Server::with(&lab.issue(role, "x").unwrap(), &patient());
        let error = within(dialer(&lab, Role::User, "ada").dial(server.address))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ConnectError::NotScheduler { .. }),
            "{role}: {error:?}"
        );
    }
}

#[tokio::test]
async fn silence_is_told_with_the_address_after_the_handshake_timeout() {
    let silent = UdpSocket::bind(ANY).unwrap();
    let address = silent.local_addr().unwrap();
    let options = EndpointOptions {
        handshake_timeout: Duration::from_millis(300),
        ..EndpointOptions::default()
    };
    let dialer = Dialer::with_options(&authority("lab").issue(Role::User, "ada").unwrap(), options).unwrap();
    let error = within(dialer.dial(address)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("nobody answers at {address} (waited 0.3 s)")
    );
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn an_address_that_nobody_can_have_is_no_silence() {
    let error = within(dialer(&authority("lab"), Role::User, "ada").dial(ANY))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::BadAddress { .. }), "{error:?}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let lab = authority("lab");
    let taken = UdpSocket::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap();
    let error =
        phalanx_transport::Listener::bind(address, &lab.issue(Role::Scheduler, "s1").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}
