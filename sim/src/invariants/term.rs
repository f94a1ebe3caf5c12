//! TERM: of each term there is one leader; what it wrote counts as a prefix of what it appended, what it acknowledged is
//! within that for ever and for every later leader; and workers obey no older term once they have heard of a newer.

use std::collections::BTreeMap;

use phalanx_protocol::Term;
use phalanx_storage::slot;
use phalanx_storage::{LogRecord, Store, read_record};

use crate::event::Life;
use crate::journal::LOG;
use crate::past::Past;
use crate::scheduler::is_needed;

#[derive(Debug, Default)]
pub(crate) struct Terms {
    leaders: BTreeMap<Term, Led>,
    /// The newest term that each life of a worker was told anything under.
    obeyed: BTreeMap<Life, Term>,
}

/// What a leader did.
#[derive(Debug, Default)]
struct Led {
    appended: Vec<bytes::Bytes>,
    /// How many of its records count, or were lost in torn slots.
    counting: usize,
    /// Records in torn slots that it wrote when it died.
    torn: Vec<bytes::Bytes>,
    has_gaps: bool,
}

impl Terms {
    /// Somebody leads from now on, and has read these records; the independent reader has read those.
    pub(crate) fn leads(&mut self, term: Term, records: &[LogRecord], read: &[LogRecord]) {
        let other = self.leaders.insert(term, Led::default());
        assert!(other.is_none(), "TERM: there are two leaders of {term}");
        let same = records
            .iter()
            .zip(read)
            .take_while(|(one, other)| one == other)
            .count();
        let (count, counting) = (records.len(), read.len());
        assert!(
            same == count && same == counting,
            "TERM: the leader of {term} read {count} records, and {counting} count; the first {same} are the same"
        );
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A leader appends a record.
    pub(crate) fn appended(&mut self, term: Term, sequence: u64, bytes: bytes::Bytes) {
        let led = self.leaders.entry(term).or_default();
        led.appended.push(bytes);
        assert_eq!(
            led.appended.len() as u64,
            sequence,
            "TERM: records of {term} are not counted from 1"
        );
    }

    /// A record counts from now on.
    pub(crate) fn counts(&mut self, record: &LogRecord) {
        let term = record.term;
        let led = self.leaders.get_mut(&term);
        let led = led.unwrap_or_else(|| panic!("TERM: nobody led {term}, and a record counts"));
        while let Some(next) = led
            .appended
            .get(led.counting)
            .filter(|next| **next != record.bytes)
        {
            let Some(lost) = led.torn.iter().position(|torn| torn == next) else {
                break;
            };
            led.torn.swap_remove(lost);
            led.counting += 1;
        }
        let is_next = led.appended.get(led.counting) == Some(&record.bytes);
        assert!(
            is_next,
            "TERM: the record at {} is not the next that the leader of {term} appended",
            record.place
        );
        led.counting += 1;
    }

    /// A leader died, and of this slot only a part is there.
    pub(crate) fn torn(&mut self, slot: &[u8]) {
        let head = slot.get(32..40).and_then(|bytes| bytes.try_into().ok());
        let number = u64::from_le_bytes(head.expect("what is created is a slot"));
        let slot = slot::decode(slot.to_vec().into(), LOG, number).expect("what is created is whole");
        if let Some(led) = self.leaders.get_mut(&slot.head.term) {
            led.torn.extend(slot.records.into_iter().map(|(_, bytes)| bytes));
            led.has_gaps = true;
        }
    }

    /// Whether records of a term were lost in torn slots, and later ones perhaps not.
    pub(crate) fn has_gaps(&self, term: Term) -> bool {
        self.leaders.get(&term).is_some_and(|led| led.has_gaps)
    }

    /// A leader says that its records up to this one count.
    pub(crate) fn acknowledged(&self, term: Term, upto_sequence: u64) {
        let counting = self.leaders[&term].counting as u64;
        assert!(
            upto_sequence <= counting,
            "TERM: the leader of {term} acknowledges record {upto_sequence}, and {counting} count"
        );
    }

    /// A slot that had been read and deleted was created again, and this is what its leader leads now.
    pub(crate) fn wrote_again(&self, slot: u64, leads: Option<Term>) {
        assert!(
            leads.is_none(),
            "TERM: the leader of {leads:?} writes slot {slot} a second time and goes on"
        );
    }

    /// A worker does what it was told under a term.
    pub(crate) fn obeys(&mut self, life: Life, term: Term) {
        let newest = self.obeyed.entry(life).or_insert(term);
        assert!(*newest <= term, "TERM: a worker obeys {term} after {newest}");
        *newest = term;
    }

    /// At the end the log, recovered anew, says what it said piece by piece, and what is needed can be read.
    pub(crate) fn check_log(&self, store: &dyn Store, read: &[LogRecord]) {
        let mut past = Past::begin(store).expect("the reader's way has no faults");
        past.follow(store);
        assert!(past.records == read, "TERM: what counted does not count any more");
        for record in read.iter().filter(|record| is_needed(record)) {
            let again = read_record(store, LOG.shard, record.place);
            assert!(
                again.is_ok_and(|again| again == record.bytes),
                "KEEP: the record at {} is needed and gone",
                record.place
            );
        }
    }
}
