//! Events that come together: each finds the one before carried out.

use std::sync::Arc;

use phalanx_protocol::Resources;
use phalanx_storage::{Candidate, ClusterId, Directory, JournalWriter, LogId, Store, acquire};

use super::*;

#[tokio::test]
async fn a_worker_that_joins_and_goes_in_one_batch_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::open(folder.path()).unwrap());
    let log = LogId {
        cluster: ClusterId([7; 16]),
        shard: 0,
    };
    let leadership = acquire(&*directory, Candidate::new(log, 1)).unwrap();
    let core = Core::new(leadership.term);
    let (term, store) = (leadership.term, Arc::clone(&directory));
    let snapshots = Snapshots::new(store, log, term, leadership.next_slot - 1, 0);
    let (told, journaled) = mpsc::unbounded_channel();
    let tell = move |event| drop(told.send(event));
    let journal = JournalWriter::start(directory as Arc<dyn Store>, leadership, tell).unwrap();

    let (events, queue) = mpsc::channel(8);
    let session = SessionId(1);
    let (messages, _inbox) = mpsc::channel(8);
    let (refused, _refusal) = oneshot::channel();
    let capacity = Resources {
        cpus: 1,
        ..Resources::default()
    };
    let join = Join {
        instance: 1,
        worker: None,
        name: "ghost".into(),
        capacity,
        held: Vec::new(),
    };
    let link = WorkerLink { messages, refused };
    events
        .send(Event::Joined {
            session,
            address: "here".into(),
            join: Box::new(join),
            link,
        })
        .await
        .unwrap();
    events
        .send(Event::Gone {
            session,
            orderly: false,
        })
        .await
        .unwrap();
    let (reply, answer) = oneshot::channel();
    events
        .send(Event::Query {
            query: Query::Workers,
            reply,
        })
        .await
        .unwrap();
    drop(events);

    let (_cards, roster) = watch::channel(Roster::default());
    let (_stop, stopped) = watch::channel(false);
    let state = (core, Feeds::default(), journal.into(), snapshots);
    Driver::new(state, Vec::new(), roster)
        .run(queue, journaled, stopped)
        .await
        .unwrap();
    assert_eq!(answer.await.unwrap(), Reply::Workers(Vec::new()));
}
