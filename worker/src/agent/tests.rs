//! Stories of a worker, told to the agent alone: no scheduler, no process, no clock.

mod gangs;
mod keep;
mod standstill;

use phalanx_protocol::command::{CommandWork, Recipients, TaskSignal};
use phalanx_protocol::message::host::HostInputs;
use phalanx_protocol::message::worker::HeldGrant;
use phalanx_protocol::record::{FailureCause, ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::{Encoding, Inputs, KernelWork, Payload, RangeSet, Request, Term};

use super::*;
use bytes::Bytes;
use phalanx_protocol::message::host::{HostParameters, HostWork};

const PROGRAM: BlobId = BlobId([7; 32]);
const J1: JobId = JobId(1);
const J2: JobId = JobId(2);
const J3: JobId = JobId(3);
/// Without any grace.
const STOPPED: Input = Input::Stopped {
    grace: Duration::ZERO,
};
const H1: HostId = HostId(1);
const H2: HostId = HostId(2);

fn grant(number: u64) -> GrantId {
    GrantId {
        term: Term(1),
        number,
    }
}

fn range(start: u64, end: u64) -> IndexRange {
    IndexRange::new(start, end)
}

fn folders() -> Folders {
    Folders {
        storage: "/storage".into(),
        scratch: "/scratch".into(),
    }
}

fn work() -> KernelWork {
    KernelWork {
        program: PROGRAM,
        kernel: "primes".into(),
        parameters: Payload::Inline(Bytes::from_static(b"p")),
        inputs: Inputs::Index { first: 5 },
        encoding: Encoding::Bincode,
        reduce: false,
    }
}

fn commands() -> CommandWork {
    CommandWork {
        command: "true".into(),
        plan: Payload::Inline(Bytes::from_static(b"p")),
        inputs: Inputs::Index { first: 0 },
        array: None,
        facts: BTreeMap::new(),
    }
}

fn done(number: u64, start: u64, end: u64) -> Progress {
    Progress {
        done: vec![(grant(number), vec![range(start, end)])],
        ..Progress::default()
    }
}

fn with_result(number: u64, start: u64, end: u64, bytes: usize) -> Progress {
    let results = vec![(range(start, end), Bytes::from(vec![1; bytes]))];
    Progress {
        results,
        ..done(number, start, end)
    }
}

/// A worker with 4 cpus that has joined.
struct World {
    agent: Agent,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let capacity = Resources {
            cpus: 4,
            ..Resources::default()
        };
        let mut world = Self {
            agent: Agent::new(9, "node".into(), capacity, Equipment::default(), folders()),
            now: Instant::now(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) -> Vec<HeldGrant> {
        let effects = self.hear(Input::Connected);
        let Some(Effect::Tell(FromWorker::Join(join))) = effects.last() else {
            panic!("{effects:?}")
        };
        let held = join.held.clone();
        self.told(ToWorker::Welcome {
            worker: WorkerId(3),
            term: Term(1),
        });
        held
    }

    fn hear(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.agent.handle(self.now, input, &mut effects);
        self.agent.check();
        effects
    }

    fn told(&mut self, message: ToWorker) -> Vec<Effect> {
        self.hear(Input::Scheduler(message))
    }

    fn host(&mut self, host: HostId, message: FromHost) -> Vec<Effect> {
        self.hear(Input::Host(host, message))
    }

    fn open(&mut self, job: JobId, work: impl Into<Work>) -> Vec<Effect> {
        self.told(ToWorker::Open {
            job,
            user: "ada".into(),
            work: work.into(),
            request: Request::default(),
            task_time_limit_millis: None,
        })
    }

    fn slots(&mut self, job: JobId, slots: u32) -> Vec<Effect> {
        self.told(ToWorker::SetSlots { job, slots })
    }

    fn grant(&mut self, job: JobId, number: u64, range: IndexRange) -> Vec<Effect> {
        self.told(ToWorker::Grant {
            job,
            grant: grant(number),
            range,
            restarts: 0,
        })
    }

    fn prepared(&mut self, job: JobId, opening: u64) -> Vec<Effect> {
        let outcome = Ok(Prepared {
            program: Some(PROGRAM),
            ..Prepared::default()
        });
        self.hear(Input::Prepared {
            job,
            opening: Opening(opening),
            outcome,
        })
    }

    /// Opens a job on a cold worker, up to a running host with that many slots.
    fn run(&mut self, job: JobId, opening: u64, host: HostId, slots: u32) {
        self.open(job, work());
        self.slots(job, slots);
        self.prepared(job, opening);
        self.hear(Input::HostStarted(host));
        self.host(host, FromHost::Ready);
        self.host(host, FromHost::Slots(slots));
    }

    fn reports(&mut self) -> Vec<Arc<Report>> {
        let mut reports = Vec::new();
        while let Some(report) = self.agent.next_report() {
            self.agent.report_sent();
            reports.push(report);
        }
        reports
    }

    /// Time passes in which the worker is awake.
    fn later(&mut self, after: Duration) -> Vec<Effect> {
        self.now += after;
        self.agent.awake = Some(self.now);
        self.hear(Input::Ticked)
    }
}

use std::sync::Arc;

fn death(how: &str, by_itself: bool, blamed: &[u64]) -> Death {
    Death {
        how: how.into(),
        by_itself,
        cause: FailureCause::Crash,
        blamed: blamed.to_vec(),
    }
}

fn tell_host(host: HostId, message: ToHost) -> Effect {
    Effect::TellHost(host, message)
}

fn open_on(host: HostId, job: JobId) -> Effect {
    let (kernel, parameters) = ("primes".into(), HostParameters::Inline(Bytes::from_static(b"p")));
    tell_host(
        host,
        ToHost::Open {
            job,
            work: HostWork::Kernel {
                kernel,
                parameters,
                encoding: Encoding::Bincode,
                reduce: false,
            },
            cpus: 1,
            storage: "/storage".into(),
        },
    )
}

fn grant_on(host: HostId, number: u64, range: IndexRange) -> Effect {
    let inputs = HostInputs::Index { first: 5 };
    tell_host(
        host,
        ToHost::Grant {
            grant: grant(number),
            range,
            inputs,
            restarts: 0,
        },
    )
}

#[test]
fn a_cold_worker_prepares_starts_opens_and_then_runs() {
    let mut world = World::new();
    let needs = Needs {
        program: Some(PROGRAM),
        ..Needs::default()
    };
    assert_eq!(
        world.open(J1, work()),
        [Effect::Prepare {
            job: J1,
            opening: Opening(1),
            needs
        }]
    );
    assert_eq!(world.slots(J1, 2), []);
    assert_eq!(world.grant(J1, 1, range(0, 10)), []);
    assert_eq!(
        world.prepared(J1, 1),
        [Effect::StartHost {
            host: H1,
            program: HostProgram::Blob(PROGRAM)
        }]
    );
    let (slots, grant) = (tell_host(H1, ToHost::SetSlots(2)), grant_on(H1, 1, range(0, 10)));
    assert_eq!(
        world.hear(Input::HostStarted(H1)),
        [open_on(H1, J1), slots, grant]
    );
    assert_eq!(world.host(H1, FromHost::Ready), []);
    assert_eq!(
        world.grant(J1, 2, range(10, 11)),
        [grant_on(H1, 2, range(10, 11))]
    );
}

#[test]
fn a_warm_worker_opens_the_next_job_on_its_idle_host_at_once() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    assert_eq!(
        world.told(ToWorker::Close { job: J1 }),
        [tell_host(H1, ToHost::Close)]
    );
    assert_eq!(world.host(H1, FromHost::Closed), []);
    assert_eq!(world.open(J2, work()), [open_on(H1, J2)]);
}

#[test]
fn a_host_of_another_user_or_program_is_not_reused() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.told(ToWorker::Close { job: J1 });
    world.host(H1, FromHost::Closed);
    let open = ToWorker::Open {
        job: J2,
        user: "eve".into(),
        work: work().into(),
        request: Request::default(),
        task_time_limit_millis: None,
    };
    assert_eq!(
        world.told(open),
        [Effect::StartHost {
            host: H2,
            program: HostProgram::Blob(PROGRAM)
        }]
    );
    let other = KernelWork {
        program: BlobId([8; 32]),
        ..work()
    };
    assert!(matches!(&world.open(J3, other)[..], [Effect::Prepare { .. }]));
}

