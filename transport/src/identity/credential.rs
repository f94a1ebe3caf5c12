//! What a process shows to prove its identity: certificate, private key and the authority's certificate, in one file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{IdentityError, PeerIdentity, create_private, read_private};

/// A certificate chain, its private key, and the certificate of the authority that it trusts.
///
/// Its form is one PEM text: the certificate (and intermediates, if any), the key, the authority's certificate last.
pub struct Credential {
    pem: String,
    identity: PeerIdentity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Credential {
    /// Whom it names.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The credential as PEM, private key included.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// Reads what [`Credential::to_pem`] gives.
    ///
    /// # Errors
    /// [`IdentityError`] if a part is missing, malformed or of something else.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let mut chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(IdentityError::BadPem)?;
        let authority = chain
            .pop()
            .ok_or(IdentityError::Incomplete { part: "certificate" })?;
        let own = chain.first().ok_or(IdentityError::Incomplete {
            part: "certificate of the authority",
        })?;
        let identity = PeerIdentity::from_certificate(own)?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| IdentityError::Incomplete { part: "private key" })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(IdentityError::Unusable)?;
        Ok(Self {
            pem: pem.to_owned(),
            identity,
            chain,
            key,
            roots: Arc::new(roots),
        })
    }

    /// Creates the file `path` with mode 0600; no moment exists in which others can read it.
    ///
    /// # Errors
    /// [`IdentityError::File`], also if the file exists: credentials are not replaced by mistake.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        create_private(path, self.pem.as_bytes())
    }

    /// Reads a credential from a file that only its owner can read.
    ///
    /// # Errors
    /// [`IdentityError::Exposed`] if others can, [`IdentityError`] if it is no credential.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Self::from_pem(&String::from_utf8_lossy(&read_private(path)?))
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::{Authority, Role};

    #[test]
    fn a_saved_credential_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        let made = Authority::create("lab")
            .unwrap()
            .issue(Role::Worker, "n1")
            .unwrap();
        made.save(&path).unwrap();
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let read = Credential::load(&path).unwrap();
        assert_eq!((read.to_pem(), read.identity()), (made.to_pem(), made.identity()));
    }

    #[test]
    fn a_credential_that_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        Authority::create("lab")
            .unwrap()
            .issue(Role::Worker, "n1")
            .unwrap()
            .save(&path)
            .unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = Credential::load(&path).unwrap_err();
            let told = refused.to_string();
            assert!(matches!(refused, IdentityError::Exposed { .. }), "{told}");
            assert!(told.contains(&format!("chmod 600 {}", path.display())), "{told}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        Credential::load(&path).unwrap();
    }

    #[test]
    fn a_credential_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.pem");
        let authority = Authority::create("lab").unwrap();
        authority.issue(Role::Worker, "n1").unwrap().save(&path).unwrap();
        let refused = authority
            .issue(Role::Worker, "n2")
            .unwrap()
            .save(&path)
            .unwrap_err();
        assert!(refused.to_string().starts_with("cannot create"), "{refused}");
        assert_eq!(Credential::load(&path).unwrap().identity().name, "n1");
    }

    #[test]
    fn a_missing_part_is_named() {
        let pem = Authority::create("lab")
            .unwrap()
            .issue(Role::User, "ada")
            .unwrap()
            .to_pem()
            .to_owned();
        let key_at = pem.find("-----BEGIN PRIVATE").unwrap();
        let authority_at = pem.rfind("-----BEGIN CERT").unwrap();
        let says = |text: &str| Credential::from_pem(text).unwrap_err().to_string();
        assert_eq!(
            says(&pem[..authority_at]),
            "the PEM text holds no certificate of the authority"
        );
        assert_eq!(
            says(&format!("{}{}", &pem[..key_at], &pem[authority_at..])),
            "the PEM text holds no private key"
        );
        assert_eq!(says("hello"), "the PEM text holds no certificate");
    }
}
