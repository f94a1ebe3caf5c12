//! Which message a receive takes, and what it does with one that does not fit: at all sizes, of others' messages and of one's own.

use std::num::NonZeroUsize;

use phalanx::Communicator;
use phalanx::ranks::{CommError, LocalGang, Source, Tags};

use crate::gangs::{each_gang, ends_of, fresh_seed};

/// The ranks that this one sends to, and the ones that it gets something from, it among them: itself, the next, and the farthest.
fn partners(comm: &Communicator) -> (Vec<usize>, Vec<usize>) {
    let (n, own) = (comm.size(), comm.rank());
    let mut distances = vec![0, 1 % n, n / 2];
    distances.sort_unstable();
    distances.dedup();
    let to = distances.iter().map(|distance| (own + distance) % n);
    let from = distances.iter().map(|distance| (own + n - distance) % n);
    (to.collect(), from.collect())
}

#[test]
fn a_receive_takes_its_tag_and_its_source_only() {
    each_gang(|rank| {
        let comm = rank.comm;
        for tag in 0..4 {
            rank.dawdle();
            for to in 0..comm.size() {
                comm.send(to, tag, (comm.rank(), tag)).unwrap();
            }
        }
        for tag in [2, 0, 3, 1] {
            for from in (0..comm.size()).rev() {
                assert_eq!(comm.receive::<(usize, u32)>(from, tag).unwrap(), (from, tag));
            }
        }
    });
}

#[test]
fn any_tag_takes_the_oldest_message_of_the_source() {
    each_gang(|rank| {
        let comm = rank.comm;
        for tag in [9, 4, 7] {
            for to in 0..comm.size() {
                comm.send(to, tag, ()).unwrap();
            }
        }
        rank.dawdle();
        for from in (0..comm.size()).rev() {
            let tag_of = |_| comm.receive_with_status::<()>(from, Tags::Any).unwrap().1.tag;
            let tags: Vec<u32> = (0..3).map(tag_of).collect();
            assert_eq!(tags, [9, 4, 7]);
        }
    });
}

#[test]
fn any_source_takes_what_has_the_tag_in_each_senders_order() {
    each_gang(|rank| {
        let comm = rank.comm;
        for number in 0..12_u32 {
            rank.dawdle();
            for to in 0..comm.size() {
                comm.send(to, number % 3, number).unwrap();
            }
        }
        // the numbers of each sender that are still to come, first those of one tag
        let mut next = vec![2; comm.size()];
        for _ in 0..4 * comm.size() {
            let (number, status) = comm.receive_with_status::<u32>(Source::Any, 2).unwrap();
            assert_eq!((number, status.tag), (next[status.source], 2));
            next[status.source] += 3;
        }
        let mut next = vec![0; comm.size()];
        for _ in 0..8 * comm.size() {
            let (number, status) = comm.receive_with_status::<u32>(Source::Any, Tags::Any).unwrap();
            assert_eq!((number, status.tag), (next[status.source], number % 3));
            next[status.source] += if number % 3 == 0 { 1 } else { 2 };
        }
        assert_eq!(comm.iprobe(Source::Any, Tags::Any).unwrap(), None);
        // nobody could send any more where all have ended
        comm.barrier().unwrap();
    });
}

#[test]
fn messages_of_two_senders_come_in_any_order_where_they_are_late() {
    let seed = fresh_seed();
    let gang = LocalGang::new(3).ranks_per_node(NonZeroUsize::MIN).delayed(seed);
    for gang in [gang, gang.over_quic()] {
        let ends = ends_of(gang, wait_until_one_overtakes);
        assert!(
            ends.iter().all(|end| matches!(end, Ok(Ok(())))),
            "{gang:?}: {ends:?}"
        );
    }
}

