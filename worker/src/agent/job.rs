//! A job that is open on this worker: what it does, how far it got, and what it holds.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::message::host::{
    HostCommand, HostGang, HostInputs, HostParameters, HostWork, Progress,
};
use phalanx_protocol::message::worker::FromWorker;
use phalanx_protocol::{BlobId, GrantId, IndexRange, Inputs, JobId, Payload, RangeSet, Request, Work};

use super::{HostId, Limits, Needs, Opening, Prepared};
use crate::inputs::InputFiles;
use crate::progress;

/// A job's state here.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) opening: Opening,
    pub(super) user: String,
    pub(super) work: Work,
    pub(super) request: Request,
    pub(super) limits: Limits,
    task_time: Option<Duration>,
    pub(super) slots_wanted: u32,
    /// Nothing of it is started until a scheduler says anew how many slots it has.
    pub(super) suspended: bool,
    /// The start of the gang whose ranks its grants are.
    pub(super) gang: Option<HostGang>,
    /// Where its host listens to the gang's others.
    pub(super) gang_port: Option<u16>,
    pub(super) stage: Stage,
    parameters: Option<HostParameters>,
    inputs: Option<InputFiles>,
    pub(super) grants: BTreeMap<GrantId, Grant>,
    pub(super) unreported: Unreported,
}

/// What hosts of commands are told of where they are.
#[derive(Debug)]
pub(super) struct HostTraits<'a> {
    pub(super) worker: &'a str,
    pub(super) worker_cpus: u32,
    pub(super) worker_has_gpus: bool,
    pub(super) scratch: PathBuf,
}

/// How far a job has got. Each waits for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For its needs.
    Preparing,
    /// For a host that is closing its last job, until then.
    AwaitingHost(Instant),
    /// For its host's process.
    Starting(HostId),
    /// For its host's `Ready`; grants go there all the same.
    Opening(HostId),
    /// For grants.
    Running(HostId),
}

/// A grant, as far as it is not in a report and not given back.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) held: RangeSet,
    /// How often its tasks were started before.
    pub(super) restarts: u32,
    /// The host has it.
    pub(super) handed: bool,
    /// What is to be stopped of it once the host has it.
    pub(super) stops: Vec<IndexRange>,
}

/// What ended and is in no report yet, in order; the front is being written while `write` says so.
#[derive(Debug, Default)]
pub(super) struct Unreported {
    pub(super) portions: VecDeque<Progress>,
    pub(super) write: Option<Write>,
}

/// How the result file of the front portion is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// It is being written, after failures with that pause between them.
    InFlight { failed_pause: Option<Duration> },
    /// It failed and is tried again then.
    Retry { at: Instant, pause: Duration },
}

impl Unreported {
    /// Appends a portion, to the last one if that is not being written and both are one.
    pub(super) fn push(&mut self, portion: Progress) {
        let free = if self.write.is_some() { 1 } else { 0 };
        let rest = match self.portions.len() > free {
            true => self
                .portions
                .back_mut()
                .and_then(|back| progress::join(back, portion)),
            false => Some(portion),
        };
        self.portions.extend(rest);
    }

    /// Bytes of all results in it.
    pub(super) fn bytes(&self) -> usize {
        self.portions.iter().map(progress::result_bytes).sum()
    }
}

impl Job {
    pub(super) fn new(
        opening: Opening,
        user: String,
        work: Work,
        request: Request,
        task_time: Option<Duration>,
    ) -> Self {
        let limits = match &work {
            Work::Kernel(_) => Limits {
                task_time,
                memory_bytes: request.memory_bytes,
            },
            // the host of commands is not what its tasks use, and ends them one by one
            Work::Command(_) => Limits::default(),
        };
        let parameters = match work.parameters() {
            Payload::Inline(bytes) => Some(HostParameters::Inline(bytes.clone())),
            Payload::Blob(_) => None,
        };
        Self {
            opening,
            user,
            work,
            request,
            limits,
            task_time,
            slots_wanted: 0,
            suspended: false,
            gang: None,
            gang_port: None,
            stage: Stage::Preparing,
            parameters,
            inputs: None,
            grants: BTreeMap::new(),
            unreported: Unreported::default(),
        }
    }

    /// The host that it has, or will have.
    pub(super) fn host(&self) -> Option<HostId> {
        match self.stage {
            Stage::Starting(host) | Stage::Opening(host) | Stage::Running(host) => Some(host),
            Stage::Preparing | Stage::AwaitingHost(_) => None,
        }
    }

    /// Which start of the gang its grants are of.
    pub(super) fn gang_epoch(&self) -> Option<u32> {
        self.gang.as_ref().map(|gang| gang.placement.epoch)
    }

    /// What is to be said of where its host listens to the gang's others, if it does.
    pub(super) fn gang_port(&self, id: JobId) -> Option<FromWorker> {
        let (gang, port) = self.gang.as_ref().zip(self.gang_port)?;
        Some(FromWorker::GangPort {
            job: id,
            epoch: gang.placement.epoch,
            node: gang.node,
            nodes: u32::try_from(gang.placement.nodes.len()).ok()?,
            port,
        })
    }