#[test]
fn a_job_waits_a_moment_for_a_host_that_is_closing_its_last_one() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.told(ToWorker::Close { job: J1 });
    assert_eq!(world.open(J2, work()), []);
    assert_eq!(world.host(H1, FromHost::Closed), [open_on(H1, J2)]);
    world.told(ToWorker::Close { job: J2 });
    assert_eq!(world.open(J3, work()), []);
    assert_eq!(
        world.later(CLOSING_HOST_WAIT),
        [Effect::StartHost {
            host: H2,
            program: HostProgram::Blob(PROGRAM)
        }]
    );
}

#[test]
fn what_ended_is_reported_at_once_and_kept_until_it_is_durable() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    let failure = TaskFailure {
        index: 4,
        cause: FailureCause::Panic,
        message: "m".into(),
    };
    let failed = vec![(grant(1), vec![failure])];
    let progress = Progress {
        failed: failed.clone(),
        busy_nanos: 9,
        backlog: 5,
        ..with_result(1, 0, 4, 3)
    };
    assert_eq!(world.host(H1, FromHost::Progress(progress)), []);
    let block = ResultBlock {
        range: range(0, 4),
        keep: vec![range(0, 4)],
        data: ResultData::Inline(Bytes::from_static(&[1; 3])),
    };
    let expected = Report {
        usage: Vec::new(),
        number: 1,
        job: J1,
        done: vec![(grant(1), vec![range(0, 4)])],
        failed,
        results: vec![block],
        busy_nanos: 9,
        backlog: 5,
    };
    assert_eq!(world.reports(), [Arc::new(expected)]);
    // until then a new session is sent it again
    world.connect();
    assert_eq!(world.reports().len(), 1);
    world.told(ToWorker::Acknowledge { number: 1 });
    world.connect();
    assert_eq!(world.reports(), []);
}

