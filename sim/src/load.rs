//! The jobs that a seed draws, and how long each of their tasks takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use phalanx_protocol::command::CommandWork;
use phalanx_protocol::gang::{Gang, OnLoss, RankMap};
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::{
    Amount, BlobId, Encoding, Feeding, IndexRange, JobSpec, RangeSet, Request, Sharing, SubmissionId,
    WorkerChoice,
};

use crate::dice::{Dice, mix};
use crate::fates::{Fates, Harm};
use crate::waits::{Bond, Waits};
use crate::weather::Node;

/// Slot time of all jobs together, in nanoseconds: 30 s.
const WORK_NANOS: u64 = 30_000_000_000;
/// A task that takes so many times the usual time runs for too long: more than the longest on the slowest worker.
const OVERRUN_TIMES: u64 = 70;

/// A job that somebody wants, and the truth about its tasks.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: JobSpec,
    pub(crate) user: String,
    /// When it is submitted, in microseconds.
    pub(crate) submit_at: u64,
    /// When its user changes their mind.
    pub(crate) cancel_at: Option<u64>,
    /// Tasks that its user wants to end without the others, and from when on.
    pub(crate) tasks_cancelled: Option<(u64, RangeSet)>,
    /// Whether its user asks for its failed tasks to be run again.
    pub(crate) retried: bool,
    /// As soon as one has failed, rather than at the job's end.
    pub(crate) retried_early: bool,
    pub(crate) fates: Fates,
    pub(crate) waits: Waits,
    task_nanos: u64,
    uneven: bool,
}

/// Some tasks of so many, now and then all.
fn draw_some(dice: &mut Dice, tasks: u64) -> RangeSet {
    let pieces = dice.within(1..4);
    let ranges = (0..pieces).map(|_| {
        let start = dice.within(0..tasks);
        let longest = dice.pick(&[1, 1 + tasks / 10, tasks]).min(tasks - start);
        IndexRange::new(start, start + dice.within(0..longest) + 1)
    });
    let some = ranges.collect();
    match dice.one_in(8) {
        true => IndexRange::new(0, tasks).into(),
        false => some,
    }
}

fn commands(number: u64) -> Work {
    Work::Command(CommandWork {
        command: number.to_string(),
        plan: Payload::Inline(Bytes::new()),
        inputs: Inputs::Index { first: 0 },
        array: None,
        facts: BTreeMap::new(),
    })
}

/// Which workers a job may run on; by number, so that seeds go on meaning what they did.
fn draw_choice(number: u64, submit_at: u64, nodes: &[Node]) -> WorkerChoice {
    let first = mix(submit_at) as usize;
    let name = |offset: usize| nodes[first.wrapping_add(offset) % nodes.len()].name.clone();
    let mut choice = WorkerChoice::default();
    match number {
        1 => choice.only.extend([name(0), name(1)]),
        3 => choice.all_of.extend([name(0)]),
        6 if nodes.len() > 1 => choice.never.extend([name(0)]),
        _ => {}
    }
    choice
}

/// The same, and a gpu.
fn gpu_of(request: &Request) -> Request {
    let named = BTreeMap::from([("gpu".to_owned(), Amount::ONE)]);
    Request {
        named,
        ..request.clone()
    }
}

impl Plan {
    pub(crate) fn draw_all(dice: &mut Dice, nodes: &[Node]) -> Vec<Self> {
        let count = dice.within(1..9);
        (0..count)
            .map(|number| Self::draw(dice, number, WORK_NANOS / count, nodes))
            .collect()
    }

