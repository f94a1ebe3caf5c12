//! Two nodes in one process, with the program on the second played by the test.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::super::process::poll_until;
use super::*;
use crate::ranks::on_loopback;

const PATIENCE: Duration = Duration::from_secs(20);

fn two_nodes() -> [Arc<Shared>; 2] {
    let gangs = on_loopback(4, 2, None).unwrap();
    let begin = |(here, gang): (u32, RemoteGang)| {
        let join = move |members| {
            assert_eq!(members, [0, 0, 1, 1]);
            Ok(gang)
        };
        Shared::begin(here, 2, join).unwrap()
    };
    let nodes: Vec<_> = (0..).zip(gangs).map(begin).collect();
    nodes.try_into().unwrap()
}

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    (near, far)
}

fn reach() -> StepReach {
    StepReach {
        task: 0,
        node: 1,
        program: StepProgram {
            words: vec![Bytes::from_static(b"/bin/cat")],
            environment: Vec::new(),
            directory: Bytes::from_static(b"/"),
        },
    }
}

fn hear(mut stream: &UnixStream) -> ToStep {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).unwrap();
    phalanx_protocol::codec::decode(&bytes).unwrap()
}

fn await_order(shared: &Shared) -> StartOrder {
    loop {
        if let Some(order) = lock(&shared.orders).pop_front() {
            shared.ordered.lower();
            return order;
        }
        let mut events = [PollFd::from_borrowed_fd(
            std::os::fd::AsFd::as_fd(&shared.ordered),
            PollFlags::IN,
        )];
        poll_until(&mut events, Some(std::time::Instant::now() + PATIENCE)).unwrap();
    }
}

/// A launcher on the first node and a program on the second, connected.
fn connected([script, kept]: &[Arc<Shared>; 2]) -> (UnixStream, UnixStream, Arc<Stream>) {
    let (launcher, socket) = pair();
    script.reach(reach(), socket);
    let order = await_order(kept);
    assert_eq!(order.program, reach().program);
    let (program, end) = pair();
    let (stream, inbound) = kept.open(order.id, order.peer, end).unwrap();
    kept.tell(order.peer, Word::Started(order.id, Ok(())));
    kept.carry(&stream, inbound).unwrap();
    assert_eq!(hear(&launcher), ToStep::Reached);
    (launcher, program, stream)
}

#[test]
fn more_bytes_than_fit_on_the_way_arrive_in_order_in_both_directions() {
    let nodes = two_nodes();
    let (mut launcher, mut program, _stream) = connected(&nodes);
    let sent: Vec<u8> = (0..4 * WINDOW_BYTES)
        .map(|position| (position % 251) as u8)
        .collect();
    thread::scope(|scope| {
        let write = scope.spawn(|| (&launcher).write_all(&sent).unwrap());
        let mut heard = vec![0; sent.len()];
        program.read_exact(&mut heard).unwrap();
        assert!(heard == sent);
        write.join().unwrap();
    });
    thread::scope(|scope| {
        let write = scope.spawn(|| (&program).write_all(&sent).unwrap());
        let mut heard = vec![0; sent.len()];
        launcher.read_exact(&mut heard).unwrap();
        assert!(heard == sent);
        write.join().unwrap();
    });
    // what was said last is heard, and then the end
    program.write_all(b"bye").unwrap();
    drop(program);
    let mut rest = String::new();
    launcher.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye");
}

#[test]
fn a_program_hears_of_the_end_of_its_launcher_and_whoever_is_not_read_stops_nobody() {
    let nodes = two_nodes();
    let (idle, busy_program, _idle_stream) = connected(&nodes);
    let (launcher, mut program, stream) = connected(&nodes);
    busy_program.set_nonblocking(true).unwrap();
    let piece = vec![7; PIECE_BYTES];
    // until its window and all that lies between are full
    let mut full = 0;
    while full < 100 {
        match (&busy_program).write(&piece) {
            Ok(_) => full = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                full += 1;
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(launcher);
    let mut end = [0; 1];
    assert_eq!(program.read(&mut end).unwrap(), 0);
    let mut events = [PollFd::from_borrowed_fd(
        std::os::fd::AsFd::as_fd(stream.over()),
        PollFlags::IN,
    )];
    poll_until(&mut events, Some(std::time::Instant::now() + PATIENCE)).unwrap();
    assert!(!events[0].revents().is_empty());
    drop(idle);
}

#[test]
fn what_is_not_started_and_what_cannot_be_reached_is_refused_with_the_reason() {
    let nodes = two_nodes();
    let (launcher, socket) = pair();
    nodes[0].reach(reach(), socket);
    let order = await_order(&nodes[1]);
    nodes[1].tell(order.peer, Word::Started(order.id, Err("no memory".to_owned())));
    let refused = |why: &str| {
        ToStep::Refused(StepRefusal::Unreachable {
            node: 1,
            why: why.to_owned(),
        })
    };
    assert_eq!(hear(&launcher), refused("no memory"));
    let (kept, program, _stream) = connected(&nodes);
    nodes[0].lose("the job has ended");
    let mut end = [0; 1];
    assert_eq!((&kept).read(&mut end).unwrap(), 0);
    nodes[0].tell(0, Word::Farewell);
    assert_eq!(
        (&program).read(&mut end).unwrap(),
        0,
        "the other node has heard of it"
    );
    let (late, socket) = pair();
    nodes[0].reach(reach(), socket);
    assert_eq!(hear(&late), refused("the job has ended"));
}
