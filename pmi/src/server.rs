//! Ranks and their exchange, connected: a thread for each rank reads its lines and writes the answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::departure::{Absence, Departure};
use crate::exchange::{Effect, Entry, Exchange};
use crate::wire::LINE_BYTES_MAX;

/// What a server tells whoever started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A rank left in a way that concerns the others.
    Departed(Departure),
    /// All ranks of this node wait at a barrier, and have put this since the last one: for all other nodes.
    Waiting(Vec<Entry>),
    /// A rank of this node is the first that will enter no barrier any more: for all other nodes.
    Absent(Absence),
    /// No rank of this node will say more.
    Deserted,
}

/// Where a server is told of other nodes.
#[derive(Debug, Clone)]
pub struct Inlet {
    shared: Arc<Shared>,
}

impl Inlet {
    /// All ranks of that node wait at its next barrier, and have put this before.
    pub fn waiting(&self, node: u32, entries: Vec<Entry>) {
        let mut exchange = self.shared.exchange();
        let effects = exchange.heard_of(node, entries);
        self.shared.act(exchange, effects);
    }

    /// A rank of that node will enter no barrier any more beyond those of which was heard.
    pub fn absent(&self, node: u32, absence: Absence) {
        let mut exchange = self.shared.exchange();
        let effects = exchange.heard_of_absence(node, absence);
        self.shared.act(exchange, effects);
    }
}

/// Serves the ranks of one program until the last of them has closed its end.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// The ends that ranks are to inherit. Whoever starts a rank closes its own copy then, else its end is never
/// noticed.
#[derive(Debug)]
pub struct Connected {
    /// One for each rank that is served, ascending.
    pub ends: Vec<OwnedFd>,
}

