//! The jobs that a seed draws, and how long each of their tasks takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::{BlobId, Encoding, Feeding, JobSpec, Request, Retries, SubmissionId};

use crate::dice::{Dice, mix};
use crate::weather::Node;

/// Slot time of all jobs together, in nanoseconds: 30 s.
const WORK_NANOS: u64 = 30_000_000_000;
/// Tasks of a job that can fail, since each of them is looked at.
const FAILING_TASKS_MAX: u64 = 2_000;

/// A job that somebody wants, and the truth about its tasks.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: JobSpec,
    pub(crate) user: String,
    /// When it is submitted, in microseconds.
    pub(crate) submit_at: u64,
    /// When its user changes their mind.
    pub(crate) cancel_at: Option<u64>,
    /// Whether its user asks for its failed tasks to be run again.
    pub(crate) retried: bool,
    task_nanos: u64,
    uneven: bool,
    /// One in how many tasks fails; 0 for none.
    fail_one_in: u64,
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
        let wants_gpu = capacity.named.values().any(|&gpus| gpus > 0) && dice.one_in(3);
        let request = Request {
            cpus: if whole { capacity.cpus } else { 1 },
            memory_bytes: if dice.one_in(4) { 1 << 30 } else { 0 },
            named: wants_gpu
                .then(|| ("gpu".to_owned(), 1))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        let fail_one_in = if tasks < FAILING_TASKS_MAX && dice.one_in(3) {
            9
        } else {
            0
        };
        let spec = JobSpec {
            submission: SubmissionId(u128::from(number) + 1),
            name: format!("plan {number}"),
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
            priority: dice.pick(&[0, 0, 0, 5]),
            feeding: dice.pick(&[
                Feeding::Factoring,
                Feeding::Factoring,
                Feeding::Guided,
                Feeding::Static,
            ]),
            failures_max: (fail_one_in > 0 && dice.one_in(2)).then(|| dice.within(0..20)),
            retries: Retries {
                errors: if fail_one_in > 0 { dice.pick(&[0, 0, 2]) } else { 0 },
                backoff_millis: 50,
                ..Retries::default()
            },
            task_time_limit_millis: None,
            time_limit_millis: None,
            idempotent: dice.one_in(3),
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
        };
        let submit_at = dice.within(0..5_000_000);
        let cancelled = dice.one_in(6);
        Self {
            spec,
            user: dice.pick(&["ada", "bob", "cy"]).to_owned(),
            submit_at,
            cancel_at: cancelled.then(|| submit_at + dice.within(0..5_000_000)),
            retried: fail_one_in > 0 && !cancelled && dice.one_in(2),
            task_nanos,
            uneven: dice.one_in(3) && task_nanos > 1_000,
            fail_one_in,
        }
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

    /// How many tasks from `first` on, of `count`, take about `target_nanos`, and how long they really take.
    pub(crate) fn chunk(&self, first: u64, count: u64, target_nanos: u64) -> (u64, u64) {
        if !self.uneven {
            let tasks = (target_nanos / self.task_nanos).clamp(1, count);
            return (tasks, tasks * self.task_nanos);
        }
        let (mut tasks, mut nanos) = (0, 0);
        while tasks < count && nanos < target_nanos {
            nanos += self.nanos(first + tasks);
            tasks += 1;
        }
        (tasks, nanos)
    }

    pub(crate) fn fails(&self, index: u64) -> bool {
        self.fail_one_in > 0 && mix(index ^ 0xbad).is_multiple_of(self.fail_one_in)
    }

    /// Whether tasks that fail are run again.
    pub(crate) fn runs_again(&self) -> bool {
        self.can_fail() && self.spec.retries.errors > 0
    }

    pub(crate) fn can_fail(&self) -> bool {
        self.fail_one_in > 0
    }
}