/// Two of three ranks send to the first, one after the other, until that gets the second message first.
fn wait_until_one_overtakes(comm: &Communicator) -> Result<(), CommError> {
    for turn in 0.. {
        let goes_on = match comm.rank() {
            0 => {
                assert!(turn < 5_000, "nothing overtakes");
                let next = || comm.receive::<usize>(Source::Any, 0);
                let goes_on = (next()?, next()?) == (1, 2);
                comm.send(1, 1, goes_on)?;
                goes_on
            }
            // what 2 sends is the later one to the ranks, not to the network
            1 => {
                comm.send(0, 0, 1_usize)?;
                comm.send(2, 0, ())?;
                let goes_on = comm.receive::<bool>(0, 1)?;
                comm.send(2, 1, goes_on)?;
                goes_on
            }
            _ => {
                comm.receive::<()>(1, 0)?;
                comm.send(0, 0, 2_usize)?;
                comm.receive::<bool>(1, 1)?
            }
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

#[test]
fn a_message_longer_than_the_buffer_is_an_error_and_the_next_one_is_not() {
    // a few numbers, more than are carried in place, and more than are sent unasked between nodes
    let lengths = [5, 500, 70_000];
    each_gang(move |rank| {
        let comm = rank.comm;
        let (to, from) = partners(comm);
        for to in to {
            for length in lengths {
                rank.dawdle();
                comm.send_slice(to, 0, &vec![1_u64; length]).unwrap();
                comm.send_vec(to, 0, vec![2_u64; length]).unwrap();
                comm.send(to, 0, vec![3_u64; length]).unwrap();
            }
            comm.send_slice(to, 0, &[4_u64; 4]).unwrap();
        }
        for from in from {
            let mut buffer = [0_u64; 4];
            for length in lengths.into_iter().flat_map(|length| [length; 3]) {
                let error = comm.receive_into(from, 0, &mut buffer).unwrap_err();
                let expected = CommError::Truncated { length, capacity: 4 };
                assert_eq!(error.to_string(), expected.to_string());
                assert_eq!(buffer, [0; 4]);
            }
            let status = comm.receive_into(from, 0, &mut buffer).unwrap();
            assert_eq!((status.source, status.length), (from, Some(4)));
            assert_eq!(buffer, [4; 4]);
        }
    });
}

#[test]
fn a_message_of_another_type_is_an_error_and_the_next_one_is_not() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (to, from) = partners(comm);
        for to in to {
            comm.send(to, 0, 1_u32).unwrap();
            comm.send_slice(to, 0, &[1.0_f32]).unwrap();
            rank.dawdle();
            comm.send_slice(to, 0, &[1_u64; 100]).unwrap();
            comm.send_slice(to, 0, &[1_u64; 70_000]).unwrap();
            comm.send(to, 0, "x".repeat(600_000)).unwrap();
            comm.send(to, 0, 2_i64).unwrap();
        }
        let wrong = |error| assert!(matches!(error, CommError::WrongType { .. }), "{error}");
        for from in from {
            wrong(comm.receive::<i32>(from, 0).unwrap_err());
            wrong(comm.receive_vec::<u32>(from, 0).unwrap_err());
            wrong(comm.receive_into::<i64>(from, 0, &mut [0; 100]).unwrap_err());
            wrong(comm.receive_vec::<f64>(from, 0).unwrap_err());
            wrong(comm.receive::<Vec<u8>>(from, 0).unwrap_err());
            assert_eq!(comm.receive::<i64>(from, 0).unwrap(), 2);
        }
    });
}

#[test]
fn a_probe_shows_a_message_and_leaves_it() {
    each_gang(|rank| {
        let comm = rank.comm;
        let (to, from) = partners(comm);
        for to in to {
            rank.dawdle();
            comm.send(to, 8, 'a').unwrap();
            rank.dawdle();
            comm.send_slice(to, 9, &[1.5; 30]).unwrap();
            comm.send_vec(to, 10, vec![2.5; 70_000]).unwrap();
        }
        for from in from {
            let large = comm.probe(from, 10).unwrap();
            assert_eq!((large.source, large.tag, large.length), (from, 10, Some(70_000)));
            let status = comm.probe(from, 9).unwrap();
            assert_eq!((status.source, status.tag, status.length), (from, 9, Some(30)));
            let first = comm.iprobe(from, Tags::Any).unwrap().unwrap();
            assert_eq!((first.tag, first.length), (8, None));
            assert_eq!(comm.iprobe(from, 11).unwrap(), None);
            let mut numbers = vec![0.0; status.length.unwrap()];
            comm.receive_into(status.source, status.tag, &mut numbers)
                .unwrap();
            assert_eq!(comm.iprobe(from, 9).unwrap(), None);
            assert_eq!(comm.receive::<char>(from, 8).unwrap(), 'a');
            assert!(comm.receive_vec::<f64>(from, 10).unwrap().0 == vec![2.5; 70_000]);
        }
        assert_eq!(comm.iprobe(Source::Any, Tags::Any).unwrap(), None);
        // nobody could send any more where all have ended
        comm.barrier().unwrap();
    });
}

#[test]
fn a_probe_of_any_names_what_a_receive_from_there_takes() {
    each_gang(|rank| {
        let comm = rank.comm;
        for number in 0..6_u32 {
            rank.dawdle();
            for to in 0..comm.size() {
                comm.send(to, number, (comm.rank(), number)).unwrap();
            }
        }
        let mut next = vec![0; comm.size()];
        for _ in 0..6 * comm.size() {
            let seen = comm.probe(Source::Any, Tags::Any).unwrap();
            let expected = (seen.source, next[seen.source]);
            assert_eq!(seen.tag, expected.1);
            assert_eq!(
                comm.receive::<(usize, u32)>(seen.source, seen.tag).unwrap(),
                expected
            );
            next[seen.source] += 1;
        }
    });
}
