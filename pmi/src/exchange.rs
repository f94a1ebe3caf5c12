//! What the ranks of one program know of each other.

use std::collections::BTreeMap;

use crate::departure::{Absence, Departure, Missed};
use crate::layout::Layout;
use crate::wire::{
    self, Ask, FOUND, KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_KEPT_MAX, VALUE_BYTES_MAX, WireError,
};

/// The key under which ranks find out who shares a node with them.
const MAPPING_KEY: &str = "PMI_process_mapping";
/// Keys that one rank may put. MPICH puts three or four, Open MPI a few per kilobyte of what it tells.
const KEYS_PER_RANK_MAX: usize = 1024;

/// A key and its value.
pub type Entry = (String, String);

/// The ranks of one program that were started together, as the node knows them that serves some of them.
#[derive(Debug)]
pub struct Exchange {
    name: String,
    size: u32,
    keys: BTreeMap<String, String>,
    /// Those served here.
    ranks: BTreeMap<u32, Rank>,
    waiting: usize,
    /// What was put here since the last barrier; empty on a single node.
    fresh: Vec<Entry>,
    here: u32,
    /// How many barriers all ranks of a node have entered, by node.
    entered: Vec<u64>,
    /// How many have opened.
    opened: u64,
    /// By node, the first of its ranks that will enter no barrier any more.
    absent: BTreeMap<u32, Absence>,
    /// Whether it was told that ranks wait in vain.
    is_stranded: bool,
}

/// What holds of every rank that is asked for.
const SERVED: &str = "only ranks of this node have a socket";

#[derive(Debug, Clone)]
struct Rank {
    /// Which of the programs started together it is of.
    section: u32,
    stage: Stage,
    is_waiting: bool,
    keys: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has said nothing; it may be no MPI program at all.
    Silent,
    /// It is one.
    Member,
    /// It has said farewell.
    Finalized,
    /// It has ended.
    Gone,
}

/// What is to be done after a rank's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write a line to a rank.
    Answer { rank: u32, line: String },
    /// End all ranks, for this reason.
    Depart(Departure),
    /// Tell the other nodes that all ranks of this one wait, and what these have put.
    Tell { entries: Vec<Entry> },
    /// Tell the other nodes that a rank of this one will enter no barrier any more.
    TellAbsent(Absence),
}

impl Exchange {
    /// For ranks of `sections`, each of which says which program it is of; all ask here, on whichever node they are. `name` is
    /// unique among programs that run at the same time.
    pub fn new(name: &str, layout: &Layout, sections: &[u32]) -> Self {
        Self {
            entered: vec![0],
            ..Self::serving(0, |_| true, name, layout, sections)
        }
    }

    /// As [`Self::new`], for those ranks alone that are on the node `here`. The name is the same on all nodes.
    pub fn on_node(here: u32, name: &str, layout: &Layout, sections: &[u32]) -> Self {
        Self::serving(here, |node| node == here, name, layout, sections)
    }

    fn serving(
        here: u32,
        is_served: impl Fn(u32) -> bool,
        name: &str,
        layout: &Layout,
        sections: &[u32],
    ) -> Self {
        let rank = |number: u32| Rank {
            section: sections.get(number as usize).copied().unwrap_or_default(),
            stage: Stage::Silent,
            is_waiting: false,
            keys: 0,
        };
        let ranks = (0..).zip(&layout.node_of).filter(|&(_, &node)| is_served(node));
        let mapping = layout.mapping();
        Self {
            name: name[..name.floor_char_boundary(NAME_BYTES_MAX - 1)].to_owned(),
            // a gang has some thousands
            size: u32::try_from(layout.node_of.len()).unwrap_or(u32::MAX),
            keys: mapping
                .map(|mapping| (MAPPING_KEY.to_owned(), mapping))
                .into_iter()
                .collect(),
            ranks: ranks.map(|(number, _)| (number, rank(number))).collect(),
            waiting: 0,
            fresh: Vec::new(),
            here,
            entered: vec![0; layout.nodes()],
            opened: 0,
            absent: BTreeMap::new(),
            is_stranded: false,
        }
    }

