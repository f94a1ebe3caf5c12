//! Point to point: order, requests, and what is moved; `matching` has which message a receive takes.

use phalanx::Communicator;
use phalanx::ranks::{CommError, LANE_MESSAGES_MAX, Source, Tags, run, wait_all, wait_any};

use crate::gangs::{each_gang, fresh_seed, gangs_of};

/// The ranks after and before this one in a ring.
fn neighbours(comm: &Communicator) -> (usize, usize) {
    let (n, own) = (comm.size(), comm.rank());
    ((own + 1) % n, (own + n - 1) % n)
}

#[test]
fn messages_of_one_sender_do_not_overtake() {
    each_gang(|rank| {
        let comm = rank.comm;
        for number in 0..50_u32 {
            rank.dawdle();
            for to in 0..comm.size() {
                comm.send(to, 1, (comm.rank(), number)).unwrap();
            }
        }
        let mut next = vec![0; comm.size()];
        for _ in 0..50 * comm.size() {
            rank.dawdle();
            let ((from, number), status) = comm.receive_with_status::<(usize, u32)>(Source::Any, 1).unwrap();
            assert_eq!((status.source, status.tag), (from, 1));
            assert_eq!(number, next[from], "from {from}");
            next[from] += 1;
        }
        assert!(next.iter().all(|&count| count == 50));
    });
}

#[test]
fn messages_of_all_sizes_keep_their_order() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (ahead, behind) = neighbours(comm);
        // on both sides of what is sent unasked between nodes
        let length = |number: usize| [0, 100, 512 << 10, (512 << 10) + 1, 700_000][number * 7 % 5];
        for number in 0..20 {
            rank.dawdle();
            comm.send_vec(ahead, 0, vec![number as u8; length(number)])
                .unwrap();
        }
        let posted: Vec<_> = (0..10)
            .map(|_| comm.ireceive_vec::<u8>(Source::Any, 0).unwrap())
            .collect();
        let first = wait_all(posted).unwrap().into_iter().map(|(numbers, _)| numbers);
        let rest = (10..20).map(|_| comm.receive_vec::<u8>(behind, 0).unwrap().0);
        for (number, numbers) in first.chain(rest).enumerate() {
            assert!(numbers == vec![number as u8; length(number)], "number {number}");
        }
    });
}

#[test]
fn posted_receives_are_served_in_the_order_of_posting() {
    each_gang(|rank| {
        let comm = rank.comm;
        let from = (comm.rank() + comm.size() - 1) % comm.size();
        let requests: Vec<_> = (0..20)
            .map(|number| match number % 3 {
                0 => comm.ireceive::<u32>(from, 3),
                1 => comm.ireceive::<u32>(Source::Any, 3),
                _ => comm.ireceive::<u32>(from, Tags::Any),
            })
            .collect::<Result<_, _>>()
            .unwrap();
        for number in 0..20_u32 {
            rank.dawdle();
            comm.send((comm.rank() + 1) % comm.size(), 3, number).unwrap();
        }
        let numbers: Vec<u32> = wait_all(requests)
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_rank_sends_to_itself_without_waiting() {
    each_gang(|rank| {
        let comm = rank.comm;
        let sent = comm.isend(comm.rank(), 5, "to myself".to_owned()).unwrap();
        let received = comm.ireceive::<String>(comm.rank(), 5).unwrap();
        sent.wait().unwrap();
        assert_eq!(received.wait().unwrap().0, "to myself");

        let received = comm.ireceive::<u8>(Source::Any, Tags::Any).unwrap();
        comm.send(comm.rank(), 6, 42_u8).unwrap();
        assert_eq!(received.wait().unwrap().0, 42);
    });
}

#[test]
fn a_value_is_moved_and_not_copied_within_a_process() {
    let addresses = run(2, |comm| {
        if comm.rank() == 0 {
            let values = vec![String::from("x"); 1000];
            let address = values.as_ptr() as usize;
            comm.send(1, 0, values).unwrap();
            address
        } else {
            let values = comm.receive::<Vec<String>>(0, 0).unwrap();
            values.as_ptr() as usize
        }
    });
    assert_eq!(addresses[0], addresses[1]);
}

#[test]
fn numbers_arrive_as_they_were_sent_at_every_length() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (ahead, behind) = neighbours(comm);
        for length in [0, 1, 7, 8, 9, 100, 10_000, 200_001] {
            let numbers: Vec<f64> = (0..length).map(|index| f64::from(index) * 0.5).collect();
            rank.dawdle();
            comm.send_slice(ahead, 1, &numbers).unwrap();
            comm.send_vec(ahead, 2, numbers.clone()).unwrap();
            comm.send(ahead, 3, numbers.clone()).unwrap();
            comm.isend_slice(ahead, 4, &numbers).unwrap().wait().unwrap();
            comm.send_slice(ahead, 5, &numbers).unwrap();
            comm.send_slice(ahead, 6, &numbers).unwrap();

            let mut buffer = vec![-1.0; numbers.len() + 2];
            let status = comm.receive_into(behind, 1, &mut buffer).unwrap();
            assert_eq!(status.length, Some(numbers.len()));
            assert_eq!(buffer[..numbers.len()], numbers);
            assert_eq!(buffer[numbers.len()..], [-1.0, -1.0]);
            assert_eq!(comm.receive::<Vec<f64>>(behind, 2).unwrap(), numbers);
            assert_eq!(comm.receive_vec::<f64>(behind, 3).unwrap().0, numbers);
            let later = comm.ireceive_vec::<f64>(behind, 4).unwrap();
            assert_eq!(later.wait().unwrap().0, numbers);
            assert_eq!(comm.receive_vec::<f64>(behind, 5).unwrap().0, numbers);
            assert_eq!(comm.receive::<Vec<f64>>(behind, 6).unwrap(), numbers);
        }
    });
}

