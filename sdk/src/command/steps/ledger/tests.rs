//! Stories of steps that come and go.

use proptest::prelude::*;

use super::*;

fn job(cpus: &[u32]) -> Ledger {
    job_with_gpus(cpus, &[])
}

/// The same with gpus of these types on each node.
fn job_with_gpus(cpus: &[u32], kinds: &[&str]) -> Ledger {
    let node = |&count: &u32| NodeStock {
        count,
        numbers: (100..100 + count).collect(),
        gpus: kinds.iter().map(|&kind| Some(kind.to_owned())).collect(),
    };
    Ledger::new(cpus.iter().map(node).collect())
}

/// The same with so many gpus for each rank, or for the step on each node.
fn with_gpus(request: StepRequest, per_rank: bool, count: u32) -> StepRequest {
    StepRequest {
        gpus: StepGpus {
            per_rank,
            counts: vec![(None, count)],
        },
        ..request
    }
}

/// The gpus of each share.
fn gpus(grant: &StepGrant) -> Vec<Vec<u32>> {
    grant.shares.iter().map(|share| share.gpus.clone()).collect()
}

fn whole(ranks: u32) -> StepRequest {
    StepRequest {
        task: 0,
        inside: None,
        ranks,
        cpus_per_rank: 1,
        nodes_min: 1,
        ranks_per_node_max: 0,
        only: Vec::new(),
        gpus: StepGpus::default(),
        extent: Extent::Whole,
        overlap: false,
        immediate: false,
    }
}

fn exact(ranks: u32, cpus_per_rank: u32) -> StepRequest {
    StepRequest {
        cpus_per_rank,
        extent: Extent::Exact,
        ..whole(ranks)
    }
}

fn overlapping(request: StepRequest) -> StepRequest {
    StepRequest {
        overlap: true,
        ..request
    }
}

#[track_caller]
fn granted(answer: ToStep) -> StepGrant {
    match answer {
        ToStep::Granted(grant) => grant,
        other @ (ToStep::Waiting | ToStep::Refused(_) | ToStep::Reached) => panic!("{other:?}"),
    }
}

/// The cpus of each share, behind its node and ranks.
fn shares(grant: &StepGrant) -> Vec<(u32, u32, Vec<u32>)> {
    let share = |share: &NodeShare| (share.node, share.ranks, share.cpus.clone());
    grant.shares.iter().map(share).collect()
}

#[test]
fn exact_steps_have_cpus_of_their_own_and_the_next_waits_for_one_that_is_free() {
    let mut ledger = job(&[2]);
    let first = granted(ledger.ask(1, exact(1, 1)));
    let second = granted(ledger.ask(2, exact(1, 1)));
    assert_eq!(shares(&first), [(0, 1, vec![100])]);
    assert_eq!(shares(&second), [(0, 1, vec![101])]);
    assert_eq!(ledger.ask(3, exact(1, 1)), ToStep::Waiting);
    assert_eq!(ledger.ask(4, exact(1, 1)), ToStep::Waiting);
    let next = ledger.release(1);
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].0, next[0].1.step), (3, 2));
    assert_eq!(shares(&next[0].1), [(0, 1, vec![100])]);
    ledger.check();
}

#[test]
fn a_whole_step_has_all_cpus_and_waits_until_all_are_free() {
    let mut ledger = job(&[3]);
    assert_eq!(
        shares(&granted(ledger.ask(1, whole(1)))),
        [(0, 1, vec![100, 101, 102])]
    );
    assert_eq!(ledger.ask(2, whole(1)), ToStep::Waiting);
    let next = ledger.release(1);
    assert_eq!((next.len(), next[0].0), (1, 2));
}

#[test]
fn a_small_step_passes_a_large_one_that_waits() {
    let mut ledger = job(&[4]);
    granted(ledger.ask(1, exact(3, 1)));
    assert_eq!(ledger.ask(2, exact(1, 2)), ToStep::Waiting);
    assert_eq!(shares(&granted(ledger.ask(3, exact(1, 1)))), [(0, 1, vec![103])]);
    assert_eq!(ledger.release(3), []);
    assert_eq!(ledger.release(1)[0].0, 2);
}

