//! A slot: a rayon pool of the task's cpus, in which one loop claims tasks and runs them one after the other.
//!
//! The loop itself runs inside the pool, so what a task does with rayon uses the slot's cpus and no others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use phalanx_protocol::message::host::{HostInputs, Place};
use phalanx_protocol::range::IndexRange;
use phalanx_protocol::record::FailureCause;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::grants::{Grant, Turn};
use super::inputs::ItemFile;
use super::pace::Pace;
use super::pinning::pin_pool;
use super::state::{Host, Job};
use super::{lock, panics};
use crate::context::TaskContext;
use crate::kernel::output::ChunkOutput;
use crate::kernel::runner::{Chunk, ChunkInputs};

/// Stack of a slot's threads, as large as a main thread's; only what is used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// What other threads see of a slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// What its tasks left and no progress message has taken.
    output: Mutex<ChunkOutput>,
    interrupt: AtomicBool,
    /// Counts the chunks that it has begun.
    chunk_number: AtomicU64,
    retired: AtomicBool,
    /// Its number in the host, from 0.
    index: usize,
}

/// Where a slot's loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// It waits, and does not count.
    Parked,
    /// It runs tasks.
    Running,
    /// It found nothing to do and sends what is finished; it still counts.
    Leaving,
}

impl Slot {
    /// Makes the slot start no further task of its chunk.
    pub(super) fn interrupt(&self) {
        self.interrupt.store(true, Ordering::SeqCst);
    }

    /// Its number in the host, from 0.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn chunk_number(&self) -> u64 {
        self.chunk_number.load(Ordering::Relaxed)
    }

    /// Ends the slot's loop when it asks for its next turn.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Takes what is finished.
    pub(super) fn take_output(&self) -> ChunkOutput {
        std::mem::take(&mut lock(&self.output))
    }
}

/// Starts the `index`th slot, with a pool of `cpus` threads that lives as long as the slot's loop.
pub(super) fn start(
    host: &Arc<Host>,
    index: usize,
    cpus: usize,
) -> Result<(Arc<Slot>, ThreadPool), ThreadPoolBuildError> {
    let site = panics::PanicSite::default();
    let pool = ThreadPoolBuilder::new()
        .num_threads(cpus)
        .stack_size(STACK_BYTES)
        .thread_name(move |thread| format!("slot {index}.{thread}"))
        .start_handler(move |_| panics::watch_thread(Arc::clone(&site)))
        .build()?;
    let slot = Arc::new(Slot {
        index,
        ..Slot::default()
    });
    let (host, own) = (Arc::clone(host), Arc::clone(&slot));
    pool.spawn(move || Loop::new(&host, &own).run());
    Ok((slot, pool))
}

/// The loop's own state.
struct Loop<'a> {
    host: &'a Host,
    slot: &'a Slot,
    pace: Pace,
    /// Where a chunk's results go before other threads may see them.
    scratch: ChunkOutput,
    /// The file that was used last; neighbouring chunks mostly share it.
    file: Option<(IndexRange, Arc<ItemFile>)>,
    /// Where its threads are kept to some cpus.
    place: Option<Arc<Place>>,
}

impl<'a> Loop<'a> {
    fn new(host: &'a Host, slot: &'a Slot) -> Self {
        Self {
            host,
            slot,
            pace: Pace::new(),
            scratch: ChunkOutput::default(),
            file: None,
            place: None,
        }
    }

    fn run(&mut self) {
        let mut seat = Seat::Parked;
        let mut last: Option<(Arc<Job>, TaskContext)> = None;
        while let Some((job, turn)) = self
            .host
            .next_turn(self.slot, &mut seat, self.pace.chunk(u64::MAX, 1))
        {
            let moved = self.move_to(turn.place.clone());
            let (job, context) = match last.take() {
                Some((before, context)) if Arc::ptr_eq(&before, &job) && !moved => (job, context),
                Some(_) | None => {
                    (self.pace, self.file) = (Pace::new(), None);
                    let line = self.host.board.of_slot(self.slot.index);
                    let (stops, vault) = (Arc::clone(&job.stops), Arc::clone(&job.vault));
                    let context = TaskContext::new(job.id, stops, line, vault, self.place.clone());
                    (job, context)
                }
            };
            self.take_turn(&job, &turn, &context);
            last = Some((job, context));
        }
    }