#[test]
fn a_worker_that_comes_back_says_what_it_holds_and_reports_again_what_was_not_acknowledged() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    for start in [0, 2, 6] {
        world.host(H1, FromHost::Progress(done(1, start, start + 2)));
    }
    assert_eq!(world.reports().len(), 3);
    world.told(ToWorker::Acknowledge { number: 1 });
    world.hear(Input::Disconnected);
    // it goes on computing without a scheduler
    world.host(H1, FromHost::Progress(done(1, 8, 9)));
    assert_eq!(world.reports(), []);
    let held = |start, end| HeldGrant {
        job: J1,
        grant: grant(1),
        range: range(start, end),
    };
    assert_eq!(world.connect(), [held(4, 6), held(9, 10)]);
    let numbers: Vec<u64> = world.reports().iter().map(|report| report.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[test]
fn a_job_that_holds_nothing_is_closed_before_a_new_session_since_the_scheduler_will_not_know_of_it() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.hear(Input::Disconnected);
    assert_eq!(world.hear(Input::Connected)[0], tell_host(H1, ToHost::Close));
    assert_eq!(world.host(H1, FromHost::Closed), []);
    assert_eq!(world.open(J1, work()), [open_on(H1, J1)]);
}

#[test]
fn a_dead_host_loses_its_grants_and_the_job_may_be_opened_again() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    let how = "signal 11 (SIGSEGV)".to_owned();
    let lost = FromWorker::HostLost {
        job: J1,
        blamed: Vec::new(),
        cause: FailureCause::Crash,
        how: how.clone(),
    };
    let died = Input::HostDied {
        host: H1,
        death: death(&how, false, &[]),
    };
    assert_eq!(world.hear(died), [Effect::Tell(lost)]);
    // what was on its way to it is no longer of use
    assert_eq!(world.grant(J1, 2, range(10, 20)), []);
    assert_eq!(
        world.open(J1, work()),
        [Effect::StartHost {
            host: H2,
            program: HostProgram::Blob(PROGRAM)
        }]
    );
    assert_eq!(world.connect(), []);
}

