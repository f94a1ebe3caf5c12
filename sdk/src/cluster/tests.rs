//! The synchronous side against a scheduler that plays a script: what is submitted, and what comes of its answers.

#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers what it is about")]
#![expect(
    unsafe_code,
    reason = "in the crate itself, the attribute's link sections count as unsafe"
)]

use std::sync::{Arc, Mutex};

use phalanx_protocol::job::InputTable;
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::{Feeding, Inputs, Payload, Retries, codec};
use phalanx_transport::CloseReason;

use super::*;
use crate::client::fake::{Act, FakeScheduler, end, view, whole};
use crate::error::JobError;

#[phalanx::kernel(reduce = join)]
fn letter(number: u64) -> String {
    char::from(b'a' + number as u8).to_string()
}

fn join(left: String, right: String) -> String {
    left + &right
}

#[phalanx::kernel]
fn shout(word: String, times: &u32) -> String {
    word.repeat(*times as usize)
}

/// Accepts every job as job 7 and answers everything else from `script`.
fn accepting(script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> FakeScheduler {
    FakeScheduler::start(move |_, request| match request {
        Request::Submit(_) => vec![Act::Say(Reply::Submitted(JobId(7)))],
        other => script(other),
    })
}

#[test]
fn a_map_submits_what_was_wished_for() {
    let scheduler = accepting(|_| Vec::new());
    let cluster = scheduler.cluster();
    let wish = || {
        cluster
            .map::<letter>(3..10)
            .name("letters")
            .cpus(2)
            .memory_bytes(64)
            .resource("gpu", 1)
            .priority(-3)
            .feeding(Feeding::Guided)
            .failures_max(5)
            .retries(Retries {
                crash_limit: 2,
                ..Retries::default()
            })
            .retry_errors(4)
            .task_time_limit(Duration::from_millis(1500))
            .time_limit(Duration::from_secs(60))
            .idempotent()
    };
    assert_eq!(wish().submit().unwrap().id(), JobId(7));
    wish().submit().unwrap();
    let seen = scheduler.seen();
    let specs = seen.specs();
    let spec = &specs[0];
    assert_eq!(
        (spec.name.as_str(), spec.tasks, spec.priority),
        ("letters", 7, -3)
    );
    assert_eq!((spec.request.cpus, spec.request.memory_bytes), (2, 64));
    assert_eq!(spec.request.named["gpu"], 1.into());
    assert_eq!((spec.feeding, spec.failures_max), (Feeding::Guided, Some(5)));
    let retries = Retries {
        errors: 4,
        crash_limit: 2,
        ..Retries::default()
    };
    assert_eq!(spec.retries, retries);
    assert_eq!(
        (spec.task_time_limit_millis, spec.time_limit_millis),
        (Some(1500), Some(60_000))
    );
    assert!(spec.idempotent);
    let work = spec.work.kernel().unwrap();
    assert_eq!((work.kernel.as_str(), work.reduce), ("letter", false));
    assert_eq!(work.inputs, Inputs::Index { first: 3 });
    assert!(seen.blobs.contains_key(&work.program));
    assert_ne!(specs[0].submission, specs[1].submission);
    // the program is asked for once
    let asked = seen
        .requests
        .iter()
        .filter(|request| matches!(request, Request::FindMissing(_)));
    assert_eq!(asked.count(), 1);
}

#[test]
fn items_and_parameters_arrive_as_they_were() {
    let scheduler = accepting(|_| Vec::new());
    let cluster = scheduler.cluster();
    // 6 MiB: more chunks than are under way at a time
    let words: Vec<String> = (0..60_000).map(|number| format!("{number:0100}")).collect();
    cluster
        .map_items::<shout>(&words)
        .parameters(&9)
        .submit()
        .unwrap();
    let seen = scheduler.seen();
    let specs = seen.specs();
    assert_eq!(specs[0].tasks, 60_000);
    let work = specs[0].work.kernel().unwrap();
    assert_eq!(work.parameters, Payload::Inline(codec::encode(&9u32).into()));
    let Inputs::Items { table } = &work.inputs else {
        panic!("no items")
    };
    let table: InputTable = codec::decode(&seen.blobs[table]).unwrap();
    assert!(table.chunks.len() > 4);
    let mut next = 0;
    let mut found = Vec::new();
    for chunk in table.chunks {
        assert_eq!(chunk.items.start, next);
        next = chunk.items.end;
        let mut bytes = &seen.blobs[&chunk.blob][..];
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let (item, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            found.push(codec::decode::<String>(item).unwrap());
            bytes = rest;
        }
        assert_eq!(found.len() as u64, next);
    }
    assert!(found == words);
}

#[test]
fn large_parameters_become_a_blob() {
    #[phalanx::kernel]
    #[expect(clippy::ptr_arg, reason = "parameters have a size")]
    fn lookup(number: u64, table: &Vec<u8>) -> u8 {
        table[number as usize]
    }
    let scheduler = accepting(|_| Vec::new());
    let table = vec![1u8; 100_000];
    scheduler
        .cluster()
        .map::<lookup>(0..1)
        .parameters(&table)
        .submit()
        .unwrap();
    let seen = scheduler.seen();
    let specs = seen.specs();
    let Payload::Blob(blob) = &specs[0].work.kernel().unwrap().parameters else {
        panic!("inline")
    };
    assert_eq!(codec::decode::<Vec<u8>>(&seen.blobs[blob]).unwrap(), table);
}

#[test]
fn forgotten_parameters_are_told_before_anything_is_sent() {
    let scheduler = accepting(|_| Vec::new());
    let words: [String; 0] = [];
    let error = scheduler
        .cluster()
        .map_items::<shout>(&words)
        .submit()
        .unwrap_err();
    assert!(matches!(error, JobError::NoParameters { kernel: "shout" }));
    assert!(scheduler.seen().specs().is_empty());
}

#[test]
fn a_program_that_storage_lost_is_uploaded_again() {
    let scheduler = FakeScheduler::start(|number, request| match request {
        Request::Submit(spec) if number == 1 => {
            vec![Act::Say(Reply::Refused(Refusal::BlobMissing(
                spec.work.kernel().unwrap().program,
            )))]
        }
        _ => vec![Act::Say(Reply::Submitted(JobId(7)))],
    });
    let cluster = scheduler.cluster();
    cluster.map::<letter>(0..1).submit().unwrap();
    scheduler.seen().blobs.clear();
    cluster.map::<letter>(0..1).submit().unwrap();
    assert_eq!(scheduler.seen().specs().len(), 3);
    assert_eq!(scheduler.seen().blobs.len(), 1);
}

#[test]
fn a_reduction_merges_by_index() {
    let scheduler = accepting(|request| match request {
        Request::Results { in_order, .. } => {
            assert!(in_order);
            let merged = |start: u64, end: u64, text: &str| {
                let range = (start..end).into();
                let bytes = codec::encode(&text);
                vec![
                    Act::Say(Reply::Results {
                        range,
                        keep: vec![range],
                    }),
                    Act::Bytes(bytes),
                ]
            };
            [
                merged(0, 3, "abc"),
                merged(3, 4, "d"),
                merged(4, 6, "ef"),
                vec![end(7, 6, 0)],
            ]
            .concat()
        }
        _ => Vec::new(),
    });
    assert_eq!(
        scheduler.cluster().map::<letter>(0..6).reduce().unwrap(),
        "abcdef"
    );
    assert!(scheduler.seen().specs()[0].work.kernel().unwrap().reduce);
}

#[test]
fn nothing_cannot_be_reduced() {
    let scheduler = accepting(|_| vec![end(7, 0, 0)]);
    let error = scheduler.cluster().map::<letter>(5..5).reduce().unwrap_err();
    assert!(matches!(error, JobError::NothingToReduce { job: JobId(7) }));
}

#[test]
fn progress_is_called_back_and_ends_with_the_end() {
    let scheduler = accepting(|request| match request {
        Request::Watch(_) => vec![Act::Say(Reply::Job(view(7, 2))), end(7, 2, 0)],
        _ => [whole(0, &["a", "b"]), vec![end(7, 2, 0)]].concat(),
    });
    let states = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&states);
    let map = scheduler
        .cluster()
        .map::<letter>(0..2)
        .on_progress(move |job| told.lock().unwrap().push(job.state()));
    let job = map.submit().unwrap();
    assert_eq!(job.wait().unwrap().state(), "succeeded");
    assert_eq!(states.lock().unwrap().last(), Some(&"succeeded"));
    // callbacks follow the first call only
    let calls = states.lock().unwrap().len();
    assert_eq!(job.collect().unwrap(), ["a", "b"]);
    assert_eq!(states.lock().unwrap().len(), calls);
}

