use super::*;

fn of(ranks: u32) -> Exchange {
    Exchange::new("job-1", &Layout::one_node(ranks), &[])
}

#[track_caller]
fn answer(exchange: &mut Exchange, rank: u32, line: &str) -> String {
    match exchange.hear(rank, line).unwrap().as_slice() {
        [Effect::Answer { rank: to, line }] if *to == rank => line.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ranks_on_several_nodes_may_all_ask_at_one_place() {
    let layout = Layout { node_of: vec![0, 1] };
    let mut exchange = Exchange::new("job", &layout, &[]);
    assert_eq!(exchange.served(), [0, 1]);
    for rank in 0..2 {
        exchange
            .hear(rank, "cmd=init pmi_version=1 pmi_subversion=1")
            .unwrap();
    }
    assert_eq!(exchange.hear(1, "cmd=barrier_in").unwrap(), []);
    assert_eq!(
        exchange.hear(0, "cmd=barrier_in").unwrap().len(),
        2,
        "both may go on"
    );
    let asked = exchange
        .hear(1, "cmd=get kvsname=job key=PMI_process_mapping")
        .unwrap();
    let line = "cmd=get_result rc=0 msg=success value=(vector,(0,2,1))".to_owned();
    assert_eq!(asked, [Effect::Answer { rank: 1, line }]);
}

#[test]
fn a_rank_learns_who_it_is_among() {
    let mut exchange = Exchange::new("job-1", &Layout::one_node(3), &[0, 0, 1]);
    for (line, expected) in [
        (
            "cmd=init pmi_version=1 pmi_subversion=1",
            "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
        ),
        (
            "cmd=get_maxes",
            "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=676",
        ),
        ("cmd=get_appnum", "cmd=appnum rc=0 appnum=1"),
        ("cmd=get_universe_size", "cmd=universe_size rc=0 size=3"),
        ("cmd=get_my_kvsname", "cmd=my_kvsname rc=0 kvsname=job-1"),
        (
            "cmd=get kvsname=job-1 key=PMI_process_mapping",
            "cmd=get_result rc=0 msg=success value=(vector,(0,1,3))",
        ),
        (
            "cmd=get kvsname=job-1 key=PMI_hwloc_xmlfile",
            "cmd=get_result rc=-1 msg=not_found value=unknown",
        ),
        ("mcmd=spawn", "cmd=spawn_result rc=-1 msg=not_offered"),
        (
            "cmd=lookup_name service=x",
            "cmd=lookup_result rc=-1 msg=not_offered",
        ),
        ("cmd=finalize", "cmd=finalize_ack rc=0"),
    ] {
        assert_eq!(answer(&mut exchange, 2, line), expected);
    }
}

#[test]
fn what_one_puts_all_get_and_none_puts_again() {
    let mut exchange = of(2);
    let put = "cmd=put kvsname=job-1 key=card value=here";
    assert_eq!(answer(&mut exchange, 0, put), "cmd=put_result rc=0 msg=success");
    assert_eq!(
        answer(&mut exchange, 1, "cmd=get kvsname=job-1 key=card"),
        "cmd=get_result rc=0 msg=success value=here"
    );
    assert_eq!(
        answer(&mut exchange, 1, put),
        "cmd=put_result rc=-1 msg=duplicate_key"
    );
}

#[test]
fn what_is_put_can_be_got_in_a_line_and_longer_values_are_refused() {
    let mut exchange = of(1);
    let put = |key: &str, bytes: usize| format!("cmd=put key={key} value={}", "v".repeat(bytes));
    let longest = answer(&mut exchange, 0, &put("a", VALUE_BYTES_KEPT_MAX));
    assert_eq!(longest, "cmd=put_result rc=0 msg=success");
    let got = answer(&mut exchange, 0, "cmd=get kvsname=x key=a");
    assert_eq!(got.len(), wire::LINE_BYTES_MAX);
    let longer = answer(&mut exchange, 0, &put("b", VALUE_BYTES_KEPT_MAX + 1));
    assert_eq!(longer, "cmd=put_result rc=-1 msg=value_too_long");
    // and those of the length that ranks are told can be put under any key
    let (name, key) = ("n".repeat(NAME_BYTES_MAX), "k".repeat(KEY_BYTES_MAX));
    let told = format!(
        "cmd=put kvsname={name} key={key} value={}",
        "v".repeat(VALUE_BYTES_MAX)
    );
    assert_eq!(told.len(), wire::LINE_BYTES_MAX);
    assert_eq!(answer(&mut exchange, 0, &told), "cmd=put_result rc=0 msg=success");
}

#[test]
fn keys_of_a_rank_are_bounded() {
    let mut exchange = of(1);
    for key in 0..KEYS_PER_RANK_MAX {
        let put = format!("cmd=put kvsname=x key={key} value=v");
        assert_eq!(answer(&mut exchange, 0, &put), "cmd=put_result rc=0 msg=success");
    }
    let put = "cmd=put kvsname=x key=more value=v";
    assert_eq!(
        answer(&mut exchange, 0, put),
        "cmd=put_result rc=-1 msg=too_many_keys"
    );
}

#[test]
fn a_barrier_opens_for_all_when_the_last_is_in_and_can_be_used_again() {
    let mut exchange = of(3);
    for _ in 0..2 {
        assert_eq!(exchange.hear(1, "cmd=barrier_in"), Ok(Vec::new()));
        // saying it twice does not count twice
        assert_eq!(exchange.hear(1, "cmd=barrier_in"), Ok(Vec::new()));
        assert_eq!(exchange.hear(0, "cmd=barrier_in"), Ok(Vec::new()));
        let out = |rank| Effect::Answer {
            rank,
            line: "cmd=barrier_out rc=0".into(),
        };
        let opened = exchange.hear(2, "cmd=barrier_in");
        assert_eq!(opened, Ok(vec![out(0), out(1), out(2)]));
    }
}

const INIT: &str = "cmd=init pmi_version=1 pmi_subversion=1";
const ENTER: &str = "cmd=barrier_in";

fn lost(rank: u32) -> Effect {
    let nonsense = None;
    Effect::Depart(Departure::Lost { rank, nonsense })
}

fn absence(rank: u32, has_finalized: bool) -> Absence {
    Absence { rank, has_finalized }
}

fn missed(absence: Absence, waiting: &[u32]) -> Effect {
    let waiting = waiting.to_vec();
    Effect::Depart(Departure::Missed(Missed { absence, waiting }))
}

#[test]
fn only_who_is_in_and_says_no_farewell_is_missed() {
    let mut exchange = of(3);
    answer(&mut exchange, 0, INIT);
    answer(&mut exchange, 1, INIT);
    answer(&mut exchange, 1, "cmd=finalize");
    assert_eq!(exchange.left(0, None), [lost(0)]);
    assert_eq!(exchange.left(1, None), []);
    assert_eq!(exchange.left(2, None), [], "it is no MPI program");
    assert_eq!(exchange.left(0, None), [], "it is gone already");
}

#[test]
fn who_waits_for_a_rank_that_has_ended_in_peace_is_told() {
    let mut exchange = of(3);
    assert_eq!(exchange.left(0, None), [], "nobody waits for it yet");
    answer(&mut exchange, 1, INIT);
    assert_eq!(exchange.hear(1, ENTER), Ok(vec![missed(absence(0, false), &[1])]));
    assert_eq!(exchange.hear(2, ENTER), Ok(vec![]), "it is told once");
}

#[test]
fn a_rank_that_ends_in_peace_while_others_wait_for_it_is_told() {
    let mut exchange = of(3);
    exchange.hear(0, ENTER).unwrap();
    exchange.hear(2, ENTER).unwrap();
    assert_eq!(exchange.left(1, None), [missed(absence(1, false), &[0, 2])]);
}

#[test]
fn a_rank_that_has_finalized_may_begin_another_program_until_it_ends() {
    let mut exchange = of(2);
    answer(&mut exchange, 0, "cmd=finalize");
    assert_eq!(exchange.hear(1, ENTER), Ok(vec![]));
    answer(&mut exchange, 0, INIT);
    answer(&mut exchange, 0, "cmd=finalize");
    assert_eq!(exchange.left(0, None), [missed(absence(0, true), &[1])]);
}

#[test]
fn ranks_wait_in_vain_for_one_of_another_node_that_has_not_entered_their_barrier() {
    let layout = Layout {
        node_of: vec![0, 1, 0, 2],
    };
    let on = |node| Exchange::on_node(node, "job", &layout, &[]);
    let gone = absence(1, false);
    assert_eq!(on(1).left(1, None), [Effect::TellAbsent(gone)]);
    // before the others wait
    let mut exchange = on(0);
    assert_eq!(exchange.heard_of_absence(1, gone), []);
    assert_eq!(exchange.hear(2, ENTER), Ok(vec![missed(gone, &[2])]));
    // while they wait, some or all
    let mut exchange = on(0);
    exchange.hear(0, ENTER).unwrap();
    assert_eq!(exchange.heard_of_absence(1, gone), [missed(gone, &[0])]);
    let mut exchange = on(0);
    exchange.hear(0, ENTER).unwrap();
    exchange.hear(2, ENTER).unwrap();
    exchange.heard_of(2, vec![]);
    assert_eq!(exchange.heard_of_absence(1, gone), [missed(gone, &[0, 2])]);
}

#[test]
fn a_rank_of_another_node_that_goes_after_the_barrier_is_not_waited_for_in_it() {
    let layout = Layout {
        node_of: vec![0, 1, 2],
    };
    let mut exchange = Exchange::on_node(0, "job", &layout, &[]);
    exchange.hear(0, ENTER).unwrap();
    assert_eq!(exchange.heard_of(1, vec![]), []);
    // node 1 has heard of node 2 already, and its rank has gone on to its end
    assert_eq!(exchange.heard_of_absence(1, absence(1, true)), []);
    let out = Effect::Answer {
        rank: 0,
        line: "cmd=barrier_out rc=0".into(),
    };
    assert_eq!(exchange.heard_of(2, vec![]), [out]);
    let next = exchange.hear(0, ENTER).unwrap();
    assert_eq!(next[1..], [missed(absence(1, true), &[0])]);
}

#[test]
fn an_abort_ends_all() {
    let abort = |line: &str| of(2).hear(1, line);
    let effect = |code| Ok(vec![Effect::Depart(Departure::Aborted { rank: 1, code })]);
    assert_eq!(abort("cmd=abort exitcode=7"), effect(7));
    assert_eq!(abort("cmd=abort"), effect(1));
}

#[test]
fn a_barrier_of_several_nodes_opens_when_all_have_entered_and_brings_what_was_put() {
    let layout = Layout {
        node_of: vec![0, 1, 0, 2],
    };
    let mut exchange = Exchange::on_node(0, "job-1", &layout, &[]);
    let enter = "cmd=barrier_in";
    let out = |rank| Effect::Answer {
        rank,
        line: "cmd=barrier_out rc=0".into(),
    };
    let tell = |entries: &[(&str, &str)]| Effect::Tell {
        entries: entries
            .iter()
            .map(|&(key, value)| (key.into(), value.into()))
            .collect(),
    };
    answer(&mut exchange, 2, "cmd=put kvsname=job-1 key=b value=2");
    assert_eq!(exchange.heard_of(1, vec![("c".into(), "3".into())]), []);
    assert_eq!(exchange.hear(0, enter), Ok(vec![]));
    assert_eq!(exchange.hear(2, enter), Ok(vec![tell(&[("b", "2")])]));
    // node 1 has been let out and waits at the next already
    assert_eq!(exchange.heard_of(1, vec![]), []);
    assert_eq!(exchange.heard_of(2, vec![]), [out(0), out(2)]);
    let got = answer(&mut exchange, 0, "cmd=get kvsname=job-1 key=c");
    assert!(got.ends_with("value=3"), "{got}");
    assert_eq!(exchange.heard_of(2, vec![]), []);
    assert_eq!(exchange.hear(0, enter), Ok(vec![]));
    // what was told is not told again
    assert_eq!(exchange.hear(2, enter), Ok(vec![tell(&[]), out(0), out(2)]));
    assert_eq!(
        answer(&mut exchange, 0, "cmd=get_universe_size"),
        "cmd=universe_size rc=0 size=4"
    );
}

#[test]
fn other_versions_are_refused() {
    assert_eq!(
        answer(&mut of(1), 0, "cmd=init pmi_version=2 pmi_subversion=0"),
        "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1"
    );
}