#[test]
fn tasks_that_ran_in_a_dead_host_are_blamed_unless_they_were_reported_or_never_granted() {
    let mut world = World::new();
    world.run(J1, 1, H1, 3);
    world.grant(J1, 1, range(0, 10));
    world.host(H1, FromHost::Progress(done(1, 2, 3)));
    let effects = world.hear(Input::HostDied {
        host: H1,
        death: death("signal 6 (SIGABRT)", false, &[2, 7, 99]),
    });
    let lost = FromWorker::HostLost {
        job: J1,
        blamed: vec![7],
        cause: FailureCause::Crash,
        how: "signal 6 (SIGABRT)".into(),
    };
    assert_eq!(effects, [Effect::Tell(lost)]);
}

#[test]
fn a_host_that_is_killed_for_what_it_said_blames_nobody() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    let how = "it broke the protocol and was killed".to_owned();
    let lost = FromWorker::HostLost {
        job: J1,
        blamed: Vec::new(),
        cause: FailureCause::Crash,
        how,
    };
    let effects = world.host(H1, FromHost::Closed);
    assert_eq!(effects, [Effect::KillHost(H1), Effect::Tell(lost)]);
    // its death is then no news
    let died = Input::HostDied {
        host: H1,
        death: death("signal 9 (SIGKILL)", false, &[7]),
    };
    assert_eq!(world.hear(died), []);
}

#[test]
fn a_job_with_limits_is_watched_and_has_a_host_of_its_own_kind() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.told(ToWorker::Close { job: J1 });
    world.host(H1, FromHost::Closed);
    let request = Request {
        memory_bytes: 1 << 30,
        ..Request::default()
    };
    let open = |job, request, task_time_limit_millis| ToWorker::Open {
        job,
        user: "ada".into(),
        work: work().into(),
        request,
        task_time_limit_millis,
    };
    let limits = Limits {
        task_time: Some(Duration::from_millis(1500)),
        memory_bytes: 0,
    };
    let effects = world.told(open(J2, Request::default(), Some(1500)));
    assert_eq!(effects, [Effect::Watch(H1, limits), open_on(H1, J2)]);
    world.told(ToWorker::Close { job: J2 });
    world.host(H1, FromHost::Closed);
    // what J1 used, H1 may still have
    let effects = world.told(open(J3, request, None));
    assert!(
        matches!(effects[..], [Effect::StartHost { host: H2, .. }]),
        "{effects:?}"
    );
}

#[test]
fn a_host_that_ends_itself_before_it_is_ready_cannot_run_the_job() {
    let mut world = World::new();
    world.open(J1, work());
    world.prepared(J1, 1);
    world.hear(Input::HostStarted(H1));
    let effects = world.hear(Input::HostDied {
        host: H1,
        death: death("exit status 3", true, &[]),
    });
    let reason = "its kernel host died before it was ready: exit status 3".to_owned();
    assert_eq!(
        effects,
        [Effect::Tell(FromWorker::CannotRun {
            job: J1,
            reason,
            fatal: true
        })]
    );
}

#[test]
fn a_host_that_is_killed_before_it_is_ready_does_not_end_the_job_everywhere() {
    let mut world = World::new();
    world.open(J1, work());
    world.prepared(J1, 1);
    world.hear(Input::HostStarted(H1));
    // by a node that is out of memory, say
    let how = "signal 9 (SIGKILL)".to_owned();
    let effects = world.hear(Input::HostDied {
        host: H1,
        death: death(&how, false, &[]),
    });
    assert_eq!(
        effects,
        [Effect::Tell(FromWorker::HostLost {
            job: J1,
            blamed: Vec::new(),
            cause: FailureCause::Crash,
            how
        })]
    );
}

#[test]
fn a_refusal_is_passed_on_and_the_host_serves_the_next_job() {
    let mut world = World::new();
    world.open(J1, work());
    world.prepared(J1, 1);
    world.hear(Input::HostStarted(H1));
    let reason = "there is no kernel `primes`".to_owned();
    let cannot = FromWorker::CannotRun {
        job: J1,
        reason: reason.clone(),
        fatal: true,
    };
    // a host may also refuse a job that it had begun, and keeps that until it is closed
    assert_eq!(
        world.host(H1, FromHost::Refused { reason }),
        [Effect::Tell(cannot), tell_host(H1, ToHost::Close)]
    );
    assert_eq!(world.host(H1, FromHost::Slots(1)), []);
    assert_eq!(world.host(H1, FromHost::Closed), []);
    assert_eq!(world.open(J2, work()), [open_on(H1, J2)]);
}

