//! The probe: whether a storage keeps the promises that the journal rests on, asked before anything is entrusted to it.
//!
//! Some servers accept a conditional create and ignore the condition; some file systems have no links. Better to learn it
//! at the start than from two leaders.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::store::{Put, Store, StoreError};

/// Racing creators in one round.
pub const RACERS: usize = 8;
/// Rounds at a scheduler's start; `store check` may ask for more.
pub const ROUNDS_AT_START: usize = 3;

const PREFIX: &str = "probe/";
/// Creates whose time is taken.
const TIMED_CREATES: usize = 5;

/// What a fit storage showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeReport {
    /// The median time of a durable create of a small object.
    pub create_p50: Duration,
    /// Rounds of the race.
    pub rounds: usize,
}

/// Which promise a storage broke.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A call failed.
    #[error("the storage is not usable")]
    Store(#[from] StoreError),
    /// A create over something did not say so.
    #[error("the storage said that it created `{key}`, which existed: it does not honour create-if-absent")]
    CreatedTwice {
        /// The object.
        key: String,
    },
    /// A first create said that something was there.
    #[error("the storage said that `{key}` exists, which nobody had created")]
    ExistsAtOnce {
        /// The object.
        key: String,
    },
    /// Not what was written.
    #[error("the storage does not give back what was written to `{key}`")]
    OtherBody {
        /// The object.
        key: String,
    },
    /// Not one winner.
    #[error(
        "of {RACERS} racing creates of `{key}` {winners} were told that they won: the storage cannot keep a journal"
    )]
    Winners {
        /// The object.
        key: String,
        /// How many believed to have created it.
        winners: usize,
    },
    /// A listing did not show what is there.
    #[error("`{key}` exists and a listing does not show it")]
    NotListed {
        /// The object.
        key: String,
    },
    /// Still there.
    #[error("`{key}` was deleted and is still there")]
    NotDeleted {
        /// The object.
        key: String,
    },
}

/// Tries a storage out. `nonce` keeps concurrent probes apart. Leaves nothing behind but an empty folder.
///
/// # Errors
/// Says which promise was broken.
pub fn probe(store: &dyn Store, nonce: u128, rounds: usize) -> Result<ProbeReport, ProbeError> {
    let name = format!("{PREFIX}{nonce:032x}");
    let checked = creates_once(store, &name)
        .and_then(|()| (0..rounds).try_for_each(|round| race(store, &format!("{name}-race-{round}"))))
        .and_then(|()| measure(store, &name));
    let swept = sweep(store, &name);
    let create_p50 = checked?;
    swept?;
    Ok(ProbeReport { create_p50, rounds })
}

fn creates_once(store: &dyn Store, name: &str) -> Result<(), ProbeError> {
    let key = format!("{name}-once");
    if store.put_if_absent(&key, b"first")? == Put::Exists {
        return Err(ProbeError::ExistsAtOnce { key });
    }
    if store.put_if_absent(&key, b"second")? == Put::Created {
        return Err(ProbeError::CreatedTwice { key });
    }
    let whole = store.get(&key)?.as_deref() == Some(b"first");
    if !whole || store.get_range(&key, 2, 2)?.as_deref() != Some(b"rs") {
        return Err(ProbeError::OtherBody { key });
    }
    if !store.list(PREFIX, None)?.contains(&key) {
        return Err(ProbeError::NotListed { key });
    }
    store.delete(&key)?;
    if store.get(&key)?.is_some() {
        return Err(ProbeError::NotDeleted { key });
    }
    Ok(())
}

/// Lets several creators loose on one name: one must win, and its body must be there.
fn race(store: &dyn Store, key: &str) -> Result<(), ProbeError> {
    let start = Barrier::new(RACERS);
    let outcomes = Mutex::new(Vec::with_capacity(RACERS));
    thread::scope(|scope| {
        for racer in 0..RACERS {
            let (start, outcomes) = (&start, &outcomes);
            scope.spawn(move || {
                let body = vec![racer as u8; 64];
                start.wait();
                let outcome = store.put_if_absent(key, &body);
                outcomes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((body, outcome));
            });
        }
    });
    let mut winners = Vec::new();
    for (body, outcome) in outcomes.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if outcome? == Put::Created {
            winners.push(body);
        }
    }
    let [winner] = &winners[..] else {
        return Err(ProbeError::Winners {
            key: key.to_owned(),
            winners: winners.len(),
        });
    };
    if store.get(key)?.as_deref() == Some(winner) {
        Ok(())
    } else {
        Err(ProbeError::OtherBody { key: key.to_owned() })
    }
}

fn measure(store: &dyn Store, name: &str) -> Result<Duration, ProbeError> {
    let mut times = Vec::with_capacity(TIMED_CREATES);
    for number in 0..TIMED_CREATES {
        let start = Instant::now();
        store.put_if_absent(&format!("{name}-timed-{number}"), &[0; 256])?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn sweep(store: &dyn Store, name: &str) -> Result<(), ProbeError> {
    for key in store.list(name, None)? {
        store.delete(&key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::directory::Directory;
    use crate::memory::{Fault, MemoryStore};

    #[test]
    fn a_directory_passes_and_is_left_clean() {
        let folder = tempfile::tempdir().unwrap();
        let store = Directory::open(folder.path()).unwrap();
        let report = probe(&store, 7, ROUNDS_AT_START).unwrap();
        assert!(report.create_p50 > Duration::ZERO);
        assert_eq!(store.list(PREFIX, None).unwrap(), Vec::<String>::new());
    }

    /// A store that breaks one promise.
    struct Broken {
        inner: MemoryStore,
        ignores_condition_from: usize,
        puts: AtomicUsize,
        lists: bool,
    }

    impl Store for Broken {
        fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
            if self.puts.fetch_add(1, Ordering::SeqCst) >= self.ignores_condition_from {
                self.inner.replace(key, bytes)?;
                return Ok(Put::Created);
            }
            self.inner.put_if_absent(key, bytes)
        }
        fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
            self.inner.get(key)
        }
        fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
            self.inner.get_range(key, offset, length)
        }
        fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
            if self.lists {
                self.inner.list(prefix, after)
            } else {
                Ok(Vec::new())
            }
        }
        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.inner.delete(key)
        }
        fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
            self.inner.replace(key, bytes)
        }
    }

    fn broken(ignores_condition_from: usize, lists: bool) -> Broken {
        Broken {
            inner: MemoryStore::default(),
            ignores_condition_from,
            puts: AtomicUsize::new(0),
            lists,
        }
    }

    #[test]
    fn a_store_that_ignores_the_condition_is_refused() {
        assert!(matches!(
            probe(&broken(0, true), 7, 3),
            Err(ProbeError::CreatedTwice { .. })
        ));
        // one that does so only under a race is caught by the race
        let error = probe(&broken(2, true), 7, 3).unwrap_err();
        assert!(
            matches!(error, ProbeError::Winners { winners: RACERS, .. }),
            "{error}"
        );
        assert!(probe(&broken(usize::MAX, true), 7, 3).is_ok());
    }

    #[test]
    fn a_store_that_lists_nothing_is_refused() {
        assert!(matches!(
            probe(&broken(usize::MAX, false), 7, 1),
            Err(ProbeError::NotListed { .. })
        ));
    }

    #[test]
    fn a_full_store_says_so() {
        let store = MemoryStore::default();
        store.on_put(|_| Fault::Full);
        assert!(matches!(
            probe(&store, 7, 1),
            Err(ProbeError::Store(StoreError::Full { .. }))
        ));
    }
}
