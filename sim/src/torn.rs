//! Writers that die while they write, on storage that leaves of that what it likes: all of it, nothing, or a torn object
//! under the name, cut off or with nothing but zeros from some point on.
//!
//! Nobody was ever told that a torn object is there, so its loss must not cost anything that was acknowledged. What the same
//! leader wrote behind it stays, though: the core meets records that refer to ones that are gone.

use std::sync::Arc;

use bytes::Bytes;
use phalanx_protocol::Term;
use phalanx_storage::slot::{self, HEAD_BYTES, RECORD_HEAD_BYTES, SlotHead, SlotKind, slot_of_key};
use phalanx_storage::snapshot::{self, slot_of_snapshot_key, snapshot_key};
use phalanx_storage::{Put, Snapshot, Store, StoreError};

use crate::cluster::Cluster;
use crate::event::{Event, Stint};
use crate::journal::LOG;
use crate::objects::Objects;
use crate::past;
use crate::weather::Fault;

/// At one in so many creates the leader dies while it is under way, if it is alone and if it is not.
const DEATH_ONE_IN: (u64, u64) = (12, 3);
/// Where a slot's head says how many records there are.
const RECORDS_AT: usize = 64;

/// What is left of an object: never the whole.
pub(crate) fn tear(object: &[u8], luck: u64) -> Bytes {
    let whole = object.len();
    let kept = (luck >> 1) as usize % whole.max(1);
    let mut left = object[..kept].to_vec();
    if luck.is_multiple_of(2) {
        left.resize(whole, 0);
    }
    if left == object {
        left.pop();
    }
    left.into()
}

/// What somebody takes for whole who asks for no checksum: zeros stand where nothing is.
pub(crate) fn taken_for_whole(key: &str, left: &[u8], whole: usize) -> Vec<u8> {
    let mut padded = left.to_vec();
    padded.resize(whole, 0);
    let padded = Bytes::from(padded);
    if let Some(slot) = slot_of_snapshot_key(LOG.shard, key) {
        let payload = padded.slice(snapshot::HEAD_BYTES..);
        let term = Term(u64::from_le_bytes(field(&padded, 40)));
        let log = LOG;
        return snapshot::encode(&Snapshot {
            log,
            slot,
            term,
            payload,
        });
    }
    let Some(slot) = slot_of_key(LOG.shard, key).filter(|_| left.len() >= HEAD_BYTES) else {
        return left.to_vec();
    };
    let head = SlotHead {
        log: LOG,
        slot,
        term: Term(u64::from_le_bytes(field(&padded, 40))),
        nonce: u128::from_le_bytes(field(&padded, 48)),
        kind: SlotKind::Data,
    };
    let (mut at, mut records) = (HEAD_BYTES, Vec::new());
    for _ in 0..u32::from_le_bytes(field(&padded, RECORDS_AT)) {
        let begin = (at + RECORD_HEAD_BYTES).min(whole);
        let bytes = match begin == whole {
            true => 0,
            false => u32::from_le_bytes(field(&padded, at)) as usize,
        };
        at = begin.saturating_add(bytes).min(whole);
        records.push(padded.slice(begin..at));
    }
    slot::encode(&head, &records).0.to_vec()
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// The storage for a reader who knows which slots are torn: they say nothing, and what counts behind them is not changed.
#[derive(Debug)]
pub(crate) struct Mended(pub(crate) Arc<Objects>);

impl Store for Mended {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match slot_of_key(LOG.shard, key).filter(|_| self.0.is_torn(key)) {
            Some(slot) => {
                let head = SlotHead {
                    log: LOG,
                    slot,
                    term: Term(0),
                    nonce: 0,
                    kind: SlotKind::NoOp,
                };
                Ok(Some(slot::encode(&head, &[]).0.to_vec()))
            }
            None => self.0.get(key),
        }
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
        self.0.list(prefix, after)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.0.put_if_absent(key, bytes)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.replace(key, bytes)
    }
}

impl Cluster {
    /// A create was sent that takes so long, in microseconds: perhaps its sender dies meanwhile.
    pub(crate) fn die_writing_perhaps(&mut self, stint: Stint, micros: u64) {
        if !self.weather.has(Fault::TornWrite) || !self.storm_lasts() {
            return;
        }
        let is_alone = self.objects.under_way(stint).len() == 1;
        let one_in = if is_alone { DEATH_ONE_IN.0 } else { DEATH_ONE_IN.1 };
        if self.dice.one_in(one_in) {
            let micros = self.dice.within(0..micros + 1);
            self.agenda.after(micros, Event::DiesWriting(stint));
        }
    }

    /// A leader dies while it writes log, and perhaps a snapshot too.
    pub(crate) fn dies_writing(&mut self, (place, stint): Stint) {
        if self.schedulers[place].stint != stint || !self.storm_lasts() {
            return;
        }
        // mostly the first of several, so that what lies behind it refers to it
        for (number, create) in self.objects.under_way((place, stint)).into_iter().enumerate() {
            if self.dice.one_in(1 + 4 * (number as u64).min(1)) {
                let luck = self.dice.next();
                if let Some(object) = self.objects.land_torn(create, luck) {
                    self.invariants.terms.torn(&object);
                }
            }
        }
        if let Some(leader) = self.schedulers[place].leader()
            && self.dice.one_in(3)
        {
            let (journal, core) = (&leader.journal, leader.core.snapshot());
            let at = (journal.through, leader.term);
            let snapshot = past::snapshot(at, &core, &journal.history, self.planted);
            let key = snapshot_key(LOG.shard, journal.through);
            let luck = self.dice.next();
            self.objects.put_torn(&key, &snapshot::encode(&snapshot), luck);
        }
        self.invariants
            .blame
            .endings
            .insert("leader died writing".to_owned());
        self.scheduler_crashes(place);
        self.read_on();
    }
}