#[test]
fn an_obstacle_on_this_node_is_told_as_such() {
    let mut world = World::new();
    world.open(J1, work());
    let obstacle = Obstacle {
        reason: "the cache is full".into(),
        fatal: false,
    };
    let effects = world.hear(Input::Prepared {
        job: J1,
        opening: Opening(1),
        outcome: Err(obstacle),
    });
    let reason = "the cache is full".to_owned();
    assert_eq!(
        effects,
        [Effect::Tell(FromWorker::CannotRun {
            job: J1,
            reason,
            fatal: false
        })]
    );
}

#[test]
fn slots_of_a_job_are_given_to_another_only_when_its_tasks_have_ended() {
    let mut world = World::new();
    world.run(J1, 1, H1, 4);
    world.open(J2, work());
    world.hear(Input::HostStarted(H2));
    world.host(H2, FromHost::Ready);
    assert_eq!(world.slots(J2, 3), []);
    assert_eq!(world.slots(J1, 1), [tell_host(H1, ToHost::SetSlots(1))]);
    assert_eq!(
        world.host(H1, FromHost::Slots(1)),
        [tell_host(H2, ToHost::SetSlots(3))]
    );
    world.host(H2, FromHost::Slots(3));
    // a host that was killed keeps its slots until it is dead
    assert_eq!(world.slots(J2, 4), []);
    world.told(ToWorker::Close { job: J1 });
    assert_eq!(world.later(CLOSE_GRACE), [Effect::KillHost(H1)]);
    assert_eq!(world.slots(J2, 4), []);
    let effects = world.hear(Input::HostDied {
        host: H1,
        death: death("signal 9 (SIGKILL)", false, &[]),
    });
    assert_eq!(effects, [tell_host(H2, ToHost::SetSlots(4))]);
}

#[test]
fn idle_hosts_are_few_and_do_not_stay() {
    let mut world = World::new();
    let jobs: Vec<JobId> = (1..=5).map(JobId).collect();
    for (&job, number) in jobs.iter().zip(1..) {
        world.run(job, number, HostId(number), 0);
    }
    jobs.iter()
        .for_each(|&job| drop(world.told(ToWorker::Close { job })));
    for number in 1..=4 {
        assert_eq!(world.host(HostId(number), FromHost::Closed), []);
    }
    world.later(Duration::from_millis(1));
    assert_eq!(world.host(HostId(5), FromHost::Closed), [Effect::KillHost(H1)]);
    assert_eq!(world.later(IDLE_HOST_KEPT).len(), 4);
}

#[test]
fn a_signal_goes_to_a_host_of_commands_that_may_run_its_tasks_and_to_no_other() {
    let usr1 = TaskSignal {
        number: 10,
        recipients: Recipients::All,
    };
    let signal = |number| ToWorker::Signal {
        job: J1,
        grant: grant(number),
        range: range(3, 5),
        signal: usr1,
    };
    let mut world = World::new();
    world.open(J1, Work::Command(commands()));
    world.grant(J1, 1, range(0, 10));
    assert_eq!(world.told(signal(1)), []);
    world.prepared(J1, 1);
    world.hear(Input::HostStarted(H1));
    let passed_on = ToHost::Signal {
        grant: grant(1),
        range: range(3, 5),
        signal: usr1,
    };
    assert_eq!(world.told(signal(1)), [tell_host(H1, passed_on)]);
    assert_eq!(world.told(signal(7)), []);

    let mut kernels = World::new();
    kernels.run(J1, 1, H1, 10);
    kernels.grant(J1, 1, range(0, 10));
    assert_eq!(kernels.told(signal(1)), []);
}

