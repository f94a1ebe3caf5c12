//! The keys by which a restarted process tells its former peers at once that it has forgotten them.
//!
//! That a process is dead shows while nobody has its port; once somebody has, only the idle timeout would be left. A
//! restarted one (or another that took over its address) can answer with a stateless reset instead, but only if both keys
//! are the same as before: the one that signs the reset, and the one by which connection ids are recognised as its own.

use std::fmt;
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::identity::{IdentityError, create_private, read_private};

const RESET_KEY_BYTES: usize = 64;
const KEYS_BYTES: usize = RESET_KEY_BYTES + size_of::<u64>();

/// The keys that survive a restart. Keep them in the process's state folder.
#[derive(Clone)]
pub struct EndpointKeys {
    bytes: [u8; KEYS_BYTES],
}

impl EndpointKeys {
    /// New random keys, as every endpoint has that is not given any.
    ///
    /// # Errors
    /// [`IdentityError::Issue`] when the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut bytes = [0; KEYS_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| IdentityError::Issue(rcgen::Error::RingUnspecified))?;
        Ok(Self { bytes })
    }

    /// Reads the keys from `path`, or makes them there with mode 0600.
    ///
    /// # Errors
    /// [`IdentityError::Exposed`] if others can read the file, [`IdentityError::Incomplete`] if it holds no keys.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        if !path.exists() {
            let keys = Self::generate()?;
            create_private(path, &keys.bytes)?;
            return Ok(keys);
        }
        let bytes = read_private(path)?;
        let bytes = bytes.try_into().map_err(|_| IdentityError::Incomplete {
            part: "endpoint keys",
        })?;
        Ok(Self { bytes })
    }

    pub(super) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.bytes[..RESET_KEY_BYTES])
    }

    pub(super) fn connection_id_key(&self) -> u64 {
        self.bytes[RESET_KEY_BYTES..]
            .iter()
            .fold(0, |key, &byte| key << 8 | u64::from(byte))
    }
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointKeys(..)")
    }
}