    /// Goes to another place, if it is another, and keeps its threads to the cpus there.
    fn move_to(&mut self, place: Option<Arc<Place>>) -> bool {
        if self.place.as_deref() == place.as_deref() {
            return false;
        }
        let cpus = |place: &Option<Arc<Place>>| place.as_ref().map_or(Vec::new(), |place| place.cpus.clone());
        let (before, now) = (cpus(&self.place), cpus(&place));
        if before != now {
            pin_pool(&now, &self.host.cpus);
        }
        self.place = place;
        true
    }

    /// Runs what is claimed, or claims until the grant is used up or the slot is wanted elsewhere.
    fn take_turn(&mut self, job: &Arc<Job>, turn: &Turn, context: &TaskContext) {
        if let Some(range) = turn.claimed {
            self.run_range(job, turn, range, context);
            return;
        }
        let slots = self.host.look(|state| state.limit) as u64;
        while !self.host.is_wanted() && job.stops.count() == turn.stops {
            let Some(range) = turn.grant.cursor.claim(|left| self.pace.chunk(left, slots)) else {
                return;
            };
            self.run_range(job, turn, range, context);
        }
    }

    /// Runs claimed tasks; gives back those that it must not start.
    fn run_range(&mut self, job: &Arc<Job>, turn: &Turn, mut range: IndexRange, context: &TaskContext) {
        let grant = &turn.grant;
        // an interrupt from now on is for these tasks; what it was for before now is seen in `must_stop`
        self.slot.interrupt.store(false, Ordering::SeqCst);
        self.slot.chunk_number.fetch_add(1, Ordering::Relaxed);
        context.begin(grant.id);
        while !range.is_empty() {
            let is_stale = job.stops.count() != turn.stops;
            if is_stale || self.host.must_stop() || self.slot.interrupt.load(Ordering::SeqCst) {
                self.host.put_back(job, grant, range);
                return;
            }
            let began = Instant::now();
            let stop = self.run_piece(job, grant, range, context);
            context.ended();
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if job.runner.runs_in_sequence() {
                self.pace.measured(stop - range.start, nanos);
            }
            self.scratch.busy_nanos += nanos;
            range.start = stop;
            if self.hand_over(job) {
                self.host.flush();
            }
        }
    }

    /// Runs tasks as far as one input file reaches; says where it stopped.
    fn run_piece(&mut self, job: &Job, grant: &Grant, range: IndexRange, context: &TaskContext) -> u64 {
        let chunk = |range, inputs| Chunk {
            grant: grant.id,
            restarts: grant.restarts,
            range,
            inputs,
            context,
            interrupt: &self.slot.interrupt,
        };
        let files = match &*grant.inputs {
            HostInputs::Index { first } => {
                let chunk = chunk(range, ChunkInputs::Index { first: *first });
                return job.runner.run(&chunk, &mut self.scratch);
            }
            HostInputs::Items(files) => files,
        };
        if !self
            .file
            .as_ref()
            .is_some_and(|(items, _)| items.contains(range.start))
        {
            let found = Grant::file(files, range.start);
            self.file = found.map(|(items, path)| (items, job.files.get(items, path)));
        }
        let Some((items, file)) = &self.file else {
            let message = format!("item {}: no input file holds it", range.start);
            self.scratch
                .fail(grant.id, range.start, FailureCause::Input, message);
            return range.start + 1;
        };
        let chunk = chunk(range.intersection(*items), ChunkInputs::Items(file));
        job.runner.run(&chunk, &mut self.scratch)
    }

    /// Makes the chunk's results visible; says whether they should be sent at once.
    fn hand_over(&mut self, job: &Job) -> bool {
        // only this loop adds to the output, so it is still empty when what was taken comes back with more
        let mut output = self.slot.take_output();
        job.runner.absorb(&mut output, &mut self.scratch);
        let is_urgent = output.is_full() || output.has_many_values() || output.broken.is_some();
        *lock(&self.slot.output) = output;
        is_urgent
    }
}