    /// The ranks that are served here, ascending.
    pub(crate) fn served(&self) -> Vec<u32> {
        self.ranks.keys().copied().collect()
    }

    /// Whether no rank of this node will say more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.ranks.values().all(|rank| rank.stage == Stage::Gone)
    }

    /// All ranks of another node wait at its next barrier, and have put this before.
    pub(crate) fn heard_of(&mut self, node: u32, entries: Vec<Entry>) -> Vec<Effect> {
        for (key, value) in entries {
            self.keys.entry(key).or_insert(value);
        }
        if let Some(entered) = self.entered.get_mut(node as usize).filter(|_| node != self.here) {
            *entered += 1;
        }
        self.open_barrier()
    }

    /// A rank of another node will enter no barrier any more beyond those of which was heard.
    pub(crate) fn heard_of_absence(&mut self, node: u32, absence: Absence) -> Vec<Effect> {
        self.absent.entry(node).or_insert(absence);
        self.strand().into_iter().collect()
    }

    /// Takes a line of a rank.
    ///
    /// # Errors
    /// If it is none; then nothing is changed.
    pub(crate) fn hear(&mut self, rank: u32, line: &str) -> Result<Vec<Effect>, WireError> {
        let answer = |line: String| vec![Effect::Answer { rank, line }];
        Ok(match wire::parse(line)? {
            Ask::Init { version, subversion } => {
                self.rank(rank).stage = Stage::Member;
                // programs of one rank may follow each other
                self.absent.retain(|_, absence| absence.rank != rank);
                let is_known = (version, subversion) == (1, 1) || (version, subversion) == (1, 0);
                let code = if is_known { 0 } else { -1 };
                answer(format!(
                    "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc={code}"
                ))
            }
            Ask::GetMaxes => answer(format!(
                "cmd=maxes rc=0 kvsname_max={NAME_BYTES_MAX} keylen_max={KEY_BYTES_MAX} vallen_max={VALUE_BYTES_MAX}"
            )),
            Ask::GetAppnum => answer(format!("cmd=appnum rc=0 appnum={}", self.rank(rank).section)),
            Ask::GetUniverseSize => answer(format!("cmd=universe_size rc=0 size={}", self.size)),
            Ask::GetMyKvsname => answer(format!("cmd=my_kvsname rc=0 kvsname={}", self.name)),
            Ask::Put { key, value } => answer(self.put(rank, key, value)),
            Ask::Get { key } => answer(match self.keys.get(&key) {
                Some(value) => format!("{FOUND}{value}"),
                None => "cmd=get_result rc=-1 msg=not_found value=unknown".to_owned(),
            }),
            Ask::Barrier => self.enter_barrier(rank),
            Ask::Finalize => {
                self.rank(rank).stage = Stage::Finalized;
                let mut effects = answer("cmd=finalize_ack rc=0".to_owned());
                effects.extend(self.note_absence(Absence {
                    rank,
                    has_finalized: true,
                }));
                effects
            }
            Ask::Abort { code } => vec![Effect::Depart(Departure::Aborted { rank, code })],
            Ask::NotOffered { command } => answer(format!("cmd={command} rc=-1 msg=not_offered")),
        })
    }

    /// A rank will say no more, maybe since what it said last was nonsense.
    pub(crate) fn left(&mut self, rank: u32, nonsense: Option<String>) -> Vec<Effect> {
        let own = self.rank(rank);
        let was = std::mem::replace(&mut own.stage, Stage::Gone);
        if was == Stage::Member || nonsense.is_some() {
            return vec![Effect::Depart(Departure::Lost { rank, nonsense })];
        }
        match was {
            // it may be no MPI program at all
            Stage::Silent => self.note_absence(Absence {
                rank,
                has_finalized: false,
            }),
            Stage::Member | Stage::Finalized | Stage::Gone => Vec::new(),
        }
    }

    /// A rank of this node will enter no barrier any more.
    fn note_absence(&mut self, absence: Absence) -> Vec<Effect> {
        if self.absent.contains_key(&self.here) {
            return Vec::new();
        }
        self.absent.insert(self.here, absence);
        let tell = (self.entered.len() > 1).then_some(Effect::TellAbsent(absence));
        tell.into_iter().chain(self.strand()).collect()
    }

    /// Finds out, once, whether ranks of this node wait at a barrier that another one will never enter.
    fn strand(&mut self) -> Option<Effect> {
        let has_entered = |node: u32| {
            let entered = self.entered.get(node as usize);
            entered.is_some_and(|&entered| entered > self.opened)
        };
        let mut absent = self.absent.iter().filter(|&(&node, _)| !has_entered(node));
        let (_, &absence) = absent.next().filter(|_| !self.is_stranded)?;
        let all_wait = has_entered(self.here);
        let waiting = self.ranks.iter().filter(|(_, rank)| all_wait || rank.is_waiting);
        let waiting: Vec<u32> = waiting.map(|(&number, _)| number).collect();
        self.is_stranded = !waiting.is_empty();
        let missed = Missed { absence, waiting };
        self.is_stranded
            .then_some(Effect::Depart(Departure::Missed(missed)))
    }

    fn put(&mut self, rank: u32, key: String, value: String) -> String {
        let refused = |reason: &str| format!("cmd=put_result rc=-1 msg={reason}");
        if value.len() > VALUE_BYTES_KEPT_MAX {
            return refused("value_too_long");
        }
        if self.keys.contains_key(&key) {
            return refused("duplicate_key");
        }
        let own = self.rank(rank);
        if own.keys == KEYS_PER_RANK_MAX {
            return refused("too_many_keys");
        }
        own.keys += 1;
        if self.entered.len() > 1 {
            self.fresh.push((key.clone(), value.clone()));
        }
        self.keys.insert(key, value);
        "cmd=put_result rc=0 msg=success".to_owned()
    }

    fn enter_barrier(&mut self, rank: u32) -> Vec<Effect> {
        let own = self.rank(rank);
        if !std::mem::replace(&mut own.is_waiting, true) {
            self.waiting += 1;
        }
        if self.waiting < self.ranks.len() {
            return self.strand().into_iter().collect();
        }
        self.waiting = 0;
        for rank in self.ranks.values_mut() {
            rank.is_waiting = false;
        }
        if let Some(entered) = self.entered.get_mut(self.here as usize) {
            *entered += 1;
        }
        let entries = std::mem::take(&mut self.fresh);
        let tell = (self.entered.len() > 1).then_some(Effect::Tell { entries });
        let mut effects: Vec<Effect> = tell.into_iter().chain(self.open_barrier()).collect();
        effects.extend(self.strand());
        effects
    }

    /// Lets the ranks of this node out of the next barrier if all nodes have entered it. Others may be one ahead.
    fn open_barrier(&mut self) -> Vec<Effect> {
        if self.entered.iter().any(|&entered| entered <= self.opened) {
            return Vec::new();
        }
        self.opened += 1;
        let out = |&rank: &u32| {
            let line = "cmd=barrier_out rc=0".to_owned();
            Effect::Answer { rank, line }
        };
        self.ranks.keys().map(out).collect()
    }

    fn rank(&mut self, rank: u32) -> &mut Rank {
        self.ranks.get_mut(&rank).expect(SERVED)
    }
}

#[cfg(test)]
mod tests {
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
    fn a_rank_that_has_finalized_enters_no_barrier_any_more_unless_another_program_begins_in_it() {
        let mut exchange = of(2);
        answer(&mut exchange, 0, "cmd=finalize");
        answer(&mut exchange, 0, INIT);
        assert_eq!(exchange.hear(1, ENTER), Ok(vec![]));
        let ended = exchange.hear(0, "cmd=finalize").unwrap();
        assert_eq!(ended[1..], [missed(absence(0, true), &[1])]);
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
}
