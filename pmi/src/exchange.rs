//! What the ranks of one program know of each other.

use std::collections::BTreeMap;

use crate::wire::{self, Ask, KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX, WireError};

/// The key under which ranks find out who shares a node with them.
const MAPPING_KEY: &str = "PMI_process_mapping";
/// Keys that one rank may put. MPICH puts three or four, Open MPI a few per kilobyte of what it tells.
const KEYS_PER_RANK_MAX: usize = 1024;

/// Which ranks are where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The node of each rank, by its position among the nodes.
    pub node_of: Vec<u32>,
}

impl Layout {
    /// All ranks on one node.
    pub fn one_node(ranks: u32) -> Self {
        Self {
            node_of: vec![0; ranks as usize],
        }
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> u32 {
        // a program has far fewer
        u32::try_from(self.node_of.len()).unwrap_or(u32::MAX)
    }

    /// As MPI libraries read it: `(vector,(first node,nodes,ranks on each),..)`, in the order of ranks.
    fn mapping(&self) -> String {
        let mut blocks: Vec<(u32, u32, usize)> = Vec::new();
        for run in self.node_of.chunk_by(|left, right| left == right) {
            let node = run[0];
            match blocks.last_mut() {
                Some((first, nodes, ranks)) if *first + *nodes == node && *ranks == run.len() => *nodes += 1,
                Some(_) | None => blocks.push((node, 1, run.len())),
            }
        }
        let blocks: Vec<String> = blocks
            .into_iter()
            .map(|(first, nodes, ranks)| format!("({first},{nodes},{ranks})"))
            .collect();
        format!("(vector,{})", blocks.join(","))
    }
}

/// A key and its value.
pub type Entry = (String, String);

/// The ranks of one program that were started together, as those of one node see them. Those of other nodes are heard of at
/// barriers.
#[derive(Debug)]
pub struct Exchange {
    name: String,
    /// Ranks of all nodes.
    size: u32,
    keys: BTreeMap<String, String>,
    /// What was put here since the last barrier, if there are other nodes.
    news: Vec<Entry>,
    /// The ranks of this node.
    ranks: BTreeMap<u32, Rank>,
    waiting: usize,
}

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
    /// End all ranks, since this one asks for it.
    Abort { rank: u32, code: i32 },
    /// All ranks of this node are in the barrier. Tell the other nodes what was put here, and say what they have told once
    /// all of their ranks are in, too.
    Meet { news: Vec<Entry> },
}

impl Exchange {
    /// For the ranks of `node`; of all ranks, `sections` says which program each is of. `name` is unique among programs that run
    /// at the same time, and the same on all nodes.
    pub fn new(name: &str, layout: &Layout, node: u32, sections: &[u32]) -> Self {
        let rank = |number: u32| Rank {
            section: sections.get(number as usize).copied().unwrap_or_default(),
            stage: Stage::Silent,
            is_waiting: false,
            keys: 0,
        };
        let here = (0..).zip(&layout.node_of).filter(|&(_, &at)| at == node);
        Self {
            name: name[..name.floor_char_boundary(NAME_BYTES_MAX - 1)].to_owned(),
            size: layout.ranks(),
            keys: BTreeMap::from([(MAPPING_KEY.to_owned(), layout.mapping())]),
            news: Vec::new(),
            ranks: here.map(|(number, _)| (number, rank(number))).collect(),
            waiting: 0,
        }
    }