#[test]
fn a_stop_goes_to_the_host_as_soon_as_there_is_one_and_its_answer_back() {
    let mut world = World::new();
    let stop = |number, range| ToWorker::Stop {
        job: J1,
        grant: grant(number),
        range,
    };
    let stop_on = |number, range| {
        let grant = grant(number);
        tell_host(H1, ToHost::Stop { grant, range })
    };
    world.open(J1, work());
    world.grant(J1, 1, range(0, 10));
    assert_eq!(world.told(stop(1, range(3, 5))), []);
    assert_eq!(world.told(stop(7, range(3, 5))), []);
    world.prepared(J1, 1);
    assert_eq!(
        world.hear(Input::HostStarted(H1)),
        [
            open_on(H1, J1),
            grant_on(H1, 1, range(0, 10)),
            stop_on(1, range(3, 5))
        ]
    );
    assert_eq!(world.told(stop(1, range(7, 8))), [stop_on(1, range(7, 8))]);
    let answer = FromHost::Stopped {
        grant: grant(1),
        range: range(3, 5),
    };
    assert_eq!(
        world.host(H1, answer),
        [Effect::Tell(FromWorker::Stopped {
            job: J1,
            grant: grant(1),
            range: range(3, 5),
        })]
    );
    // it holds them no longer, and says so to the next scheduler
    let effects = world.hear(Input::Connected);
    let Some(Effect::Tell(FromWorker::Join(join))) = effects.first() else {
        panic!("{effects:?}");
    };
    let held: Vec<IndexRange> = join.held.iter().map(|held| held.range).collect();
    assert_eq!(held, [range(0, 3), range(5, 10)]);
}

#[test]
fn a_revoke_of_what_no_host_has_is_answered_here() {
    let mut world = World::new();
    let revoke = |number, count| ToWorker::Revoke {
        job: J1,
        grant: grant(number),
        count,
    };
    let returned = |number, range| {
        Effect::Tell(FromWorker::Returned {
            job: J1,
            grant: grant(number),
            range,
        })
    };
    world.open(J1, work());
    world.grant(J1, 1, range(0, 10));
    assert_eq!(world.told(revoke(1, 4)), [returned(1, range(6, 10))]);
    assert_eq!(world.told(revoke(2, 4)), [returned(2, range(0, 0))]);
    world.prepared(J1, 1);
    assert_eq!(
        world.hear(Input::HostStarted(H1)),
        [open_on(H1, J1), grant_on(H1, 1, range(0, 6))]
    );
    // and of what a host has, by the host
    assert_eq!(
        world.told(revoke(1, 9)),
        [tell_host(
            H1,
            ToHost::Revoke {
                grant: grant(1),
                count: 9
            }
        )]
    );
    let answer = FromHost::Returned {
        grant: grant(1),
        range: range(2, 6),
    };
    assert_eq!(world.host(H1, answer), [returned(1, range(2, 6))]);
    assert_eq!(
        world.connect(),
        [HeldGrant {
            job: J1,
            grant: grant(1),
            range: range(0, 2)
        }]
    );
}

#[test]
fn large_results_are_durable_before_they_are_reported_and_later_ones_wait_behind_them() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 100));
    let effects = world.host(H1, FromHost::Progress(with_result(1, 0, 10, 100_000)));
    let [Effect::Write(write)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((write.range, write.grant), (range(0, 10), grant(1)));
    // small ones of the same job keep their place, and become one report
    world.host(H1, FromHost::Progress(with_result(1, 10, 20, 10)));
    world.host(H1, FromHost::Progress(with_result(1, 20, 30, 10)));
    assert_eq!(world.reports(), []);
    assert_eq!(world.connect()[0].range, range(0, 100));
    let name = Some("0-9-t1-1".to_owned());
    assert_eq!(
        world.hear(Input::Written {
            job: J1,
            opening: Opening(1),
            name
        }),
        []
    );
    let reports = world.reports();
    assert_eq!(reports.len(), 2);
    assert!(matches!(
        &reports[0].results[0].data,
        ResultData::File { bytes: 100_000, .. }
    ));
    assert_eq!(reports[1].done, [(grant(1), vec![range(10, 30)])]);
}

#[test]
fn failing_storage_pauses_the_hosts_and_loses_nothing() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    world.host(H1, FromHost::Progress(with_result(1, 0, 10, 100_000)));
    let failed = || Input::Written {
        job: J1,
        opening: Opening(1),
        name: None,
    };
    assert_eq!(world.hear(failed()), [tell_host(H1, ToHost::Pause(true))]);
    assert!(matches!(&world.later(WRITE_PAUSE_MIN)[..], [Effect::Write(_)]));
    assert_eq!(world.hear(failed()), []);
    assert_eq!(world.later(WRITE_PAUSE_MIN), []);
    assert!(matches!(&world.later(WRITE_PAUSE_MIN)[..], [Effect::Write(_)]));
    let name = Some("0-9-t1-1".to_owned());
    let effects = world.hear(Input::Written {
        job: J1,
        opening: Opening(1),
        name,
    });
    assert_eq!(effects, [tell_host(H1, ToHost::Pause(false))]);
    assert_eq!(world.reports().len(), 1);
}