struct Shared {
    exchange: Mutex<Exchange>,
    /// Where answers go, by rank.
    writers: BTreeMap<u32, Mutex<UnixStream>>,
    tell: Box<dyn Fn(Event) + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves an exchange; `tell` is called from any thread, and must not call the server.
    ///
    /// # Errors
    /// No sockets or threads are left.
    pub fn start(
        exchange: Exchange,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> io::Result<(Self, Connected)> {
        let mut ends = Vec::new();
        let mut readers = Vec::new();
        let mut writers = BTreeMap::new();
        for rank in exchange.served() {
            let (own, theirs) = UnixStream::pair()?;
            readers.push((rank, own.try_clone()?));
            writers.insert(rank, Mutex::new(own));
            ends.push(theirs.into());
        }
        let shared = Arc::new(Shared {
            exchange: Mutex::new(exchange),
            writers,
            tell: Box::new(tell),
        });
        for (rank, reader) in readers {
            let shared = Arc::clone(&shared);
            let name = format!("pmi-{rank}");
            thread::Builder::new()
                .name(name)
                .spawn(move || shared.serve(rank, reader))?;
        }
        Ok((Self { shared }, Connected { ends }))
    }

    /// Where it is told of other nodes.
    pub fn inlet(&self) -> Inlet {
        Inlet {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // ends the threads of ranks that have closed nothing yet
        for writer in self.shared.writers.values() {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    /// Reads a rank's lines until it has no more.
    fn serve(&self, rank: u32, reader: UnixStream) {
        let nonsense = self.read(rank, BufReader::new(reader)).err();
        let mut exchange = self.exchange();
        let effects = exchange.left(rank, nonsense);
        let is_deserted = exchange.is_deserted();
        let answers = self.tell(effects);
        // under its lock, so that the last event is the last
        if is_deserted {
            (self.tell)(Event::Deserted);
        }
        drop(exchange);
        self.answer(answers);
    }

    fn read(&self, rank: u32, mut lines: impl BufRead) -> Result<(), String> {
        loop {
            let mut line = Vec::new();
            // one byte more than is allowed shows that it is too long
            let limit = (LINE_BYTES_MAX + 2) as u64;
            let read = (&mut lines).take(limit).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                // a reset is an end, too
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if line.is_empty() || is_inside_spawn(line) {
                continue;
            }
            let mut exchange = self.exchange();
            let effects = exchange.hear(rank, line).map_err(|error| error.to_string())?;
            self.act(exchange, effects);
        }
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, exchange: MutexGuard<'_, Exchange>, effects: Vec<Effect>) {
        let answers = self.tell(effects);
        drop(exchange);
        self.answer(answers);
    }

    /// Tells what is not for ranks, and returns what is. The exchange is locked meanwhile, so that all is told in the order in
    /// which it happens: other nodes would take a rank for absent that was in a barrier of which they hear later.
    fn tell(&self, effects: Vec<Effect>) -> Vec<(u32, String)> {
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Answer { rank, line } => answers.push((rank, line)),
                Effect::Depart(departure) => (self.tell)(Event::Departed(departure)),
                Effect::Tell { entries } => (self.tell)(Event::Waiting(entries)),
                Effect::TellAbsent(absence) => (self.tell)(Event::Absent(absence)),
            }
        }
        answers
    }

    fn answer(&self, answers: Vec<(u32, String)>) {
        for (rank, mut line) in answers {
            line.push('\n');
            let mut writer = self.writers[&rank].lock().unwrap_or_else(PoisonError::into_inner);
            // whoever has gone is noticed where it is read from
            let _ = writer.write_all(line.as_bytes());
        }
    }
}

/// Lines of a spawn command behind its first, which is answered "no".
fn is_inside_spawn(line: &str) -> bool {
    !line.contains("cmd=")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;
    use crate::{Layout, Missed};

    /// A rank's end of its socket.
    struct Rank {
        lines: BufReader<UnixStream>,
    }

    impl Rank {
        fn say(&mut self, line: &str) {
            self.lines
                .get_mut()
                .write_all(format!("{line}\n").as_bytes())
                .unwrap();
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn ask(&mut self, line: &str) -> String {
            self.say(line);
            self.hear()
        }
    }

    fn start(ranks: u32) -> (Server, Vec<Rank>, Receiver<Departure>) {
        let (told, departures) = channel();
        let exchange = Exchange::new("job", &Layout::one_node(ranks), &[]);
        let (server, connected) = Server::start(exchange, move |event| {
            if let Event::Departed(departure) = event {
                told.send(departure).unwrap();
            }
        })
        .unwrap();
        let ranks = connected.ends.into_iter().map(|end| {
            let stream = UnixStream::from(end);
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Rank {
                lines: BufReader::new(stream),
            }
        });
        (server, ranks.collect(), departures)
    }

    const INIT: &str = "cmd=init pmi_version=1 pmi_subversion=1";

    #[test]
    fn ranks_meet_and_part() {
        let (server, mut ranks, departures) = start(2);
        for (number, rank) in ranks.iter_mut().enumerate() {
            assert!(rank.ask(INIT).ends_with("rc=0"));
            rank.ask(&format!("cmd=put kvsname=job key=P{number} value=card{number}"));
        }
        ranks[0].say("cmd=barrier_in");
        assert_eq!(ranks[1].ask("cmd=barrier_in"), "cmd=barrier_out rc=0");
        assert_eq!(ranks[0].hear(), "cmd=barrier_out rc=0");
        assert!(
            ranks[0]
                .ask("cmd=get kvsname=job key=P1")
                .ends_with("value=card1")
        );
        for rank in &mut ranks {
            assert_eq!(rank.ask("cmd=finalize"), "cmd=finalize_ack rc=0");
        }
        drop((ranks, server));
        assert!(departures.recv().is_err(), "nobody is missed");
    }

    #[test]
    fn a_rank_that_ends_in_the_middle_is_told() {
        let (_server, mut ranks, departures) = start(2);
        ranks[1].ask(INIT);
        drop(ranks.pop());
        let lost = Departure::Lost {
            rank: 1,
            nonsense: None,
        };
        assert_eq!(departures.recv_timeout(Duration::from_secs(10)), Ok(lost));
    }

    #[test]
    fn a_rank_that_ends_without_a_word_is_told_if_others_wait_for_it() {
        let (_server, mut ranks, departures) = start(2);
        ranks[0].ask(INIT);
        ranks[0].say("cmd=barrier_in");
        drop(ranks.pop());
        let absence = Absence {
            rank: 1,
            has_finalized: false,
        };
        let waiting = vec![0];
        let missed = Departure::Missed(Missed { absence, waiting });
        assert_eq!(departures.recv_timeout(Duration::from_secs(10)), Ok(missed));
    }

    #[test]
    fn an_abort_and_nonsense_are_told() {
        let (_server, mut ranks, departures) = start(2);
        ranks[0].ask(INIT);
        ranks[0].say("cmd=abort exitcode=9");
        let next = || departures.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(next(), Departure::Aborted { rank: 0, code: 9 });
        ranks[1].say("cmd=dance");
        let lost = Departure::Lost {
            rank: 1,
            nonsense: Some("the unknown command `dance`".into()),
        };
        assert_eq!(next(), lost);
    }

    #[test]
    fn the_lines_of_a_spawn_are_one_request() {
        let (_server, mut ranks, _departures) = start(1);
        ranks[0].ask(INIT);
        ranks[0].say("mcmd=spawn\nnprocs=1\nexecname=./child\nendcmd");
        assert_eq!(ranks[0].hear(), "cmd=spawn_result rc=-1 msg=not_offered");
        assert_eq!(
            ranks[0].ask("cmd=get_my_kvsname"),
            "cmd=my_kvsname rc=0 kvsname=job"
        );
    }
}
