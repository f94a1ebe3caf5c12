//! The matching engine of one rank: which message goes to which receive. No lock, thread or clock; [`Mailbox`] adds those.
//!
//! Per context there is a *lane* of unexpected messages for each source, in the order of sending, and the list of *posted*
//! receives, in the order of posting. A message goes to the first posted receive that takes it, else to its lane; a receive
//! takes the first message that it can from its lane, or from any lane the one that came first. So two messages
//! between the same ranks never overtake each other on one communicator.
//!
//! [`Mailbox`]: super::mailbox::Mailbox

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::envelope::{Context, Envelope, Kind, Pattern, Status};
use super::error::{CommError, Ending};
use super::fast_box;
use super::group::Group;
use super::payload::{Fetched, Payload};

/// Messages from one rank, on one communicator, that may wait for their receives.
pub const LANE_MESSAGES_MAX: usize = 1 << 16;

/// An envelope and what is in it.
#[derive(Debug)]
pub(super) struct Message {
    pub envelope: Envelope,
    pub payload: Payload,
}

impl Message {
    /// What the user may know of it besides its value.
    pub(super) fn status(&self) -> Status {
        self.envelope.status(self.payload.length())
    }

    /// Itself with all its bytes, or why they will never be here; or itself as it is while they are on their way.
    pub(super) fn whole(self) -> Result<Outcome, Message> {
        let envelope = self.envelope;
        match self.payload.fetched() {
            Fetched::Here(payload) => Ok(Ok(Message { envelope, payload })),
            Fetched::Coming(payload) => Err(Message { envelope, payload }),
            Fetched::Gone => Ok(Err(Trouble::Ended {
                place: envelope.sender,
                ending: Ending::Lost,
            })),
        }
    }
}

/// Why a receive ends without a message. Ranks are named by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Trouble {
    /// Whoever would have to send has ended.
    Ended { place: u32, ending: Ending },
    /// A collective operation failed at this rank for a reason of its own.
    Failed { place: u32 },
    /// The communicator was revoked.
    Revoked,
}

impl Trouble {
    /// The error for the user, who knows the ranks of a communicator.
    pub(super) fn error(self, group: &Group) -> CommError {
        // notices about a communicator name its own ranks only
        let rank = |place| group.rank(place).unwrap_or(usize::MAX);
        match self {
            Trouble::Ended { place, ending } => CommError::RankEnded {
                rank: rank(place),
                ending,
            },
            Trouble::Failed { place } => CommError::CollectiveFailed { rank: rank(place) },
            Trouble::Revoked => CommError::Revoked,
        }
    }
}

/// What ends a receive early: the end of ...
#[derive(Debug, Clone)]
pub(super) enum Needs {
    /// ... the rank at this place.
    One(u32),
    /// ... a rank of this group by a failure; once the receiver, at this place, waits, all the others'.
    Any { group: Arc<Group>, receiver: u32 },
}

/// Names a posted receive until its outcome is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

/// How a receive ended.
pub(super) type Outcome = Result<Message, Trouble>;

fn is_crowded(lane_messages: usize) -> bool {
    lane_messages + fast_box::SLOTS >= LANE_MESSAGES_MAX
}

#[derive(Debug)]
struct Posted {
    pattern: Pattern,
    needs: Needs,
    ticket: Ticket,
}

#[derive(Debug)]
enum Slot {
    Free,
    Waiting,
    Done(Outcome),
}

/// One context's messages and receives.
#[derive(Debug)]
struct Queue {
    context: Context,
    /// By the sender's rank; messages with the number of their arrival.
    lanes: Vec<VecDeque<(u64, Message)>>,
    posted: Vec<Posted>,
}

impl Queue {
    /// Where the first message is that `pattern` takes: its lane and its position there.
    fn find(&self, pattern: &Pattern) -> Option<(usize, usize)> {
        let first_of = |lane: usize| {
            let messages = self.lanes.get(lane)?;
            let position = messages
                .iter()
                .position(|(_, message)| pattern.tag.takes(message.envelope.tag))?;
            Some((lane, position))
        };
        match pattern.source {
            Some(source) => first_of(source as usize),
            None => (0..self.lanes.len())
                .filter_map(first_of)
                .min_by_key(|&(lane, position)| self.lanes[lane][position].0),
        }
    }
}

/// What a look for a message found.
#[derive(Debug)]
pub(super) struct Taken {
    pub message: Message,
    /// Its lane was full: its sender may wait for room.
    pub made_room: bool,
}

