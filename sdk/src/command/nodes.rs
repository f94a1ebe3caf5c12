//! The exchange of a gang on several nodes: each node serves its own ranks, and tells the others when all of these wait at a
//! barrier and with what, and when one of them left the others behind or will be at no barrier any more.
//!
//! Each node has two members in the communicator by which they talk: one tells, and one listens, which never waits for what
//! happens here. So an abort is heard also by ranks that compute.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use phalanx_pmi::{Absence, Connected, Departure, Entry, Event, Exchange, Inlet, Server};
use serde::{Deserialize, Serialize};

use super::last_words::LastWords;
use crate::host::lock;
use crate::kernel::runner::Failed;
use crate::ranks::{CommError, Communicator, RemoteGang, Source, Tag};

/// Of all that nodes tell each other.
const TAG: Tag = 0;
/// Members of the communicator on each node.
const MEMBERS: u32 = 2;

/// Why the ranks of a gang cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// One of them left, here or elsewhere; if elsewhere, how it ended, if that is known.
    Rank(Departure, Option<Failed>),
    /// A node was lost.
    Node(u32),
    /// They do not find each other, for this reason.
    Apart(String),
    /// All have ended, and nobody is missed.
    Over,
}

/// What a node tells the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Word {
    /// All its ranks wait at a barrier, and have put this since the last one.
    Waiting(Vec<Entry>),
    /// One of its ranks left the others behind, and ended like that, if it is known.
    Departed(Departure, Option<Failed>),
    /// Its ranks will say no more. Nobody misses it from now on.
    Farewell,
    /// One of its ranks will enter no barrier any more: whoever waits at a further one does so in vain.
    Absent(Absence),
}

/// One node among the others.
struct Node {
    here: u32,
    nodes: u32,
    inlet: Inlet,
    tell: Arc<dyn Fn(Cause) -> bool + Send + Sync>,
    words: Arc<LastWords>,
}

/// Serves the ranks of the node `here`. `join` meets the others, on a thread of its own, given the node of each member; its
/// error is a sentence, or nothing if the gang is over. `tell` says whether it has heard of no other cause before. Others are
/// told of a lost rank once the `words` of how it ended are said.
///
/// # Errors
/// No sockets or threads are left.
pub(super) fn start(
    exchange: Exchange,
    (here, nodes): (u32, u32),
    join: impl FnOnce(Vec<u32>) -> Result<RemoteGang, Option<String>> + Send + 'static,
    tell: impl Fn(Cause) -> bool + Send + Sync + 'static,
    words: Arc<LastWords>,
) -> io::Result<(Server, Connected)> {
    // ranks wait for the answer to a barrier, so that it holds few
    let (events, heard) = channel();
    let tell: Arc<dyn Fn(Cause) -> bool + Send + Sync> = Arc::new(tell);
    let told = Arc::clone(&tell);
    let (server, connected) = Server::start(exchange, move |event| {
        let is_news = match &event {
            Event::Departed(departure) => told(Cause::Rank(departure.clone(), None)),
            Event::Waiting(_) | Event::Absent(_) | Event::Deserted => true,
        };
        if is_news {
            // nobody listens if the others were not met
            let _ = events.send(event);
        }
    })?;
    let node = Node {
        here,
        nodes,
        inlet: server.inlet(),
        tell,
        words,
    };
    let meet = move || {
        let members = (0..nodes * MEMBERS).map(|member| member / MEMBERS);
        match join(members.collect()) {
            Ok(gang) => node.take_part(gang, heard),
            Err(why) => node.stay_apart(why, &heard),
        }
    };
    thread::Builder::new().name("pmi-nodes".to_owned()).spawn(meet)?;
    Ok((server, connected))
}

impl Node {
    fn take_part(&self, gang: RemoteGang, heard: Receiver<Event>) {
        let heard = Mutex::new(heard);
        gang.run(|comm| match comm.rank() as u32 % MEMBERS {
            0 => self.speak(comm, &lock(&heard)),
            _ => self.listen(comm),
        });
    }

    /// Ranks that never ask for the others do not miss them.
    fn stay_apart(&self, why: Option<String>, heard: &Receiver<Event>) {
        let is_waiting = |event: &Event| matches!(event, Event::Waiting(_));
        if let Some(why) = why
            && heard.iter().any(|event| is_waiting(&event))
        {
            (self.tell)(Cause::Apart(why));
        }
    }

