//! A disk that is really full: a small tmpfs. Needs root; elsewhere it says that it was skipped.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use phalanx_storage::slot::LogId;
use phalanx_storage::{
    Candidate, ClusterId, Directory, JournalEvent, JournalWriter, LogError, Store, StoreError, acquire,
};

const LOG: LogId = LogId {
    cluster: ClusterId([9; 16]),
    shard: 0,
};
const DEADLINE: Duration = Duration::from_secs(60);

struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(at: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(at);
        mount
            .output()
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_journal_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::tmpfs(folder.path()) else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let store: Arc<dyn Store> = Arc::new(Directory::open(folder.path()).unwrap());
    let leadership = acquire(&*store, Candidate::new(LOG, 1)).unwrap();
    let (sender, events) = mpsc::channel();
    let writer = JournalWriter::start(Arc::clone(&store), leadership, move |event| {
        sender.send(event).unwrap()
    });
    let writer = writer.unwrap();
    let next = || events.recv_timeout(DEADLINE).unwrap();

    store.put_if_absent("ballast", &vec![0; 200 << 10]).unwrap();
    let full = store.put_if_absent("more", &vec![0; 300 << 10]);
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    writer.append(1, vec![1; 300 << 10].into()).unwrap();
    let event = next();
    let JournalEvent::Failing {
        error: LogError::Store {
            source: StoreError::Full { path },
            ..
        },
    } = event
    else {
        panic!("{event:?}");
    };
    assert!(path.starts_with(folder.path().canonicalize().unwrap()));

    store.delete("ballast").unwrap();
    assert!(matches!(next(), JournalEvent::Recovered));
    assert!(matches!(next(), JournalEvent::Durable { upto_sequence: 1, .. }));
    drop(writer);
    let records = acquire(&*store, Candidate::new(LOG, 2)).unwrap().records;
    assert_eq!(records.len(), 1);
}
