//! What a rank has in its hands: a communicator, and how others are made from it.

mod receiving;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::collective::Conduct;
use super::envelope::{Context, Envelope, Kind, communicator_id};
use super::error::{CommError, Ending};
use super::gang::{Gang, Notice, Undelivered};
use super::group::Group;
use super::mailbox::Mailbox;
use super::matching::{Message, Outcome, Taken, Ticket, Trouble};
use super::payload::{Lent, Parts, Payload};
use super::respawn::Life;

/// The id of the communicator of all ranks.
const WORLD: u64 = 0;

/// A rank's own end of the gang, shared by its communicators.
pub(super) struct Endpoint {
    gang: Arc<Gang>,
    place: u32,
    /// Its number among the ranks of this process.
    seat: usize,
    life: Rc<Life>,
    epoch: u32,
    /// Places of whose failure an operation has told the user, though the notice of it may still be on its way.
    told: RefCell<BTreeSet<u32>>,
    parts: Parts,
}

impl Endpoint {
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The end of the rank at `place`, which lives in this process and on this thread.
    ///
    /// # Panics
    /// If it lives elsewhere.
    pub(super) fn new(gang: Arc<Gang>, place: u32, life: Rc<Life>, epoch: u32) -> Self {
        let endpoint = Endpoint {
            seat: gang.seat(place),
            gang,
            place,
            life,
            epoch,
            told: RefCell::default(),
            parts: Parts::new(),
        };
        endpoint.mailbox().bell().adopt();
        endpoint
    }

    pub(super) fn gang(&self) -> &Gang {
        &self.gang
    }

    pub(super) fn life(&self) -> &Rc<Life> {
        &self.life
    }

    /// Which start of the gang, or of ranks that it lost, it belongs to.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        self.gang
            .mailbox(self.place)
            .expect("a rank's own mailbox is in its process")
    }

    /// Whether the rank at `place` is known to have failed.
    fn has_failed(&self, place: u32) -> bool {
        let ending = self.gang.ending(place);
        ending.is_some_and(Ending::is_failure) || self.told.borrow().contains(&place)
    }

    /// Whether any rank is.
    pub(super) fn knows_failures(&self) -> bool {
        (0..self.gang.size() as u32).any(|place| self.has_failed(place))
    }

    /// The error for the user, who knows the ranks of a group, and from now on of a failure that it names.
    pub(super) fn error(&self, trouble: Trouble, group: &Group) -> CommError {
        if let Trouble::Ended { place, ending } = trouble
            && ending.is_failure()
        {
            self.told.borrow_mut().insert(place);
        }
        trouble.error(group)
    }

    /// Tries again after every ring until `attempt` gives something.
    pub(super) fn wait_until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let mailbox = self.mailbox();
        let bell = mailbox.bell();
        loop {
            let heard = bell.rings();
            if let Some(value) = attempt() {
                return value;
            }
            self.gang.wait(mailbox, heard);
        }
    }

    /// How a posted receive ended, if it has.
    pub(super) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        self.mailbox().outcome(ticket, |needs| self.gang.alone(needs))
    }

    /// Takes the message out, tells its sender if there is room again, and asks for its bytes if they are elsewhere.
    pub(super) fn admit(&self, taken: Taken) -> Message {
        if taken.made_room {
            self.gang.make_room(taken.message.envelope.sender);
        }
        taken.message.payload.fetch();
        taken.message
    }

    /// Waits until all of a message is here.
    pub(super) fn whole(&self, message: Message) -> Outcome {
        if !matches!(message.payload, Payload::Announced(_)) {
            return Ok(message);
        }
        let mut rest = Some(message);
        self.wait_until(|| match rest.take()?.whole() {
            Ok(outcome) => Some(outcome),
            Err(coming) => {
                rest = Some(coming);
                None
            }
        })
    }
}

/// An ordered set of ranks that exchange messages, as one of them has it: [`rank`](Communicator::rank) is its number among
/// [`size`](Communicator::size).
///
/// Messages of one communicator never match receives on another. A communicator belongs to the thread of its rank; a rank
/// may use further threads of its own to compute, but not to communicate. Operations that need a rank that has ended
/// fail with an error that names it; none waits for it.
pub struct Communicator {
    endpoint: Rc<Endpoint>,
    id: u64,
    group: Arc<Group>,
    rank: usize,
    /// How many collective operations have begun.
    collectives: Cell<u64>,
    /// How many agreements have begun.
    agreements: Cell<u64>,
    conduct: Conduct,
    /// Places whose failure the user knows of.
    acknowledged: RefCell<BTreeSet<u32>>,
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Communicator({} of {})", self.rank, self.size())
    }
}

