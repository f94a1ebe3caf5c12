//! Hosts in processes of their own, which are killed, stopped or let down: what the others are told, and what it costs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use phalanx::Communicator;
use phalanx::ranks::{CommError, Ending, GangPort, HostOutcome, JoinError, RemoteGang, Source};
use phalanx_protocol::gang::{Peers, host_name};
use phalanx_transport::{Authority, Role};
use rustix::process::{Pid, Signal, kill_process};

/// The environment of a host's process: its credential, and what its ranks do.
const CREDENTIAL: &str = "TEST_HOST_CREDENTIAL";
const PART: &str = "TEST_HOST_PART";
/// What a host's process says before its address.
const LISTENS: &str = "host listens on ";

/// Far more than it takes to meet.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon survivors have to know of a loss ...
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// ... in the best of so many tries: a machine that others use, too, may itself stand still for seconds.
const TRIES: usize = 3;
/// Bytes of a message that waits at its sender until it is received.
const LARGE: usize = 1 << 20;
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Not a test: what a host's process runs, until it is killed or done.
#[test]
#[ignore = "the other tests run it as a process of its own"]
fn host_process() {
    let Ok(credential) = std::env::var(CREDENTIAL) else {
        return;
    };
    let port = GangPort::open(HERE, &credential).unwrap();
    writeln!(std::io::stdout(), "{LISTENS}{}", port.address()).unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let gang = port.join(serde_json::from_str(&line).unwrap(), PATIENCE).unwrap();
    let outcome = match std::env::var(PART).unwrap().as_str() {
        "victim" => gang.run(victim),
        "idler" => gang.run(idler),
        other => panic!("nobody plays {other}"),
    };
    assert!(outcome.ranks.iter().all(|(_, end)| end.is_ok()), "{outcome:?}");
}

/// A host in a process of its own, killed at the end of the test at the latest.
struct HostProcess {
    child: Child,
    stdin: ChildStdin,
    address: SocketAddr,
}

impl HostProcess {
    fn start(authority: &Authority, host: u32, part: &str) -> Self {
        let credential = authority.issue(Role::Worker, &host_name(host)).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hosts::host_process", "--ignored", "--nocapture"])
            .env(CREDENTIAL, credential.to_pem())
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        // the test runner's own words may stand before it
        let address = lines.find_map(|line| Some(line.split_once(LISTENS)?.1.parse().unwrap()));
        // nobody else reads what it says
        thread::spawn(move || lines.for_each(drop));
        HostProcess {
            stdin: child.stdin.take().unwrap(),
            child,
            address: address.unwrap(),
        }
    }

