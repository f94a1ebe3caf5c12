//! The fields of nodes that `sinfo` can show, by its letters and names for them.

use super::{Format, FormatError};

/// Something that can be shown of nodes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NodeField {
    Address,
    Available,
    /// Allocated and idle cpus, others, and all.
    CpuCounts,
    Cpus,
    CpuLoad,
    Disk,
    Features,
    FreeMemory,
    Gres,
    GresUsed,
    Groups,
    Hosts,
    JobSize,
    Memory,
    /// Allocated and idle nodes.
    NodeCountsShort,
    /// Allocated and idle nodes, others, and all.
    NodeCounts,
    NodeCount,
    NodeList,
    OverSubscribe,
    /// With a star if it is the one that is meant where none is named.
    Partition,
    PartitionName,
    PreemptMode,
    Priority,
    Reason,
    Root,
    Shape,
    Sockets,
    State,
    StateShort,
    Threads,
    TimeLimit,
    Timestamp,
    User,
    Version,
    Weight,
}

impl NodeField {
    /// Whether nodes that differ in it can still share a line.
    pub(crate) fn is_of_several(self) -> bool {
        matches!(
            self,
            Self::NodeCount
                | Self::NodeCounts
                | Self::NodeCountsShort
                | Self::NodeList
                | Self::Hosts
                | Self::Address
                | Self::CpuCounts
                | Self::FreeMemory
                | Self::GresUsed
        )
    }
}

/// Letters of `sinfo -o`, with the names of `sinfo -O`, their fields and headers.
const FIELDS: &[(char, &str, NodeField, &str)] = &[
    ('a', "Available", NodeField::Available, "AVAIL"),
    ('A', "NodeAI", NodeField::NodeCountsShort, "NODES(A/I)"),
    ('b', "FeaturesAct", NodeField::Features, "ACTIVE_FEATURES"),
    ('c', "CPUs", NodeField::Cpus, "CPUS"),
    ('C', "CPUsState", NodeField::CpuCounts, "CPUS(A/I/O/T)"),
    ('d', "Disk", NodeField::Disk, "TMP_DISK"),
    ('D', "Nodes", NodeField::NodeCount, "NODES"),
    ('e', "FreeMem", NodeField::FreeMemory, "FREE_MEM"),
    ('E', "Reason", NodeField::Reason, "REASON"),
    ('f', "Features", NodeField::Features, "AVAIL_FEATURES"),
    ('F', "NodeAIOT", NodeField::NodeCounts, "NODES(A/I/O/T)"),
    ('g', "Groups", NodeField::Groups, "GROUPS"),
    ('G', "Gres", NodeField::Gres, "GRES"),
    ('h', "OverSubscribe", NodeField::OverSubscribe, "OVERSUBSCRIBE"),
    ('H', "Timestamp", NodeField::Timestamp, "TIMESTAMP"),
    ('l', "Time", NodeField::TimeLimit, "TIMELIMIT"),
    ('L', "DefaultTime", NodeField::TimeLimit, "DEFAULTTIME"),
    ('m', "Memory", NodeField::Memory, "MEMORY"),
    ('M', "PreemptMode", NodeField::PreemptMode, "PREEMPT_MODE"),
    ('n', "NodeHost", NodeField::Hosts, "HOSTNAMES"),
    ('N', "NodeList", NodeField::NodeList, "NODELIST"),
    ('o', "NodeAddr", NodeField::Address, "NODE_ADDR"),
    ('O', "CPUsLoad", NodeField::CpuLoad, "CPU_LOAD"),
    ('p', "PriorityTier", NodeField::Priority, "PRIO_TIER"),
    ('P', "Partition", NodeField::Partition, "PARTITION"),
    ('r', "Root", NodeField::Root, "ROOT"),
    ('R', "PartitionName", NodeField::PartitionName, "PARTITION"),
    ('s', "Size", NodeField::JobSize, "JOB_SIZE"),
    ('t', "StateCompact", NodeField::StateShort, "STATE"),
    ('T', "StateLong", NodeField::State, "STATE"),
    ('u', "User", NodeField::User, "USER"),
    ('v', "Version", NodeField::Version, "VERSION"),
    ('w', "Weight", NodeField::Weight, "WEIGHT"),
    ('X', "Sockets", NodeField::Sockets, "SOCKETS"),
    ('Y', "Cores", NodeField::Cpus, "CORES"),
    ('z', "SocketCoreThread", NodeField::Shape, "S:C:T"),
    ('Z', "Threads", NodeField::Threads, "THREADS"),
    // what has no letter
    ('\0', "GresUsed", NodeField::GresUsed, "GRES_USED"),
    ('\0', "NodeHosts", NodeField::Hosts, "HOSTNAMES"),
];

fn by_letter(letter: char) -> Option<(NodeField, &'static str)> {
    let found = FIELDS
        .iter()
        .find(|(known, ..)| *known == letter && letter != '\0');
    found.map(|&(_, _, field, header)| (field, header))
}

fn letters() -> String {
    let letters = FIELDS.iter().map(|&(letter, ..)| letter);
    letters.filter(|&letter| letter != '\0').collect()
}

fn by_name(name: &str) -> Option<(NodeField, &'static str)> {
    let found = FIELDS
        .iter()
        .find(|(_, known, ..)| known.eq_ignore_ascii_case(name));
    found.map(|&(_, _, field, header)| (field, header))
}

fn nearest(name: &str) -> Option<&'static str> {
    super::fields::nearest(name, FIELDS.iter().map(|&(_, known, ..)| known))
}

impl Format<NodeField> {
    /// `sinfo -o '%.6D %t'`, written as for `squeue`.
    ///
    /// # Errors
    ///
    /// A letter stands for nothing, or a width is too large.
    pub(crate) fn sinfo_letters(text: &str) -> Result<Self, FormatError> {
        Self::of_letters(text, by_letter, letters)
    }

    /// `sinfo -O 'NodeList:20,CPUsState'`, written as for `squeue`.
    ///
    /// # Errors
    ///
    /// A name is no field, or a width no number.
    pub(crate) fn sinfo_names(text: &str) -> Result<Self, FormatError> {
        Self::of_names(text, by_name, nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_of_nodes_stands_for_two_fields() {
        let letters: BTreeSet<char> = super::letters().chars().collect();
        assert_eq!(letters.len(), super::letters().len());
        let names: BTreeSet<String> = FIELDS.iter().map(|(_, name, ..)| name.to_lowercase()).collect();
        assert_eq!(names.len(), FIELDS.len());
    }

    #[test]
    fn formats_of_nodes_are_read_like_those_of_jobs() {
        assert_eq!(
            Format::sinfo_letters("%#P %.6D|%N").unwrap().header(),
            "PARTITION  NODES|NODELIST"
        );
        assert_eq!(
            Format::sinfo_names("nodelist:10,CPUsState:.15").unwrap().header(),
            "NODELIST    CPUS(A/I/O/T)"
        );
        let error = Format::sinfo_letters("%j").unwrap_err().to_string();
        assert!(
            error.starts_with("a format has `%j`, which stands for nothing"),
            "{error}"
        );
        let error = Format::sinfo_names("States").unwrap_err().to_string();
        assert!(error.contains("`States`, which is no field"), "{error}");
    }
}
