//! Inputs that make no sense: unknown grants, reversed ranges, absurd counts. Nothing of it panics or breaks an
//! invariant, which [`Story::tell`] checks after every step.

use std::collections::BTreeMap;

use phalanx_protocol::dependency::{Condition, Dependency, Ending, Joined, Never};
use phalanx_protocol::limits::TASKS_MAX;
use phalanx_protocol::message::worker::{HeldGrant, Join, Report};
use phalanx_protocol::record::{FailureCause, Record, TaskFailure};
use phalanx_protocol::{
    Feeding, GrantId, IndexRange, JobId, JobSpec, RangeSet, Request, Resources, Retries, Sharing,
    SubmissionId, TaskUsage, Term, WorkerId,
};
use phalanx_scheduler_core::{Effect, Input, RequestId, SessionId};
use proptest::prelude::*;

use crate::story::{Granted, Story, block, command_job, kernel_job, reducing_job};

/// Numbers out of a seed (Steele, Lea and Flood, 2014: SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Mostly small, sometimes absurd.
    fn number(&mut self, usual: u64) -> u64 {
        match self.below(12) {
            0 => u64::MAX - self.below(3),
            1 => TASKS_MAX - self.below(3),
            2 => self.next(),
            _ => self.below(usual),
        }
    }

    fn cause(&mut self) -> FailureCause {
        let causes = [
            FailureCause::Error,
            FailureCause::Error,
            FailureCause::Panic,
            FailureCause::Input,
            FailureCause::Crash,
            FailureCause::TimeLimit,
            FailureCause::Memory,
        ];
        causes[self.below(causes.len() as u64) as usize]
    }

    fn range(&mut self) -> IndexRange {
        let start = self.number(120);
        if self.one_in(8) {
            return IndexRange::new(start, self.number(120));
        }
        IndexRange::new(start, start.saturating_add(self.number(30)))
    }

    fn grant(&mut self, story: &Story, worker: WorkerId) -> Granted {
        let known = story
            .mail
            .get(&worker)
            .map(|mail| mail.grants.as_slice())
            .unwrap_or_default();
        if !known.is_empty() && !self.one_in(4) {
            return known[self.below(known.len() as u64) as usize].clone();
        }
        let range = self.range();
        Granted {
            job: JobId(self.below(6)),
            grant: GrantId {
                term: Term(self.below(3)),
                number: self.number(40),
            },
            range: range.start..range.end,
        }
    }
}

fn dependency(dice: &mut Dice) -> Dependency {
    let count = dice.below(3) + 1;
    let conditions = (0..count).map(|_| {
        let job = JobId(dice.below(7));
        match dice.below(7) {
            6 => Condition::AfterElement {
                job,
                element: dice.below(200),
                ending: [Ending::Any, Ending::Ok, Ending::NotOk][dice.below(3) as usize],
            },
            0 => Condition::After {
                job,
                delay_millis: dice.number(200),
            },
            1 => Condition::AfterAny(job),
            2 => Condition::AfterOk(job),
            3 => Condition::AfterNotOk(job),
            4 => Condition::AfterCorresponding(job),
            _ => Condition::Singleton,
        }
    });
    let conditions = conditions.collect();
    Dependency {
        joined: [Joined::All, Joined::Any][dice.below(2) as usize],
        conditions,
        never: [Never::Stay, Never::Cancel][dice.below(2) as usize],
    }
}

fn spec(dice: &mut Dice, user_count: u64) -> (String, JobSpec) {
    let tasks = if dice.one_in(10) {
        TASKS_MAX
    } else {
        dice.below(200)
    };
    let spec = match dice.below(3) {
        0 => reducing_job(tasks),
        1 => command_job(tasks),
        _ => kernel_job(tasks),
    };
    let request = Request {
        cpus: dice.number(5) as u32,
        memory_bytes: if dice.one_in(4) { dice.number(1 << 31) } else { 0 },
        named: if dice.one_in(6) {
            BTreeMap::from([("gpu".into(), dice.number(3).into())])
        } else {
            BTreeMap::new()
        },
        sharing: [
            Sharing::Anybody,
            Sharing::Anybody,
            Sharing::OwnJob,
            Sharing::Nobody,
        ][dice.below(4) as usize],
        ..Request::default()
    };
    let spec = JobSpec {
        submission: SubmissionId(u128::from(dice.below(1000)) + 1),
        request,
        priority: dice.below(3) as i32,
        feeding: [Feeding::Factoring, Feeding::Guided, Feeding::Static][dice.below(3) as usize],
        failures_max: dice.one_in(3).then(|| dice.number(20)),
        retries: Retries {
            errors: dice.below(3) as u32,
            crash_limit: dice.below(4) as u32 + 1,
            lost_limit: dice.one_in(3).then_some(2),
            timeouts: dice.below(2) as u32,
            backoff_millis: dice.number(30),
        },
        slots_max: dice.one_in(4).then(|| dice.below(6) as u32 + 1),
        held: dice.one_in(10),
        dependency: dice.one_in(3).then(|| dependency(dice)),
        begin_unix_millis: dice.one_in(8).then(|| dice.number(400)),
        ..spec
    };
    (format!("user{}", dice.below(user_count)), spec)
}

