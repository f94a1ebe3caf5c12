//! Programs that steps of a job have on its other nodes, as far as their bytes are concerned: what a launcher says to such a
//! program goes from host to host, and what that says comes back. The node that is led only starts what it is told to
//! (`keeping`); where a step's ranks are is not known here.
//!
//! Each node has two members in the communicator by which hosts talk: one tells, and one listens, which never waits for what
//! happens here. No stream has more than [`WINDOW_BYTES`] on their way that its reader has not taken, so a slow one stops
//! nobody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use phalanx_protocol::step::{StepProgram, StepReach, StepRefusal, ToStep};
use serde::{Deserialize, Serialize};

use super::steps;
use super::wake::Wake;
use crate::host::gang_link::{GangLink, LinkError};
use crate::host::lock;
use crate::ranks::{CommError, Communicator, RemoteGang, Source, Tag};

/// Of all that nodes tell each other.
const TAG: Tag = 0;
/// Members of the communicator on each node.
const MEMBERS: u32 = 2;
/// Bytes of one piece.
const PIECE_BYTES: usize = 32 << 10;
/// Bytes of one stream that are on their way in one direction.
const WINDOW_BYTES: usize = 8 * PIECE_BYTES;
/// Streams of one node at a time.
const STREAMS_MAX: usize = 4096;

/// What a node tells another; streams are named by the node that leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Word {
    /// To be started.
    Start(u64, Box<StepProgram>),
    /// It runs, or why not.
    Started(u64, Result<(), String>),
    /// The next bytes.
    Bytes(u64, Bytes),
    /// So many were taken by whom they are for.
    Taken(u64, u64),
    /// No more follows, and no more is wanted.
    End(u64),
    /// This node will say no more.
    Farewell,
    /// What runs there is about to be ended, whoever wanted it.
    Leaving,
}

/// What came for the end of a stream that is here.
#[derive(Debug)]
enum Inbound {
    Started(Result<(), String>),
    Bytes(Bytes),
}

/// One end of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    id: u64,
    /// The node of the other end.
    peer: u32,
    socket: UnixStream,
    /// Until the other end has said its last.
    inbound: Mutex<Option<Sender<Inbound>>>,
    /// Bytes that may be sent yet; none once it is over.
    window: Mutex<Option<usize>>,
    /// Rung when that grows, or is over.
    change: Condvar,
    /// Raised when it is over.
    over: Wake,
}

impl Stream {
    /// Waits until so many bytes may be sent; whether they still may.
    fn takes(&self, count: usize) -> bool {
        let mut window = lock(&self.window);
        loop {
            match window.as_mut() {
                Some(free) if *free >= count => {
                    *free -= count;
                    return true;
                }
                Some(_) => {}
                None => return false,
            }
            window = self.change.wait(window).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn taken(&self, count: u64) {
        if let Some(free) = lock(&self.window).as_mut() {
            *free = free.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        }
        self.change.notify_all();
    }

    /// What came is still given out; nothing more is sent.
    fn close(&self) {
        *lock(&self.window) = None;
        self.change.notify_all();
        *lock(&self.inbound) = None;
        self.over.raise();
    }

    /// Raised when the other end is gone, or this one.
    pub(super) fn over(&self) -> &Wake {
        &self.over
    }
}

/// A program that is to be started here.
#[derive(Debug)]
pub(super) struct StartOrder {
    id: u64,
    peer: u32,
    pub(super) program: StepProgram,
}

#[derive(Debug)]
struct Shared {
    here: u32,
    /// To be told to a node; to all others if it is a farewell.
    out: Sender<(u32, Word)>,
    streams: Mutex<BTreeMap<u64, Arc<Stream>>>,
    next_id: AtomicU64,
    /// Why the others cannot be talked to any more.
    lost: Mutex<Option<String>>,
    /// That is since a node was lost, and not since all is over.
    has_lost_node: AtomicBool,
    orders: Mutex<VecDeque<StartOrder>>,
    /// Raised while there are such orders.
    ordered: Wake,
}

/// One node's part in the talk of its job's nodes.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
    link: Arc<GangLink>,
}

impl Relay {
    /// Meets the other nodes, on a thread of its own; `nodes` are as many as the job has.
    ///
    /// # Errors
    /// No threads are left, or no events.
    pub(super) fn begin(link: Arc<GangLink>, here: u32, nodes: u32) -> io::Result<Self> {
        let meeting = Arc::clone(&link);
        let join = move |members| meeting.join(members);
        let shared = Shared::begin(here, nodes, join)?;
        Ok(Self { shared, link })
    }

