//! Machines that are named: here they say which ranks share a node, and on how many nodes they are. Which workers these are
//! is the cluster's affair.

use std::path::Path;

use crate::slurm::Complaint;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    /// Ranks that it takes before the next one does, if that is said.
    pub(super) slots: Option<u32>,
}

impl Host {
    /// `name`, `name:2`.
    fn parse(word: &str) -> Result<Self, Complaint> {
        let (name, slots) = match word.split_once(':') {
            None | Some((_, "*")) => (word.trim_end_matches(":*"), None),
            Some((name, slots)) => (name, Some(count(word, slots)?)),
        };
        match name.is_empty() {
            true => Err(Complaint::new(format!("`{word}` names no host"))),
            false => Ok(Self {
                name: name.to_owned(),
                slots,
            }),
        }
    }
}

fn count(word: &str, text: &str) -> Result<u32, Complaint> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        Complaint::new(format!(
            "`{word}` does not say how many ranks a host takes, as in a:2"
        ))
    })
}

/// Reads `a,b:2`.
pub(super) fn of_list(text: &str) -> Result<Vec<Host>, Complaint> {
    text.split(',').map(Host::parse).collect()
}

/// Reads a file of them, one a line: `a`, `a:2`, `a slots=2`.
pub(super) fn of_file(path: &str) -> Result<Vec<Host>, Complaint> {
    let text = std::fs::read_to_string(Path::new(path))
        .map_err(|error| Complaint::new(format!("cannot open `{path}`: {error}")))?;
    of_lines(&text)
}

fn of_lines(text: &str) -> Result<Vec<Host>, Complaint> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some((words.next()?, words))
    });
    let host = |(name, rest): (&str, std::str::SplitWhitespace<'_>)| {
        let mut host = Host::parse(name)?;
        for word in rest {
            if let Some(slots) = word.strip_prefix("slots=") {
                host.slots = Some(count(word, slots)?);
            }
        }
        Ok(host)
    };
    lines.map(host).collect()
}

/// The node of each rank, with the names of nodes, given of each program how many ranks it has and its own hosts, the hosts of all others, and how many
/// ranks each takes if that is said for all. `None` if no hosts are named.
///
/// Hosts take their ranks in turn, and in turn again as long as there are some; nodes are numbered as they come. A program
/// for which no hosts are named goes where the others do.
pub(super) fn nodes(
    sections: &[(u32, &[Host])],
    common: &[Host],
    each: Option<u32>,
) -> Option<(Vec<u32>, Vec<String>)> {
    let named: Vec<Host> = match common {
        [] => sections
            .iter()
            .flat_map(|(_, hosts)| hosts.iter().cloned())
            .collect(),
        common => common.to_vec(),
    };
    if named.is_empty() {
        return None;
    }
    let mut of_all = in_turn(&named, each);
    let mut names: Vec<&str> = Vec::new();
    let mut nodes = Vec::new();
    for (ranks, hosts) in sections {
        let mut own = in_turn(hosts, each);
        let turn = if hosts.is_empty() { &mut of_all } else { &mut own };
        for name in turn.take(*ranks as usize) {
            let known = names.iter().position(|known| *known == name);
            let node = known.unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            nodes.push(u32::try_from(node).unwrap_or(u32::MAX));
        }
    }
    Some((nodes, names.into_iter().map(str::to_owned).collect()))
}

/// The name of the host of rank after rank.
fn in_turn(hosts: &[Host], each: Option<u32>) -> impl Iterator<Item = &str> {
    let mut merged: Vec<(&str, u32)> = Vec::new();
    for host in hosts {
        let slots = host.slots.unwrap_or(1);
        match merged.iter_mut().find(|(name, _)| *name == host.name) {
            Some((_, sum)) => *sum = sum.saturating_add(slots),
            None => merged.push((&host.name, slots)),
        }
    }
    let taken = merged
        .into_iter()
        .map(move |(name, slots)| (name, each.unwrap_or(slots)));
    taken
        .flat_map(|(name, slots)| std::iter::repeat_n(name, slots as usize))
        .cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &str) -> Vec<Host> {
        match list {
            "" => Vec::new(),
            list => of_list(list).unwrap(),
        }
    }

    #[test]
    fn hosts_take_their_ranks_in_turn() {
        let nodes = |list: &str, each| nodes(&[(5, &[])], &of(list), each).map(|(nodes, _)| nodes);
        assert_eq!(nodes("", None), None);
        assert_eq!(nodes("localhost", None), Some(vec![0; 5]));
        assert_eq!(nodes("a,b", None), Some(vec![0, 1, 0, 1, 0]));
        assert_eq!(nodes("a:2,b:2", None), Some(vec![0, 0, 1, 1, 0]));
        assert_eq!(nodes("a,b,a", None), Some(vec![0, 0, 1, 0, 0]));
        assert_eq!(nodes("a:*,b,c", Some(3)), Some(vec![0, 0, 0, 1, 1]));
        assert_eq!(nodes("a:4,b:4", Some(1)), Some(vec![0, 1, 0, 1, 0]));
    }

    #[test]
    fn programs_may_have_hosts_of_their_own() {
        let (a, b) = (of("a"), of("b"));
        assert_eq!(
            nodes(&[(2, &b), (1, &a), (1, &b)], &[], None).map(|(nodes, _)| nodes),
            Some(vec![0, 0, 1, 0])
        );
        // the second goes on where the first has stopped
        assert_eq!(
            nodes(&[(1, &[]), (2, &[])], &of("a,b"), None).map(|(nodes, _)| nodes),
            Some(vec![0, 1, 0])
        );
        // where the others are
        assert_eq!(
            nodes(&[(1, &b), (3, &[]), (1, &a)], &[], None).map(|(nodes, _)| nodes),
            Some(vec![0, 0, 1, 0, 1])
        );
    }

    #[test]
    fn files_of_both_families_are_read() {
        let hosts = of_lines("# ours\na slots=2 max_slots=4\n\nb:3 # new\nc\n").unwrap();
        assert_eq!(hosts, of("a:2,b:3,c"));
        for wrong in ["a:many", "a:0", ":2"] {
            assert!(of_list(wrong).is_err(), "{wrong}");
        }
        assert!(of_lines("a slots=0").is_err());
    }
}