fn join(dice: &mut Dice, story: &Story) -> Input {
    let worker = dice.one_in(2).then(|| WorkerId(dice.number(6)));
    let count = dice.below(4);
    let held = (0..count).map(|_| {
        let granted = dice.grant(story, worker.unwrap_or(WorkerId(1)));
        HeldGrant {
            job: granted.job,
            grant: granted.grant,
            range: granted.range.into(),
        }
    });
    let held = held.collect();
    let capacity = Resources {
        cpus: dice.number(8) as u32,
        memory_bytes: dice.number(1 << 34),
        named: BTreeMap::from([("gpu".into(), dice.number(4).into())]),
    };
    let instance = u128::from(dice.below(5));
    let session = SessionId(dice.next());
    let join = Join {
        instance,
        worker,
        name: "node".into(),
        capacity,
        held,
    };
    Input::WorkerJoined {
        session,
        address: "10.0.0.1:7000".into(),
        join: Box::new(join),
    }
}

fn report(dice: &mut Dice, story: &Story, worker: WorkerId) -> Input {
    let granted = dice.grant(story, worker);
    let mut done = Vec::new();
    for _ in 0..dice.below(4) {
        let range = if dice.one_in(3) {
            dice.range()
        } else {
            granted.range.clone().into()
        };
        let length = if dice.one_in(2) {
            range.len()
        } else {
            dice.below(range.len())
        };
        done.push((
            dice.grant(story, worker).grant,
            vec![IndexRange::new(range.start, range.start.saturating_add(length))],
        ));
    }
    if dice.one_in(2) {
        done.push((granted.grant, vec![granted.range.clone().into()]));
    }
    let failed = (0..dice.below(3)).map(|_| TaskFailure {
        index: dice.number(150),
        cause: dice.cause(),
        message: "no".into(),
    });
    let failed = vec![(granted.grant, failed.collect())];
    let mut results: Vec<_> = done
        .iter()
        .flat_map(|(_, ranges)| ranges)
        .map(|range| block(range.start..range.end))
        .collect();
    if dice.one_in(5) {
        let range = dice.range();
        results.push(block(range.start..range.end));
    }
    let ranges = done.iter().flat_map(|(_, ranges)| ranges);
    let usage = ranges.flat_map(|range| [used(range.start), used(range.end), used(range.start)]);
    let usage = usage.collect();
    let report = Report {
        usage,
        number: dice.number(10),
        job: if dice.one_in(10) {
            JobId(dice.number(6))
        } else {
            granted.job
        },
        done,
        failed,
        results,
        busy_nanos: dice.number(3_000_000_000),
        backlog: dice.next(),
    };
    Input::Reported {
        worker,
        report: Box::new(report),
    }
}

/// What a task, which need not be one of the job's, is said to have used.
fn used(index: u64) -> TaskUsage {
    TaskUsage {
        index,
        ran_millis: index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (index % 64),
        user_micros: index.rotate_right(7),
        system_micros: 3,
        rss_kib: index % 1000,
    }
}

/// Somebody wants something of some tasks, or a worker answers that.
fn about_tasks(dice: &mut Dice, story: &Story, worker: WorkerId) -> Input {
    let stop = story.mail.get(&worker).and_then(|mail| mail.stops.last());
    if let Some(stop) = stop.filter(|_| dice.one_in(2)) {
        return Input::Stopped {
            worker,
            job: stop.job,
            grant: stop.grant,
            range: if dice.one_in(3) {
                dice.range()
            } else {
                stop.range.clone().into()
            },
        };
    }
    let range = match dice.one_in(2) {
        true => dice.grant(story, worker).range.into(),
        false => dice.range(),
    };
    let (request, job) = (RequestId(dice.next()), JobId(dice.below(8)));
    let tasks = [range, dice.range()];
    if dice.one_in(2) {
        let count = dice.below(3) as usize;
        return Input::RequeueRequested {
            request,
            user: format!("user{}", dice.below(3)),
            admin: dice.one_in(2),
            job,
            tasks: (count > 0).then(|| tasks.into_iter().take(count).collect()),
        };
    }
    Input::TaskCancelRequested {
        request,
        user: format!("user{}", dice.below(3)),
        admin: dice.one_in(2),
        job,
        tasks: tasks.into_iter().take(dice.below(3) as usize).collect(),
    }
}