#[test]
fn tasks_past_the_end_of_the_inputs_cannot_run() {
    let mut world = World::new();
    let table = BlobId([1; 32]);
    world.open(
        J1,
        KernelWork {
            inputs: Inputs::Items { table },
            ..work()
        },
    );
    let inputs = InputFiles::new(&Default::default(), |_| PathBuf::new());
    let outcome = Ok(Prepared {
        program: Some(PROGRAM),
        inputs,
        ..Prepared::default()
    });
    world.hear(Input::Prepared {
        job: J1,
        opening: Opening(1),
        outcome,
    });
    world.hear(Input::HostStarted(H1));
    world.host(H1, FromHost::Ready);
    let effects = world.grant(J1, 1, range(3, 5));
    let reason = "tasks 3-4 have no input: the input list has 0 items".to_owned();
    assert_eq!(
        effects,
        [
            Effect::KillHost(H1),
            Effect::Tell(FromWorker::CannotRun {
                job: J1,
                reason,
                fatal: true
            })
        ]
    );
}

#[test]
fn a_host_that_breaks_the_protocol_ends_alone() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.open(J2, work());
    world.hear(Input::HostStarted(H2));
    let effects = world.host(H1, FromHost::Closed);
    assert!(matches!(
        &effects[..],
        [
            Effect::KillHost(H1),
            Effect::Tell(FromWorker::HostLost { job: J1, .. })
        ]
    ));
    assert_eq!(world.host(H1, FromHost::Progress(done(1, 0, 1))), []);
    assert_eq!(world.host(H2, FromHost::Ready), []);
}

#[test]
fn what_a_program_says_cannot_burst_a_frame() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    let failure = TaskFailure {
        index: 4,
        cause: FailureCause::Error,
        message: "ä".repeat(4 << 20),
    };
    let told = Progress {
        failed: vec![(grant(1), vec![failure])],
        ..Progress::default()
    };
    let effects = world.host(H1, FromHost::Progress(told));
    assert!(matches!(
        &effects[..],
        [Effect::KillHost(H1), Effect::Tell(FromWorker::HostLost { .. })]
    ));
    world.run(J2, 2, H2, 2);
    world.grant(J2, 1, range(0, 10));
    let failure = TaskFailure {
        index: 4,
        cause: FailureCause::Error,
        message: "ä".repeat(9000),
    };
    world.host(
        H2,
        FromHost::Progress(Progress {
            failed: vec![(grant(1), vec![failure])],
            ..Progress::default()
        }),
    );
    assert_eq!(world.reports()[0].failed[0].1[0].message.len(), 4096);
    let reason = "x".repeat(5000);
    let effects = world.host(H2, FromHost::Refused { reason });
    assert!(
        matches!(&effects[0], Effect::Tell(FromWorker::CannotRun { reason, .. }) if reason.len() == 4096)
    );
}

#[test]
fn a_stopping_worker_kills_its_hosts_and_says_so() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    assert_eq!(
        world.hear(STOPPED),
        [Effect::KillHost(H1), Effect::Tell(FromWorker::Leaving)]
    );
    assert_eq!(world.open(J2, work()), []);
}

#[test]
fn a_stopping_worker_leaves_only_when_its_reports_are_durable() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    world.host(H1, FromHost::Progress(done(1, 0, 2)));
    world.host(H1, FromHost::Progress(done(1, 2, 4)));
    assert_eq!(world.hear(STOPPED), [Effect::KillHost(H1)]);
    // also what was not sent yet
    assert_eq!(world.reports().len(), 2);
    assert_eq!(world.grant(J1, 2, range(10, 20)), []);
    assert_eq!(world.open(J2, work()), []);
    assert_eq!(world.told(ToWorker::Acknowledge { number: 1 }), []);
    let leaving = Effect::Tell(FromWorker::Leaving);
    assert_eq!(world.told(ToWorker::Acknowledge { number: 2 }), [leaving]);
    assert!(world.agent.has_left());
    assert_eq!(world.agent.next_deadline(), None);
    assert_eq!(world.later(STOP_WAIT), []);
}