impl Taken {
    /// A message that was in no lane.
    pub(super) fn from_fast_box(message: Message) -> Self {
        let made_room = false;
        Taken { message, made_room }
    }
}

/// What became of an arriving message.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A posted receive has it.
    Matched,
    /// It waits in its lane, which may be [crowded](Matching::is_crowded) now.
    Kept { crowded: bool },
    /// Its lane is full.
    Full(Message),
}

/// All that one rank has received and waits for.
#[derive(Debug, Default)]
pub(super) struct Matching {
    queues: Vec<Queue>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    arrivals: u64,
    /// Messages in all lanes.
    kept: usize,
    revoked: Vec<u64>,
    /// By communicator: from which tag on collective operations fail, and why.
    broken: BTreeMap<u64, (u64, Trouble)>,
}

impl Matching {
    fn queue(&mut self, context: Context) -> &mut Queue {
        let found = self.queues.iter().position(|queue| queue.context == context);
        let index = found.unwrap_or_else(|| {
            self.queues.push(Queue {
                context,
                lanes: Vec::new(),
                posted: Vec::new(),
            });
            self.queues.len() - 1
        });
        &mut self.queues[index]
    }

    /// Whether no message is kept and no receive posted.
    pub(super) fn is_empty(&self) -> bool {
        self.kept == 0 && self.slots.len() == self.free.len()
    }

    /// Whether a posted receive would take the message.
    pub(super) fn is_awaited(&self, message: &Message) -> bool {
        let mut posted = self.queues.iter().flat_map(|queue| &queue.posted);
        posted.any(|posted| posted.pattern.takes(&message.envelope))
    }

    /// Gives a message to the receive that waits for it, or keeps it if its lane has room.
    pub(super) fn arrive(&mut self, message: Message) -> Arrival {
        self.arrive_within(LANE_MESSAGES_MAX, message)
    }

    /// The same with one of the few messages that may be under way when a lane [gets crowded](Matching::is_crowded): it is kept
    /// in any case.
    pub(super) fn arrive_late(&mut self, message: Message) -> Arrival {
        self.arrive_within(usize::MAX, message)
    }

    fn arrive_within(&mut self, lane_max: usize, message: Message) -> Arrival {
        let number = self.arrivals;
        let envelope = message.envelope;
        let queue = self.queue(envelope.context);
        if let Some(index) = queue
            .posted
            .iter()
            .position(|posted| posted.pattern.takes(&envelope))
        {
            let Ticket(slot) = queue.posted.remove(index).ticket;
            message.payload.fetch();
            self.slots[slot] = Slot::Done(Ok(message));
            return Arrival::Matched;
        }
        let source = envelope.source as usize;
        if queue.lanes.len() <= source {
            queue.lanes.resize_with(source + 1, VecDeque::new);
        }
        let lane = &mut queue.lanes[source];
        if lane.len() >= lane_max {
            return Arrival::Full(message);
        }
        lane.push_back((number, message));
        let crowded = is_crowded(lane.len());
        self.arrivals += 1;
        self.kept += 1;
        Arrival::Kept { crowded }
    }

    /// Whether a lane has room for no more than what a fast box holds.
    pub(super) fn is_crowded(&self) -> bool {
        let mut lanes = self.queues.iter().flat_map(|queue| &queue.lanes);
        lanes.any(|lane| is_crowded(lane.len()))
    }

    /// The first message that `pattern` takes, if one is there.
    pub(super) fn take(&mut self, pattern: &Pattern) -> Option<Taken> {
        if self.kept == 0 {
            return None;
        }
        let queue = self.queue(pattern.context);
        let (lane, position) = queue.find(pattern)?;
        let lane = &mut queue.lanes[lane];
        let made_room = lane.len() >= LANE_MESSAGES_MAX;
        let (_, message) = match position {
            0 => lane.pop_front()?,
            position => lane.remove(position)?,
        };
        self.kept -= 1;
        Some(Taken { message, made_room })
    }

    /// The message that [`Matching::take`] would give.
    pub(super) fn peek(&mut self, pattern: &Pattern) -> Option<&Message> {
        let queue = self.queue(pattern.context);
        let (lane, position) = queue.find(pattern)?;
        queue.lanes[lane].get(position).map(|(_, message)| message)
    }

