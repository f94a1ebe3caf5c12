//! What a leader begins with: the lead itself, and the state that the journal gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::record::Record;
use phalanx_protocol::{Term, codec};
use phalanx_scheduler_core::Core;
use phalanx_storage::snapshot::snapshot_key;
use phalanx_storage::{
    AppendError, Blobs, Candidate, Effect, JournalEvent, JournalWriter, LogId, Store, acquire,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::{JournalOptions, StartError};
use crate::feed::Feeds;
use crate::snapshots::Snapshots;
use crate::state;

/// A log that can be led.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Blobs,
    pub(crate) log: LogId,
    pub(crate) options: JournalOptions,
    /// How long a worker may be silent.
    pub(crate) worker_timeout_millis: u32,
    /// The storage's root, for people.
    pub(crate) path: PathBuf,
}

/// What a leader has.
pub(crate) struct Lead {
    pub(crate) term: Term,
    pub(crate) core: Core,
    pub(crate) feeds: Feeds,
    pub(crate) snapshots: Snapshots,
    pub(crate) journal: Journal,
    pub(crate) journaled: mpsc::UnboundedReceiver<JournalEvent>,
}

impl Ground {
    /// Takes the lead and replays the journal. Blocks.
    ///
    /// # Errors
    /// [`StartError::Acquire`] if another one leads or the storage fails, or what else is in the way.
    pub(crate) fn take(&self) -> Result<Lead, StartError> {
        let candidate = Candidate {
            on_damage: self.options.on_damage,
            ..Candidate::new(self.log, random()?)
        };
        let mut leadership = acquire(&*self.store, candidate).map_err(|source| StartError::Acquire {
            path: self.path.clone(),
            source,
        })?;
        for damage in &leadership.damage {
            tracing::error!("{damage}");
        }
        let mut damage = leadership.damage.iter();
        let gives_up_beginning = damage.any(|damage| matches!(damage.effect, Effect::BeginningLost { .. }));
        let term = leadership.term;
        let (mut core, mut feeds) = match leadership.snapshot.take() {
            Some(snapshot) => {
                let read = state::decode(&snapshot.payload);
                let (known, feeds) = read.map_err(|source| StartError::Snapshot {
                    key: snapshot_key(self.log.shard, snapshot.slot),
                    source,
                })?;
                (Core::restore(term, known), feeds)
            }
            None => (Core::new(term), Feeds::default()),
        };
        core.bear_silence(Duration::from_millis(self.worker_timeout_millis.into()));
        let mut journal_bytes = 0;
        for record in std::mem::take(&mut leadership.records) {
            let (place, term) = (record.place, record.term);
            journal_bytes += u64::from(place.bytes);
            let record: Record = codec::decode(&record.bytes).map_err(|source| StartError::Record {
                place: place.to_string(),
                source,
            })?;
            if core.replay(term, &record) {
                feeds.add(record, place, false);
            }
        }
        feeds.keep(|job| core.remembers(job));
        let mut snapshots = Snapshots::new(
            Arc::clone(&self.store),
            (self.log, term),
            leadership.next_slot - 1,
            journal_bytes,
            &self.options,
            self.blobs.root().to_owned(),
        );
        if gives_up_beginning {
            snapshots.hurry();
        }
        let (sender, journaled) = mpsc::unbounded_channel();
        let journal = JournalWriter::start(Arc::clone(&self.store), leadership, move |event| {
            // fails only once the driver is gone, and then nobody needs to know
            let _ = sender.send(event);
        })?;
        Ok(Lead {
            term,
            core,
            feeds,
            snapshots,
            journal: journal.into(),
            journaled,
        })
    }
}

/// The journal of a leader. Its threads may hang in the storage, so they are joined on a thread that may wait for them.
#[derive(Debug)]
pub(crate) struct Journal(Option<JournalWriter>);

impl From<JournalWriter> for Journal {
    fn from(writer: JournalWriter) -> Self {
        Self(Some(writer))
    }
}

impl Journal {
    pub(crate) fn append_all(
        &self,
        records: impl IntoIterator<Item = (u64, Bytes)>,
    ) -> Result<(), AppendError> {
        self.0
            .as_ref()
            .map_or(Ok(()), |writer| writer.append_all(records))
    }

    /// Bytes of records that wait for the storage.
    pub(crate) fn bytes_waiting(&self) -> usize {
        self.0.as_ref().map_or(0, JournalWriter::bytes_waiting)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let writer = self.0.take();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(writer))),
            Err(_) => drop(writer),
        }
    }
}

/// 128 bits that nobody else has.
pub(crate) fn random() -> Result<u128, StartError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::System(error.into()))?;
    Ok(u128::from_le_bytes(bytes))
}