    fn tell(&mut self, peers: &Peers) {
        writeln!(self.stdin, "{}", serde_json::to_string(peers).unwrap()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // fails if it has ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(authority: &Authority, host: u32) -> GangPort {
    let credential = authority.issue(Role::Worker, &host_name(host)).unwrap();
    GangPort::open(HERE, credential.to_pem()).unwrap()
}

/// Lets each port join, all at once.
fn join_all(ports: Vec<(GangPort, Peers)>) -> Vec<Result<RemoteGang, JoinError>> {
    let joins = ports
        .into_iter()
        .map(|(port, peers)| thread::spawn(move || port.join(peers, PATIENCE)));
    let joins: Vec<_> = joins.collect();
    joins.into_iter().map(|join| join.join().unwrap()).collect()
}

/// Hosts 0 and 1 in this process and host 2 in one of its own, with these hosts of ranks.
fn two_and_one(hosts: &[u32], part: &str) -> (Vec<RemoteGang>, HostProcess) {
    let authority = Authority::create("hosts").unwrap();
    let mut third = HostProcess::start(&authority, 2, part);
    let ports = [open(&authority, 0), open(&authority, 1)];
    let peers = |here| Peers {
        here,
        addresses: vec![ports[0].address(), ports[1].address(), third.address],
        hosts: hosts.to_vec(),
    };
    let all = [peers(0), peers(1), peers(2)];
    third.tell(&all[2]);
    let gangs = join_all(ports.into_iter().zip(all).collect());
    (gangs.into_iter().map(Result::unwrap).collect(), third)
}

/// Runs `body` in all these hosts at once.
fn run_all<R: Send + 'static>(
    gangs: Vec<RemoteGang>,
    body: impl Fn(&Communicator) -> R + Clone + Send + Sync + 'static,
) -> mpsc::Receiver<HostOutcome<R>> {
    let (sender, outcomes) = mpsc::channel();
    for gang in gangs {
        let (sender, body) = (sender.clone(), body.clone());
        thread::spawn(move || sender.send(gang.run(body)));
    }
    outcomes
}

/// The ranks that die: they take part in one barrier, send something large that is not received in time, and wait.
fn victim(comm: &Communicator) {
    comm.send_slice(0, 5, &vec![1_u8; LARGE]).unwrap();
    comm.barrier().unwrap();
    let waited = comm.receive::<()>(0, 99);
    panic!("nobody sends this: {waited:?}");
}

/// Places of the hosts' ranks, mixed as a cyclic map would; those of host 2 are lost.
const CYCLIC: [u32; 5] = [0, 2, 1, 0, 2];
const LOST: [usize; 2] = [1, 4];

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(outcome: Result<T, CommError>) -> usize {
    match outcome {
        Err(CommError::RankEnded {
            rank,
            ending: Ending::Lost,
        }) => rank,
        other => panic!("{other:?}"),
    }
}

/// What survivors do, from one barrier on: `ready` is told when they are past it.
fn survivor(comm: &Communicator, ready: &mpsc::Sender<usize>) -> Instant {
    comm.barrier().unwrap();
    let posted = comm.ireceive::<()>(LOST[1], 7).unwrap();
    ready.send(comm.rank()).unwrap();
    let named = assert_lost(comm.barrier());
    assert!(LOST.contains(&named), "{named}");
    let noticed = Instant::now();
    assert_eq!(assert_lost(posted.wait()), LOST[1]);
    for lost in LOST {
        assert_eq!(assert_lost(comm.receive::<()>(lost, 1)), lost);
        assert_eq!(assert_lost(comm.send(lost, 1, ())), lost);
    }
    if comm.rank() == 0 {
        // it was announced, and its bytes are gone
        assert_eq!(assert_lost(comm.receive::<Vec<u8>>(LOST[0], 5)), LOST[0]);
    }
    assert!(LOST.contains(&assert_lost(comm.receive::<()>(Source::Any, 1))));
    assert_eq!(comm.acknowledge_failures(), LOST);
    let left = comm.shrink();
    assert_eq!(left.all_gather(comm.rank()).unwrap(), [0, 2, 3]);
    noticed
}

/// Sends that signal to host 2, and checks what the others make of it, and that they do so in time.
fn survivors_know_soon_of(signal: Signal) -> Vec<String> {
    let mut late = Vec::new();
    for _ in 0..TRIES {
        let (took, causes) = survivors_know_of(signal);
        if took < NOTICED_WITHIN {
            return causes;
        }
        late.push(took);
    }
    panic!("the last survivor noticed after {late:?}");
}

/// In which time the last of them does, and what it was to them.
fn survivors_know_of(signal: Signal) -> (Duration, Vec<String>) {
    let (gangs, third) = two_and_one(&CYCLIC, "victim");
    let (ready, is_ready) = mpsc::channel();
    let outcomes = run_all(gangs, move |comm| survivor(comm, &ready));
    for _ in 0..CYCLIC.len() - LOST.len() {
        is_ready.recv_timeout(PATIENCE).unwrap();
    }
    // before the signal, so that nothing is left out
    let begun = Instant::now();
    third.signal(signal);
    let outcomes = [(); 2].map(|()| outcomes.recv_timeout(PATIENCE).unwrap());
    let (mut took, mut causes) = (Duration::ZERO, Vec::new());
    for outcome in outcomes {
        for (_, end) in &outcome.ranks {
            took = took.max(end.as_ref().unwrap().duration_since(begun));
        }
        let hosts: Vec<u32> = outcome.losses.iter().map(|loss| loss.host).collect();
        assert_eq!(hosts, [2]);
        causes.extend(outcome.losses.into_iter().map(|loss| loss.cause));
    }
    (took, causes)
}

#[test]
fn a_killed_host_is_an_error_that_names_its_ranks_at_all_survivors() {
    let causes = survivors_know_soon_of(Signal::KILL);
    let gone = |cause: &String| cause == "the peer's process is gone";
    assert!(causes.iter().any(gone), "{causes:?}");
}

#[test]
fn a_host_that_stands_still_is_lost_to_all_survivors() {
    let causes = survivors_know_soon_of(Signal::STOP);
    let silent = |cause: &String| cause.starts_with("nothing was heard");
    assert!(causes.iter().any(silent), "{causes:?}");
}

#[test]
fn a_host_that_lets_go_is_lost_with_its_ranks() {
    let authority = Authority::create("hosts").unwrap();
    let ports = [open(&authority, 0), open(&authority, 1)];
    let addresses: Vec<_> = ports.iter().map(GangPort::address).collect();
    let peers = (0..).map(|here| Peers {
        here,
        addresses: addresses.clone(),
        hosts: vec![0, 1, 0],
    });
    let mut gangs = join_all(ports.into_iter().zip(peers).collect()).into_iter();
    let (first, second) = (gangs.next().unwrap().unwrap(), gangs.next().unwrap());
    drop(second);
    let outcome = first.run(|comm| {
        assert_eq!(assert_lost(comm.receive::<()>(1, 0)), 1);
        comm.shrink().size()
    });
    assert_eq!(outcome.ranks, [(0, Ok(2)), (2, Ok(2))]);
    assert_eq!(outcome.losses.len(), 1, "{:?}", outcome.losses);
}

#[test]
fn hosts_of_two_gangs_do_not_meet() {
    let (ours, theirs) = (
        Authority::create("hosts").unwrap(),
        Authority::create("hosts").unwrap(),
    );
    // of another authority; of another start; with the number of another host
    let strangers = [
        (&theirs, 1, vec![0, 1]),
        (&ours, 1, vec![1, 0]),
        (&ours, 2, vec![0, 1]),
    ];
    for (authority, number, hosts) in strangers {
        let (port, other) = (open(&ours, 0), open(authority, number));
        let addresses = vec![port.address(), other.address()];
        let peers = |here, hosts: &[u32]| Peers {
            here,
            addresses: addresses.clone(),
            hosts: hosts.to_vec(),
        };
        let (own, strange) = (peers(0, &[0, 1]), peers(1, &hosts));
        let brief = Duration::from_millis(500);
        let waits = thread::spawn(move || port.join(own, brief).unwrap_err().to_string());
        let told = other.join(strange, brief).unwrap_err().to_string();
        assert!(told.starts_with("host 0 was not met: "), "{told}");
        let told = waits.join().unwrap();
        assert!(told.starts_with("host 1 was not met: "), "{told}");
    }
}

/// Bytes of memory that this process holds.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib << 10
}

