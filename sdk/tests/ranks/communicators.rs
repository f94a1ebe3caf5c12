//! Communicators made of others.

use phalanx::ranks::Source;

use crate::gangs::{SIZES, each_gang, each_gang_of, fresh_seed, gangs_over_quic, pretended_gangs};

#[test]
fn a_duplicate_keeps_its_messages_apart() {
    each_gang(|rank| {
        let comm = rank.comm;
        let other = comm.duplicate();
        assert_eq!((other.rank(), other.size()), (comm.rank(), comm.size()));
        let (to, from) = ((comm.rank() + 1) % comm.size(), Source::Any);
        comm.send(to, 0, 'c').unwrap();
        rank.dawdle();
        other.send(to, 0, 'o').unwrap();
        assert_eq!(other.receive::<char>(from, 0).unwrap(), 'o');
        assert_eq!(comm.receive::<char>(from, 0).unwrap(), 'c');
        let third = other.duplicate();
        let sum = third.all_reduce(1, |left, right| left + right).unwrap();
        assert_eq!(sum, comm.size());
    });
}

#[test]
fn a_split_orders_by_key_then_by_rank() {
    // the even ranks; the odd ones do likewise
    for (n, order) in [
        (1, &[0][..]),
        (2, &[0]),
        (3, &[2, 0]),
        (5, &[2, 4, 0]),
        (8, &[6, 2, 4, 0]),
    ] {
        each_gang_of(
            n,
            move |rank| {
                let comm = rank.comm;
                rank.dawdle();
                // of the even ones 0 | -1 -1 | -2 -2 | ...
                let own = comm.rank();
                let key = -(own as i64 / 2 + 1) / 2;
                let part = comm.split(Some(own as u64 % 2), key).unwrap().unwrap();
                let expected = order.iter().map(|even| even + own % 2);
                let expected: Vec<usize> = expected.filter(|&rank| rank < n).collect();
                let came = part.all_gather(own).unwrap();
                assert_eq!(came, expected);
                assert_eq!((came[part.rank()], part.size()), (own, expected.len()));
                // a communicator of its own, also where the parts talk at once
                let sum = part.all_reduce(own, |left, right| left + right).unwrap();
                assert_eq!(sum, expected.into_iter().sum::<usize>());
            },
            |_| {},
        );
    }
}

#[test]
fn who_gives_no_color_gets_no_communicator() {
    each_gang(|rank| {
        let comm = rank.comm;
        let color = (comm.rank() > 0).then_some(7);
        let part = comm.split(color, 0).unwrap();
        assert_eq!(part.is_some(), comm.rank() > 0);
        if let Some(part) = part {
            assert_eq!((part.rank(), part.size()), (comm.rank() - 1, comm.size() - 1));
            part.barrier().unwrap();
        }
        comm.barrier().unwrap();
    });
}

#[test]
fn split_by_node_tells_nodes_apart() {
    for n in SIZES {
        let gangs = pretended_gangs(n, fresh_seed()).into_iter();
        for (gang, per_node) in gangs.chain(gangs_over_quic(n)) {
            let sizes: Vec<usize> = (0..n)
                .step_by(per_node)
                .map(|first| per_node.min(n - first))
                .collect();
            let ends = gang.run(|comm| {
                let node = comm.split_by_node();
                let ranks = node.all_gather(comm.rank()).unwrap();
                assert_eq!(ranks[node.rank()], comm.rank());
                assert_eq!(ranks[0] / per_node, comm.rank() / per_node);
                // messages of the node are apart from those of all
                comm.send((comm.rank() + 1) % n, 0, 'c').unwrap();
                node.send((node.rank() + 1) % node.size(), 0, 'n').unwrap();
                assert_eq!(node.receive::<char>(Source::Any, 0).unwrap(), 'n');
                assert_eq!(comm.receive::<char>(Source::Any, 0).unwrap(), 'c');
                let leaders = comm.split((node.rank() == 0).then_some(0), 0).unwrap();
                leaders.map(|leaders| leaders.all_gather(node.size()).unwrap())
            });
            for (rank, end) in ends.into_iter().enumerate() {
                let found = end.unwrap_or_else(|failure| panic!("{gang:?}: {failure}"));
                let expected = rank.is_multiple_of(per_node).then(|| sizes.clone());
                assert_eq!(found, expected, "{gang:?}, rank {rank}");
            }
        }
    }
}