#[test]
fn waiting_tells_which_task_failed() {
    let failure = phalanx_protocol::record::TaskFailure {
        index: 1,
        cause: phalanx_protocol::record::FailureCause::Panic,
        message: "out of range".to_owned(),
    };
    let scheduler = accepting(move |_| {
        let Act::Say(Reply::Job(mut view)) = end(7, 3, 1) else {
            unreachable!()
        };
        view.first_failures = vec![failure.clone()];
        vec![Act::Say(Reply::Job(view))]
    });
    let error = scheduler.cluster().map::<letter>(10..13).run().unwrap_err();
    assert_eq!(
        crate::error::chain(&error),
        "1 of the 3 tasks of job 7 failed: task 11 panicked: out of range"
    );
}

#[test]
fn a_lost_scheduler_ends_the_wait() {
    let scheduler = accepting(|_| vec![Act::Close(CloseReason::Refused)]);
    let job = scheduler.cluster().map::<letter>(0..2).submit().unwrap();
    assert!(matches!(job.wait(), Err(ClientError::Ended(_))));
}

#[test]
fn a_bad_scheduler_address_ends_in_an_error_and_not_in_a_wait() {
    let credential = accepting(|_| Vec::new()).credential();
    let error = Cluster::connect_to(&[], &credential, ClientOptions::default()).unwrap_err();
    assert!(matches!(error, ClusterError::Client(ClientError::Connect(_))));
}