#[test]
fn wait_any_gives_each_outcome_once() {
    each_gang(|rank| {
        let comm = rank.comm;
        let mut requests: Vec<_> = (0..comm.size())
            .map(|from| comm.ireceive::<usize>(from, 1).unwrap())
            .collect();
        for to in 0..comm.size() {
            rank.dawdle();
            comm.send(to, 1, comm.rank()).unwrap();
        }
        let mut seen = vec![false; comm.size()];
        while let Some((index, outcome)) = wait_any(&mut requests) {
            assert_eq!(outcome.unwrap().0, index);
            assert!(!std::mem::replace(&mut seen[index], true));
        }
        assert!(seen.into_iter().all(|seen| seen));
    });
}

#[test]
fn a_test_says_nothing_before_the_message_is_there() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (ahead, behind) = neighbours(comm);
        let mut request = comm.ireceive::<u8>(behind, 1).unwrap();
        if comm.rank() == 0 {
            assert!(request.test().is_none());
            (1..comm.size()).for_each(|to| comm.send(to, 2, ()).unwrap());
        } else {
            comm.receive::<()>(0, 2).unwrap();
        }
        comm.send(ahead, 1, 7_u8).unwrap();
        let (value, _) = loop {
            match request.test() {
                Some(outcome) => break outcome.unwrap(),
                None => rank.dawdle(),
            }
        };
        assert_eq!(value, 7);
        assert!(request.is_spent());
    });
}

#[test]
fn a_dropped_receive_takes_no_message() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (ahead, behind) = neighbours(comm);
        drop(comm.ireceive::<u8>(behind, 1).unwrap());
        comm.barrier().unwrap();
        comm.send(ahead, 1, 1_u8).unwrap();
        assert_eq!(comm.receive::<u8>(behind, 1).unwrap(), 1);
    });
}

#[test]
fn a_sender_waits_where_a_mailbox_is_full() {
    for gang in gangs_of(3, fresh_seed()) {
        let ends = gang.run(|comm| {
            let extra = 1000;
            match comm.rank() {
                // of the other node, if there are two
                2 => {
                    for number in 0..LANE_MESSAGES_MAX {
                        comm.isend(0, 0, number).unwrap().wait().unwrap();
                    }
                    assert!(matches!(
                        comm.isend(0, 0, 0_usize),
                        Err(CommError::MailboxFull { rank: 0 })
                    ));
                    comm.send(1, 0, ()).unwrap();
                    for number in LANE_MESSAGES_MAX..LANE_MESSAGES_MAX + extra {
                        comm.send(0, 0, number).unwrap();
                    }
                }
                1 => {
                    comm.receive::<()>(2, 0).unwrap();
                    comm.send(0, 1, ()).unwrap();
                }
                _ => {
                    comm.receive::<()>(1, 1).unwrap();
                    for number in 0..LANE_MESSAGES_MAX + extra {
                        assert_eq!(comm.receive::<usize>(2, 0).unwrap(), number);
                    }
                }
            }
        });
        assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    }
}

#[test]
fn one_message_that_is_received_is_enough_for_a_sender_that_waits() {
    for gang in gangs_of(2, fresh_seed()) {
        let ends = gang.run(|comm| {
            let other = comm.duplicate();
            if comm.rank() == 1 {
                for number in 0..LANE_MESSAGES_MAX {
                    comm.isend(0, 0, number).unwrap().wait().unwrap();
                }
                other.send(0, 0, ()).unwrap();
                comm.send(0, 1, 'w').unwrap();
                return;
            }
            other.receive::<()>(1, 0).unwrap();
            let posted = comm.ireceive::<char>(1, 1).unwrap();
            assert_eq!(comm.receive::<usize>(1, 0).unwrap(), 0);
            assert_eq!(posted.wait().unwrap().0, 'w');
        });
        assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    }
}

#[test]
fn all_ranks_shift_around_a_ring_at_once() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (n, own) = (comm.size(), comm.rank());
        let mut value = own;
        for _ in 0..n {
            rank.dawdle();
            value = comm
                .send_receive((own + 1) % n, value, (own + n - 1) % n, 0)
                .unwrap();
        }
        assert_eq!(value, own);
    });
}

#[test]
fn a_rank_that_is_not_there_is_an_error() {
    each_gang(|rank| {
        let comm = rank.comm;
        let n = comm.size();
        let wrong = |error| {
            let named = matches!(error, CommError::NoSuchRank { rank, size } if (rank, size) == (n, n));
            assert!(named, "{error}");
        };
        wrong(comm.send(n, 0, ()).unwrap_err());
        wrong(comm.isend_slice(n, 0, &[1]).unwrap_err());
        wrong(comm.receive::<()>(n, 0).unwrap_err());
        wrong(comm.ireceive::<()>(n, 0).unwrap_err());
        wrong(comm.iprobe(n, 0).unwrap_err());
        wrong(comm.duplicate().broadcast(n, Some(())).unwrap_err());
    });
}