    fn draw(dice: &mut Dice, number: u64, work_nanos: u64, nodes: &[Node]) -> Self {
        let task_nanos = dice.pick(&[1, 1_000, 300_000, 20_000_000, 700_000_000, 3_000_000_000]);
        let tasks = if dice.one_in(12) {
            0
        } else {
            (work_nanos / task_nanos).max(1)
        };
        let capacity = &nodes[dice.within(0..nodes.len() as u64) as usize].capacity;
        let whole = dice.one_in(5);
        let wants_gpu = capacity.named.values().any(|&gpus| gpus >= Amount::ONE) && dice.one_in(3);
        let request = Request {
            cpus: if whole { capacity.cpus } else { 1 },
            memory_bytes: if dice.one_in(4) { 1 << 30 } else { 0 },
            named: wants_gpu
                .then(|| ("gpu".to_owned(), Amount::ONE))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            // drawn by number, so that seeds go on meaning what they did
            sharing: match number % 13 {
                4 => Sharing::OwnJob,
                6 => Sharing::Nobody,
                _ => Sharing::Anybody,
            },
            ..Request::default()
        };
        let (request, alternatives) = match number % 13 {
            2 => (gpu_of(&request), vec![request]),
            _ => (request, Vec::new()),
        };
        let fates = Fates::draw(dice, tasks);
        let overrun_millis = (OVERRUN_TIMES * task_nanos / 1_000_000).max(100);
        let time_limit = dice.one_in(8).then(|| dice.within(200..20_000));
        let submit_at = dice.within(0..5_000_000);
        let waits = Waits::draw(dice, number, submit_at);
        let choice = draw_choice(number, submit_at, nodes);
        let spec = JobSpec {
            submission: SubmissionId(u128::from(number) + 1),
            name: dice.pick(&["north", "south"]).to_owned(),
            tasks,
            work: Work::Kernel(KernelWork {
                program: BlobId([0; 32]),
                kernel: number.to_string(),
                parameters: Payload::Inline(Bytes::new()),
                inputs: Inputs::Index { first: 0 },
                encoding: Encoding::Bincode,
                reduce: dice.one_in(3),
            }),
            request,
            alternatives,
            priority: dice.pick(&[0, 0, 0, 5]),
            feeding: dice.pick(&[
                Feeding::Factoring,
                Feeding::Factoring,
                Feeding::Guided,
                Feeding::Static,
            ]),
            failures_max: (!fates.is_empty() && dice.one_in(3)).then(|| dice.within(0..20)),
            retries: fates.draw_retries(dice),
            task_time_limit_millis: fates.overrun().then_some(overrun_millis),
            time_limit_millis: time_limit,
            idempotent: dice.one_in(3),
            slots_max: waits.slots_max,
            // it has others' jobs in it, which are not known yet
            dependency: None,
            held: waits.held,
            begin_unix_millis: waits.begin_unix_millis,
            gang: None,
            choice,
        };
        // what none of its workers could hold would be refused for good
        let holds = |node: &Node| spec.choice.admits(&node.name) && spec.slots_on(&node.capacity) > 0;
        let choice = match nodes.iter().any(holds) {
            true => spec.choice.clone(),
            false => WorkerChoice::default(),
        };
        let spec = JobSpec { choice, ..spec };
        let cancelled = dice.one_in(6);
        let retried = (!fates.is_empty() || time_limit.is_some()) && !cancelled && dice.one_in(2);
        let some_cancelled = tasks > 0 && !retried && dice.one_in(4);
        let tasks_cancelled = some_cancelled.then(|| {
            let at = submit_at + dice.within(0..5_000_000);
            (at, draw_some(dice, tasks))
        });
        let plan = Self {
            spec,
            user: dice.pick(&["ada", "bob", "cy"]).to_owned(),
            submit_at,
            cancel_at: cancelled.then(|| submit_at + dice.within(0..5_000_000)),
            tasks_cancelled,
            retried,
            retried_early: dice.one_in(4),
            fates,
            waits,
            task_nanos,
            uneven: dice.one_in(3) && task_nanos > 1_000,
        };
        // drawn by number, too; of the third, ranks are to be on a worker by all means
        match number % 7 {
            3 | 5 => plan.into_gang(number, nodes),
            2 => plan.into_commands(number),
            _ => plan,
        }
    }

    /// The same as commands, if what is computed is not to be merged.
    fn into_commands(mut self, number: u64) -> Self {
        if !self.spec.work.reduces() {
            self.spec.work = commands(number);
        }
        self
    }

