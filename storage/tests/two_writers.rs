//! Schedulers that fight over one real directory: whatever one of them was told is durable is in the journal for ever.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use phalanx_storage::slot::LogId;
use phalanx_storage::{
    AcquireError, Candidate, ClusterId, Directory, JournalEvent, JournalWriter, Leadership, LogRecord, Store,
    acquire, replay,
};

const LOG: LogId = LogId {
    cluster: ClusterId([9; 16]),
    shard: 0,
};
const DEADLINE: Duration = Duration::from_secs(60);

fn lead(store: &dyn Store, nonce_seed: u128) -> Leadership {
    loop {
        match acquire(store, Candidate::new(LOG, nonce_seed)) {
            Ok(leadership) => return leadership,
            // an even newer one was in the way; go in front of it
            Err(AcquireError::StoodDown { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// What a term's leader was promised: how many of its records, counted from 0, are durable.
type Promises = Arc<Mutex<BTreeMap<u64, u64>>>;

/// Leads and appends without a pause until it is deposed, or until it holds `quota` promises.
fn reign(store: &Arc<dyn Store>, promises: &Promises, leadership: Leadership, quota: u64) {
    let term = leadership.term.0;
    let (sender, events) = mpsc::channel();
    let promises = Arc::clone(promises);
    let writer = JournalWriter::start(Arc::clone(store), leadership, move |event| {
        if let JournalEvent::Durable { upto_sequence, .. } = &event {
            promises.lock().unwrap().insert(term, upto_sequence + 1);
        }
        sender.send(event).unwrap();
    })
    .unwrap();
    let mut sequence = 0;
    let mut send = |count: u64| {
        for _ in 0..count {
            // refused when deposed, which its event tells as well
            let _ = writer.append(sequence, format!("{term} {sequence}").into_bytes().into());
            sequence += 1;
        }
    };
    send(10);
    loop {
        match events.recv_timeout(DEADLINE).unwrap() {
            JournalEvent::Durable { upto_sequence, .. } if upto_sequence >= quota => return,
            JournalEvent::Durable { .. } => send(3),
            JournalEvent::Deposed { .. } | JournalEvent::Expired { .. } => return,
            event @ (JournalEvent::Failing { .. } | JournalEvent::Recovered) => panic!("{event:?}"),
        }
    }
}

/// Checks the journal against the promises and returns how many records of each term survived.
fn check(store: &dyn Store, promises: &Promises) -> BTreeMap<u64, u64> {
    lead(store, 1 << 100);
    let mut survived = BTreeMap::new();
    let mut last_term = 0;
    replay(store, LOG, &mut |record: LogRecord| {
        let count = survived.entry(record.term.0).or_insert(0);
        // each term's records are a prefix of what it appended, once each and in order, and terms never mix
        assert_eq!(record.bytes, format!("{} {count}", record.term.0));
        assert!(record.term.0 >= last_term);
        last_term = record.term.0;
        *count += 1;
    })
    .unwrap();
    for (term, promised) in promises.lock().unwrap().iter() {
        let kept = survived.get(term).copied().unwrap_or(0);
        assert!(
            kept >= *promised,
            "term {term} was promised {promised} records, {kept} are there"
        );
    }
    survived
}

#[test]
fn a_takeover_in_mid_stream_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Directory::open(folder.path()).unwrap());
    let promises = Promises::default();
    for round in 0..5 {
        std::thread::scope(|scope| {
            let first = lead(&*store, 2 * round);
            let first_term = first.term;
            scope.spawn(|| reign(&store, &promises, first, u64::MAX));
            // the first is writing at full speed while the second takes over
            let second = lead(&*store, 2 * round + 1);
            assert!(second.term > first_term);
            reign(&store, &promises, second, 50);
        });
    }
    let survived = check(&*store, &promises);
    assert!(
        survived.values().filter(|count| **count >= 50).count() >= 5,
        "{survived:?}"
    );
}

#[test]
fn contenders_that_start_together_never_break_a_promise() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Directory::open(folder.path()).unwrap());
    let promises = Promises::default();
    std::thread::scope(|scope| {
        for contender in 0..3_u128 {
            let (store, promises) = (&store, &promises);
            scope.spawn(move || {
                for attempt in 0..4 {
                    let leadership = lead(&**store, (contender << 64) + (attempt << 32));
                    reign(store, promises, leadership, 20);
                }
            });
        }
    });
    let survived = check(&*store, &promises);
    // whoever came last met nobody any more
    assert!(survived.values().any(|count| *count >= 20), "{survived:?}");
}
