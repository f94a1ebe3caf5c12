//! The virtual shared storage: whole objects that never change, and creates on their way to it. A create that was sent
//! may land at any time, twice, or never, whether its sender still lives or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use phalanx_storage::slot::slot_of_key;
use phalanx_storage::{Put, Store, StoreError};

use crate::event::Stint;
use crate::journal::LOG;
use crate::torn::tear;

/// What is on the storage, and what may come.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// Creates that have not landed, by the number they were sent under.
    under_way: BTreeMap<u64, Create>,
    /// What became of those that have.
    landed: BTreeMap<u64, Put>,
    /// Those that made a slot which had been there before.
    second: BTreeSet<u64>,
    /// Objects of which only a part is there, by the length that they should have.
    torn: BTreeMap<String, usize>,
    sent: u64,
    rotten: bool,
}

#[derive(Debug)]
struct Create {
    key: String,
    object: Bytes,
    by: Stint,
}

impl Objects {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a create off; it lands when [`Objects::land`] says so.
    pub(crate) fn send(&self, by: Stint, key: String, object: Bytes) -> u64 {
        let mut state = self.lock();
        state.sent += 1;
        let number = state.sent;
        state.under_way.insert(number, Create { key, object, by });
        number
    }

    /// A create lands, unless it did or is lost. All slots below `read_below` have been there.
    pub(crate) fn land(&self, number: u64, read_below: u64) {
        let mut state = self.lock();
        if let Some(create) = state.under_way.remove(&number) {
            let put = state.create(&create.key, &create.object);
            let slot = slot_of_key(LOG.shard, &create.key);
            if put == Put::Created && slot.is_some_and(|slot| slot < read_below) {
                state.second.insert(number);
            }
            state.landed.insert(number, put);
        }
    }

    /// Creates to this key that `lands` chooses land now.
    pub(crate) fn land_on(&self, key: &str, lands: impl Fn(u64) -> bool) {
        let numbers: Vec<u64> = {
            let state = self.lock();
            let aimed = state.under_way.iter().filter(|(_, create)| create.key == key);
            aimed
                .map(|(&number, _)| number)
                .filter(|&number| lands(number))
                .collect()
        };
        numbers.into_iter().for_each(|number| self.land(number, 0));
    }

    /// Whether a create made a slot which had been there before.
    pub(crate) fn is_second(&self, number: u64) -> bool {
        self.lock().second.contains(&number)
    }

    /// Creates of one sender that have not landed.
    pub(crate) fn under_way(&self, by: Stint) -> Vec<u64> {
        let state = self.lock();
        let his = state.under_way.iter().filter(|(_, create)| create.by == by);
        his.map(|(&number, _)| number).collect()
    }

    /// The first missing object that a create is on its way to.
    pub(crate) fn first_under_way(&self) -> Option<String> {
        let state = self.lock();
        let keys = state.under_way.values().map(|create| &create.key);
        keys.filter(|key| !state.objects.contains_key(*key))
            .min()
            .cloned()
    }

    /// Whether anything is not what was written.
    pub(crate) fn has_rotten(&self) -> bool {
        self.lock().rotten
    }

    /// One byte of an object becomes another.
    pub(crate) fn rot(&self, key: &str, luck: u64) {
        let mut state = self.lock();
        if let Some(object) = state.objects.get_mut(key).filter(|object| !object.is_empty()) {
            let mut bytes = object.to_vec();
            let index = luck % bytes.len() as u64;
            bytes[index as usize] ^= 0x10;
            *object = bytes.into();
            state.rotten = true;
        }
    }

    /// A create leaves a torn object, unless something is there or it is lost; returns what should be there.
    pub(crate) fn land_torn(&self, number: u64, luck: u64) -> Option<Bytes> {
        let create = self.lock().under_way.remove(&number)?;
        let torn = self.put_torn(&create.key, &create.object, luck);
        torn.then_some(create.object)
    }

    /// Leaves a torn object, unless something is there.
    pub(crate) fn put_torn(&self, key: &str, object: &[u8], luck: u64) -> bool {
        let mut state = self.lock();
        let put = state.create(key, &tear(object, luck));
        if put == Put::Created {
            state.torn.insert(key.to_owned(), object.len());
        }
        put == Put::Created
    }

    /// Whether only a part of an object is there.
    pub(crate) fn is_torn(&self, key: &str) -> bool {
        self.whole_bytes(key).is_some()
    }

    /// The length that a torn object should have.
    pub(crate) fn whole_bytes(&self, key: &str) -> Option<usize> {
        self.lock().torn.get(key).copied()
    }

    /// The first torn slot.
    pub(crate) fn first_torn_slot(&self) -> Option<u64> {
        let state = self.lock();
        let slots = state.torn.keys().filter_map(|key| slot_of_key(LOG.shard, key));
        slots.min()
    }

    /// A create never lands.
    pub(crate) fn lose(&self, number: u64) {
        self.lock().under_way.remove(&number);
    }

    /// What became of a create, as far as it landed.
    pub(crate) fn outcome(&self, number: u64) -> Option<Put> {
        self.lock().landed.get(&number).copied()
    }
}

impl State {
    fn create(&mut self, key: &str, object: &[u8]) -> Put {
        if self.objects.contains_key(key) {
            return Put::Exists;
        }
        let object = Bytes::copy_from_slice(object);
        self.objects.insert(key.to_owned(), object);
        Put::Created
    }
}

/// Without any fault: for the independent reader.
impl Store for Objects {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        Ok(self.lock().create(key, bytes))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().objects.get(key).map(|object| object.to_vec()))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let object = self.get(key)?;
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(object.map(|bytes| bytes.into_iter().skip(skipped).take(length).collect()))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let from = after.unwrap_or("").max(prefix).to_owned();
        let state = self.lock();
        let keys = state.objects.range(from..).map(|(key, _)| key);
        let keys = keys.take_while(|key| key.starts_with(prefix));
        Ok(keys
            .filter(|key| after.is_none_or(|after| key.as_str() > after))
            .cloned()
            .collect())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.objects.remove(key);
        state.torn.remove(key);
        Ok(())
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let object = Bytes::copy_from_slice(bytes);
        self.lock().objects.insert(key.to_owned(), object);
        Ok(())
    }
}