#[test]
fn a_stopping_worker_leaves_without_acknowledgements_in_the_end() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    world.host(H1, FromHost::Progress(done(1, 0, 2)));
    world.hear(STOPPED);
    assert_eq!(world.agent.next_deadline(), Some(world.now + STOP_WAIT));
    assert_eq!(world.later(STOP_WAIT), [Effect::Tell(FromWorker::Leaving)]);
}

#[test]
fn a_draining_worker_gives_back_what_no_host_has_and_takes_nothing_on() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    world.open(J2, work());
    world.grant(J2, 2, range(0, 5));
    let returned = |job, number, range| {
        Effect::Tell(FromWorker::Returned {
            job,
            grant: grant(number),
            range,
        })
    };
    assert_eq!(
        world.told(ToWorker::Drain),
        [
            Effect::Tell(FromWorker::Draining),
            returned(J2, 2, range(0, 5)),
            tell_host(H1, ToHost::CheckpointNow)
        ]
    );
    // these crossed it on their way
    assert_eq!(world.open(J3, work()), []);
    assert_eq!(world.grant(J3, 3, range(7, 9)), [returned(J3, 3, range(7, 9))]);
    assert_eq!(
        world.grant(J1, 4, range(20, 22)),
        [returned(J1, 4, range(20, 22))]
    );
    assert_eq!(world.told(ToWorker::Drain), []);
    // the scheduler asks for the rest of what the host has
    let (number, count) = (1, u64::MAX);
    let revoke = ToWorker::Revoke {
        job: J1,
        grant: grant(number),
        count,
    };
    let to_host = ToHost::Revoke {
        grant: grant(number),
        count,
    };
    assert_eq!(world.told(revoke), [tell_host(H1, to_host)]);
    let back = FromHost::Returned {
        grant: grant(1),
        range: range(3, 10),
    };
    assert_eq!(world.host(H1, back), [returned(J1, 1, range(3, 10))]);
    assert_eq!(world.host(H1, FromHost::Progress(done(1, 0, 3))), []);
    assert_eq!(world.reports().len(), 1);
    assert_eq!(
        world.later(Duration::from_secs(3600)),
        [],
        "it has no limit of time"
    );
    let effects = world.told(ToWorker::Acknowledge { number: 1 });
    assert_eq!(effects, [Effect::Tell(FromWorker::Leaving)]);
}

#[test]
fn a_stopped_worker_kills_its_hosts_when_its_grace_is_over_and_not_before() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 1));
    let grace = Duration::from_secs(5);
    let effects = world.hear(Input::Stopped { grace });
    let call = tell_host(H1, ToHost::CheckpointNow);
    assert_eq!(effects, [Effect::Tell(FromWorker::Draining), call]);
    assert_eq!(world.later(Duration::from_millis(4999)), []);
    assert_eq!(
        world.later(Duration::from_millis(1)),
        [Effect::KillHost(H1), Effect::Tell(FromWorker::Leaving)]
    );
}

#[test]
fn an_operators_stop_limits_a_drain_and_a_second_one_ends_it() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 1));
    world.told(ToWorker::Drain);
    let grace = Duration::from_secs(5);
    let call = tell_host(H1, ToHost::CheckpointNow);
    assert_eq!(world.hear(Input::Stopped { grace }), [call]);
    assert_eq!(
        world.hear(STOPPED),
        [Effect::KillHost(H1), Effect::Tell(FromWorker::Leaving)]
    );
}

#[test]
fn a_draining_worker_says_so_to_the_next_scheduler_too() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 1));
    world.told(ToWorker::Drain);
    world.hear(Input::Disconnected);
    let effects = world.hear(Input::Connected);
    assert!(
        matches!(
            effects[..],
            [
                Effect::Tell(FromWorker::Join(_)),
                Effect::Tell(FromWorker::Draining)
            ]
        ),
        "{effects:?}"
    );
}
