use phalanx_protocol::record::{FailureCause, Record, ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::{Term, Usage, UsageSum};

use super::*;

fn place(slot: u64) -> Place {
    Place {
        slot,
        offset: 100,
        bytes: 50,
    }
}

fn range(start: u64, end: u64) -> IndexRange {
    IndexRange::new(start, end)
}

/// A job of which each kind of entry is there.
fn feeds() -> Feeds {
    let mut feeds = Feeds::default();
    let block = |start, end, data| ResultBlock {
        range: range(start, end),
        keep: vec![range(start, end)],
        data,
    };
    let file = ResultData::File {
        name: "0-9-t1-1".into(),
        offset: 7,
        bytes: 8,
        crc32c: 9,
    };
    let mut partly = block(10, 20, ResultData::Inline(vec![1, 2].into()));
    partly.keep = vec![range(12, 14)];
    let failure = |index| TaskFailure {
        index,
        cause: FailureCause::Error,
        message: "m".into(),
    };
    let record = Record::TasksEnded {
        usage: Usage::Unknown,
        job: JobId(3),
        done: vec![range(0, 10), range(12, 14), range(40, 50)],
        results: vec![block(0, 10, file), partly],
        failed: vec![failure(60), failure(61), failure(70)],
    };
    feeds.add(record, place(21), true);
    let cancelled = Record::TasksCancelled {
        job: JobId(3),
        tasks: vec![range(80, 90)],
        by: "u".into(),
    };
    feeds.add(cancelled, place(22), true);
    feeds
}

fn entries(feeds: &Feeds) -> Vec<Entry> {
    let mark = &feeds.marks()[0];
    mark.feed.part(0..mark.entries)
}

#[test]
fn a_state_is_read_as_it_was_written_and_names_the_slots_that_it_needs() {
    let feeds = feeds();
    let core = CoreSnapshot {
        last_job: Some(JobId(4)),
        ..CoreSnapshot::default()
    };
    let (bytes, slots) = encode(core.clone(), &feeds.marks());
    assert_eq!(slots, [21].into());
    let (read, restored) = decode(&bytes).unwrap();
    assert_eq!(read, core);
    assert_eq!(entries(&restored), entries(&feeds));
    assert_eq!(entries(&restored).len(), 5);
    let feed = &restored.marks()[0].feed;
    assert_eq!(feed.find(13).unwrap().1, range(13, 14));
    assert!(feed.find(11).is_none());
    assert_eq!(feed.next_ended(14), Some(40));
}

#[test]
fn of_an_entry_no_more_is_found_than_the_piece_that_was_asked_for() {
    let feeds = feeds();
    let feed = &feeds.marks()[0].feed;
    for (index, piece) in [(60, range(60, 62)), (61, range(61, 62)), (70, range(70, 71))] {
        let failed = Entry::Failed {
            ranges: vec![piece],
            place: place(21),
        };
        assert_eq!(feed.find(index), Some((failed, piece)));
    }
    let Some((
        Entry::Results {
            range: block, keep, ..
        },
        piece,
    )) = feed.find(13)
    else {
        panic!("{:?}", feed.find(13));
    };
    assert_eq!((block, piece), (range(10, 20), range(13, 14)));
    assert_eq!(keep, [piece]);
}

#[test]
fn released_states_keep_their_bytes() {
    let (bytes, _) = encode(CoreSnapshot::default(), &feeds().marks());
    let mut golden = vec![1, 0, 0, 0, 4, 0, 0, 0];
    golden.extend([3, 0, 0, 0, 0, 0, 0]);
    golden.extend([0; 4]);
    golden.extend([3, 0, 0, 0, 3, 0, 5]);
    let entries = [
        5, 1, 0, 10, 0, 8, b'0', b'-', b'9', b'-', b't', b'1', b'-', b'1', 7, 8, 9, 0, 10, 20, 1, 12, 14, 21,
        100, 50, 1, 2, 1, 40, 50, 3, 2, 60, 62, 70, 71, 21, 100, 50, 4, 1, 80, 90,
    ];
    golden.extend([entries.len() as u8, 0, 0, 0]);
    golden.extend(entries);
    golden.extend([0; 4]);
    assert_eq!(bytes, golden);
}

#[test]
fn states_of_earlier_layouts_are_still_read() {
    let job = JobSnapshot {
        term: Term(3),
        submitted: Record::JobStarted {
            job: JobId(4),
            started_unix_millis: 5,
        },
        started_unix_millis: Some(5),
        done: vec![range(0, 10)],
        failed: Vec::new(),
        failures: Vec::new(),
        end: None,
        held: false,
        unbound: true,
        cancelled: Vec::new(),
        cancelled_by: String::new(),
        requeued: Vec::new(),
        usage: UsageSum::default(),
        tasks_used: Vec::new(),
    };
    let core = CoreSnapshot {
        jobs: vec![job],
        ..CoreSnapshot::default()
    };
    // with the bytes that were added to each job since
    for (layout, added) in [(1, 14), (2, 12), (3, 9)] {
        let (mut bytes, _) = encode(core.clone(), &feeds().marks());
        bytes[4] = layout;
        // the core without its jobs, of 3 bytes, lies before
        let frame = 8 + 4 + 3;
        let end = frame + 4 + usize::from(bytes[frame]);
        bytes[frame] -= added;
        bytes.drain(end - usize::from(added)..end);
        let (read, restored) = decode(&bytes).unwrap();
        assert_eq!(read, core, "layout {layout}");
        assert_eq!(entries(&restored), entries(&feeds()));
        bytes[4] = 9;
        assert!(matches!(decode(&bytes), Err(StateError::Layout { found: 9 })));
    }
}

#[test]
fn damaged_states_are_refused_and_never_panic() {
    let (bytes, _) = encode(CoreSnapshot::default(), &feeds().marks());
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(matches!(decode(&long), Err(StateError::Length)));
    for index in 0..bytes.len() {
        let mut odd = bytes.clone();
        odd[index] ^= 0xff;
        let _ = decode(&odd);
    }
    let mut newer = bytes;
    newer[0] = 2;
    assert!(matches!(decode(&newer), Err(StateError::Layout { found: 2 })));
}

#[test]
fn many_entries_take_some_twenty_bytes_each() {
    let mut feeds = Feeds::default();
    let count = 100_000;
    for index in 0..count {
        let piece = range(1_000_000 + index * 100, 1_000_100 + index * 100);
        let record = Record::TasksEnded {
            usage: Usage::Unknown,
            job: JobId(1),
            done: vec![piece],
            results: vec![ResultBlock {
                range: piece,
                keep: vec![piece],
                data: ResultData::Inline(vec![0].into()),
            }],
            failed: Vec::new(),
        };
        feeds.add(record, place(100_000 + index), false);
    }
    let (bytes, slots) = encode(CoreSnapshot::default(), &feeds.marks());
    let bytes_per_entry = bytes.len() as u64 / count;
    assert!(bytes_per_entry <= 24, "{bytes_per_entry}");
    assert_eq!(slots.len() as u64, count);
    assert_eq!(entries(&decode(&bytes).unwrap().1), entries(&feeds));
}

#[test]
fn failures_of_a_reopened_job_are_taken_back() {
    let mut feeds = feeds();
    let job = JobId(3);
    let finished = Record::JobFinished {
        job,
        outcome: phalanx_protocol::record::Outcome::Failed,
        finished_unix_millis: 1,
    };
    feeds.add(finished, place(22), false);
    assert!(feeds.marks()[0].is_over);
    let tasks = vec![range(61, 71)];
    feeds.add(Record::JobReopened { job, tasks }, place(23), false);
    let mark = &feeds.marks()[0];
    assert!(!mark.is_over);
    assert!(mark.feed.find(60).is_some());
    assert!(mark.feed.find(61).is_none() && mark.feed.find(70).is_none());
    let failed = entries(&feeds).swap_remove(3);
    let left = vec![range(60, 61)];
    assert_eq!(
        failed,
        Entry::Failed {
            ranges: left,
            place: place(21)
        }
    );
}
