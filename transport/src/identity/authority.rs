//! The cluster's certificate authority: made once by `phalanx init`, kept apart from every running process.
//!
//! Certificates live for ten years, because a long-running cluster that stops on a date is worse than one that never
//! renews. Short lives with renewal by the leader come later; [`Authority::issue_between`] is what they will use.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::credential::Credential;
use super::{IdentityError, PeerIdentity, Role, SCHEME, check_name, create_private, read_private, uri_of};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LIFETIME: Duration = Duration::from_secs(3653 * DAY.as_secs());
/// Certificates begin this much in the past, for nodes whose clock is behind.
const CLOCK_TOLERANCE: Duration = DAY;

/// The cluster's certificate authority, with its private key.
pub struct Authority {
    cluster: String,
    /// The authority's own certificate, which every credential carries.
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority for `cluster`. Two of them never trust each other, even under one name.
    ///
    /// # Errors
    /// [`IdentityError::BadName`], or [`IdentityError::Issue`] when the system gives no randomness.
    pub fn create(cluster: &str) -> Result<Self, IdentityError> {
        check_name(cluster)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // The subject differs between authorities of one name, so that a verifier finds "unknown issuer" and not
        // "bad signature" when clusters are mixed up. The first byte of a P-256 key is its form.
        let fingerprint: String = key.public_key_raw()[1..9]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "phalanx");
        params.distinguished_name.push(
            DnType::CommonName,
            DnValue::Utf8String(format!("{cluster} {fingerprint}")),
        );
        params.subject_alt_names = vec![SanType::URI(format!("{SCHEME}{cluster}").try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, &default_validity());
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            cluster: cluster.to_owned(),
            certificate_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Issues a credential with a key of its own, valid from yesterday for ten years.
    ///
    /// # Errors
    /// [`IdentityError::BadName`] or [`IdentityError::Issue`].
    pub fn issue(&self, role: Role, name: &str) -> Result<Credential, IdentityError> {
        self.issue_between(role, name, default_validity())
    }

    /// Issues a credential that is valid in `validity` only.
    ///
    /// # Errors
    /// [`IdentityError::BadName`] or [`IdentityError::Issue`].
    pub fn issue_between(
        &self,
        role: Role,
        name: &str,
        validity: Range<SystemTime>,
    ) -> Result<Credential, IdentityError> {
        let identity = PeerIdentity::new(role, name, &self.cluster)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![role.dns_name().to_owned()])?;
        params
            .subject_alt_names
            .push(SanType::URI(identity.to_string().try_into()?));
        params
            .distinguished_name
            .push(DnType::OrganizationName, "phalanx");
        params
            .distinguished_name
            .push(DnType::CommonName, DnValue::Utf8String(format!("{role} {name}")));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Scheduler | Role::Worker => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
            Role::User | Role::Admin => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, &validity);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Credential::from_pem(&format!(
            "{}{}{}",
            certificate.pem(),
            key.serialize_pem(),
            self.certificate_pem
        ))
    }

    /// The authority as PEM: its certificate, then its private key.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.issuer.key().serialize_pem())
    }

    /// Reads what [`Authority::to_pem`] wrote.
    ///
    /// # Errors
    /// [`IdentityError`] if a part is missing or of something else.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::pem_slice_iter(pem.as_bytes())
            .next()
            .ok_or(IdentityError::Incomplete { part: "certificate" })?
            .map_err(IdentityError::BadPem)?;
        let uri = uri_of(&certificate)?;
        let cluster = uri
            .strip_prefix(SCHEME)
            .filter(|cluster| check_name(cluster).is_ok());
        let cluster = cluster
            .ok_or_else(|| IdentityError::NotPhalanx { uri: uri.clone() })?
            .to_owned();
        let (Some(certificate_pem), Some(key_pem)) =
            (section(pem, "CERTIFICATE"), section(pem, "PRIVATE KEY"))
        else {
            return Err(IdentityError::Incomplete { part: "private key" });
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(key_pem)?)?;
        Ok(Self {
            cluster,
            certificate_pem: certificate_pem.to_owned(),
            issuer,
        })
    }

    /// Creates the file `path` with mode 0600.
    ///
    /// # Errors
    /// [`IdentityError::File`], also if the file exists.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        create_private(path, self.to_pem().as_bytes())
    }

    /// Reads an authority from a file that only its owner can read.
    ///
    /// # Errors
    /// [`IdentityError::Exposed`] if others can, [`IdentityError`] if it is none.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Self::from_pem(&String::from_utf8_lossy(&read_private(path)?))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// One section of a PEM text, with its borders and line end.
fn section<'a>(pem: &'a str, label: &str) -> Option<&'a str> {
    let end_line = format!("-----END {label}-----");
    let start = pem.find(&format!("-----BEGIN {label}-----"))?;
    let end = start + pem[start..].find(&end_line)? + end_line.len();
    let line_end = pem[end..].find('\n').map_or(pem.len(), |at| end + at + 1);
    Some(&pem[start..line_end])
}

fn default_validity() -> Range<SystemTime> {
    let now = SystemTime::now();
    now - CLOCK_TOLERANCE..now + LIFETIME
}

fn set_validity(params: &mut CertificateParams, validity: &Range<SystemTime>) {
    let epoch = date_time_ymd(1970, 1, 1);
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + since_epoch(validity.start);
    params.not_after = epoch + since_epoch(validity.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_read_back_issues_for_the_same_cluster() {
        let made = Authority::create("lab").unwrap();
        let read = Authority::from_pem(&made.to_pem()).unwrap();
        assert_eq!(read.cluster(), "lab");
        assert_eq!(read.to_pem(), made.to_pem());
        let credential = read.issue(Role::Worker, "n1").unwrap();
        assert_eq!(credential.identity().to_string(), "phalanx://lab/worker/n1");
        assert!(
            credential
                .to_pem()
                .ends_with(section(&made.to_pem(), "CERTIFICATE").unwrap())
        );
    }

    #[test]
    fn a_credential_is_no_authority() {
        let credential = Authority::create("lab").unwrap().issue(Role::Admin, "a").unwrap();
        assert!(matches!(
            Authority::from_pem(credential.to_pem()),
            Err(IdentityError::NotPhalanx { .. })
        ));
    }

    #[test]
    fn nothing_shows_a_private_key_by_accident() {
        let authority = Authority::create("lab").unwrap();
        let credential = authority.issue(Role::User, "ada").unwrap();
        let shown = format!("{authority:?} {credential:?}");
        assert!(shown.contains("lab") && shown.contains("ada"));
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