    /// Keeps a receive for messages to come.
    pub(super) fn post(&mut self, pattern: Pattern, needs: Needs) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[slot] = Slot::Waiting;
        let ticket = Ticket(slot);
        self.queue(pattern.context).posted.push(Posted {
            pattern,
            needs,
            ticket,
        });
        ticket
    }

    /// How a posted receive ended, if it has. The ticket is void then.
    pub(super) fn outcome(&mut self, Ticket(slot): Ticket) -> Option<Outcome> {
        match std::mem::replace(&mut self.slots[slot], Slot::Waiting) {
            Slot::Done(outcome) => {
                self.slots[slot] = Slot::Free;
                self.free.push(slot);
                Some(outcome)
            }
            Slot::Waiting | Slot::Free => None,
        }
    }

    /// What a receive needs that is posted still.
    pub(super) fn needs(&self, ticket: Ticket) -> Option<&Needs> {
        let mut posted = self.queues.iter().flat_map(|queue| &queue.posted);
        let found = posted.find(|posted| posted.ticket == ticket);
        found.map(|posted| &posted.needs)
    }

    /// Ends a receive that is posted still.
    pub(super) fn end(&mut self, ticket: Ticket, trouble: Trouble) {
        if self.needs(ticket).is_some() {
            self.unpost(ticket);
            self.slots[ticket.0] = Slot::Done(Err(trouble));
        }
    }

    fn unpost(&mut self, ticket: Ticket) {
        for queue in &mut self.queues {
            queue.posted.retain(|posted| posted.ticket != ticket);
        }
    }

    /// Gives up a posted receive, with the message that it may have got.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.unpost(ticket);
        let Ticket(slot) = ticket;
        self.slots[slot] = Slot::Free;
        self.free.push(slot);
    }

    /// Ends every posted receive for which `trouble` knows a reason. Says whether there was one.
    pub(super) fn sweep(&mut self, trouble: impl Fn(&Pattern, &Needs) -> Option<Trouble>) -> bool {
        let mut found = false;
        for queue in &mut self.queues {
            queue.posted.retain(|posted| {
                let Some(trouble) = trouble(&posted.pattern, &posted.needs) else {
                    return true;
                };
                let Ticket(slot) = posted.ticket;
                self.slots[slot] = Slot::Done(Err(trouble));
                found = true;
                false
            });
        }
        found
    }

    /// Lets all operations of a communicator fail but agreements.
    pub(super) fn revoke(&mut self, communicator: u64) {
        if !self.revoked.contains(&communicator) {
            self.revoked.push(communicator);
        }
        self.sweep(|pattern, _| {
            let context = pattern.context;
            let concerned = context.communicator() == communicator && context.kind() != Kind::Agreement;
            concerned.then_some(Trouble::Revoked)
        });
    }

    /// Lets the collective operations of a communicator fail from the one on whose tags begin there.
    pub(super) fn break_from(&mut self, communicator: u64, first_tag: u64, trouble: Trouble) {
        let broken = self.broken.entry(communicator).or_insert((first_tag, trouble));
        if first_tag < broken.0 {
            *broken = (first_tag, trouble);
        }
        let context = Context::new(communicator, Kind::Collective);
        self.sweep(|pattern, _| {
            let concerned = pattern.context == context && pattern.tag.first() >= first_tag;
            concerned.then_some(trouble)
        });
    }

    /// Whether all operations in this context are to fail.
    pub(super) fn is_revoked(&self, context: Context) -> bool {
        context.kind() != Kind::Agreement && self.revoked.contains(&context.communicator())
    }

    /// What is known against an operation in this context, if anything; `tag` is that of the message that it sends, or the first
    /// that it takes.
    pub(super) fn trouble(&self, context: Context, tag: u64) -> Option<Trouble> {
        if self.is_revoked(context) {
            return Some(Trouble::Revoked);
        }
        match context.kind() {
            Kind::Agreement | Kind::PointToPoint => None,
            Kind::Collective => {
                let (first, trouble) = self.broken.get(&context.communicator())?;
                (tag >= *first).then_some(*trouble)
            }
        }
    }

    /// Drops messages with tags below `tag`: nobody will ask for them.
    pub(super) fn drop_older(&mut self, context: Context, tag: u64) {
        for lane in &mut self.queue(context).lanes {
            lane.retain(|(_, message)| message.envelope.tag >= tag);
        }
        self.count_kept();
    }

    /// Drops all that belongs to a communicator.
    pub(super) fn forget(&mut self, communicator: u64) {
        self.queues
            .retain(|queue| queue.context.communicator() != communicator || !queue.posted.is_empty());
        self.revoked.retain(|&revoked| revoked != communicator);
        self.broken.remove(&communicator);
        self.count_kept();
    }

    fn count_kept(&mut self) {
        let lanes = self.queues.iter().flat_map(|queue| &queue.lanes);
        self.kept = lanes.map(VecDeque::len).sum();
    }
}