#[test]
fn whoever_overlaps_waits_for_nobody_and_nobody_for_it() {
    let mut ledger = job(&[2]);
    granted(ledger.ask(1, whole(2)));
    let beside = granted(ledger.ask(2, overlapping(whole(1))));
    assert_eq!(shares(&beside), [(0, 1, vec![100, 101])]);
    ledger.release(1);
    granted(ledger.ask(3, exact(1, 1)));
    // of cpus that are free rather than in use
    assert_eq!(
        shares(&granted(ledger.ask(4, overlapping(exact(1, 1))))),
        [(0, 1, vec![101])]
    );
    granted(ledger.ask(5, exact(1, 1)));
    ledger.check();
}

#[test]
fn a_step_that_needs_more_than_there_is_has_all_of_it_when_all_is_free() {
    let mut ledger = job(&[2]);
    granted(ledger.ask(1, exact(1, 1)));
    assert_eq!(ledger.ask(2, exact(4, 1)), ToStep::Waiting);
    let next = ledger.release(1);
    assert!(next[0].1.is_overcommitted);
    assert_eq!(shares(&next[0].1), [(0, 4, vec![100, 101])]);
    assert_eq!(ledger.ask(3, exact(1, 1)), ToStep::Waiting);
    let beside = granted(ledger.ask(4, overlapping(exact(1, 3))));
    assert!(beside.is_overcommitted);
}

#[test]
fn a_step_is_on_no_other_node_than_those_that_it_may_be_on() {
    let mut ledger = job(&[2, 2]);
    let on = |only: &[u32], ranks| StepRequest {
        only: only.to_vec(),
        ..exact(ranks, 1)
    };
    assert_eq!(shares(&granted(ledger.ask(1, on(&[1], 1)))), [(1, 1, vec![100])]);
    assert_eq!(ledger.ask(2, on(&[1], 2)), ToStep::Waiting);
    assert_eq!(ledger.release(1).len(), 1);
    ledger.release(2);
    let crowded = granted(ledger.ask(3, on(&[1], 3)));
    assert_eq!(shares(&crowded), [(1, 3, vec![100, 101])]);
    let nowhere = ledger.ask(4, on(&[7], 1));
    assert_eq!(
        nowhere,
        ToStep::Refused(StepRefusal::Nodes { asked: 1, there: 0 })
    );
    ledger.check();
}

#[test]
fn what_is_not_to_wait_is_refused() {
    let mut ledger = job(&[1]);
    granted(ledger.ask(1, whole(1)));
    let request = StepRequest {
        immediate: true,
        ..whole(1)
    };
    assert_eq!(ledger.ask(2, request), ToStep::Refused(StepRefusal::Busy));
    // and is forgotten
    assert_eq!(ledger.release(1), []);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut ledger = job(&[2, 2]);
    let on = |nodes_min, ranks_per_node_max| StepRequest {
        nodes_min,
        ranks_per_node_max,
        ..whole(4)
    };
    let refused = |ledger: &mut Ledger, request| match ledger.ask(9, request) {
        ToStep::Refused(refusal) => refusal.to_string(),
        other @ (ToStep::Waiting | ToStep::Granted(_) | ToStep::Reached) => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&mut ledger, on(3, 0)),
        "the step asks for 3 nodes, and its job has 2"
    );
    assert_eq!(
        refused(&mut ledger, on(1, 1)),
        "4 ranks, at most 1 on a node, need more nodes than the 2 of the job"
    );
    assert_eq!(
        refused(&mut ledger, whole(0)),
        "a step has at least one rank, and each rank a cpu"
    );
}

#[test]
fn whoever_waits_and_leaves_has_no_turn() {
    let mut ledger = job(&[1]);
    granted(ledger.ask(1, whole(1)));
    assert_eq!(ledger.ask(2, whole(1)), ToStep::Waiting);
    assert_eq!(ledger.ask(3, whole(1)), ToStep::Waiting);
    assert_eq!(ledger.release(2), []);
    assert_eq!(ledger.release(1)[0].0, 3);
}