    /// Tells the others what happens here until nothing will.
    fn speak(&self, comm: &Communicator, heard: &Receiver<Event>) {
        loop {
            let word = match heard.recv() {
                Ok(Event::Waiting(entries)) => Word::Waiting(entries),
                Ok(Event::Departed(departure)) => {
                    let end = match departure {
                        Departure::Lost { nonsense: None, .. } => self.words.wait(),
                        Departure::Lost { .. } | Departure::Aborted { .. } | Departure::Missed(_) => None,
                    };
                    Word::Departed(departure, end)
                }
                Ok(Event::Absent(absence)) => Word::Absent(absence),
                Ok(Event::Deserted) | Err(_) => Word::Farewell,
            };
            for node in (0..self.nodes).filter(|&node| node != self.here) {
                let listener = (node * MEMBERS + 1) as usize;
                match comm.send(listener, TAG, word.clone()) {
                    // whoever listens here hears of that
                    Ok(()) | Err(CommError::RankEnded { .. }) => {}
                    Err(error) => drop((self.tell)(Cause::Apart(error.to_string()))),
                }
            }
            if matches!(word, Word::Farewell) {
                return;
            }
        }
    }

    /// Hears what the others tell until all have said farewell, or one is lost.
    fn listen(&self, comm: &Communicator) {
        let mut parted = BTreeSet::from([self.here]);
        let mut n_failed = 0;
        while parted.len() < self.nodes as usize {
            let (word, status) = match comm.receive_with_status(Source::Any, TAG) {
                Ok(received) => received,
                Err(error) => {
                    let failed = comm.acknowledge_failures();
                    let mut nodes = failed.iter().map(|&member| member as u32 / MEMBERS);
                    let cause = match nodes.find(|node| !parted.contains(node)) {
                        Some(node) => Cause::Node(node),
                        None if failed.len() > n_failed => {
                            n_failed = failed.len();
                            continue;
                        }
                        None => Cause::Apart(error.to_string()),
                    };
                    (self.tell)(cause);
                    return;
                }
            };
            let node = status.source as u32 / MEMBERS;
            match word {
                Word::Waiting(entries) => self.inlet.waiting(node, entries),
                Word::Departed(departure, end) => drop((self.tell)(Cause::Rank(departure, end))),
                Word::Absent(absence) => self.inlet.absent(node, absence),
                Word::Farewell => drop(parted.insert(node)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use phalanx_pmi::Layout;
    use phalanx_protocol::record::FailureCause;

    use super::*;
    use crate::ranks::on_loopback;

    /// A rank's end of its socket.
    struct Rank(BufReader<UnixStream>);

    impl Rank {
        fn say(&mut self, line: &str) {
            self.0
                .get_mut()
                .write_all(format!("{line}\n").as_bytes())
                .unwrap();
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn ask(&mut self, line: &str) -> String {
            self.say(line);
            self.hear()
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);
    const INIT: &str = "cmd=init pmi_version=1 pmi_subversion=1";

    struct Served {
        server: Option<Server>,
        ranks: Vec<Rank>,
        causes: Receiver<Cause>,
        words: Arc<LastWords>,
    }

    /// Four ranks on two nodes in turns, each of which has begun.
    fn two_nodes() -> Vec<Served> {
        let mut nodes = two_nodes_silent();
        for rank in nodes.iter_mut().flat_map(|node| &mut node.ranks) {
            rank.ask(INIT);
        }
        nodes
    }

    /// The same before they begin.
    fn two_nodes_silent() -> Vec<Served> {
        let gangs = on_loopback(4, 2, None).unwrap();
        let serve = |(here, gang): (u32, RemoteGang)| {
            let layout = Layout {
                node_of: vec![0, 1, 0, 1],
            };
            let exchange = Exchange::on_node(here, "job", &layout, &[]);
            let (told, causes) = channel();
            let join = move |members| {
                assert_eq!(members, [0, 0, 1, 1]);
                Ok(gang)
            };
            let tell = move |cause| told.send(cause).is_ok();
            let words = Arc::<LastWords>::default();
            let (server, connected) = start(exchange, (here, 2), join, tell, Arc::clone(&words)).unwrap();
            let ranks = connected.ends.into_iter().map(|end| {
                let stream = UnixStream::from(end);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Rank(BufReader::new(stream))
            });
            Served {
                ranks: ranks.collect(),
                server: Some(server),
                causes,
                words,
            }
        };
        (0..).zip(gangs).map(serve).collect()
    }

    #[test]
    fn ranks_on_two_nodes_get_what_all_have_put_and_part_in_peace() {
        let mut nodes = two_nodes();
        for round in 0..3 {
            for (number, node) in nodes.iter_mut().enumerate() {
                for (local, rank) in node.ranks.iter_mut().enumerate() {
                    let own = number + 2 * local;
                    rank.ask(&format!("cmd=put kvsname=job key={round}-{own} value=of-{own}"));
                    rank.say("cmd=barrier_in");
                }
            }
            for rank in nodes.iter_mut().flat_map(|node| &mut node.ranks) {
                assert_eq!(rank.hear(), "cmd=barrier_out rc=0");
                for other in 0..4 {
                    let got = rank.ask(&format!("cmd=get kvsname=job key={round}-{other}"));
                    assert!(got.ends_with(&format!("value=of-{other}")), "{got}");
                }
            }
        }
        let mapping = nodes[1].ranks[0].ask("cmd=get kvsname=job key=PMI_process_mapping");
        assert!(mapping.ends_with("value=(vector,(0,2,1))"), "{mapping}");
        for node in &mut nodes {
            for rank in &mut node.ranks {
                assert_eq!(rank.ask("cmd=finalize"), "cmd=finalize_ack rc=0");
            }
            node.ranks.clear();
        }
        for node in &mut nodes {
            node.server = None;
            // ends when nobody can tell any more
            assert_eq!(node.causes.iter().next(), None, "nobody is missed");
        }
    }

    #[test]
    fn an_abort_and_a_loss_are_heard_on_the_other_node() {
        let mut nodes = two_nodes();
        nodes[1].ranks[0].say("cmd=abort exitcode=9");
        let aborted = Cause::Rank(Departure::Aborted { rank: 1, code: 9 }, None);
        assert_eq!(nodes[0].causes.recv_timeout(PATIENCE), Ok(aborted));
        nodes[0].ranks.pop();
        let lost = |end| {
            let departure = Departure::Lost {
                rank: 2,
                nonsense: None,
            };
            Cause::Rank(departure, end)
        };
        assert_eq!(nodes[0].causes.recv_timeout(PATIENCE), Ok(lost(None)));
        // the other node is told how it ended, which is known later
        let killed = Some((FailureCause::Signal(9), "SIGKILL".to_owned()));
        nodes[0].words.say(killed.clone());
        let heard = nodes[1].causes.iter().nth(1);
        assert_eq!(heard, Some(lost(killed)));
    }

    #[test]
    fn a_node_whose_ranks_end_without_a_word_is_missed_by_those_who_wait() {
        for others_wait_before in [true, false] {
            let mut nodes = two_nodes_silent();
            let wait = |nodes: &mut Vec<Served>| {
                for rank in &mut nodes[0].ranks {
                    rank.ask(INIT);
                    rank.say("cmd=barrier_in");
                }
            };
            if others_wait_before {
                wait(&mut nodes);
            }
            // with its farewell
            nodes[1].ranks.clear();
            if !others_wait_before {
                wait(&mut nodes);
            }
            let told = nodes[0].causes.recv_timeout(PATIENCE).unwrap();
            let Cause::Rank(Departure::Missed(missed), None) = &told else {
                panic!("{told:?}");
            };
            assert!([1, 3].contains(&missed.absence.rank), "{told:?}");
            assert!(!missed.absence.has_finalized, "{told:?}");
            assert!(
                !missed.waiting.is_empty() && missed.waiting.iter().all(|rank| [0, 2].contains(rank)),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_rank_that_ends_without_a_word_is_missed_by_those_who_wait_on_its_node_and_on_another() {
        let mut nodes = two_nodes_silent();
        // of four ranks one does not come yet
        for rank in [0, 1].map(|node: usize| nodes[node].ranks.pop().unwrap()) {
            let mut rank = rank;
            rank.ask(INIT);
            rank.say("cmd=barrier_in");
            nodes[0].ranks.push(rank);
        }
        drop(nodes[1].ranks.pop());
        for node in &nodes {
            let told = node.causes.recv_timeout(PATIENCE).unwrap();
            let Cause::Rank(Departure::Missed(missed), None) = &told else {
                panic!("{told:?}");
            };
            assert_eq!(missed.absence.rank, 1);
            assert!([2, 3].contains(&missed.waiting[0]), "{told:?}");
        }
    }

    #[test]
    fn ranks_that_wait_for_nodes_that_were_not_met_are_told_why() {
        let layout = Layout { node_of: vec![0, 1] };
        let (told, causes) = channel();
        let exchange = Exchange::on_node(0, "job", &layout, &[]);
        let join = |_| Err(Some("they are late".to_owned()));
        let (_server, connected) = start(
            exchange,
            (0, 2),
            join,
            move |cause| told.send(cause).is_ok(),
            Arc::default(),
        )
        .unwrap();
        let end = connected.ends.into_iter().next().unwrap();
        let mut rank = Rank(BufReader::new(end.into()));
        rank.ask(INIT);
        rank.say("cmd=barrier_in");
        let apart = Cause::Apart("they are late".to_owned());
        assert_eq!(causes.recv_timeout(PATIENCE), Ok(apart));
    }
}
