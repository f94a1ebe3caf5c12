//! Small objects of the storage besides the journal: checkpoints of tasks and gangs, and the cards of schedulers.

use std::sync::Arc;
use std::time::Duration;

use phalanx_protocol::{GrantId, JobId, TaskId, Term};
use phalanx_storage::memory::MemoryStore;
use phalanx_storage::{
    Card, Checkpoints, GangCheckpoints, Generation, Members, NameError, PartName, ProcessMark, Store,
    wait_for_name,
};

/// Whose checkpoints all of the corpus are.
const TASK: TaskId = TaskId {
    job: JobId(42),
    index: 7,
};
const ATTEMPT: GrantId = GrantId {
    term: Term(17),
    number: 3,
};
const NAME: PartName = PartName {
    attempt: ATTEMPT,
    count: 5,
};

/// A store with one object, under the name that `write` gives it.
fn store_with(object: &[u8], write: impl FnOnce(Arc<dyn Store>)) -> (Arc<dyn Store>, String) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    write(Arc::clone(&store));
    let keys = store.list("jobs/", None).unwrap_or_default();
    let [key] = keys.as_slice() else {
        panic!("one object is written, not {keys:?}");
    };
    let replaced = store.replace(key, object);
    assert!(replaced.is_ok(), "a store in memory takes it");
    (store, key.clone())
}

fn save(store: Arc<dyn Store>, payload: &[u8]) {
    let saved = Checkpoints::new(store).save(TASK, ATTEMPT, 1, payload);
    assert!(saved.is_ok(), "what was read can be saved: {saved:?}");
}

fn complete(store: Arc<dyn Store>, generation: &Generation) {
    let completed = GangCheckpoints::new(store).complete(TASK.job, NAME, generation);
    assert!(completed.is_ok(), "what was read can be written: {completed:?}");
}

/// Reads an object as a checkpoint, and as the marker of a gang's checkpoint; then the same bytes as what a whole marker holds.
/// What reads as one is written again, to the same bytes.
///
/// # Panics
/// If it is not.
pub fn checkpoint(object: &[u8]) {
    let (store, key) = store_with(object, |store| save(store, b""));
    let newest = Checkpoints::new(store).newest(TASK).ok().flatten();
    if let Some(newest) = newest {
        let again: Arc<dyn Store> = Arc::new(MemoryStore::default());
        save(Arc::clone(&again), &newest.payload);
        let bytes = again.get(&key).ok().flatten();
        assert_eq!(
            bytes.as_deref(),
            Some(object),
            "a checkpoint that is written again differs"
        );
    }
    marker(object);
    // whole bytes that hold these: a checkpoint's
    let whole: Arc<dyn Store> = Arc::new(MemoryStore::default());
    save(Arc::clone(&whole), object);
    if let Ok(Some(whole)) = whole.get(&key) {
        marker(&whole);
    }
}

fn marker(object: &[u8]) {
    let empty = Generation { parts: Vec::new() };
    let (store, key) = store_with(object, |store| complete(store, &empty));
    let generations = GangCheckpoints::new(store)
        .generations(TASK.job)
        .unwrap_or_default();
    for generation in generations {
        let again: Arc<dyn Store> = Arc::new(MemoryStore::default());
        complete(Arc::clone(&again), &generation);
        let bytes = again.get(&key).ok().flatten();
        assert_eq!(
            bytes.as_deref(),
            Some(object),
            "a marker that is written again differs"
        );
    }
}

/// What [`checkpoint`] takes: objects as they are really written, and what a marker holds.
pub fn sample_checkpoints() -> Vec<Vec<u8>> {
    let written = |write: &dyn Fn(Arc<dyn Store>)| {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        write(Arc::clone(&store));
        let keys = store.list("jobs/", None).unwrap_or_default();
        let objects = keys.iter().filter_map(|key| store.get(key).ok().flatten());
        objects.collect::<Vec<_>>()
    };
    let parts = |count| Generation {
        parts: vec![NAME; count],
    };
    let states: [&[u8]; 3] = [b"", b"state", &[7; 300]];
    let mut objects: Vec<Vec<u8>> = states
        .iter()
        .flat_map(|state| written(&|store| save(store, state)))
        .collect();
    objects.extend(
        [0, 1, 4]
            .iter()
            .flat_map(|&count| written(&|store| complete(store, &parts(count)))),
    );
    objects.push(vec![1; 40]);
    objects
}

/// Reads an object as a scheduler's card, as those do who look for a scheduler, and as one does that wants its name. What reads as
/// a card is written again, and that reads as the same.
///
/// # Panics
/// If it does not, or a card is taken for that of a living scheduler that does not move.
pub fn card(object: &[u8]) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    if store.replace("members/s1", object).is_err() {
        return;
    }
    let members = Members::new(Arc::clone(&store));
    let cards = members.list().unwrap_or_default();
    let own = ProcessMark {
        host: "head".to_owned(),
        boot_id: "boot".to_owned(),
        namespace: "pid:[1]".to_owned(),
        pid: 1,
        started: 1,
    };
    for card in cards {
        let bytes = serde_json::to_vec(&card).unwrap_or_default();
        let again = serde_json::from_slice::<Card>(&bytes).ok();
        assert_eq!(
            again.as_ref(),
            Some(&card),
            "a card that is written again differs"
        );
        let taken = wait_for_name(&members, &card.name, &own, &mut |_: Duration| {});
        assert!(
            !matches!(taken, Err(NameError::Taken { .. })),
            "{card:?} stands still"
        );
    }
}