    /// The host that takes its grants.
    pub(super) fn open_host(&self) -> Option<HostId> {
        match self.stage {
            Stage::Opening(host) | Stage::Running(host) => Some(host),
            Stage::Preparing | Stage::AwaitingHost(_) | Stage::Starting(_) => None,
        }
    }

    /// What it still needs, beside `program` if that is not there; `None` if nothing.
    pub(super) fn needs(&self, program: Option<BlobId>) -> Option<Needs> {
        let parameters = match (self.work.parameters(), &self.parameters) {
            (Payload::Blob(blob), None) => Some(*blob),
            (Payload::Blob(_) | Payload::Inline(_), _) => None,
        };
        let table = match (self.work.inputs(), &self.inputs) {
            (Inputs::Items { table }, None) => Some(*table),
            (Inputs::Items { .. } | Inputs::Index { .. }, _) => None,
        };
        let needs = Needs {
            program,
            parameters,
            table,
        };
        (needs != Needs::default()).then_some(needs)
    }

    /// Takes what was needed.
    pub(super) fn supply(&mut self, prepared: Prepared) {
        let parameters = prepared.parameters.map(HostParameters::File);
        self.parameters = self.parameters.take().or(parameters);
        self.inputs = self.inputs.take().or(prepared.inputs);
    }

    /// What a host needs of its work.
    pub(super) fn host_work(&self, traits: &HostTraits<'_>) -> HostWork {
        match &self.work {
            Work::Kernel(work) => HostWork::Kernel {
                kernel: work.kernel.clone(),
                parameters: self.parameters(),
                encoding: work.encoding,
                reduce: work.reduce,
            },
            Work::Command(work) => HostWork::Command(Box::new(HostCommand {
                plan: self.parameters(),
                array: work.array.clone(),
                user: self.user.clone(),
                worker: traits.worker.to_owned(),
                request: self.request.clone(),
                worker_cpus: traits.worker_cpus,
                worker_has_gpus: traits.worker_has_gpus,
                task_time_limit_millis: self
                    .task_time
                    .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                scratch: traits.scratch.clone(),
            })),
        }
    }

    /// The parameters, empty until they are there.
    fn parameters(&self) -> HostParameters {
        let nothing = || HostParameters::Inline(Bytes::new());
        self.parameters.clone().unwrap_or_else(nothing)
    }

    /// Where the inputs of `range` are; the error says how many items there are.
    pub(super) fn host_inputs(&self, range: IndexRange) -> Result<HostInputs, u64> {
        match self.work.inputs() {
            Inputs::Index { first } => Ok(HostInputs::Index { first: *first }),
            Inputs::Items { .. } => {
                let covering = self.inputs.as_ref().and_then(|inputs| inputs.covering(range));
                let item_count = || self.inputs.as_ref().map_or(0, InputFiles::item_count);
                covering.map(HostInputs::Items).ok_or_else(item_count)
            }
        }
    }

    /// When it wants to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let awaited = match self.stage {
            Stage::AwaitingHost(until) => Some(until),
            Stage::Preparing | Stage::Starting(_) | Stage::Opening(_) | Stage::Running(_) => None,
        };
        let retry = match self.unreported.write {
            Some(Write::Retry { at, .. }) => Some(at),
            Some(Write::InFlight { .. }) | None => None,
        };
        awaited.into_iter().chain(retry).min()
    }

    /// Whether storage takes no results of it.
    pub(super) fn write_fails(&self) -> bool {
        match self.unreported.write {
            Some(Write::Retry { .. }) => true,
            Some(Write::InFlight { failed_pause }) => failed_pause.is_some(),
            None => false,
        }
    }

    /// Whether a task is with the host and has not been reported.
    pub(super) fn has_handed_out(&self, index: u64) -> bool {
        let mut handed = self.grants.values().filter(|open| open.handed);
        handed.any(|open| open.held.contains(index))
    }

    /// Its grants that no host has.
    pub(super) fn unhanded(&self) -> impl Iterator<Item = GrantId> + '_ {
        let unhanded = self.grants.iter().filter(|(_, open)| !open.handed);
        unhanded.map(|(&grant, _)| grant)
    }

    /// Takes `ranges` out of what a grant holds; what it did not hold is not returned.
    pub(super) fn release(&mut self, grant: GrantId, ranges: &[IndexRange]) -> Vec<IndexRange> {
        let Some(open) = self.grants.get_mut(&grant) else {
            return Vec::new();
        };
        let released: Vec<IndexRange> = ranges.iter().flat_map(|&range| open.held.pieces(range)).collect();
        released.iter().for_each(|&range| open.held.remove(range));
        if open.held.is_empty() {
            self.grants.remove(&grant);
        }
        released
    }

    /// Takes up to `count` tasks from the end of a grant that no host has.
    pub(super) fn cut_tail(&mut self, grant: GrantId, count: u64) -> IndexRange {
        let last = self
            .grants
            .get(&grant)
            .and_then(|open| open.held.iter().next_back());
        let Some(last) = last else {
            return IndexRange::new(0, 0);
        };
        let tail = IndexRange::new(last.end - last.len().min(count), last.end);
        self.release(grant, &[tail]);
        tail
    }
}
