//! The narrator: tells the core what happened, checks every invariant after each step, and remembers what the core
//! wanted done. Durations are virtual; a step takes a millisecond unless the story says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::command::{CommandWork, Recipients, TaskSignal};
use phalanx_protocol::gang::Placement;
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::message::worker::{HeldGrant, Join, Report, ToWorker};
use phalanx_protocol::record::{FailureCause, Outcome, Record, ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::view::JobView;
use phalanx_protocol::{
    BlobId, Encoding, Feeding, GrantId, IndexRange, JobId, JobSpec, Request, Resources, Retries,
    SubmissionId, TaskUsage, Term, WorkerChoice, WorkerId,
};
use phalanx_scheduler_core::{Core, Effect, Input, Now, RequestId, SessionId};

/// A job of `tasks` tasks of one cpu each, over the indices.
pub(crate) fn kernel_job(tasks: u64) -> JobSpec {
    JobSpec {
        submission: SubmissionId(0),
        name: "squares".into(),
        tasks,
        work: Work::Kernel(KernelWork {
            program: BlobId([1; 32]),
            kernel: "square".into(),
            parameters: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        }),
        request: Request::default(),
        priority: 0,
        feeding: Feeding::Factoring,
        failures_max: None,
        retries: Retries::default(),
        task_time_limit_millis: None,
        time_limit_millis: None,
        idempotent: false,
        slots_max: None,
        dependency: None,
        held: false,
        begin_unix_millis: None,
        gang: None,
        alternatives: Vec::new(),
        choice: WorkerChoice::default(),
    }
}

/// A job of `tasks` commands of one cpu each.
pub(crate) fn command_job(tasks: u64) -> JobSpec {
    JobSpec {
        work: Work::Command(CommandWork {
            command: "true".into(),
            plan: Payload::Inline(Bytes::new()),
            inputs: Inputs::Index { first: 0 },
            array: None,
            facts: BTreeMap::new(),
        }),
        ..kernel_job(tasks)
    }
}

/// The same, merging results on the workers.
pub(crate) fn reducing_job(tasks: u64) -> JobSpec {
    let mut spec = kernel_job(tasks);
    let Work::Kernel(work) = &mut spec.work else {
        panic!("the stories call kernels");
    };
    work.reduce = true;
    spec
}

/// A request for `cpus` cpus.
pub(crate) fn cpus(cpus: u32) -> Request {
    Request {
        cpus,
        ..Request::default()
    }
}

/// A worker with `cpus` cpus, 1 GiB for each.
pub(crate) fn node(cpus: u32) -> Resources {
    Resources {
        cpus,
        memory_bytes: u64::from(cpus) << 30,
        named: BTreeMap::new(),
    }
}

/// A grant as the story saw it pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Granted {
    pub(crate) job: JobId,
    pub(crate) grant: GrantId,
    pub(crate) range: Range<u64>,
}

/// A revoke without an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Revoked {
    pub(crate) job: JobId,
    pub(crate) grant: GrantId,
    pub(crate) count: u64,
}

/// What a worker was told and did not answer yet.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) grants: Vec<Granted>,
    pub(crate) revokes: Vec<Revoked>,
    /// Tasks that it was told to stop.
    pub(crate) stops: Vec<Granted>,
    /// Tasks that it was told to send a signal.
    pub(crate) signals: Vec<Granted>,
    pub(crate) slots: BTreeMap<JobId, u32>,
    pub(crate) open: BTreeSet<JobId>,
    /// Where the ranks of the last gang are that it was told of.
    pub(crate) gang: Option<Placement>,
    /// The epoch of a gang that it was told to wait for last.
    pub(crate) awaited: u32,
    /// By epoch, where the hosts of a gang are.
    pub(crate) hosts: Vec<(u32, Vec<String>)>,
    pub(crate) acknowledged: u64,
    pub(crate) reported: u64,
}

