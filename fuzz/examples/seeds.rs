//! Writes the first files of each corpus: one of each message, record, slot and part of a snapshot, as they are really sent and written.
//! `cargo run -p phalanx-fuzz --example seeds`, when a layout has changed; libFuzzer finds the rest.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use phalanx_protocol::command::{Recipients, TaskSignal};
use phalanx_protocol::job::{Inputs, KernelWork, Payload, Work};
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::message::host::{FromHost, HostInputs, HostParameters, HostWork, Progress, ToHost};
use phalanx_protocol::message::worker::{FromWorker, HeldGrant, Join, Report, ToWorker};
use phalanx_protocol::record::{FailureCause, Outcome, Record, ResultBlock, ResultData, TaskFailure};
use phalanx_protocol::snapshot::{CoreSnapshot, JobSnapshot, Requeued};
use phalanx_protocol::{
    BlobId, Encoding, Feeding, GrantId, IndexRange, JobId, JobSpec, RangeSet, Resources, Retries,
    SubmissionId, TaskUsage, Term, Usage, WorkerChoice, WorkerId, codec,
};
use phalanx_storage::slot::{SlotHead, SlotKind, encode};
use phalanx_storage::{Card, ClusterId, LogId, ProcessMark, Snapshot, snapshot};
use serde::Serialize;

const JOB: JobId = JobId(42);
const GRANT: GrantId = GrantId {
    term: Term(17),
    number: 3,
};
const RANGE: IndexRange = IndexRange { start: 3, end: 300 };

const USED: TaskUsage = TaskUsage {
    index: 301,
    ran_millis: 400,
    user_micros: 300_000,
    system_micros: 20_000,
    rss_kib: 51_200,
};

const SIGNAL: TaskSignal = TaskSignal {
    number: 10,
    recipients: Recipients::Step(2),
};

/// What a record says was used.
fn used() -> Usage {
    Usage::Each {
        ended_unix_millis: 1_700_000_000_500,
        tasks: vec![USED],
    }
}