    /// The ranks of this node, ascending.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        self.ranks.keys().copied().collect()
    }

    fn is_alone(&self) -> bool {
        self.ranks.len() == self.size as usize
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
                Some(value) => format!("cmd=get_result rc=0 msg=success value={value}"),
                None => "cmd=get_result rc=-1 msg=not_found value=unknown".to_owned(),
            }),
            Ask::Barrier => self.enter_barrier(rank),
            Ask::Finalize => {
                self.rank(rank).stage = Stage::Finalized;
                answer("cmd=finalize_ack rc=0".to_owned())
            }
            Ask::Abort { code } => vec![Effect::Abort { rank, code }],
            Ask::NotOffered { command } => answer(format!("cmd={command} rc=-1 msg=not_offered")),
        })
    }

    /// A rank will say no more. Whether it went in the middle of things, so that others may wait for it for ever.
    pub(crate) fn left(&mut self, rank: u32) -> bool {
        let rank = self.rank(rank);
        let was = std::mem::replace(&mut rank.stage, Stage::Gone);
        was == Stage::Member
    }

    fn put(&mut self, rank: u32, key: String, value: String) -> String {
        let refused = |reason: &str| format!("cmd=put_result rc=-1 msg={reason}");
        if self.keys.contains_key(&key) {
            return refused("duplicate_key");
        }
        let own = self.rank(rank);
        if own.keys == KEYS_PER_RANK_MAX {
            return refused("too_many_keys");
        }
        own.keys += 1;
        if !self.is_alone() {
            self.news.push((key.clone(), value.clone()));
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
            return Vec::new();
        }
        if self.is_alone() {
            return self.open();
        }
        vec![Effect::Meet {
            news: std::mem::take(&mut self.news),
        }]
    }

    /// All ranks of all nodes are in the barrier, and this is what was put since the last one.
    pub(crate) fn met(&mut self, news: Vec<Entry>) -> Vec<Effect> {
        for (key, value) in news {
            self.keys.entry(key).or_insert(value);
        }
        self.open()
    }

    fn open(&mut self) -> Vec<Effect> {
        self.waiting = 0;
        let everybody = self.ranks.iter_mut();
        everybody
            .map(|(&rank, own)| {
                own.is_waiting = false;
                let line = "cmd=barrier_out rc=0".to_owned();
                Effect::Answer { rank, line }
            })
            .collect()
    }

    fn rank(&mut self, rank: u32) -> &mut Rank {
        let own = self.ranks.get_mut(&rank);
        own.expect("only ranks of this node are heard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranks: u32) -> Exchange {
        Exchange::new("job-1", &Layout::one_node(ranks), 0, &[])
    }

    #[track_caller]
    fn answer(exchange: &mut Exchange, rank: u32, line: &str) -> String {
        match exchange.hear(rank, line).unwrap().as_slice() {
            [Effect::Answer { rank: to, line }] if *to == rank => line.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rank_learns_who_it_is_among() {
        let mut exchange = Exchange::new("job-1", &Layout::one_node(3), 0, &[0, 0, 1]);
        for (line, expected) in [
            (
                "cmd=init pmi_version=1 pmi_subversion=1",
                "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
            ),
            (
                "cmd=get_maxes",
                "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024",
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

    #[test]
    fn only_who_is_in_and_says_no_farewell_is_missed() {
        let mut exchange = of(3);
        let init = "cmd=init pmi_version=1 pmi_subversion=1";
        answer(&mut exchange, 0, init);
        answer(&mut exchange, 1, init);
        answer(&mut exchange, 1, "cmd=finalize");
        assert!(exchange.left(0));
        assert!(!exchange.left(1));
        assert!(!exchange.left(2), "it is no MPI program");
        assert!(!exchange.left(0), "it is gone already");
    }

    #[test]
    fn an_abort_ends_all() {
        let abort = |line: &str| of(2).hear(1, line);
        let effect = |code| Ok(vec![Effect::Abort { rank: 1, code }]);
        assert_eq!(abort("cmd=abort exitcode=7"), effect(7));
        assert_eq!(abort("cmd=abort"), effect(1));
    }

    #[test]
    fn nodes_of_equal_size_are_one_block() {
        let mapping = |node_of: &[u32]| {
            let layout = Layout {
                node_of: node_of.to_vec(),
            };
            layout.mapping()
        };
        assert_eq!(mapping(&[0; 4]), "(vector,(0,1,4))");
        assert_eq!(mapping(&[0, 0, 1, 1, 2, 2]), "(vector,(0,3,2))");
        assert_eq!(mapping(&[0, 0, 0, 1, 1, 1, 2, 2]), "(vector,(0,2,3),(2,1,2))");
        // rank after rank on node after node
        assert_eq!(mapping(&[0, 1, 0, 1, 0]), "(vector,(0,2,1),(0,2,1),(0,1,1))");
        assert_eq!(mapping(&[1, 0, 0, 2]), "(vector,(1,1,1),(0,1,2),(2,1,1))");
    }

    #[test]
    fn what_was_put_on_other_nodes_is_known_behind_the_barrier_that_all_have_entered() {
        let layout = Layout {
            node_of: vec![0, 1, 0],
        };
        let mut nodes = [0, 1].map(|node| Exchange::new("job-1", &layout, node, &[]));
        assert_eq!(nodes[0].ranks(), [0, 2]);
        let out = |rank| Effect::Answer {
            rank,
            line: "cmd=barrier_out rc=0".into(),
        };
        for round in ["a", "b"] {
            answer(
                &mut nodes[0],
                2,
                &format!("cmd=put kvsname=job-1 key={round}2 value=two"),
            );
            answer(
                &mut nodes[1],
                1,
                &format!("cmd=put kvsname=job-1 key={round}1 value=one"),
            );
            assert_eq!(nodes[0].hear(0, "cmd=barrier_in"), Ok(Vec::new()));
            let meets = [
                nodes[0].hear(2, "cmd=barrier_in"),
                nodes[1].hear(1, "cmd=barrier_in"),
            ];
            let news = [
                (format!("{round}2"), "two".to_owned()),
                (format!("{round}1"), "one".to_owned()),
            ];
            for (met, put) in meets.into_iter().zip(&news) {
                // what was told before is not told again
                let news = vec![put.clone()];
                assert_eq!(met, Ok(vec![Effect::Meet { news }]));
            }
            let get = format!("cmd=get kvsname=job-1 key={round}1");
            assert!(
                answer(&mut nodes[0], 0, &get).contains("rc=-1"),
                "it is not told yet"
            );
            assert_eq!(nodes[0].met(news.to_vec()), [out(0), out(2)]);
            assert_eq!(nodes[1].met(news.to_vec()), [out(1)]);
            assert!(answer(&mut nodes[0], 0, &get).ends_with("value=one"));
            let universe = answer(&mut nodes[1], 1, "cmd=get_universe_size");
            assert!(universe.ends_with("size=3"));
        }
    }

    #[test]
    fn other_versions_are_refused() {
        assert_eq!(
            answer(&mut of(1), 0, "cmd=init pmi_version=2 pmi_subversion=0"),
            "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1"
        );
    }
}