/// See the module's documentation.
pub(crate) struct Story {
    pub(crate) core: Core,
    pub(crate) micros: u64,
    /// How far the clock of the wall is ahead of what it should show.
    pub(crate) wall_ahead_millis: i64,
    /// How long a step takes.
    pub(crate) step_micros: u64,
    /// Everything the core ever wanted done.
    pub(crate) effects: Vec<Effect>,
    pub(crate) mail: BTreeMap<WorkerId, Mailbox>,
    /// What the next report says that tasks have used.
    pub(crate) usage: Vec<TaskUsage>,
    storage_is_slow: bool,
    appended: u64,
    durable: u64,
    next_number: u64,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with(Core::new(Term(1)))
    }

    pub(crate) fn with(core: Core) -> Self {
        Self {
            core,
            micros: 0,
            wall_ahead_millis: 0,
            step_micros: 1000,
            effects: Vec::new(),
            mail: BTreeMap::new(),
            usage: Vec::new(),
            storage_is_slow: false,
            appended: 0,
            durable: 0,
            next_number: 0,
        }
    }

    /// Tells the core one thing; returns what it wants done at once.
    pub(crate) fn tell(&mut self, input: Input) -> Vec<Effect> {
        self.micros += self.step_micros;
        let mut effects = Vec::new();
        self.core.handle(self.now(), input, &mut effects);
        self.core.check();
        effects.iter().for_each(|effect| self.deliver(effect));
        self.effects.extend(effects.iter().cloned());
        if !self.storage_is_slow {
            self.storage_catches_up();
        }
        effects
    }

    /// Takes over what a core wants done at its start.
    pub(crate) fn start(&mut self, effects: Vec<Effect>) {
        effects.iter().for_each(|effect| self.deliver(effect));
        self.effects = effects;
    }

    /// Lets time pass, and tells the core each time that it asked to be told.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.micros + u64::try_from(time.as_micros()).expect("stories are short");
        let micros = |due: Duration| u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        while let Some(due) = self.core.next_deadline().map(micros)
            && due.saturating_add(self.step_micros) < end
        {
            self.micros = self.micros.max(due);
            self.tell(Input::Ticked);
        }
        self.micros = end;
        self.tell(Input::Ticked);
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            elapsed: Duration::from_micros(self.micros),
            unix_millis: (self.micros / 1000).saturating_add_signed(self.wall_ahead_millis),
        }
    }

    fn deliver(&mut self, effect: &Effect) {
        if let Effect::Append { sequence, .. } = effect {
            self.appended = *sequence;
        }
        let Effect::Send { worker, message } = effect else {
            return;
        };
        let mail = self.mail.entry(*worker).or_default();
        match message {
            ToWorker::Grant {
                job, grant, range, ..
            } => mail.grants.push(Granted {
                job: *job,
                grant: *grant,
                range: range.start..range.end,
            }),
            ToWorker::Revoke { job, grant, count } => mail.revokes.push(Revoked {
                job: *job,
                grant: *grant,
                count: *count,
            }),
            ToWorker::SetSlots { job, slots } => {
                mail.slots.insert(*job, *slots);
            }
            ToWorker::Open { job, .. } => {
                mail.open.insert(*job);
            }
            ToWorker::Close { job } => {
                mail.open.remove(job);
                mail.slots.remove(job);
                mail.grants.retain(|granted| granted.job != *job);
            }
            ToWorker::Acknowledge { number } => mail.acknowledged = *number,
            ToWorker::Stop { job, grant, range } => mail.stops.push(Granted {
                job: *job,
                grant: *grant,
                range: range.start..range.end,
            }),
            ToWorker::Signal {
                job, grant, range, ..
            } => mail.signals.push(Granted {
                job: *job,
                grant: *grant,
                range: range.start..range.end,
            }),
            ToWorker::GangAddresses { epoch, addresses, .. } => mail.hosts.push((*epoch, addresses.clone())),
            ToWorker::Gang { placement, .. } => mail.gang = Some((**placement).clone()),
            ToWorker::GangWaits { epoch, .. } => mail.awaited = *epoch,
            ToWorker::Welcome { .. }
            | ToWorker::CheckpointNow { .. }
            | ToWorker::Drain
            | ToWorker::Schedulers(_)
            | ToWorker::SilenceLimit { .. } => {}
        }
    }

    // Storage.

    /// From now on records become durable only when the story says so.
    pub(crate) fn storage_slows_down(&mut self) {
        self.storage_is_slow = true;
    }

    /// Everything that was appended is durable now.
    pub(crate) fn storage_catches_up(&mut self) {
        if self.appended > self.durable {
            self.durable = self.appended;
            let sequence = self.durable;
            self.tell(Input::Appended { sequence });
        }
    }

    /// All records so far, durable or not.
    pub(crate) fn records(&self) -> Vec<Record> {
        let appended = |effect: &Effect| match effect {
            Effect::Append { record, .. } => Some(record.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(appended).collect()
    }

    // Clients.

    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        self.submit_as("ada", spec)
    }

    /// A job that a leader before this one accepted; to be told before anything else.
    pub(crate) fn inherit(&mut self, user: &str, job: JobId, spec: JobSpec) -> JobId {
        let record = Record::JobSubmitted {
            job,
            user: user.to_owned(),
            submitted_unix_millis: 0,
            spec: Box::new(spec),
        };
        self.core.replay(Term(0), &record);
        job
    }

    /// Submits; the job's id even while its acceptance is not durable.
    pub(crate) fn submit_as(&mut self, user: &str, spec: JobSpec) -> JobId {
        let before = self.effects.len();
        self.ask_to_submit(user, spec);
        let job = |effect: &Effect| match effect {
            Effect::Append {
                record: Record::JobSubmitted { job, .. },
                ..
            } => Some(*job),
            _ => None,
        };
        self.effects[before..]
            .iter()
            .find_map(job)
            .expect("the job is accepted")
    }

    /// Submits; names the request.
    pub(crate) fn ask_to_submit(&mut self, user: &str, mut spec: JobSpec) -> RequestId {
        let request = self.next_request();
        if spec.submission == SubmissionId(0) {
            spec.submission = SubmissionId(u128::from(request.0));
        }
        self.tell(Input::Submitted {
            request,
            user: user.into(),
            spec: Box::new(spec),
        });
        request
    }

    pub(crate) fn cancel_as(&mut self, user: &str, admin: bool, job: JobId) -> RequestId {
        let request = self.next_request();
        self.tell(Input::CancelRequested {
            request,
            user: user.into(),
            admin,
            job,
        });
        request
    }

    /// Cancels tasks without their job.
    pub(crate) fn cancel_tasks_as(
        &mut self,
        user: &str,
        admin: bool,
        job: JobId,
        tasks: &[Range<u64>],
    ) -> RequestId {
        let request = self.next_request();
        self.tell(Input::TaskCancelRequested {
            request,
            user: user.into(),
            admin,
            job,
            tasks: tasks.iter().cloned().map(IndexRange::from).collect(),
        });
        request
    }

    /// Sends SIGUSR1 to the groups of tasks; of all of the job if there are none.
    pub(crate) fn signal_as(
        &mut self,
        user: &str,
        admin: bool,
        job: JobId,
        tasks: &[Range<u64>],
    ) -> RequestId {
        let request = self.next_request();
        let set = tasks.iter().cloned().map(IndexRange::from).collect();
        self.tell(Input::SignalRequested {
            request,
            user: user.into(),
            admin,
            job,
            tasks: (!tasks.is_empty()).then_some(set),
            signal: TaskSignal {
                number: 10,
                recipients: Recipients::All,
            },
        });
        request
    }

    /// Lets tasks start from the top; all of the job if there are none.
    pub(crate) fn requeue_as(
        &mut self,
        user: &str,
        admin: bool,
        job: JobId,
        tasks: &[Range<u64>],
    ) -> RequestId {
        let request = self.next_request();
        let set = tasks.iter().cloned().map(IndexRange::from).collect();
        self.tell(Input::RequeueRequested {
            request,
            user: user.into(),
            admin,
            job,
            tasks: (!tasks.is_empty()).then_some(set),
        });
        request
    }

    /// How often the worker that was granted a task last was told that it had been started before.
    pub(crate) fn told_restarts(&self, job: JobId, index: u64) -> Option<u32> {
        let mut effects = self.effects.iter().rev();
        effects.find_map(|effect| match effect {
            Effect::Send {
                message:
                    ToWorker::Grant {
                        job: of,
                        range,
                        restarts,
                        ..
                    },
                ..
            } if *of == job && range.contains(index) => Some(*restarts),
            _ => None,
        })
    }

    pub(crate) fn retry_as(&mut self, user: &str, admin: bool, job: JobId) -> RequestId {
        let request = self.next_request();
        self.tell(Input::RetryRequested {
            request,
            user: user.into(),
            admin,
            job,
        });
        request
    }

    pub(crate) fn hold_as(&mut self, user: &str, admin: bool, job: JobId, held: bool) -> RequestId {
        let request = self.next_request();
        self.tell(Input::HoldRequested {
            request,
            user: user.into(),
            admin,
            job,
            held,
        });
        request
    }

    pub(crate) fn drain(&mut self, worker: WorkerId, allowed: bool) -> RequestId {
        let request = self.next_request();
        self.tell(Input::DrainRequested {
            request,
            worker,
            allowed,
        });
        request
    }

    fn next_request(&mut self) -> RequestId {
        self.next_number += 1;
        RequestId(self.next_number)
    }

    /// The answer to a request, if there is one.
    pub(crate) fn answer(&self, asked: RequestId) -> Option<Reply> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Answer { request, reply } if *request == asked => Some((**reply).clone()),
            _ => None,
        })
    }

    pub(crate) fn refusal(&self, asked: RequestId) -> Option<Refusal> {
        match self.answer(asked)? {
            Reply::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    pub(crate) fn view(&self, job: JobId) -> JobView {
        self.core.job(job).expect("the job is durable")
    }

    pub(crate) fn outcome(&self, job: JobId) -> Option<Outcome> {
        self.view(job).outcome
    }

    // Workers.

    pub(crate) fn worker(&mut self, cpus: u32) -> WorkerId {
        self.worker_with(node(cpus))
    }

    pub(crate) fn worker_with(&mut self, capacity: Resources) -> WorkerId {
        self.next_number += 1;
        self.join(u128::from(self.next_number) << 64, None, capacity, Vec::new())
    }

    /// A worker of that name.
    pub(crate) fn named(&mut self, name: &str, cpus: u32) -> WorkerId {
        self.next_number += 1;
        let instance = u128::from(self.next_number) << 64;
        self.join_as(name, instance, None, node(cpus), Vec::new())
    }

    pub(crate) fn join(
        &mut self,
        instance: u128,
        worker: Option<WorkerId>,
        capacity: Resources,
        held: Vec<HeldGrant>,
    ) -> WorkerId {
        self.join_as("node", instance, worker, capacity, held)
    }

    pub(crate) fn join_as(
        &mut self,
        name: &str,
        instance: u128,
        worker: Option<WorkerId>,
        capacity: Resources,
        held: Vec<HeldGrant>,
    ) -> WorkerId {
        self.next_number += 1;
        let effects = self.tell(Input::WorkerJoined {
            session: SessionId(self.next_number),
            address: "10.0.0.1:7000".into(),
            join: Box::new(Join {
                instance,
                worker,
                name: name.into(),
                capacity,
                held,
            }),
        });
        let admitted = |effect: &Effect| match effect {
            Effect::Admit { worker, .. } => Some(*worker),
            _ => None,
        };
        effects.iter().find_map(admitted).expect("the worker is admitted")
    }

    pub(crate) fn lose(&mut self, worker: WorkerId) {
        self.tell(Input::WorkerLost(worker));
    }

    pub(crate) fn mail(&mut self, worker: WorkerId) -> &mut Mailbox {
        self.mail.entry(worker).or_default()
    }

    /// The ranges that a worker was granted and did not report or give back yet.
    pub(crate) fn grants(&self, worker: WorkerId) -> Vec<Range<u64>> {
        let mail = self.mail.get(&worker);
        mail.map(|mail| mail.grants.iter().map(|granted| granted.range.clone()).collect())
            .unwrap_or_default()
    }

    /// How many tasks a worker was granted and did not report or give back yet.
    pub(crate) fn held(&self, worker: WorkerId) -> u64 {
        self.grants(worker)
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// The slots that a worker was told to give a job.
    pub(crate) fn slots(&self, worker: WorkerId, job: JobId) -> u32 {
        let mail = self.mail.get(&worker);
        mail.and_then(|mail| mail.slots.get(&job).copied()).unwrap_or(0)
    }

    pub(crate) fn revokes(&self, worker: WorkerId) -> Vec<Revoked> {
        self.mail
            .get(&worker)
            .map(|mail| mail.revokes.clone())
            .unwrap_or_default()
    }

    /// How often anybody was granted anything.
    pub(crate) fn grant_count(&self) -> usize {
        let grant = |effect: &&Effect| {
            matches!(
                effect,
                Effect::Send {
                    message: ToWorker::Grant { .. },
                    ..
                }
            )
        };
        self.effects.iter().filter(grant).count()
    }

    /// The worker finishes everything it was granted of a job; each task takes `task_nanos`.
    pub(crate) fn finish(&mut self, worker: WorkerId, job: JobId, task_nanos: u64) {
        let mail = self.mail(worker);
        let (done, rest) = std::mem::take(&mut mail.grants)
            .into_iter()
            .partition(|granted| granted.job == job);
        mail.grants = rest;
        let done: Vec<Granted> = done;
        let count: u64 = done
            .iter()
            .map(|granted| granted.range.end - granted.range.start)
            .sum();
        let done = done
            .into_iter()
            .map(|granted| (granted.grant, vec![granted.range]))
            .collect();
        self.report(worker, job, done, count.saturating_mul(task_nanos));
    }

    /// Every worker finishes what it was granted, over and over, until nobody holds anything of the job.
    pub(crate) fn run_to_the_end(&mut self, job: JobId, task_nanos: u64) {
        for _ in 0..10_000 {
            let busy =
                |(_, mail): &(&WorkerId, &Mailbox)| mail.grants.iter().any(|granted| granted.job == job);
            let workers: Vec<WorkerId> = self.mail.iter().filter(busy).map(|(&worker, _)| worker).collect();
            if workers.is_empty() {
                return;
            }
            for worker in workers {
                self.finish(worker, job, task_nanos);
                self.give_back_nothing(worker);
            }
        }
        panic!("job {job} does not come to its end");
    }

    /// Reports ranges as done, with one block of results each.
    pub(crate) fn report(
        &mut self,
        worker: WorkerId,
        job: JobId,
        done: Vec<(GrantId, Vec<Range<u64>>)>,
        busy_nanos: u64,
    ) -> u64 {
        let blocks = done.iter().flat_map(|(_, ranges)| ranges.clone()).collect();
        self.report_blocks(worker, job, done, blocks, busy_nanos)
    }

    pub(crate) fn report_blocks(
        &mut self,
        worker: WorkerId,
        job: JobId,
        done: Vec<(GrantId, Vec<Range<u64>>)>,
        blocks: Vec<Range<u64>>,
        busy_nanos: u64,
    ) -> u64 {
        let number = self.next_report(worker);
        let done = done
            .into_iter()
            .map(|(grant, ranges)| (grant, ranges.into_iter().map(IndexRange::from).collect()));
        let report = Report {
            usage: std::mem::take(&mut self.usage),
            number,
            job,
            done: done.collect(),
            failed: Vec::new(),
            results: blocks.into_iter().map(block).collect(),
            busy_nanos,
            backlog: 0,
        };
        self.tell(Input::Reported {
            worker,
            report: Box::new(report),
        });
        number
    }

    /// Reports tasks as failed.
    pub(crate) fn fail(&mut self, worker: WorkerId, job: JobId, grant: GrantId, indices: &[u64]) {
        self.fail_for(FailureCause::Panic, worker, job, grant, indices);
    }

    pub(crate) fn fail_for(
        &mut self,
        cause: FailureCause,
        worker: WorkerId,
        job: JobId,
        grant: GrantId,
        indices: &[u64],
    ) {
        let failed = indices.iter().map(|&index| TaskFailure {
            index,
            cause,
            message: format!("index {index} is not to my liking"),
        });
        let report = Report {
            usage: std::mem::take(&mut self.usage),
            number: self.next_report(worker),
            job,
            done: Vec::new(),
            failed: vec![(grant, failed.collect())],
            results: Vec::new(),
            busy_nanos: 1000,
            backlog: 0,
        };
        self.tell(Input::Reported {
            worker,
            report: Box::new(report),
        });
    }

    /// The first task that a worker was granted fails, and the worker has nothing more of that grant.
    pub(crate) fn fail_first(&mut self, worker: WorkerId, job: JobId) -> u64 {
        let grants = &mut self.mail(worker).grants;
        let place = grants.iter().position(|granted| granted.job == job);
        let granted = &mut grants[place.expect("the worker has tasks of the job")];
        let (grant, index) = (granted.grant, granted.range.start);
        granted.range.start += 1;
        grants.retain(|granted| !granted.range.is_empty());
        self.fail(worker, job, grant, &[index]);
        index
    }

    /// A kernel host dies, and with it all that its worker had of the job.
    pub(crate) fn host_dies(&mut self, worker: WorkerId, job: JobId, blamed: &[u64], cause: FailureCause) {
        let how = match cause {
            FailureCause::Memory => "used 9.1 GiB of 8 GiB",
            FailureCause::TimeLimit => "ran longer than 5 s",
            _ => "signal 11 (SIGSEGV)",
        };
        let mail = self.mail(worker);
        mail.grants.retain(|granted| granted.job != job);
        mail.open.remove(&job);
        mail.slots.remove(&job);
        self.tell(Input::HostLost {
            worker,
            job,
            blamed: blamed.to_vec(),
            cause,
            how: how.into(),
        });
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.micros += millis * 1000;
        self.tell(Input::Ticked);
    }

    fn next_report(&mut self, worker: WorkerId) -> u64 {
        let mail = self.mail(worker);
        mail.reported += 1;
        mail.reported
    }

    /// Answers all revokes: everything that was asked for was unstarted.
    pub(crate) fn give_back_all(&mut self, worker: WorkerId) {
        for revoked in std::mem::take(&mut self.mail(worker).revokes) {
            let grants = &mut self.mail(worker).grants;
            let Some(granted) = grants.iter_mut().find(|granted| granted.grant == revoked.grant) else {
                continue;
            };
            let end = granted.range.end;
            granted.range.end = end.saturating_sub(revoked.count).max(granted.range.start);
            let range = IndexRange::new(granted.range.end, end);
            grants.retain(|granted| !granted.range.is_empty());
            self.returned(worker, revoked, range);
        }
    }

    /// Answers all revokes: the first `started` tasks of each grant had started.
    pub(crate) fn give_back_all_but(&mut self, worker: WorkerId, started: u64) {
        for revoked in std::mem::take(&mut self.mail(worker).revokes) {
            let grants = &mut self.mail(worker).grants;
            let Some(granted) = grants.iter_mut().find(|granted| granted.grant == revoked.grant) else {
                continue;
            };
            let end = granted.range.end;
            let kept = end.min(granted.range.start + started);
            granted.range.end = end.saturating_sub(revoked.count).max(kept);
            let range = IndexRange::new(granted.range.end, end);
            self.returned(worker, revoked, range);
        }
    }

    /// Answers all revokes: everything had started.
    pub(crate) fn give_back_nothing(&mut self, worker: WorkerId) {
        for revoked in std::mem::take(&mut self.mail(worker).revokes) {
            self.returned(worker, revoked, IndexRange::new(0, 0));
        }
    }

    pub(crate) fn returned(&mut self, worker: WorkerId, revoked: Revoked, range: IndexRange) {
        self.tell(Input::Returned {
            worker,
            job: revoked.job,
            grant: revoked.grant,
            range,
        });
    }

    /// What a worker was told to stop and did not answer yet.
    pub(crate) fn stops(&self, worker: WorkerId) -> Vec<Range<u64>> {
        let mail = self.mail.get(&worker);
        mail.map(|mail| mail.stops.iter().map(|stop| stop.range.clone()).collect())
            .unwrap_or_default()
    }

    /// What a worker was told to send a signal to.
    pub(crate) fn signals(&self, worker: WorkerId) -> Vec<Range<u64>> {
        let signals = self.mail[&worker].signals.iter();
        signals.map(|signal| signal.range.clone()).collect()
    }

    /// Says that nothing of what a worker was told to stop had started.
    pub(crate) fn stops_unstarted(&mut self, worker: WorkerId) {
        for Granted { job, grant, range } in std::mem::take(&mut self.mail(worker).stops) {
            self.tell(Input::Stopped {
                worker,
                job,
                grant,
                range: range.into(),
            });
        }
    }

    /// Says of everything that a worker was told to stop that it ended by a signal.
    pub(crate) fn stops_killed(&mut self, worker: WorkerId) {
        for Granted { job, grant, range } in std::mem::take(&mut self.mail(worker).stops) {
            let indices: Vec<u64> = range.collect();
            self.fail_for(FailureCause::Signal(15), worker, job, grant, &indices);
        }
    }

    /// The one grant of a job that a worker holds.
    pub(crate) fn grant(&self, worker: WorkerId, job: JobId) -> Granted {
        let of_job: Vec<&Granted> = self.mail[&worker]
            .grants
            .iter()
            .filter(|granted| granted.job == job)
            .collect();
        assert_eq!(
            of_job.len(),
            1,
            "{worker} holds one grant of job {job}: {of_job:?}"
        );
        of_job[0].clone()
    }

    /// The records of a job's ended tasks: which were done, and which of each block count.
    pub(crate) fn ended(&self, job: JobId) -> Vec<(Vec<IndexRange>, Vec<ResultBlock>)> {
        let ended = |record: Record| match record {
            Record::TasksEnded {
                job: of,
                done,
                results,
                ..
            } if of == job => Some((done, results)),
            _ => None,
        };
        self.records().into_iter().filter_map(ended).collect()
    }
}

/// Results of a range, as a worker sends them.
pub(crate) fn block(range: Range<u64>) -> ResultBlock {
    ResultBlock {
        range: range.into(),
        keep: Vec::new(),
        data: ResultData::Inline(Bytes::from_static(b"42")),
    }
}

/// What a worker says it still works on.
pub(crate) fn held(granted: &Granted) -> HeldGrant {
    HeldGrant {
        job: granted.job,
        grant: granted.grant,
        range: granted.range.clone().into(),
    }
}