/// Communicators that are flooded, each with as much as goes.
const FLOODED: usize = 4;
/// Bytes of one message of the flood: it would be sent unasked.
const DROP: usize = 16 << 10;

/// A rank that receives nothing until it is told that all was sent, says by how much it grew, and receives all then.
fn idler(comm: &Communicator) {
    let parts = [(); FLOODED].map(|()| comm.duplicate());
    let before = resident_bytes();
    comm.send(0, 0, ()).unwrap();
    let counts = comm.receive::<Vec<usize>>(0, 1).unwrap();
    comm.send(0, 2, resident_bytes().saturating_sub(before)).unwrap();
    for (part, count) in parts.iter().zip(counts) {
        for number in 0..count {
            let (numbers, _) = part.receive_vec::<u8>(0, 0).unwrap();
            assert_eq!((numbers.len(), numbers[0]), (DROP, number as u8));
        }
    }
    comm.send(0, 3, ()).unwrap();
}

#[test]
fn a_flood_costs_a_receiver_that_does_not_receive_a_bounded_memory() {
    let (gangs, _third) = two_and_one(&[0, 1, 2], "idler");
    let outcomes = run_all(gangs, |comm| {
        let parts = [(); FLOODED].map(|()| comm.duplicate());
        if comm.rank() == 1 {
            return;
        }
        comm.receive::<()>(2, 0).unwrap();
        let counts = parts.iter().map(|part| {
            let mut drops = (0..).map(|number| part.isend_vec(2, 0, vec![number as u8; DROP]));
            drops.position(|sent| sent.is_err()).unwrap()
        });
        let counts: Vec<usize> = counts.collect();
        let sent = counts.iter().sum::<usize>() * DROP;
        assert!(sent > 200 << 20, "{sent} bytes were taken of the sender");
        assert!(
            sent <= FLOODED * (64 << 20),
            "{sent} bytes were taken of the sender"
        );
        comm.send(2, 1, counts).unwrap();
        let grown = comm.receive::<usize>(2, 2).unwrap();
        assert!(grown < 64 << 20, "the receiver grew by {grown} bytes");
        comm.receive::<()>(2, 3).unwrap();
    });
    for _ in 0..2 {
        let outcome = outcomes.recv_timeout(PATIENCE).unwrap();
        assert!(outcome.ranks.iter().all(|(_, end)| end.is_ok()), "{outcome:?}");
        assert_eq!(outcome.losses, []);
    }
}
