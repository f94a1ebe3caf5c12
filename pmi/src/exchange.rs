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
                answer("cmd=finalize_ack rc=0".to_owned())
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
            // one that was silent may be no MPI program at all
            Stage::Silent | Stage::Finalized => self.note_absence(Absence {
                rank,
                has_finalized: was == Stage::Finalized,
            }),
            Stage::Member | Stage::Gone => Vec::new(),
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
mod tests;
