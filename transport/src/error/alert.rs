//! TLS alerts inside QUIC errors: codes 0x100..=0x1ff (RFC 9001, section 4.8), and which side found the fault.

use quinn::ConnectionError;

pub(super) const BAD_CERTIFICATE: u8 = 42;
pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
pub(super) const CERTIFICATE_REVOKED: u8 = 44;
pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
pub(super) const UNKNOWN_CA: u8 = 48;
pub(super) const ACCESS_DENIED: u8 = 49;
pub(super) const DECRYPT_ERROR: u8 = 51;
pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;

/// The QUIC code of an endpoint that takes no connection (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x02;

/// A TLS alert and who raised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alert {
    /// This side found the fault.
    Here(u8),
    /// The peer found it and said so.
    There(u8),
}

impl Alert {
    /// The alert in `error`, if a TLS alert is what ended the connection.
    pub(super) fn of(error: &ConnectionError) -> Option<Self> {
        if let ConnectionError::TransportError(error) = error {
            return alert_code(error.code.into()).map(Self::Here);
        }
        if let ConnectionError::ConnectionClosed(close) = error {
            return alert_code(close.error_code.into()).map(Self::There);
        }
        None
    }
}

fn alert_code(code: u64) -> Option<u8> {
    let alert = code.checked_sub(0x100)?;
    u8::try_from(alert).ok()
}

/// What is wrong with a credential when the other side raised `alert` about it; `None` if it is about something else.
pub(super) fn credential_fault(alert: u8) -> Option<&'static str> {
    Some(match alert {
        UNKNOWN_CA | DECRYPT_ERROR => "it was issued by another cluster's authority",
        CERTIFICATE_REQUIRED => "none was shown",
        CERTIFICATE_EXPIRED => "it is not valid today",
        CERTIFICATE_REVOKED => "it was revoked",
        BAD_CERTIFICATE | UNSUPPORTED_CERTIFICATE | CERTIFICATE_UNKNOWN | ACCESS_DENIED => {
            "it is of another kind"
        }
        _ => return None,
    })
}

/// Whether the peer takes no connection at all now.
pub(super) fn is_refusal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == CONNECTION_REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crypto_codes_are_alerts() {
        assert_eq!(alert_code(0x100 + 120), Some(NO_APPLICATION_PROTOCOL));
        assert_eq!(alert_code(0x1ff), Some(255));
        assert_eq!(alert_code(0x0a), None);
        assert_eq!(alert_code(0x200), None);
    }
}