#[test]
fn a_step_inside_a_step_waits_only_for_what_will_be_free() {
    let mut ledger = job(&[3]);
    let outer = granted(ledger.ask(1, exact(1, 1))).step;
    let inner = |request: StepRequest| StepRequest {
        inside: Some(outer),
        ..request
    };
    // there is enough beside it
    granted(ledger.ask(2, inner(exact(2, 1))));
    assert_eq!(ledger.ask(3, inner(exact(1, 1))), ToStep::Waiting);
    // all of it is never free meanwhile
    granted(ledger.ask(4, inner(whole(1))));
    granted(ledger.ask(5, inner(exact(3, 1))));
    assert_eq!(ledger.release(2)[0].0, 3);
    // nor for one that is two steps further inside
    let innermost = StepRequest {
        inside: ledger.step(3),
        ..exact(2, 1)
    };
    granted(ledger.ask(6, innermost));
    ledger.check();
}

#[test]
fn ranks_go_to_few_nodes_and_to_as_many_as_they_ask_for() {
    let mut ledger = job(&[2, 4]);
    assert_eq!(
        shares(&granted(ledger.ask(1, exact(3, 1)))),
        [(1, 3, vec![100, 101, 102])]
    );
    ledger.release(1);
    let on = |nodes_min, ranks_per_node_max, request| StepRequest {
        nodes_min,
        ranks_per_node_max,
        ..request
    };
    let wide = granted(ledger.ask(2, on(2, 0, exact(3, 1))));
    assert_eq!(shares(&wide), [(0, 2, vec![100, 101]), (1, 1, vec![100])]);
    ledger.release(2);
    let even = granted(ledger.ask(3, on(1, 2, exact(4, 1))));
    assert_eq!(shares(&even), [(0, 2, vec![100, 101]), (1, 2, vec![100, 101])]);
    ledger.release(3);
    // a node that is in part in use is none for a whole step
    granted(ledger.ask(4, exact(1, 3)));
    let small = granted(ledger.ask(5, whole(1)));
    assert_eq!(shares(&small), [(0, 1, vec![100, 101])]);
    assert_eq!(ledger.ask(6, whole(1)), ToStep::Waiting);
    let over = granted(ledger.ask(7, overlapping(exact(9, 1))));
    let ranks: Vec<u32> = over.shares.iter().map(|share| share.ranks).collect();
    assert_eq!(ranks.iter().sum::<u32>(), 9);
}

#[test]
fn cpus_that_nobody_knows_are_counted() {
    let mut ledger = Ledger::new(vec![NodeStock {
        count: 2,
        numbers: Vec::new(),
        gpus: Vec::new(),
    }]);
    let grant = granted(ledger.ask(1, exact(1, 2)));
    assert_eq!((grant.shares[0].cpu_count, grant.shares[0].cpus.len()), (2, 0));
    assert_eq!(ledger.ask(2, exact(1, 1)), ToStep::Waiting);
}

#[test]
fn gpus_are_counted_as_cpus_are_and_waited_for() {
    let mut ledger = job_with_gpus(&[4], &["a", "a", "b"]);
    let first = granted(ledger.ask(1, with_gpus(exact(2, 1), true, 1)));
    assert_eq!(gpus(&first), [[0, 1]]);
    // whoever asks for none holds none
    assert_eq!(gpus(&granted(ledger.ask(2, exact(1, 1)))), [[0; 0]]);
    assert_eq!(ledger.ask(3, with_gpus(exact(1, 1), false, 2)), ToStep::Waiting);
    let one = granted(ledger.ask(4, with_gpus(exact(1, 1), false, 1)));
    assert_eq!(gpus(&one), [[2]]);
    let beside = granted(ledger.ask(5, overlapping(with_gpus(whole(1), false, 1))));
    assert_eq!(gpus(&beside), [[0]]);
    ledger.check();
    assert_eq!(ledger.release(4), []);
    let next = ledger.release(1);
    assert_eq!((next[0].0, gpus(&next[0].1)), (3, vec![vec![0, 1]]));
    ledger.check();
}