    /// Has a program started on another node, and answers whoever wants it.
    pub(super) fn reach(&self, reach: StepReach, socket: UnixStream) {
        self.shared.reach(reach, socket);
    }

    /// Tells the node of the script that what runs here for its steps is about to be ended: before anything of it ends, so that
    /// what fails of that there is known to.
    pub(super) fn leave(&self) {
        if self.shared.here > 0 {
            self.shared.tell(0, Word::Leaving);
        }
    }

    /// Whether a node was lost to the others, so that what failed here may have failed of that.
    pub(super) fn has_lost_node(&self) -> bool {
        self.shared.has_lost_node.load(Ordering::Relaxed)
    }

    /// Raised while there is something to be started here.
    pub(super) fn ordered(&self) -> &Wake {
        &self.shared.ordered
    }

    /// What is to be started here next.
    pub(super) fn next_order(&self) -> Option<StartOrder> {
        let mut orders = lock(&self.shared.orders);
        let next = orders.pop_front();
        if next.is_none() {
            self.shared.ordered.lower();
        }
        next
    }

    /// Says that a program runs, whose end of the stream this is the other end of.
    ///
    /// # Errors
    /// No threads are left: nothing is said.
    pub(super) fn started(&self, order: &StartOrder, socket: UnixStream) -> io::Result<Arc<Stream>> {
        let shared = &self.shared;
        let (stream, inbound) = shared.open(order.id, order.peer, socket)?;
        shared.tell(order.peer, Word::Started(order.id, Ok(())));
        shared.carry(&stream, inbound)?;
        Ok(stream)
    }

    /// Says that it was not started.
    pub(super) fn not_started(&self, order: &StartOrder, why: &str) {
        let word = Word::Started(order.id, Err(why.to_owned()));
        self.shared.tell(order.peer, word);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.abandon();
        self.shared.lose("the job has ended");
        self.shared.tell(self.shared.here, Word::Farewell);
    }
}

impl Shared {
    fn begin(
        here: u32,
        nodes: u32,
        join: impl FnOnce(Vec<u32>) -> Result<RemoteGang, LinkError> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        // streams have windows, and what is told beside their bytes is told once for each
        let (out, told) = channel();
        let shared = Arc::new(Self {
            here,
            out,
            streams: Mutex::default(),
            next_id: AtomicU64::new(0),
            lost: Mutex::default(),
            has_lost_node: AtomicBool::new(false),
            orders: Mutex::default(),
            ordered: Wake::new()?,
        });
        let talking = Arc::clone(&shared);
        let meet = move || {
            let members = (0..nodes * MEMBERS).map(|member| member / MEMBERS);
            match join(members.collect()) {
                Ok(gang) => talking.talk(gang, nodes, told),
                Err(error) => talking.lose(&error.to_string()),
            }
        };
        thread::Builder::new().name("step-nodes".to_owned()).spawn(meet)?;
        Ok(shared)
    }

    fn talk(&self, gang: RemoteGang, nodes: u32, told: Receiver<(u32, Word)>) {
        let told = Mutex::new(told);
        gang.run(|comm| match comm.rank() as u32 % MEMBERS {
            0 => self.speak(comm, nodes, &lock(&told)),
            _ => self.listen(comm, nodes),
        });
        self.lose("its connection has ended");
    }