impl Communicator {
    /// The communicator of all ranks.
    pub(super) fn world(endpoint: Rc<Endpoint>) -> Self {
        let places = (0..endpoint.gang().size()).map(|place| place as u32).collect();
        let rank = endpoint.place as usize;
        Communicator::new(endpoint, WORLD, Arc::new(Group::new(places)), rank)
    }

    fn new(endpoint: Rc<Endpoint>, id: u64, group: Arc<Group>, rank: usize) -> Self {
        Communicator {
            endpoint,
            id,
            group,
            rank,
            collectives: Cell::new(0),
            agreements: Cell::new(0),
            conduct: Conduct::default(),
            acknowledged: RefCell::default(),
        }
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// A communicator of the same ranks whose messages are apart from this one's. Collective: all ranks call it, in the same
    /// order among their collective operations. Needs no message.
    pub fn duplicate(&self) -> Communicator {
        let id = self.child_id(Birth::Duplicate, self.next_collective());
        Communicator::new(Rc::clone(&self.endpoint), id, Arc::clone(&self.group), self.rank)
    }

    /// Splits the ranks into communicators of those that give the same `color`, ordered by `key`, then by their rank here.
    /// Who gives no color gets none. Collective.
    ///
    /// # Errors
    /// Like [`Communicator::all_gather`].
    pub fn split(&self, color: Option<u64>, key: i64) -> Result<Option<Communicator>, CommError> {
        let all = self.all_gather((color, key))?;
        let number = self.collectives.get();
        let Some(color) = color else {
            return Ok(None);
        };
        let mut members: Vec<(i64, usize)> = all
            .into_iter()
            .enumerate()
            .filter(|(_, (theirs, _))| *theirs == Some(color))
            .map(|(rank, (_, key))| (key, rank))
            .collect();
        members.sort_unstable();
        let ranks = members.into_iter().map(|(_, rank)| rank);
        let id = self.child_id(Birth::Split(color), number);
        Ok(self.subset(id, ranks))
    }

    /// Splits the ranks into communicators of those that live on the same node, in the order of their ranks here.
    /// Collective. Needs no message.
    pub fn split_by_node(&self) -> Communicator {
        let gang = self.endpoint.gang();
        let node = gang.node(self.endpoint.place);
        let number = self.next_collective();
        let places = self.group.places().iter();
        let ranks = (0..)
            .zip(places)
            .filter(|(_, place)| gang.node(**place) == node)
            .map(|(rank, _)| rank);
        let id = self.child_id(Birth::Node(node), number);
        self.subset(id, ranks).expect("a rank lives on its own node")
    }

    /// A communicator of these ranks of this one; none if this rank is not among them.
    pub(super) fn subset(&self, id: u64, ranks: impl Iterator<Item = usize>) -> Option<Communicator> {
        let places: Vec<u32> = ranks.filter_map(|rank| self.group.place(rank)).collect();
        let group = Group::new(places);
        let rank = group.rank(self.endpoint.place)?;
        Some(Communicator::new(
            Rc::clone(&self.endpoint),
            id,
            Arc::new(group),
            rank,
        ))
    }

    /// The same number at all ranks, another for each communicator that comes of this one.
    pub(super) fn child_id(&self, birth: Birth, number: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let (kind, detail) = match birth {
            Birth::Duplicate => (0, 0),
            Birth::Split(color) => (1, color),
            Birth::Node(node) => (2, u64::from(node)),
            Birth::Shrink => (3, 0),
        };
        for part in [self.id, number, kind, detail] {
            hasher.update(&part.to_le_bytes());
        }
        let mut id = [0; 8];
        hasher.finalize_xof().fill(&mut id);
        communicator_id(u64::from_le_bytes(id))
    }

    /// The number of the collective operation that begins now.
    pub(super) fn next_collective(&self) -> u64 {
        self.collectives.set(self.collectives.get() + 1);
        self.collectives.get()
    }

    /// The number of the agreement that begins now.
    pub(super) fn next_agreement(&self) -> u64 {
        self.agreements.set(self.agreements.get() + 1);
        self.agreements.get()
    }

    /// What its collective operations go by.
    pub(super) fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// This rank's place in the gang.
    pub(super) fn own_place(&self) -> u32 {
        self.endpoint.place
    }

    pub(super) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn traffic(&self, kind: Kind) -> Context {
        Context::new(self.id, kind)
    }

    /// Where the rank lives.
    ///
    /// # Errors
    /// [`CommError::NoSuchRank`].
    pub(super) fn place(&self, rank: usize) -> Result<u32, CommError> {
        self.group.place(rank).ok_or(CommError::NoSuchRank {
            rank,
            size: self.size(),
        })
    }

    /// Whether that rank is reached without encoding.
    pub(super) fn is_near(&self, place: u32) -> bool {
        self.endpoint.gang().mailbox(place).is_some()
    }

    /// The error for the user, who knows ranks.
    pub(super) fn error(&self, trouble: Trouble) -> CommError {
        self.endpoint.error(trouble, &self.group)
    }

    /// What stands on a message, unless something is known against it.
    fn envelope(&self, kind: Kind, tag: u64) -> Result<Envelope, CommError> {
        let context = self.traffic(kind);
        if let Some(trouble) = self.endpoint.mailbox().trouble(context, tag) {
            return Err(self.error(trouble));
        }
        Ok(Envelope {
            context,
            source: self.rank as u32,
            tag,
            sender: self.endpoint.place,
        })
    }

    /// Whether a few numbers could be left for the rank at that place.
    pub(super) fn leave(
        &self,
        kind: Kind,
        place: u32,
        tag: u64,
        numbers: &Lent<'_>,
    ) -> Result<bool, CommError> {
        let envelope = self.envelope(kind, tag)?;
        let (gang, seat) = (self.endpoint.gang(), self.endpoint.seat);
        Ok(gang.leave(seat, place, envelope, numbers))
    }

    /// Sends without waiting; gives the message back if there is no room.
    pub(super) fn try_dispatch(
        &self,
        kind: Kind,
        place: u32,
        tag: u64,
        payload: Payload,
    ) -> Result<Option<Payload>, CommError> {
        let envelope = self.envelope(kind, tag)?;
        let (gang, seat) = (self.endpoint.gang(), self.endpoint.seat);
        match gang.send(seat, place, Message { envelope, payload }) {
            Ok(()) => Ok(None),
            Err(Undelivered::Full(message)) => Ok(Some(message.payload)),
            Err(Undelivered::Ended(ending)) => Err(self.error(Trouble::Ended { place, ending })),
        }
    }

    /// Sends, and waits while there is no room.
    pub(super) fn dispatch(
        &self,
        kind: Kind,
        place: u32,
        tag: u64,
        payload: Payload,
    ) -> Result<(), CommError> {
        let mut rest = match self.try_dispatch(kind, place, tag, payload)? {
            None => return Ok(()),
            rest => rest,
        };
        self.endpoint.wait_until(|| {
            let payload = rest.take()?;
            match self.try_dispatch(kind, place, tag, payload) {
                Ok(None) => Some(Ok(())),
                Ok(Some(_)) if place == self.endpoint.place => {
                    Some(Err(CommError::MailboxFull { rank: self.rank }))
                }
                Ok(Some(payload)) => {
                    rest = Some(payload);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Lets operations of this communicator fail at all its ranks, now and from now on, except
    /// [`agree`](Communicator::agree) and [`shrink`](Communicator::shrink). Not collective: one rank that has seen an error
    /// calls it so that no other waits for what will not come.
    pub fn revoke(&self) {
        let communicator = self.id;
        self.endpoint.gang().announce(Notice::Revoked { communicator });
    }

    /// Lets the collective operations of this communicator fail at all its ranks, from the one on whose tags begin there.
    pub(super) fn break_from(&self, first_tag: u64, trouble: Trouble) {
        self.endpoint.gang().announce(Notice::Broken {
            communicator: self.id,
            first_tag,
            trouble,
        });
    }

    /// Ranks that have failed, ascending; those that have returned are not among them.
    pub fn failed(&self) -> Vec<usize> {
        let ranks = (0..).zip(self.group.places());
        ranks
            .filter(|(_, place)| self.endpoint.has_failed(**place))
            .map(|(rank, _)| rank)
            .collect()
    }

    /// Lets receives from [`Source::Any`](super::Source::Any) go on despite the failures so far, and returns the ranks that
    /// have failed. Without it they fail, since one of those may be the very sender that is waited for.
    pub fn acknowledge_failures(&self) -> Vec<usize> {
        let failed = self.failed();
        let places = failed.iter().filter_map(|&rank| self.group.place(rank));
        self.acknowledged.borrow_mut().extend(places);
        failed
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.endpoint.mailbox().matching().forget(self.id);
    }
}

/// How a communicator came of another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Birth {
    Duplicate,
    Split(u64),
    Node(u32),
    Shrink,
}