    /// The same as a gang, whose ranks take longer and do no harm.
    fn into_gang(mut self, number: u64, nodes: &[Node]) -> Self {
        let cpus = nodes
            .iter()
            .map(|node| u64::from(node.capacity.cpus))
            .sum::<u64>();
        let drawn = mix(self.submit_at);
        let ranks = 1 + drawn % cpus;
        // programs cannot go on with fewer ranks, and what ranks return is not merged
        let kernels = !self.spec.work.is_command() && !self.spec.work.reduces();
        let shrinks = kernels && drawn & 3 << 22 > 0;
        let respawns = !shrinks && drawn & 1 << 24 > 0 && !self.spec.work.is_command();
        let on_loss = match (shrinks, respawns) {
            (true, _) => OnLoss::Shrink,
            (false, true) => OnLoss::Respawn,
            (false, false) => OnLoss::Restart,
        };
        let gang = Gang {
            on_loss,
            ranks_per_node: (shrinks || drawn & 1 << 20 > 0).then_some(1),
            map: match drawn & 1 << 21 {
                0 => RankMap::Block,
                _ => RankMap::Cyclic,
            },
            ..Gang::default()
        };
        let ranks = match gang.ranks_per_node {
            Some(_) => ranks.min(nodes.len() as u64),
            None => ranks,
        };
        let spec = &mut self.spec;
        spec.gang = Some(Box::new(gang));
        spec.tasks = ranks;
        if let (true, Work::Kernel(work)) = (respawns, &mut spec.work) {
            work.reduce = false;
        } else if !shrinks {
            spec.work = commands(number);
        }
        (spec.request, spec.alternatives) = (Request::default(), Vec::new());
        (spec.idempotent, spec.slots_max, spec.failures_max) = (false, None, None);
        (self.waits.slots_max, self.retried, self.tasks_cancelled) = (None, false, None);
        for (_, bond) in &mut self.waits.bonds {
            if *bond == Bond::AfterCorresponding {
                *bond = Bond::AfterAny;
            }
        }
        self.fates = Fates::harmless();
        self.spec.task_time_limit_millis = None;
        // of one that goes on, workers are to be lost while it runs
        let least_nanos = if shrinks || respawns {
            5_000_000_000
        } else {
            20_000_000
        };
        self.task_nanos = self.task_nanos.max(least_nanos);
        self
    }

    /// The plan that a worker is told to open.
    pub(crate) fn number(work: &Work) -> usize {
        work.label().parse().expect("kernels are named after their plans")
    }

    /// How long task `index` takes at the usual speed.
    fn nanos(&self, index: u64) -> u64 {
        match mix(index ^ 0x5eed) % 100 {
            0 if self.uneven => 20 * self.task_nanos,
            1..60 if self.uneven => self.task_nanos / 3,
            _ => self.task_nanos,
        }
    }

    /// How many tasks from `first` on, of `count`, take about `target_nanos`, how long they really take, and what the first
    /// does to its kernel host: such a task comes first and alone.
    pub(crate) fn chunk(&self, first: u64, count: u64, target_nanos: u64) -> (u64, u64, Option<Harm>) {
        let (mut tasks, mut nanos) = (0, 0);
        if !self.uneven {
            tasks = (target_nanos / self.task_nanos).clamp(1, count);
        }
        while self.uneven && tasks < count && nanos < target_nanos {
            nanos += self.nanos(first + tasks);
            tasks += 1;
        }
        let ends_host = |index: u64| self.fates.of_next_run(index).filter(|&harm| harm != Harm::Error);
        let mut harm = None;
        if self.fates.end_hosts() {
            harm = ends_host(first);
            let good = (first + 1..first + tasks).take_while(|&index| ends_host(index).is_none());
            tasks = if harm.is_some() {
                1
            } else {
                1 + good.count() as u64
            };
        }
        let nanos = match self.uneven {
            true => (first..first + tasks).map(|index| self.nanos(index)).sum(),
            false => tasks * self.task_nanos,
        };
        (tasks, nanos, harm)
    }

    /// When a task that runs for too long is stopped.
    pub(crate) fn overrun_nanos(&self) -> u64 {
        let millis = self.spec.task_time_limit_millis.unwrap_or_default();
        millis * 1_000_000
    }

    /// Whether tasks are run again though nothing goes wrong but what they do.
    pub(crate) fn runs_again(&self) -> bool {
        // a merged value in which the slower of two twins took part is made again
        let merged_again = self.spec.idempotent && self.spec.work.reduces();
        // also one in which a task took part that was cancelled
        let merged_again = merged_again || (self.tasks_cancelled.is_some() && self.spec.work.reduces());
        let starts_again = self.spec.gang.is_some();
        self.retried || starts_again || merged_again || self.spec.retries.errors > 0 || self.fates.end_hosts()
    }
}
