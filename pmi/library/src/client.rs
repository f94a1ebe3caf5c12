//! A rank's side of PMI-1: a line there, a line back.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Bytes of a value that a line has room for beside its key, its space and its command.
const VALUE_BYTES_MAX: u32 = 600;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("this process was not started as a rank: {0} is not set, or is no number")]
    NotARank(&'static str),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("`{asked}` was answered with `{answer}`")]
    Refused { asked: String, answer: String },
}

/// The connection of a rank.
#[derive(Debug)]
pub(crate) struct Client {
    lines: BufReader<UnixStream>,
    pub(crate) rank: u32,
    pub(crate) size: u32,
    /// The name of the space in which keys are put.
    pub(crate) space: String,
    pub(crate) name_bytes_max: u32,
    pub(crate) key_bytes_max: u32,
    pub(crate) value_bytes_max: u32,
}

fn variable<T: std::str::FromStr>(name: &'static str) -> Result<T, Failure> {
    let value = std::env::var(name).ok();
    value
        .and_then(|text| text.parse().ok())
        .ok_or(Failure::NotARank(name))
}

impl Client {
    /// Connects by what the starter left in the environment.
    pub(crate) fn of_environment() -> Result<Self, Failure> {
        let number: RawFd = variable("PMI_FD")?;
        // SAFETY: the starter left it for this, and nothing else in this process uses it.
        let stream = unsafe { UnixStream::from_raw_fd(number) };
        Self::new(stream, variable("PMI_RANK")?, variable("PMI_SIZE")?)
    }

    pub(crate) fn new(stream: UnixStream, rank: u32, size: u32) -> Result<Self, Failure> {
        let mut client = Self {
            lines: BufReader::new(stream),
            rank,
            size,
            space: String::new(),
            name_bytes_max: 0,
            key_bytes_max: 0,
            value_bytes_max: 0,
        };
        client.ask("cmd=init pmi_version=1 pmi_subversion=1")?;
        client.name_bytes_max = client.number("get_maxes", "kvsname_max")?;
        client.key_bytes_max = client.number("get_maxes", "keylen_max")?;
        client.value_bytes_max = client.number("get_maxes", "vallen_max")?.min(VALUE_BYTES_MAX);
        client.space = client.word("cmd=get_my_kvsname", "kvsname")?;
        Ok(client)
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        // in one piece, as other clients do
        Ok(self.lines.get_mut().write_all(format!("{line}\n").as_bytes())?)
    }

    /// Asks; an answer with another code than 0 is a refusal.
    fn ask(&mut self, line: &str) -> Result<String, Failure> {
        self.say(line)?;
        let mut answer = String::new();
        self.lines.read_line(&mut answer)?;
        let code = value_of(&answer, "rc").unwrap_or("0");
        match code == "0" && answer.ends_with('\n') {
            true => Ok(answer.trim_end().to_owned()),
            false => Err(Failure::Refused {
                asked: line.to_owned(),
                answer,
            }),
        }
    }

    fn word(&mut self, line: &str, word: &str) -> Result<String, Failure> {
        let answer = self.ask(line)?;
        let found = value_of(&answer, word).map(str::to_owned);
        found.ok_or_else(|| Failure::Refused {
            asked: line.to_owned(),
            answer,
        })
    }

    /// Asks for a number.
    pub(crate) fn number(&mut self, command: &str, word: &str) -> Result<u32, Failure> {
        let line = format!("cmd={command}");
        let text = self.word(&line, word)?;
        text.parse().map_err(|_| Failure::Refused {
            asked: line,
            answer: text,
        })
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        let line = format!("cmd=put kvsname={} key={key} value={value}", self.space);
        self.ask(&line).map(drop)
    }

    pub(crate) fn get(&mut self, key: &str) -> Result<String, Failure> {
        let line = format!("cmd=get kvsname={} key={key}", self.space);
        let answer = self.ask(&line)?;
        // the last word: blanks belong to it
        let found = answer.split_once("value=").map(|(_, value)| value.to_owned());
        found.ok_or(Failure::Refused { asked: line, answer })
    }

    pub(crate) fn barrier(&mut self) -> Result<(), Failure> {
        self.ask("cmd=barrier_in").map(drop)
    }

    pub(crate) fn finalize(&mut self) -> Result<(), Failure> {
        self.ask("cmd=finalize").map(drop)
    }

    pub(crate) fn abort(&mut self, code: i32) -> Result<(), Failure> {
        self.say(&format!("cmd=abort exitcode={code}"))
    }

