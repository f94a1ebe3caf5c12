//! A store in memory that fails on demand, for tests and the simulator. Not part of the product.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{Put, Store, StoreError, check_key};

/// What a create shall meet with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// An error, and no object: a request that was lost.
    ErrorBefore,
    /// An error, though the object is there: a reply that was lost.
    ErrorAfter,
    /// An error, and the object comes when [`MemoryStore::land_delayed`] is called: a request that was late.
    Delayed,
    /// `Exists`, though nothing is there: a conflict with a create that failed.
    Conflict,
    /// No space.
    Full,
    /// No writes.
    ReadOnly,
}

type Hook = Box<dyn FnMut(&str) -> Fault + Send>;

/// Objects in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    delayed: Vec<(String, Vec<u8>)>,
    hook: Option<Hook>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("objects", &self.lock().objects.len())
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// Asks `hook` before each create, by key, what it shall meet with.
    pub fn on_put(&self, hook: impl FnMut(&str) -> Fault + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// Lets creates succeed again.
    pub fn heal(&self) {
        self.lock().hook = None;
    }

    /// Lets one delayed create arrive, the `index`-th of those under way; tells its key and what became of it.
    pub fn land_delayed(&self, index: usize) -> Option<(String, Put)> {
        let mut state = self.lock();
        if index >= state.delayed.len() {
            return None;
        }
        let (key, bytes) = state.delayed.remove(index);
        let put = state.create(&key, &bytes);
        Some((key, put))
    }

    /// Creates under way.
    pub fn delayed_count(&self) -> usize {
        self.lock().delayed.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn create(&mut self, key: &str, bytes: &[u8]) -> Put {
        if self.objects.contains_key(key) {
            return Put::Exists;
        }
        self.objects.insert(key.to_owned(), bytes.to_vec());
        Put::Created
    }
}

impl Store for MemoryStore {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        check_key(key)?;
        let mut state = self.lock();
        let fault = state.hook.as_mut().map_or(Fault::None, |hook| hook(key));
        let path = PathBuf::from(key);
        match fault {
            Fault::None => Ok(state.create(key, bytes)),
            Fault::ErrorBefore => Err(lost(&path)),
            Fault::ErrorAfter => {
                state.create(key, bytes);
                Err(lost(&path))
            }
            Fault::Delayed => {
                state.delayed.push((key.to_owned(), bytes.to_vec()));
                Err(lost(&path))
            }
            Fault::Conflict => Ok(Put::Exists),
            Fault::Full => Err(StoreError::Full { path }),
            Fault::ReadOnly => Err(StoreError::ReadOnly { path }),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(key)?;
        Ok(self.lock().objects.get(key).cloned())
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let object = self.get(key)?;
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(object.map(|bytes| bytes.into_iter().skip(skipped).take(length).collect()))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let after = after.unwrap_or("");
        let wanted = |key: &&String| key.starts_with(prefix) && key.as_str() > after;
        Ok(self.lock().objects.keys().filter(wanted).cloned().collect())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.lock().objects.remove(key);
        Ok(())
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        self.lock().objects.insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }
}

fn lost(path: &Path) -> StoreError {
    StoreError::new("create", path, io::ErrorKind::TimedOut.into())
}
