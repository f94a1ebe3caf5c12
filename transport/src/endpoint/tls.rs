//! TLS for both directions: version 1.3 only, both sides proven, the cluster's own authority as the only root.
//!
//! Sessions are not resumed: a handshake costs a millisecond, and every one of them then checks both certificates.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;

use super::BindError;
use crate::identity::{Credential, IdentityError};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(error: rustls::Error) -> BindError {
    BindError::Credential(IdentityError::Unusable(error))
}

/// What a listener demands of callers and shows them.
pub(super) fn server(credential: &Credential, protocol: &str) -> Result<QuicServerConfig, BindError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(credential.roots(), provider())
        .build()
        .map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credential.chain(), credential.key())
        .map_err(unusable)?;
    tls.alpn_protocols = vec![alpn(protocol)?];
    tls.send_tls13_tickets = 0;
    QuicServerConfig::try_from(tls).map_err(|error| unusable(rustls::Error::General(error.to_string())))
}

/// What a dialler demands of schedulers and shows them. The role is demanded as the server's DNS name.
pub(super) fn client(credential: &Credential, protocol: &str) -> Result<QuicClientConfig, BindError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(credential.roots())
        .with_client_auth_cert(credential.chain(), credential.key())
        .map_err(unusable)?;
    tls.alpn_protocols = vec![alpn(protocol)?];
    tls.resumption = Resumption::disabled();
    QuicClientConfig::try_from(tls).map_err(|error| unusable(rustls::Error::General(error.to_string())))
}

/// ALPN names have 1 to 255 bytes.
fn alpn(protocol: &str) -> Result<Vec<u8>, BindError> {
    match (1..=255).contains(&protocol.len()) {
        true => Ok(protocol.as_bytes().to_vec()),
        false => Err(BindError::Option { option: "protocol" }),
    }
}