    fn speak(&self, comm: &Communicator, nodes: u32, told: &Receiver<(u32, Word)>) {
        while let Ok((node, word)) = told.recv() {
            let is_last = matches!(word, Word::Farewell);
            let meant = (0..nodes).filter(|&other| other != self.here && (is_last || other == node));
            for node in meant {
                let listener = (node * MEMBERS + 1) as usize;
                match comm.send(listener, TAG, word.clone()) {
                    // whoever listens here hears of that
                    Ok(()) | Err(CommError::RankEnded { .. }) => {}
                    Err(error) => self.lose(&error.to_string()),
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Hears what the others tell until all have said farewell, or one is lost, of which the scheduler hears too.
    fn listen(&self, comm: &Communicator, nodes: u32) {
        let mut parted = BTreeSet::from([self.here]);
        let mut n_failed = 0;
        while parted.len() < nodes as usize {
            match comm.receive_with_status(Source::Any, TAG) {
                Ok((word, status)) => {
                    let node = status.source as u32 / MEMBERS;
                    match word {
                        Word::Farewell => {
                            parted.insert(node);
                            self.part(node);
                        }
                        word @ (Word::Start(..)
                        | Word::Started(..)
                        | Word::Bytes(..)
                        | Word::Taken(..)
                        | Word::End(_)
                        | Word::Leaving) => self.hear(node, word),
                    }
                }
                Err(error) => {
                    let failed = comm.acknowledge_failures();
                    let mut of = failed.iter().map(|&member| member as u32 / MEMBERS);
                    if of.all(|node| parted.contains(&node)) && failed.len() > n_failed {
                        n_failed = failed.len();
                        continue;
                    }
                    self.has_lost_node.store(true, Ordering::Relaxed);
                    return self.lose(&error.to_string());
                }
            }
        }
    }

    /// A node has nothing more to say.
    fn part(&self, node: u32) {
        let mut streams = lock(&self.streams);
        streams.retain(|_, stream| {
            let stays = stream.peer != node;
            if !stays {
                stream.close();
            }
            stays
        });
    }

    fn hear(&self, node: u32, word: Word) {
        let inbound = |id: u64, inbound: Inbound| {
            let stream = lock(&self.streams).get(&id).cloned();
            match (stream.filter(|stream| stream.peer == node), &inbound) {
                (Some(stream), _) => {
                    if let Some(sender) = &*lock(&stream.inbound) {
                        // whoever reads there may be gone
                        let _ = sender.send(inbound);
                    }
                }
                // whoever wanted it left while it was being started
                (None, Inbound::Started(Ok(()))) => self.tell(node, Word::End(id)),
                (None, Inbound::Started(Err(_)) | Inbound::Bytes(_)) => {}
            }
        };
        match word {
            Word::Start(id, program) => {
                let mut orders = lock(&self.orders);
                orders.push_back(StartOrder {
                    id,
                    peer: node,
                    program: *program,
                });
                self.ordered.raise();
            }
            Word::Started(id, started) => inbound(id, Inbound::Started(started)),
            Word::Bytes(id, bytes) => inbound(id, Inbound::Bytes(bytes)),
            Word::Taken(id, count) => {
                if let Some(stream) = lock(&self.streams).get(&id) {
                    stream.taken(count);
                }
            }
            Word::End(id) => {
                // it may not have been started yet
                lock(&self.orders).retain(|order| order.id != id);
                let ended = lock(&self.streams).remove(&id);
                ended.iter().for_each(|stream| stream.close());
            }
            Word::Leaving => self.has_lost_node.store(true, Ordering::Relaxed),
            Word::Farewell => {}
        }
    }

    fn tell(&self, node: u32, word: Word) {
        // nobody listens once all is over
        let _ = self.out.send((node, word));
    }

    /// Ends all streams, for that reason, and those that are still to come.
    fn lose(&self, why: &str) {
        lock(&self.lost).get_or_insert_with(|| why.to_owned());
        let streams = std::mem::take(&mut *lock(&self.streams));
        streams.values().for_each(|stream| stream.close());
        lock(&self.orders).clear();
    }

    fn reach(self: &Arc<Self>, reach: StepReach, socket: UnixStream) {
        let StepReach { node, program, .. } = reach;
        let refused = |why: String| {
            // it may be gone
            let _ = steps::tell(&socket, &ToStep::Refused(StepRefusal::Unreachable { node, why }));
        };
        if let Some(why) = lock(&self.lost).clone() {
            return refused(why);
        }
        if lock(&self.streams).len() >= STREAMS_MAX {
            return refused(format!("more than {STREAMS_MAX} programs run on other nodes"));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let opened = socket
            .try_clone()
            .and_then(|end| self.open(id, node, end))
            .and_then(|(stream, inbound)| self.carry(&stream, inbound));
        match opened {
            Ok(()) => self.tell(node, Word::Start(id, Box::new(program))),
            Err(error) => refused(error.to_string()),
        }
        // it may have been lost meanwhile, and with it those that were there then
        if let Some(why) = lock(&self.lost).clone() {
            self.lose(&why);
        }
    }

    fn open(&self, id: u64, peer: u32, socket: UnixStream) -> io::Result<(Arc<Stream>, Receiver<Inbound>)> {
        // never more than a window of bytes
        let (sender, inbound) = channel();
        let stream = Arc::new(Stream {
            id,
            peer,
            socket,
            inbound: Mutex::new(Some(sender)),
            window: Mutex::new(Some(WINDOW_BYTES)),
            change: Condvar::new(),
            over: Wake::new()?,
        });
        lock(&self.streams).insert(id, Arc::clone(&stream));
        Ok((stream, inbound))
    }

    /// Carries the bytes of a stream in both directions until one end is gone.
    fn carry(self: &Arc<Self>, stream: &Arc<Stream>, inbound: Receiver<Inbound>) -> io::Result<()> {
        let (shared, of) = (Arc::clone(self), Arc::clone(stream));
        let give = move || shared.give_out(&of, &inbound);
        thread::Builder::new().name("step-bytes".to_owned()).spawn(give)?;
        // whoever reaches for a program says nothing before that runs
        let (shared, of) = (Arc::clone(self), Arc::clone(stream));
        let take = move || shared.take_in(&of);
        thread::Builder::new().name("step-bytes".to_owned()).spawn(take)?;
        Ok(())
    }

    /// Sends on what is read here.
    fn take_in(&self, stream: &Stream) {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match (&stream.socket).read(&mut piece) {
                Ok(count @ 1..) if stream.takes(count) => {
                    let bytes = Bytes::copy_from_slice(&piece[..count]);
                    self.tell(stream.peer, Word::Bytes(stream.id, bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        let is_first = lock(&self.streams).remove(&stream.id).is_some();
        if is_first {
            self.tell(stream.peer, Word::End(stream.id));
        }
        stream.close();
    }

    /// Writes what came for this end.
    fn give_out(&self, stream: &Stream, inbound: &Receiver<Inbound>) {
        for inbound in inbound {
            let written = match inbound {
                Inbound::Started(Ok(())) => steps::tell(&stream.socket, &ToStep::Reached),
                Inbound::Started(Err(why)) => {
                    let node = stream.peer;
                    let refusal = StepRefusal::Unreachable { node, why };
                    let _ = steps::tell(&stream.socket, &ToStep::Refused(refusal));
                    break;
                }
                Inbound::Bytes(bytes) => (&stream.socket).write_all(&bytes).inspect(|()| {
                    self.tell(stream.peer, Word::Taken(stream.id, bytes.len() as u64));
                }),
            };
            if written.is_err() {
                break;
            }
        }
        // ends the other thread too
        let _ = stream.socket.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
