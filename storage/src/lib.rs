//! Phalanx's shared storage: what must outlive every process lies here, and nothing else decides who leads.
//!
//! Everything rests on one primitive, *create if absent*, which a directory offers by `link(2)` and an object store by a
//! conditional put. The calls block: the scheduler makes them on threads of their own. There is no async runtime here,
//! no network protocol, and no knowledge of what the journal's records mean.
//!
//! Reading order: [`store`] (the primitive), [`directory`] (it on a file system), [`slot`] (one object of the log),
//! [`journal`] (the rules R1-R7, R11 and R12), [`snapshot`], [`marker`] and [`collect`] (how old log goes), then the smaller
//! things on the same storage: [`cluster`] (which cluster this is), [`members`] (who seems alive), [`blobs`] (programs and
//! inputs), [`results`] (large results), [`checkpoints`] (state of tasks to resume from), [`gang_checkpoints`] (that of gangs) and [`checkpoint_directory`] (the
//! same for programs), [`outputs`] (what commands have written) and [`streamed_input`] (what is sent to them), [`mod@probe`] (is this storage fit
//! for all that), [`damage`] (what to say of objects that are not what was written), [`mod@check`] (are there any).

pub mod blobs;
pub mod check;
pub mod checkpoint_directory;
pub mod checkpoints;
pub mod clock;
pub mod cluster;
pub mod collect;
pub mod damage;
pub mod directory;
pub mod gang_checkpoints;
pub mod journal;
pub mod marker;
pub mod members;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod outputs;
pub mod probe;
pub mod results;
pub mod slot;
pub mod snapshot;
pub mod store;
pub mod streamed_input;

pub use blobs::{BlobError, BlobWriter, Blobs};
pub use check::{CheckError, CheckReport, check};
pub use checkpoint_directory::{CarryError, CheckpointDirectories};
pub use checkpoints::{Checkpoint, CheckpointError, Checkpoints};
pub use clock::Moment;
pub use cluster::{ClusterError, ClusterFile, ClusterId};
pub use collect::{Collected, Collector, Needed};
pub use damage::{Damage, Effect, Fault};
pub use directory::Directory;
pub use gang_checkpoints::{GangCheckpoints, Generation, PartName};
pub use journal::acquire::{AcquireError, Candidate, Leadership, acquire};
pub use journal::appender::{AppendError, Appender, Expiry};
pub use journal::follow::{OnDamage, Position, follow};
pub use journal::replay::{LogEnd, LogError, LogRecord, read_record, replay};
pub use journal::writer::{JournalEvent, JournalWriter};
pub use members::{Card, Members, NameError, ProcessMark, wait_for_name};
pub use outputs::{OutputLane, Outputs, PAGE_TASKS_MAX, UnsyncedOutput};
pub use probe::{ProbeError, ProbeReport, probe};
pub use results::{ResultError, ResultFile, Results};
pub use slot::{LogId, Nonces, Place, SlotError};
pub use snapshot::{
    Snapshot, SnapshotError, WriteSnapshotError, delete_old_snapshots, newest_whole, write_snapshot,
};
pub use store::{Put, Store, StoreError};
pub use streamed_input::{InputError, InputRead, StreamedInput};
