//! Several schedulers on one storage: who leads, who stands by, and what each says.

use std::time::Duration;

use bytes::Bytes;
use phalanx_protocol::Term;
use phalanx_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use phalanx_protocol::message::client::{Refusal, Reply, Request};
use phalanx_protocol::message::worker::{FromWorker, ToWorker};
use phalanx_scheduler::{JournalOptions, RunningScheduler};
use phalanx_storage::{Candidate, Card, Members, ProcessMark, acquire};
use phalanx_transport::{CloseReason, ConnectionLost, Listener, Role};

use crate::harness::{Cluster, index_job, reported};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits on a thread for that, since the tests' runtime has to go on.
async fn leads(scheduler: RunningScheduler) -> (RunningScheduler, Option<Term>) {
    let wait = move || {
        let term = scheduler.wait_for_lead(PATIENCE);
        (scheduler, term)
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[tokio::test]
async fn a_standby_says_where_the_leader_is() {
    let cluster = Cluster::start();
    let standby = cluster.patient_beside("s2");
    assert!(cluster.scheduler().is_leader() && !standby.is_leader());
    let leader = vec![cluster.address().to_string()];
    let client = cluster.client_at(Role::User, "ada", standby.address()).await;
    let refused = Reply::Refused(Refusal::NotLeader {
        leader: leader.clone(),
    });
    assert_eq!(client.one(Request::Jobs).await.0, refused);
    let expected = Reply::Schedulers {
        leader: leader.clone(),
        all: vec![standby.address().to_string(), leader[0].clone()],
        term: cluster.scheduler().term().unwrap(),
    };
    assert_eq!(client.one(Request::Schedulers).await.0, expected);
    let (_dialer, connection) = cluster.connect(Role::Worker, "node", standby.address()).await;
    let (mut control, _) = connection.open_bi(CONTROL_FRAME_BYTES_MAX).await.unwrap();
    control.send(&FromWorker::Leaving).await.unwrap();
    let ConnectionLost::Closed { reason, text } = connection.closed().await else {
        panic!("{connection:?}")
    };
    assert_eq!((reason, text), (CloseReason::NotLeader, leader[0].clone()));
}

#[tokio::test]
async fn a_standby_leads_when_the_leader_stops_and_nothing_is_lost() {
    let mut cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let client = cluster.client("ada").await;
    let job = client.submit(index_job(&client, 3).await).await;
    let (grant, range) = worker.next_grant(job).await;
    worker
        .report(reported(job, grant, range, Some(Bytes::from_static(b"zero"))))
        .await;
    worker.acknowledged().await;
    let first = cluster.scheduler().term();
    let standby = cluster.beside("s2");
    // a client that asks the standby while nobody leads is held, and answered by it as the leader
    let early = cluster.client_at(Role::User, "ada", standby.address()).await;
    let old = cluster.take();
    let stopped = async { tokio::task::spawn_blocking(move || old.stop()).await.unwrap() };
    let (asking, (standby, term), ()) = tokio::join!(
        async {
            loop {
                match early.one(Request::Job(job)).await.0 {
                    Reply::Refused(Refusal::NotLeader { leader }) => assert!(!leader.is_empty()),
                    reply => break reply,
                }
            }
        },
        leads(standby),
        stopped,
    );
    assert!(term > first, "{term:?}");
    let Reply::Job(view) = asking else {
        panic!("{asking:?}")
    };
    assert_eq!((view.done, view.tasks), (1, 3));
    let worker = cluster.worker_at(1, standby.address()).await;
    drop(worker);
}

#[tokio::test]
async fn a_deposed_leader_stands_by_and_leads_again_at_the_same_address() {
    let cluster = Cluster::start();
    let client = cluster.client("ada").await;
    let mut worker = cluster.worker(1).await;
    let spec = index_job(&client, 1).await;
    let candidate = Candidate::new(cluster.log(), 99);
    let rival = acquire(&*cluster.directory(), candidate).unwrap().term;
    assert!(Some(rival) > cluster.scheduler().term());
    // it meets the rival's fence when it appends, and nobody's card says that the rival lives
    let job = loop {
        match client.one(Request::Submit(Box::new(spec.clone()))).await.0 {
            Reply::Submitted(job) => break job,
            Reply::Refused(Refusal::NotLeader { .. }) => {}
            reply => panic!("{reply:?}"),
        }
    };
    assert!(cluster.scheduler().term() > Some(rival));
    assert!(matches!(client.one(Request::Job(job)).await.0, Reply::Job(_)));
    // the worker's session was let in by the former leadership and ended with it
    let lost = worker.connection.closed().await;
    assert!(
        matches!(
            lost,
            ConnectionLost::Closed {
                reason: CloseReason::NotLeader,
                ..
            }
        ),
        "{lost:?}"
    );
    worker = cluster.worker(1).await;
    worker.next_grant(job).await;
}

#[tokio::test]
async fn an_idle_leader_steps_down_when_a_card_shows_a_higher_term() {
    let cluster = Cluster::prepared_with(JournalOptions::default());
    // the rival's card stands still, and is believed for as long as this test takes
    let scheduler = cluster.patient_beside("s1");
    let worker = cluster.worker_at(1, scheduler.address()).await;
    let own = scheduler.term().unwrap();
    let mut rival = Card {
        name: "s9".into(),
        addresses: vec!["10.0.0.9:7878".into()],
        counter: 0,
        process: ProcessMark::of_this_process(),
        term: Some(Term(own.0 + 1)),
        is_candidate: false,
    };
    Members::new(cluster.directory()).beat(&mut rival).unwrap();
    let lost = worker.connection.closed().await;
    let ConnectionLost::Closed { reason, text } = lost else {
        panic!("{lost:?}")
    };
    assert_eq!((reason, text.as_str()), (CloseReason::NotLeader, "10.0.0.9:7878"));
    let client = cluster.client_at(Role::User, "ada", scheduler.address()).await;
    let refused = client.one(Request::Jobs).await.0;
    let leader = vec!["10.0.0.9:7878".to_owned()];
    assert_eq!(refused, Reply::Refused(Refusal::NotLeader { leader }));
    assert!(!scheduler.is_leader());
}

#[tokio::test]
async fn workers_are_told_where_the_schedulers_are_and_when_that_changes() {
    let cluster = Cluster::start();
    let mut worker = cluster.worker(1).await;
    let alone = vec![cluster.address().to_string()];
    worker
        .until(|message| *message == ToWorker::Schedulers(alone.clone()))
        .await;
    let standby = cluster.patient_beside("s2");
    let both = vec![cluster.address().to_string(), standby.address().to_string()];
    worker
        .until(|message| *message == ToWorker::Schedulers(both.clone()))
        .await;
    // a stopping standby takes its card along
    tokio::task::spawn_blocking(move || standby.stop()).await.unwrap();
    worker
        .until(|message| *message == ToWorker::Schedulers(alone.clone()))
        .await;
}

#[test]
fn a_leader_whose_process_dies_elsewhere_is_noticed_by_its_connection() {
    let mut cluster = Cluster::start();
    let credential = cluster.credential(Role::Scheduler, "s9");
    let own = cluster.scheduler().term().unwrap();
    cluster.take().stop();
    // one that only accepts; its socket is closed without a word when its runtime ends
    let (tell, told) = std::sync::mpsc::channel();
    let (accepted, first) = std::sync::mpsc::channel();
    let (die, dies) = tokio::sync::oneshot::channel::<()>();
    let leader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &credential).unwrap();
            tell.send(listener.local_address().unwrap()).unwrap();
            let mut all = Vec::new();
            while let Some(caller) = listener.accept().await {
                all.push(caller);
                let _ = accepted.send(());
            }
        });
        let _ = runtime.block_on(dies);
        runtime.shutdown_background();
    });
    let address = told.recv_timeout(PATIENCE).unwrap();
    let mut card = Card {
        name: "s9".into(),
        addresses: vec![address.to_string()],
        counter: 0,
        process: ProcessMark {
            boot_id: "another machine".into(),
            ..ProcessMark::of_this_process()
        },
        term: Some(own),
        is_candidate: false,
    };
    Members::new(cluster.directory()).beat(&mut card).unwrap();
    let standby = cluster.patient_beside("s2");
    assert!(!standby.is_leader());
    first.recv_timeout(PATIENCE).unwrap();
    die.send(()).unwrap();
    leader.join().unwrap();
    assert!(standby.wait_for_lead(PATIENCE) > Some(own));
}
