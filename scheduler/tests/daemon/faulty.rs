//! Storage that fails, or takes its time, as a test tells it to; below it is the real one.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use phalanx_scheduler::StoreLayer;
use phalanx_storage::{Put, Store, StoreError};
use rustix::io::Errno;

/// What goes wrong now, on keys with a prefix.
#[derive(Debug, Default, Clone)]
struct Orders {
    /// Creates of the log that fail yet.
    creates_failing: u32,
    /// Everything read whose key begins so.
    unreadable: Option<String>,
    reads_failing: u32,
    /// How long each create of the log takes.
    delay: Duration,
    /// Creates of the log do not return.
    held: bool,
}

/// How a test commands the storage of its schedulers.
#[derive(Default)]
pub(crate) struct Faults {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl Faults {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap());
        self.changed.notify_all();
    }

    /// The next creates of the log fail with EIO; `u32::MAX` are all.
    pub(crate) fn fail_creates(&self, count: u32) {
        self.order(|orders| orders.creates_failing = count);
    }

    /// Objects whose keys begin so cannot be read `count` times, with EIO.
    pub(crate) fn fail_reads(&self, prefix: &str, count: u32) {
        self.order(|orders| (orders.unreadable, orders.reads_failing) = (Some(prefix.to_owned()), count));
    }

    /// Each create of the log takes so much longer.
    pub(crate) fn delay_creates(&self, delay: Duration) {
        self.order(|orders| orders.delay = delay);
    }

    /// Creates of the log do not return.
    pub(crate) fn hold_creates(&self) {
        self.order(|orders| orders.held = true);
    }

    /// The storage is as it should be.
    pub(crate) fn heal(&self) {
        self.order(|orders| *orders = Orders::default());
    }

    /// How many of the ordered failures are left: of creates, of reads.
    pub(crate) fn left(&self) -> (u32, u32) {
        let orders = self.orders.lock().unwrap();
        (orders.creates_failing, orders.reads_failing)
    }

    /// What puts it under a scheduler.
    pub(crate) fn layer(self: &Arc<Self>) -> StoreLayer {
        let faults = Arc::clone(self);
        StoreLayer::new(move |inner| {
            let faults = Arc::clone(&faults);
            Arc::new(Faulty { inner, faults })
        })
    }
}

struct Faulty {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

fn eio(action: &'static str, key: &str) -> StoreError {
    StoreError::new(action, key.as_ref(), Errno::IO.into())
}

fn one_less(count: &mut u32) {
    if *count != u32::MAX {
        *count -= 1;
    }
}

impl Faulty {
    fn before_create(&self, key: &str) -> Result<(), StoreError> {
        if !key.contains("/log/") {
            return Ok(());
        }
        let delay = {
            let orders = self.faults.orders.lock().unwrap();
            let mut orders = self
                .faults
                .changed
                .wait_while(orders, |orders| orders.held)
                .unwrap();
            if orders.creates_failing > 0 {
                one_less(&mut orders.creates_failing);
                return Err(eio("create", key));
            }
            orders.delay
        };
        thread::sleep(delay);
        Ok(())
    }

    fn before_read(&self, key: &str) -> Result<(), StoreError> {
        let mut orders = self.faults.orders.lock().unwrap();
        let is_meant = orders
            .unreadable
            .as_ref()
            .is_some_and(|prefix| key.starts_with(prefix));
        if is_meant && orders.reads_failing > 0 {
            one_less(&mut orders.reads_failing);
            return Err(eio("read", key));
        }
        Ok(())
    }
}

impl Store for Faulty {
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.before_create(key)?;
        self.inner.put_if_absent(key, bytes)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.before_read(key)?;
        self.inner.get(key)
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.before_read(key)?;
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        self.inner.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.replace(key, bytes)
    }
}
