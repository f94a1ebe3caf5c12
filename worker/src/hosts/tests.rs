//! Real processes as hosts: scripts that speak just enough of the protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::process::ProcessLauncher;
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Started {
    facts: mpsc::Receiver<Input>,
    handle: HostHandle,
    folder: tempfile::TempDir,
}

/// Starts a shell script as a host; `HELLO` in it says hello on the socket.
fn start(script: &str) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("host");
    let hello = phalanx_protocol::codec::encode(&FromHost::Hello {
        version: PROTOCOL_VERSION,
    });
    let mut frame = (hello.len() as u32).to_le_bytes().to_vec();
    frame.extend(hello);
    let octal: String = frame.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = script.replace("HELLO", &format!("printf '{octal}' >&$PHALANX_HOST_FD"));
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (messages_sender, messages) = mpsc::channel(HOST_MESSAGES_MAX);
    let (kill_sender, kill) = oneshot::channel();
    let (facts_sender, facts) = mpsc::channel(16);
    let (host, launcher) = (HostId(1), Arc::new(ProcessLauncher));
    let task = HostTask {
        host,
        program: Program::File(program),
        mark: "test".to_owned(),
        launcher,
        boards: folder.path().into(),
        cgroups: None,
        messages,
        kill,
        facts: facts_sender,
    };
    tokio::spawn(task.run());
    let handle = HostHandle {
        messages: messages_sender,
        kill: Some(kill_sender),
    };
    Started {
        facts,
        handle,
        folder,
    }
}

impl Started {
    async fn fact(&mut self) -> Input {
        timeout(DEADLINE, self.facts.recv())
            .await
            .expect("no fact in time")
            .unwrap()
    }

    async fn death(&mut self) -> String {
        assert!(matches!(self.fact().await, Input::HostStarted(HostId(1))));
        let fact = self.fact().await;
        let Input::HostDied { death, .. } = fact else {
            panic!("{fact:?}")
        };
        death.how
    }

    async fn failure(&mut self) -> Obstacle {
        let fact = self.fact().await;
        let Input::HostFailed { obstacle, .. } = fact else {
            panic!("{fact:?}")
        };
        obstacle
    }
}

#[tokio::test]
async fn how_a_host_died_is_told() {
    assert_eq!(start("HELLO; kill -SEGV $$").death().await, "signal 11 (SIGSEGV)");
    assert_eq!(start("HELLO; exit 3").death().await, "exit status 3");
}

#[tokio::test]
async fn a_host_is_killed_when_it_is_let_go() {
    let mut started = start("HELLO; exec cat >/dev/null");
    started.handle.kill = None;
    // also while it starts
    let fact = started.fact().await;
    let last = if matches!(fact, Input::HostStarted(_)) {
        started.fact().await
    } else {
        fact
    };
    assert!(matches!(last, Input::HostDied { .. }), "{last:?}");
}

#[tokio::test]
async fn a_program_that_is_no_host_is_refused() {
    let obstacle = start("exit 3").failure().await;
    assert!(
        obstacle.fatal && obstacle.reason.ends_with("exit status 3"),
        "{}",
        obstacle.reason
    );
    // as a loader does that lacks a library: another node may have it
    assert!(!start("exit 127").failure().await.fatal);
    let obstacle = start("printf 'GET / HTTP/1.1' >&0; cat").failure().await;
    assert!(
        obstacle.fatal && obstacle.reason.contains("host protocol"),
        "{}",
        obstacle.reason
    );
}

#[tokio::test]
async fn garbage_from_a_host_ends_it_with_a_reason() {
    let how = start("HELLO; printf '\\377\\377\\377\\377' >&0; exec sleep 1000")
        .death()
        .await;
    assert!(how.contains("broke the host protocol"), "{how}");
}

#[tokio::test]
async fn a_killed_host_leaves_nothing_behind_that_it_started() {
    let mut started = start("mkfifo $0.alive; sleep 60 >$0.alive & HELLO; wait");
    assert!(matches!(started.fact().await, Input::HostStarted(_)));
    let fifo = started.folder.path().join("host.alive");
    let (opened_sender, opened) = oneshot::channel();
    let (ended_sender, ended) = oneshot::channel();
    // a thread of its own: a test that fails does not wait for it
    std::thread::spawn(move || {
        // opens once the child has, and ends with the child
        let mut fifo = fs::File::open(fifo).unwrap();
        let _ = opened_sender.send(());
        let _ = ended_sender.send(io::Read::read_to_end(&mut fifo, &mut Vec::new()));
    });
    timeout(DEADLINE, opened)
        .await
        .expect("no child in time")
        .unwrap();
    started.handle.kill = None;
    assert!(matches!(started.fact().await, Input::HostDied { .. }));
    let ended = timeout(DEADLINE, ended).await;
    ended.expect("the child outlives its host").unwrap().unwrap();
}

#[tokio::test]
async fn a_host_that_exits_has_ended_itself_and_one_that_is_killed_has_not() {
    for (script, expected) in [("HELLO; exit 3", true), ("HELLO; kill -KILL $$", false)] {
        let mut started = start(script);
        assert!(matches!(started.fact().await, Input::HostStarted(_)));
        let fact = started.fact().await;
        assert!(
            matches!(&fact, Input::HostDied { death, .. } if death.by_itself == expected),
            "{fact:?}"
        );
    }
}