#[test]
fn gpus_that_a_job_does_not_have_are_refused_by_name() {
    let mut ledger = job_with_gpus(&[2, 2], &["a", "a"]);
    let refused = |ledger: &mut Ledger, request| match ledger.ask(9, request) {
        ToStep::Refused(refusal) => refusal.to_string(),
        other @ (ToStep::Waiting | ToStep::Granted(_) | ToStep::Reached) => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&mut ledger, with_gpus(exact(2, 1), true, 3)),
        "the step asks for 3 gpu for each task (tasks: 2), and its job has 4 gpu in all"
    );
    let typed = StepRequest {
        gpus: StepGpus {
            per_rank: false,
            counts: vec![(Some("b".to_owned()), 1)],
        },
        ..whole(1)
    };
    let why = refused(&mut ledger, typed);
    assert!(why.starts_with("the step asks for 1 gpu:b on each node"), "{why}");
    // as many ranks as there are cpus for, or more
    let spread = granted(ledger.ask(1, with_gpus(exact(4, 1), true, 1)));
    assert_eq!(gpus(&spread), [[0, 1], [0, 1]]);
    let crowded = refused(&mut ledger, with_gpus(exact(9, 1), true, 1));
    assert!(crowded.contains("(tasks: 9)"), "{crowded}");
    ledger.release(1);
    let crowded = granted(ledger.ask(2, with_gpus(exact(9, 1), false, 1)));
    assert_eq!(gpus(&crowded), [[0], [0]]);
    ledger.check();
}

#[test]
fn steps_beyond_the_bound_are_refused() {
    let mut ledger = job(&[1]);
    granted(ledger.ask(0, whole(1)));
    for id in 1..STEPS_MAX as u64 {
        assert_eq!(ledger.ask(id, whole(1)), ToStep::Waiting);
    }
    assert_eq!(
        ledger.ask(u64::MAX, whole(1)),
        ToStep::Refused(StepRefusal::TooMany)
    );
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_no_cpu_is_given_twice_and_all_get_their_turn(
        nodes in prop::collection::vec(1u32..5, 1..4),
        asked in prop::collection::vec((1u32..6, 1u32..4, 1u32..4, 0u32..3, any::<bool>(), any::<bool>(), 0usize..4), 1..40),
        asked_gpus in prop::collection::vec((any::<bool>(), 0u32..3), 40),
    ) {
        let mut ledger = job_with_gpus(&nodes, &["a", "b"]);
        let mut running: Vec<u64> = Vec::new();
        let mut begun = 0;
        let mut expected = 0;
        for (id, (ranks, cpus_per_rank, nodes_min, ranks_per_node_max, is_exact, overlap, ends)) in (0..).zip(asked) {
            let extent = if is_exact { Extent::Exact } else { Extent::Whole };
            let inside = running.first().and_then(|&id| ledger.step(id)).filter(|_| ends == 3);
            let (per_rank, n_gpus) = asked_gpus[id as usize];
            let gpus = StepGpus { per_rank, counts: vec![(None, n_gpus)] };
            let request = StepRequest {
                task: 0, inside, ranks, cpus_per_rank, nodes_min, ranks_per_node_max, only: Vec::new(), gpus, extent, overlap,
                immediate: false,
            };
            match ledger.ask(id, request) {
                ToStep::Granted(grant) => {
                    prop_assert_eq!(grant.shares.iter().map(|share| share.ranks).sum::<u32>(), ranks);
                    running.push(id);
                    begun += 1;
                    expected += 1;
                }
                ToStep::Waiting => expected += 1,
                ToStep::Refused(_) | ToStep::Reached => {}
            }
            ledger.check();
            for _ in 0..ends.min(running.len()) {
                let next = ledger.release(running.remove(0));
                begun += next.len();
                running.extend(next.into_iter().map(|(id, _)| id));
                ledger.check();
            }
        }
        while !running.is_empty() {
            let next = ledger.release(running.remove(0));
            begun += next.len();
            running.extend(next.into_iter().map(|(id, _)| id));
            ledger.check();
        }
        prop_assert_eq!(begun, expected);
    }
}
