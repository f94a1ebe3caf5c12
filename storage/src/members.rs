//! Member cards: which schedulers seem to be alive, and where.
//!
//! A card is rewritten by its owner every [`BEAT_INTERVAL`] with a higher counter; an orderly stop removes it. Cards tell
//! clients, workers and standbys where schedulers are and which of them leads. Safety never rests on them; two schedulers
//! that both believe in themselves are told apart by the journal.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::Term;
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

/// How often an owner rewrites its card.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(300);
/// How long a card must stand still before its owner counts as gone.
pub const QUIET_MIN: Duration = Duration::from_millis(1200);

const PREFIX: &str = "members/";
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a scheduler says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its name, which is also the card's; letters, digits, `-` and `_`.
    pub name: String,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Rises with every beat.
    pub counter: u64,
    /// The process behind it.
    pub process: ProcessMark,
    /// The term with which it leads; a standby has none.
    #[serde(default)]
    pub term: Option<Term>,
    /// It is about to take the lead.
    #[serde(default)]
    pub is_candidate: bool,
}

/// Tells one process from every other one, also across reboots and reused process ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    /// The machine's name.
    pub host: String,
    /// The machine's current boot.
    pub boot_id: String,
    /// The process id namespace (a container has its own).
    pub namespace: String,
    /// The process id.
    pub pid: u32,
    /// When the process started, in clock ticks since the boot.
    pub started: u64,
}

impl ProcessMark {
    /// Marks the calling process. What the system does not tell stays empty, and then proves nothing.
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        Self {
            host: system_text("/proc/sys/kernel/hostname"),
            boot_id: system_text("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid")
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default(),
            pid,
            started: start_time(pid).unwrap_or_default(),
        }
    }

    /// Whether the process is certainly gone: it belonged to this boot and namespace, where it would be seen.
    pub fn is_gone(&self, here: &Self) -> bool {
        let visible = !self.boot_id.is_empty()
            && !self.namespace.is_empty()
            && self.started != 0
            && (&self.boot_id, &self.namespace) == (&here.boot_id, &here.namespace);
        visible && start_time(self.pid) != Some(self.started)
    }
}

fn system_text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// When a process was started, in clock ticks since the boot: field 22 of `/proc/<pid>/stat`. `None` when no such process runs,
/// also if it has ended and nobody has asked how.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the command's name comes second, in brackets, and may hold anything
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The cards on a storage.
#[derive(Clone)]
pub struct Members {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl Members {
    /// The cards on that storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Raises the card's counter and writes it.
    ///
    /// # Errors
    /// Says why it could not be written.
    pub fn beat(&self, card: &mut Card) -> Result<(), StoreError> {
        card.counter += 1;
        let bytes = serde_json::to_vec(card).unwrap_or_default();
        self.store.replace(&key(&card.name), &bytes)
    }

    /// Reads all cards, by name. One that does not read as a card is passed over with a warning.
    ///
    /// # Errors
    /// Says why they could not be read.
    pub fn list(&self) -> Result<Vec<Card>, StoreError> {
        let mut cards = Vec::new();
        for key in self.store.list(PREFIX, None)? {
            let Some(bytes) = self.store.get(&key)? else {
                continue;
            };
            match serde_json::from_slice(&bytes) {
                Ok(card) => cards.push(card),
                Err(error) => {
                    tracing::warn!(key, %error, "passing over a member card that does not read as one")
                }
            }
        }
        Ok(cards)
    }

    /// Removes a card: its owner stops in good order.
    ///
    /// # Errors
    /// Says why it may still be there.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(&key(name))
    }
}

/// Where the schedulers say to be whose cards lie on the storage at `root`, the one that led last before others. Creates
/// nothing there, and a storage that is not there or cannot be read says nothing: whoever looks for a scheduler can only try.
pub fn addresses_at(root: &Path) -> Vec<String> {
    let Ok(folder) = fs::read_dir(root.join(PREFIX)) else {
        return Vec::new();
    };
    let bytes = folder.flatten().filter_map(|entry| fs::read(entry.path()).ok());
    let mut cards: Vec<Card> = bytes
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .collect();
    cards.sort_by(|one, other| (other.term, &one.name).cmp(&(one.term, &other.name)));
    cards.into_iter().flat_map(|card| card.addresses).collect()
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Why a scheduler should not start under its name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Another one has it and is alive.
    #[error("another scheduler of the name `{name}` works on this storage at {}", addresses.join(", "))]
    Taken {
        /// The name.
        name: String,
        /// Where the other one can be reached.
        addresses: Vec<String>,
        /// Its machine.
        host: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes sure that no other living scheduler has this name, since two that write one card would hide each other: one whose
/// process is gone from this machine is dead at once, any other is watched for [`QUIET_MIN`]. `pause` sleeps. Blocks for that
/// long at the most.
///
/// # Errors
/// [`NameError::Taken`] as soon as the card moves.
pub fn wait_for_name(
    members: &Members,
    name: &str,
    own: &ProcessMark,
    pause: &mut dyn FnMut(Duration),
) -> Result<(), NameError> {
    let in_doubt = |card: &Card| card.name == name && card.process != *own && !card.process.is_gone(own);
    let find = || Ok::<_, StoreError>(members.list()?.into_iter().find(in_doubt));
    let Some(before) = find()? else {
        return Ok(());
    };
    let mut watched = Duration::ZERO;
    while watched < QUIET_MIN {
        pause(LOOK_INTERVAL);
        watched += LOOK_INTERVAL;
        if let Some(card) = find()?.filter(|card| *card != before) {
            return Err(NameError::Taken {
                name: card.name,
                addresses: card.addresses,
                host: card.process.host,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