fn main() -> std::io::Result<()> {
    for (conversation, messages) in conversations().into_iter().enumerate() {
        for (number, message) in messages.iter().enumerate() {
            for piece_bytes in [1u8, 255] {
                let mut stream = vec![conversation as u8, piece_bytes];
                stream.extend((message.len() as u32).to_le_bytes());
                stream.extend(message);
                write(
                    "frame",
                    &format!("{conversation}-{number}-{piece_bytes}"),
                    &stream,
                )?;
            }
        }
    }
    for (number, spec) in specs().iter().enumerate() {
        write("job_spec", &format!("spec-{number}"), &codec::encode(spec))?;
    }
    let records: Vec<Bytes> = records()
        .iter()
        .map(|record| codec::encode(record).into())
        .collect();
    for (number, record) in records.iter().enumerate() {
        write("record", &format!("record-{number}"), record)?;
    }
    for (number, (kind, term, records)) in [
        (SlotKind::Fence, 17, &records[..0]),
        (SlotKind::Fill, 18, &records[..0]),
        (SlotKind::Data, 5, &records[..0]),
        (SlotKind::Data, 5, &records[..1]),
        (SlotKind::Data, 9, &records[1..]),
        (SlotKind::Data, 16, &records[..]),
    ]
    .into_iter()
    .enumerate()
    {
        let log = LogId {
            cluster: ClusterId([7; 16]),
            shard: 0,
        };
        let head = SlotHead {
            log,
            slot: 16,
            term: Term(term),
            nonce: 99,
            kind,
        };
        let (object, _) = encode(&head, records);
        write("slot", &format!("slot-{number}"), &[&[16], &object[..]].concat())?;
    }
    for (number, payload) in states().into_iter().enumerate() {
        let object = snapshot::encode(&Snapshot {
            log: LogId {
                cluster: ClusterId([7; 16]),
                shard: 0,
            },
            slot: 16,
            term: Term(9),
            payload: payload.into(),
        });
        let bytes = [&[16], &object[..]].concat();
        write("snapshot", &format!("snapshot-{number}"), &bytes)?;
    }
    for (number, stream) in phalanx::ranks::sample_frames().iter().enumerate() {
        write("rank_frames", &format!("frames-{number}"), stream)?;
    }
    for (number, object) in phalanx_fuzz::sample_checkpoints().iter().enumerate() {
        write("checkpoint", &format!("checkpoint-{number}"), object)?;
    }
    for (number, card) in cards().iter().enumerate() {
        let bytes = serde_json::to_vec(card)?;
        write("card", &format!("card-{number}"), &bytes)?;
    }
    // of an older version, and of none
    let bare = br#"{"name":"s1","addresses":[],"counter":1,"process":{"host":"","boot_id":"","namespace":"","pid":0,"started":0}}"#;
    write("card", "bare", bare)?;
    write("card", "empty", b"")?;
    write("card", "other", br#"{"name":"s1"}"#)
}

/// Cards of a leader, a standby that is about to lead, and schedulers with odd names and addresses.
fn cards() -> Vec<Card> {
    let card = |name: &str, addresses: &[&str], term| Card {
        name: name.to_owned(),
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        counter: 9,
        process: ProcessMark {
            host: "head".to_owned(),
            boot_id: "boot".to_owned(),
            namespace: "pid:[1]".to_owned(),
            pid: 4_000_000,
            started: 77,
        },
        term,
        is_candidate: false,
    };
    vec![
        card("s1", &["10.0.0.1:7878", "127.0.0.1:7878"], Some(Term(17))),
        Card {
            is_candidate: true,
            ..card("s2", &["[::1]:1"], None)
        },
        card("", &[""], None),
        Card {
            counter: u64::MAX,
            ..card("s-\u{e9}\n", &["nowhere"], Some(Term(u64::MAX)))
        },
    ]
}

/// Parts of what a scheduler knows: nothing, all of it, and each job.
fn states() -> Vec<Vec<u8>> {
    let submitted = records().into_iter();
    let submitted = submitted.filter(|record| matches!(record, Record::JobSubmitted { .. }));
    let jobs: Vec<JobSnapshot> = submitted
        .enumerate()
        .map(|(number, submitted)| {
            let is_over = number % 2 == 1;
            JobSnapshot {
                usage: used().sum(),
                tasks_used: vec![(USED, 1_700_000_000_500)],
                term: Term(5),
                submitted,
                started_unix_millis: is_over.then_some(1_700_000_000_000),
                done: vec![RANGE],
                failed: vec![IndexRange::new(400, 401)],
                failures: Vec::new(),
                end: is_over.then_some((Outcome::Failed, 1_700_000_001_000)),
                held: !is_over,
                unbound: is_over,
                cancelled: vec![IndexRange::new(500, 502)],
                cancelled_by: "ada".into(),
                requeued: vec![Requeued {
                    range: RANGE,
                    count: 2,
                    last: GRANT,
                }],
            }
        })
        .collect();
    let all = CoreSnapshot {
        last_job: Some(JobId(9)),
        jobs: jobs.clone(),
        finished: vec![JobId(2)],
    };
    let mut states = vec![
        Vec::new(),
        codec::encode(&CoreSnapshot::default()),
        codec::encode(&all),
    ];
    states.extend(jobs.iter().map(codec::encode));
    // cut off, and one that takes itself for longer than it is
    let whole = codec::encode(&all);
    states.push(whole[..whole.len() / 2].to_vec());
    states.push([&whole[..], &[0xfd; 9]].concat());
    states
}

fn write(corpus: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

fn each<T: Serialize>(messages: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    messages
        .into_iter()
        .map(|message| codec::encode(&message))
        .collect()
}

/// In the order in which the target `frame` tells them apart.
fn conversations() -> [Vec<Vec<u8>>; 8] {
    let ranges: RangeSet = [RANGE, IndexRange::new(400, 401)].into_iter().collect();
    let requests = each([
        Request::FindMissing(vec![BlobId([1; 32])]),
        Request::PutBlob {
            blob: BlobId([1; 32]),
            bytes: 9,
        },
        Request::Submit(Box::new(specs().remove(0))),
        Request::Results {
            job: JOB,
            in_order: true,
            have: ranges.clone(),
        },
        Request::Drain(WorkerId(3)),
        Request::Schedulers,
        Request::CancelTasks {
            job: JOB,
            tasks: ranges.clone(),
        },
        Request::Requeue {
            job: JOB,
            tasks: Some(ranges.clone()),
        },
        Request::Signal {
            job: JOB,
            tasks: Some(ranges),
            signal: SIGNAL,
        },
    ]);
    let replies = each([
        Reply::Submitted(JOB),
        Reply::Results {
            range: RANGE,
            keep: vec![RANGE],
        },
        Reply::Failed(vec![failure(7)]),
        Reply::Refused(Refusal::NotLeader {
            leader: vec!["10.0.0.1:7878".to_owned()],
        }),
    ]);
    let from_workers = each([
        FromWorker::Join(Join {
            instance: 5,
            worker: Some(WorkerId(3)),
            name: "node7".to_owned(),
            capacity: Resources {
                cpus: 4,
                memory_bytes: 1 << 33,
                named: BTreeMap::from([("gpu".to_owned(), 2.into())]),
            },
            held: vec![HeldGrant {
                job: JOB,
                grant: GRANT,
                range: RANGE,
            }],
        }),
        FromWorker::HostLost {
            job: JOB,
            blamed: vec![3, 4],
            cause: FailureCause::Crash,
            how: "signal 11 (SIGSEGV)".to_owned(),
        },
        FromWorker::Leaving,
        FromWorker::Stopped {
            job: JOB,
            grant: GRANT,
            range: RANGE,
        },
    ]);
    let work = specs().remove(0).work;
    let to_workers = each([
        ToWorker::Welcome {
            worker: WorkerId(3),
            term: Term(17),
        },
        ToWorker::Open {
            job: JOB,
            user: "ada".to_owned(),
            work,
            request: phalanx_protocol::Request::default(),
            task_time_limit_millis: Some(5000),
        },
        ToWorker::Grant {
            job: JOB,
            grant: GRANT,
            range: RANGE,
            restarts: 0,
        },
        ToWorker::Schedulers(vec!["10.0.0.1:7878".to_owned()]),
        ToWorker::Stop {
            job: JOB,
            grant: GRANT,
            range: RANGE,
        },
        ToWorker::Signal {
            job: JOB,
            grant: GRANT,
            range: RANGE,
            signal: SIGNAL,
        },
        ToWorker::SilenceLimit { millis: 3000 },
    ]);
    let reports = each([Report {
        usage: vec![USED],
        number: 9,
        job: JOB,
        done: vec![(GRANT, vec![RANGE])],
        failed: vec![(GRANT, vec![failure(301)])],
        results: vec![block()],
        busy_nanos: 123_456,
        backlog: 5,
    }]);
    let from_hosts = each([
        FromHost::Hello { version: 4 },
        FromHost::Refused {
            reason: "no such kernel".to_owned(),
        },
        FromHost::Progress(Progress {
            usage: vec![USED],
            done: vec![(GRANT, vec![RANGE])],
            failed: vec![(GRANT, vec![failure(301)])],
            results: vec![(RANGE, Bytes::from_static(b"results"))],
            busy_nanos: 123_456,
            backlog: 5,
        }),
    ]);
    let to_hosts = each([
        ToHost::Open {
            job: JOB,
            work: HostWork::Kernel {
                kernel: "primes".to_owned(),
                parameters: HostParameters::Inline(Bytes::from_static(b"p")),
                encoding: Encoding::Json,
                reduce: true,
            },
            cpus: 2,
            storage: "/srv/storage".into(),
        },
        ToHost::Grant {
            grant: GRANT,
            range: RANGE,
            inputs: HostInputs::Items(vec![(RANGE, "/srv/storage/blob".into())]),
            restarts: 1,
        },
        ToHost::Close,
        ToHost::Signal {
            grant: GRANT,
            range: RANGE,
            signal: SIGNAL,
        },
    ]);
    let raw = vec![b"any bytes".to_vec(), Vec::new(), vec![0xff; 5000]];
    [
        requests,
        replies,
        from_workers,
        to_workers,
        reports,
        from_hosts,
        to_hosts,
        raw,
    ]
}

fn failure(index: u64) -> TaskFailure {
    TaskFailure {
        index,
        cause: FailureCause::Panic,
        message: "it panicked".to_owned(),
    }
}

fn block() -> ResultBlock {
    ResultBlock {
        range: RANGE,
        keep: vec![RANGE],
        data: ResultData::Inline(Bytes::from_static(b"results")),
    }
}

fn specs() -> Vec<JobSpec> {
    let plain = JobSpec {
        submission: SubmissionId(1),
        name: "nightly".to_owned(),
        tasks: 1000,
        work: Work::Kernel(KernelWork {
            program: BlobId([7; 32]),
            kernel: "primes".to_owned(),
            parameters: Payload::Inline(Bytes::from_static(b"p")),
            inputs: Inputs::Index { first: 0 },
            encoding: Encoding::Bincode,
            reduce: false,
        }),
        request: phalanx_protocol::Request::default(),
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
    };
    vec![
        JobSpec {
            tasks: 0,
            ..plain.clone()
        },
        JobSpec {
            tasks: 1 << 62,
            priority: i32::MIN,
            feeding: Feeding::Static,
            ..plain.clone()
        },
        JobSpec {
            name: String::new(),
            ..plain.clone()
        },
        JobSpec {
            request: phalanx_protocol::Request {
                cpus: 2,
                memory_bytes: 1 << 30,
                named: BTreeMap::from([("gpu".to_owned(), 1.into())]),
                ..phalanx_protocol::Request::default()
            },
            failures_max: Some(3),
            feeding: Feeding::Guided,
            ..plain.clone()
        },
        JobSpec {
            retries: Retries {
                errors: 3,
                lost_limit: Some(2),
                timeouts: 1,
                ..Retries::default()
            },
            task_time_limit_millis: Some(60_000),
            time_limit_millis: Some(3_600_000),
            idempotent: true,
            slots_max: None,
            dependency: None,
            held: false,
            begin_unix_millis: None,
            gang: None,
            alternatives: Vec::new(),
            choice: WorkerChoice::default(),
            ..plain.clone()
        },
        JobSpec {
            time_limit_millis: Some(0),
            ..plain.clone()
        },
        plain,
    ]
}

fn records() -> Vec<Record> {
    let mut records: Vec<Record> = specs()
        .into_iter()
        .take(2)
        .map(|spec| Record::JobSubmitted {
            job: JOB,
            user: "ada".to_owned(),
            submitted_unix_millis: 1_700_000_000_000,
            spec: Box::new(spec),
        })
        .collect();
    let usages = [Usage::Unknown, used(), Usage::Sum(used().sum())];
    records.extend(usages.map(|usage| Record::TasksEnded {
        job: JOB,
        done: vec![RANGE],
        results: vec![block()],
        failed: vec![failure(301)],
        usage,
    }));
    let outcomes = [
        Outcome::Succeeded,
        Outcome::Broken {
            reason: "no such kernel".to_owned(),
        },
        Outcome::TimeLimit { millis: 60_000 },
    ];
    records.extend(outcomes.map(|outcome| Record::JobFinished {
        job: JOB,
        outcome,
        finished_unix_millis: 1_700_000_000_000,
    }));
    records.push(Record::JobStarted {
        job: JOB,
        started_unix_millis: 1_700_000_000_000,
    });
    records.push(Record::JobReopened {
        job: JOB,
        tasks: vec![RANGE],
    });
    records.push(Record::JobHeld { job: JOB, held: true });
    records.push(Record::TasksCancelled {
        job: JOB,
        tasks: vec![RANGE],
        by: "ada".to_owned(),
    });
    records.push(Record::TasksRequeued {
        job: JOB,
        tasks: vec![RANGE],
        last: GRANT,
    });
    records
}