    /// The ranks on this one's node, ascending.
    pub(crate) fn clique(&mut self) -> Result<Vec<u32>, Failure> {
        let mapping = self.get("PMI_process_mapping")?;
        clique(&mapping, self.rank, self.size).ok_or_else(|| Failure::Refused {
            asked: "PMI_process_mapping".to_owned(),
            answer: mapping,
        })
    }
}

/// The value of a word in a line.
fn value_of<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let mut words = line.split_ascii_whitespace();
    words
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == word))
        .map(|(_, value)| value)
}

/// The ranks on the node of `rank`, of so many, by `(vector,(first node,nodes,ranks on each),..)`, which begins anew for
/// ranks that are left over.
fn clique(mapping: &str, rank: u32, size: u32) -> Option<Vec<u32>> {
    let blocks = mapping.strip_prefix("(vector,")?.strip_suffix(')')?;
    let mut runs = Vec::new();
    for block in blocks.split_terminator(')') {
        let numbers = block.trim_start_matches([',', '(']);
        let mut numbers = numbers.split(',').map(|number| number.parse::<u32>().ok());
        let (first, nodes, ranks) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let end = first.checked_add(nodes)?;
        // what has no ranks would be gone over again and again
        let each = (ranks > 0).then_some((first..end, ranks))?;
        runs.push(each);
    }
    let period = runs.iter().flat_map(|(nodes, ranks)| {
        nodes
            .clone()
            .flat_map(|node| std::iter::repeat_n(node, *ranks as usize))
    });
    let node_of: Vec<u32> = period.cycle().take(size as usize).collect();
    let own = node_of.get(rank as usize)?;
    let is_here = |&(_, node): &(u32, &u32)| node == own;
    Some(
        (0..)
            .zip(&node_of)
            .filter(is_here)
            .map(|(rank, _)| rank)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use phalanx_pmi::{Event, Exchange, Layout, Server};

    use super::*;

    #[test]
    fn ranks_find_each_other_and_say_farewell() {
        let layout = Layout::one_node(2);
        let exchange = Exchange::new("job", &layout, &[]);
        let (_server, connected) =
            Server::start(exchange, |event| assert_eq!(event, Event::Deserted)).unwrap();
        let ranks = (0..).zip(connected.ends).map(|(rank, end)| {
            std::thread::spawn(move || {
                let mut client = Client::new(UnixStream::from(end), rank, 2).unwrap();
                assert_eq!((client.space.as_str(), client.key_bytes_max), ("job", 64));
                client
                    .put(&format!("card-{rank}"), &format!("of {rank} -"))
                    .unwrap();
                client.barrier().unwrap();
                assert_eq!(client.clique().unwrap(), [0, 1]);
                assert!(client.get("card-9").is_err());
                let found = client.get(&format!("card-{}", 1 - rank)).unwrap();
                client.finalize().unwrap();
                found
            })
        });
        let ranks: Vec<_> = ranks.collect();
        let found: Vec<String> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        assert_eq!(found, ["of 1 -", "of 0 -"]);
    }

    #[test]
    fn a_node_has_the_ranks_that_the_mapping_puts_there() {
        let clique = |mapping: &str, rank| super::clique(mapping, rank, 8);
        for (mapping, rank, expected) in [
            ("(vector,(0,1,8))", 3, &[0, 1, 2, 3, 4, 5, 6, 7][..]),
            ("(vector,(0,2,3),(2,1,2))", 4, &[3, 4, 5]),
            ("(vector,(0,2,3),(2,1,2))", 7, &[6, 7]),
            // rank after rank on node after node
            ("(vector,(0,2,1))", 3, &[1, 3, 5, 7]),
            ("(vector,(0,3,2))", 6, &[0, 1, 6, 7]),
            ("(vector,(1,1,1),(0,1,2),(1,1,1))", 3, &[0, 3, 4, 7]),
        ] {
            assert_eq!(clique(mapping, rank).as_deref(), Some(expected), "{mapping}");
        }
        for wrong in [
            "",
            "(vector",
            "(vector,)",
            "(vector,(0,1))",
            "(vector,(0,0,2))",
            "(vector,(0,1,0))",
            "(vector,(4294967295,2,1))",
        ] {
            assert_eq!(clique(wrong, 3), None, "{wrong}");
        }
        assert_eq!(clique("(vector,(0,1,8))", 8), None, "there is no such rank");
    }
}