fn step(dice: &mut Dice, story: &Story) -> Input {
    let worker = WorkerId(dice.number(6));
    let request = RequestId(dice.next());
    match dice.below(22) {
        0..2 => about_tasks(dice, story, worker),
        2..5 => join(dice, story),
        5..11 => report(dice, story, worker),
        11..14 => {
            let (user, spec) = spec(dice, 3);
            Input::Submitted {
                request,
                user,
                spec: Box::new(spec),
            }
        }
        14 if dice.one_in(2) => Input::HoldRequested {
            request,
            user: format!("user{}", dice.below(3)),
            admin: dice.one_in(2),
            job: JobId(dice.number(8)),
            held: dice.one_in(2),
        },
        14 => Input::CancelRequested {
            request,
            user: format!("user{}", dice.below(3)),
            admin: dice.one_in(5),
            job: JobId(dice.number(8)),
        },
        15 if dice.one_in(2) => Input::RetryRequested {
            request,
            user: format!("user{}", dice.below(3)),
            admin: dice.one_in(2),
            job: JobId(dice.number(8)),
        },
        15 => Input::WorkerLost(worker),
        16..19 => {
            let granted = dice.grant(story, worker);
            let asked = story
                .mail
                .get(&worker)
                .and_then(|mail| mail.revokes.last().copied());
            let range = if dice.one_in(3) {
                dice.range()
            } else {
                granted.range.into()
            };
            let grant = asked
                .filter(|_| !dice.one_in(4))
                .map_or(granted.grant, |asked| asked.grant);
            Input::Returned {
                worker,
                job: granted.job,
                grant,
                range,
            }
        }
        19 => Input::CannotRun {
            worker,
            job: JobId(dice.number(8)),
            reason: "no".into(),
            fatal: dice.one_in(6),
        },
        20 => Input::HostLost {
            worker,
            job: JobId(dice.number(8)),
            blamed: (0..dice.below(4)).map(|_| dice.number(150)).collect(),
            cause: dice.cause(),
            how: "signal 11".into(),
        },
        _ if dice.one_in(8) => Input::WorkerDraining(worker),
        _ if dice.one_in(8) => Input::DrainRequested {
            request,
            worker,
            allowed: dice.one_in(2),
        },
        _ if dice.one_in(2) => Input::StorageChanged {
            error: dice.one_in(2).then(|| "disk full".into()),
        },
        _ => Input::Ticked,
    }
}

/// A story of `steps` things that happen, most of them nonsense.
pub(crate) fn random_story(seed: u64, steps: u64) -> Story {
    let mut dice = Dice(seed);
    let mut story = Story::new();
    for _ in 0..steps {
        if dice.one_in(15) {
            story.storage_slows_down();
        }
        let input = step(&mut dice, &story);
        story.tell(input);
        if dice.one_in(6) {
            story.storage_catches_up();
        }
    }
    story.storage_catches_up();
    story
}

/// ONCE and KEEP, told from the outside: by the effects alone.
fn judge(story: &Story) {
    let mut ended: BTreeMap<JobId, RangeSet> = BTreeMap::new();
    let mut appended = 0;
    for effect in &story.effects {
        match effect {
            Effect::Append { sequence, record } => {
                appended += 1;
                assert_eq!(*sequence, appended, "records are counted without gaps");
                if let Record::JobReopened { job, tasks } | Record::TasksRequeued { job, tasks, .. } = record
                {
                    let set = ended.entry(*job).or_default();
                    tasks.iter().for_each(|&range| set.remove(range));
                }
                if let Record::TasksCancelled { job, tasks, .. } = record {
                    let set = ended.entry(*job).or_default();
                    for &range in tasks {
                        assert!(set.pieces(range).is_empty(), "ONCE: {job} {range}");
                        set.insert(range);
                    }
                }
                if let Record::TasksEnded {
                    job,
                    done,
                    results,
                    failed,
                    ..
                } = record
                {
                    let failed = failed
                        .iter()
                        .map(|failure| IndexRange::new(failure.index, failure.index + 1));
                    let set = ended.entry(*job).or_default();
                    let mut fresh = RangeSet::new();
                    for range in done.iter().copied().chain(failed) {
                        assert!(
                            !range.is_empty() && set.pieces(range).is_empty(),
                            "ONCE: {job} {range}"
                        );
                        set.insert(range);
                        fresh.insert(range);
                    }
                    for keep in results.iter().flat_map(|block| &block.keep) {
                        assert!(fresh.contains_range(*keep), "ONCE: results of {keep} count twice");
                        fresh.remove(*keep);
                    }
                }
            }
            Effect::Publish { sequence, .. } => assert!(*sequence <= appended, "KEEP"),
            _ => {}
        }
    }
}

#[test]
fn nonsense_breaks_nothing() {
    for seed in 0..40 {
        judge(&random_story(seed, 300));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn nonsense_of_any_seed_breaks_nothing(seed: u64, steps in 1u64..200) {
        judge(&random_story(seed, steps));
    }
}
