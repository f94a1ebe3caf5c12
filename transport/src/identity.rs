//! Who a process is: its role, name and cluster, as its certificate says.
//!
//! `phalanx init` makes an [`Authority`]; that issues a [`Credential`] to each process or person; and the peer of a
//! connection is a [`PeerIdentity`], read from the certificate that the handshake has already verified. What an
//! identity may *do* is decided by the caller; [`PeerIdentity::require`] words the refusal.

mod authority;
mod credential;
mod private_file;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use phalanx_protocol::limits::NAME_BYTES_MAX;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use authority::Authority;
pub use credential::Credential;
pub(crate) use private_file::{create_private, read_private};

/// What a certificate lets its holder be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Holds jobs and journal; the only role that others dial.
    Scheduler,
    /// Offers a node's slots.
    Worker,
    /// Submits jobs and changes their own.
    User,
    /// Changes everybody's jobs, drains workers.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Scheduler, Self::Worker, Self::User, Self::Admin];

    /// The role's word, as in certificates and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// The DNS name in certificates of this role, by which a dialler demands it.
    pub(crate) const fn dns_name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler.phalanx",
            Self::Worker => "worker.phalanx",
            Self::User => "user.phalanx",
            Self::Admin => "admin.phalanx",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| IdentityError::UnknownRole {
            text: text.to_owned(),
        })
    }
}

/// Who a process is. Its text form is the URI in its certificate, `phalanx://<cluster>/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// What it may be.
    pub role: Role,
    /// Its own name: of the node, the person, the scheduler.
    pub name: String,
    /// The cluster whose authority says so.
    pub cluster: String,
}

/// Scheme and separator of the URIs in certificates.
const SCHEME: &str = "phalanx://";

impl PeerIdentity {
    /// An identity from its parts.
    ///
    /// # Errors
    /// [`IdentityError::BadName`] if a name is empty, too long or holds characters other than letters, digits and
    /// `.` `_` `-` `+` `@`.
    pub fn new(role: Role, name: &str, cluster: &str) -> Result<Self, IdentityError> {
        check_name(name)?;
        check_name(cluster)?;
        Ok(Self {
            role,
            name: name.to_owned(),
            cluster: cluster.to_owned(),
        })
    }

    /// Reads the identity from a certificate; the caller has verified the certificate or is about to.
    pub(crate) fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        uri_of(der)?.parse()
    }

    /// Refuses roles that are not among `allowed`.
    ///
    /// # Errors
    /// [`WrongRole`], worded for the peer.
    pub fn require(&self, allowed: &'static [Role]) -> Result<(), WrongRole> {
        match allowed.contains(&self.role) {
            true => Ok(()),
            false => Err(WrongRole {
                peer: self.clone(),
                allowed,
            }),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for PeerIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let unnamed = || IdentityError::NotPhalanx { uri: text.to_owned() };
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(unnamed)?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(role), Some(name), None) => Self::new(role.parse()?, name, cluster),
            _ => Err(unnamed()),
        }
    }
}

/// A credential of a role that may not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` holds a {} credential, this needs {}", peer.name, peer.role, list_of(allowed))]
pub struct WrongRole {
    /// Who asked.
    pub peer: PeerIdentity,
    /// The roles that may.
    pub allowed: &'static [Role],
}

/// "a user or an admin credential".
fn list_of(roles: &[Role]) -> String {
    let words: Vec<String> = roles
        .iter()
        .map(|role| match role {
            Role::Admin => format!("an {role}"),
            Role::Scheduler | Role::Worker | Role::User => format!("a {role}"),
        })
        .collect();
    format!("{} credential", words.join(" or "))
}

/// Why an authority, credential or certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A cluster's or holder's name that cannot stand in a certificate.
    #[error("`{name}` is not a name: 1 to {NAME_BYTES_MAX} letters, digits or . _ - + @ are allowed")]
    BadName {
        /// The name.
        name: String,
    },
    /// A role word from another version or another program.
    #[error("`{text}` is not a role: scheduler, worker, user and admin are")]
    UnknownRole {
        /// The word.
        text: String,
    },
    /// A certificate of something else.
    #[error("the certificate names `{uri}`, not phalanx://<cluster>/<role>/<name>")]
    NotPhalanx {
        /// The URI in it, or nothing.
        uri: String,
    },
    /// Not a certificate at all.
    #[error("the certificate is malformed")]
    BadCertificate,
    /// A PEM text without one of its parts.
    #[error("the PEM text holds no {part}")]
    Incomplete {
        /// What is missing.
        part: &'static str,
    },
    /// A PEM text that cannot be read.
    #[error("the PEM text is malformed")]
    BadPem(#[source] rustls::pki_types::pem::Error),
    /// Certificate and key that do not belong together, or a key of an unknown kind.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// A certificate could not be made.
    #[error("no certificate can be made")]
    Issue(#[from] rcgen::Error),
    /// The file cannot be read or created.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read` or `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Others on this machine could read the private key.
    #[error(
        "`{}` holds a private key and has mode {mode:04o}: others can read it; run `chmod 600 {}`",
        path.display(),
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Names go into URIs, file names and logs, so they hold nothing that any of these would quote.
fn check_name(name: &str) -> Result<(), IdentityError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    // `.` and `..` would be folders
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte != b'.');
    match is_name {
        true => Ok(()),
        false => Err(IdentityError::BadName {
            name: name.chars().take(NAME_BYTES_MAX).collect(),
        }),
    }
}

/// The one URI among a certificate's alternative names.
fn uri_of(der: &[u8]) -> Result<String, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::BadCertificate)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::BadCertificate)?;
    let uri = names
        .into_iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some((*uri).to_owned())
            } else {
                None
            }
        });
    uri.ok_or(IdentityError::NotPhalanx { uri: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_its_uri() {
        let identity = PeerIdentity::new(Role::User, "ada@lab-1", "c0").unwrap();
        assert_eq!(identity.to_string(), "phalanx://c0/user/ada@lab-1");
        assert_eq!(identity.to_string().parse::<PeerIdentity>().unwrap(), identity);
    }

    #[test]
    fn names_that_would_change_the_uri_or_a_path_are_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "a/b", "a b", "..", ".", "a\n", "ä", &long] {
            let refused = PeerIdentity::new(Role::Worker, name, "c");
            assert!(matches!(refused, Err(IdentityError::BadName { .. })), "{name:?}");
        }
        for uri in [
            "phalanx://c/worker",
            "phalanx://c/worker/a/b",
            "https://c/worker/a",
            "phalanx://c/root/a",
        ] {
            assert!(uri.parse::<PeerIdentity>().is_err(), "{uri}");
        }
    }

    #[test]
    fn a_wrong_role_is_told_which_one_is_needed() {
        let worker = PeerIdentity::new(Role::Worker, "n1", "c").unwrap();
        let refused = worker.require(&[Role::User, Role::Admin]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`n1` holds a worker credential, this needs a user or an admin credential"
        );
        worker.require(&[Role::Worker]).unwrap();
    }
}
