//! A gang as one process sees it: where each rank lives, who has ended, and how messages and notices get to the others.
//!
//! Ranks of this process have a mailbox here ([`Route::Near`]); the others are reached over the [`Link`] to their process
//! ([`Route::Far`]). A notice is a fact about ranks or communicators that ends operations; it is applied to all mailboxes
//! here and told to the other processes once, by the process in which it arose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::bell::Bell;
use super::envelope::Envelope;
use super::error::Ending;
use super::mailbox::Mailbox;
use super::matching::{Message, Needs, Trouble};
use super::payload::Lent;

/// What the ranks of a gang have to know of each other's ends, whatever process they live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Notice {
    /// The rank at `place` takes part in nothing any more; all its messages were delivered before.
    Ended { place: u32, ending: Ending },
    /// Operations on the communicator are to fail.
    Revoked { communicator: u64 },
    /// Its collective operations are to fail from the one on whose tags begin at `first_tag`.
    Broken {
        communicator: u64,
        first_tag: u64,
        trouble: Trouble,
    },
    /// The rank at `place` may try again to send where there was no room.
    Room { place: u32 },
}

/// The way to another process that has ranks of the gang. Both functions return without waiting for the other side, and
/// what they carry from one thread arrives in the order of the calls.
pub(super) trait Link: Send + Sync {
    /// Takes an encoded message to the rank at `place`, or gives it back: [`Notice::Room`] then says when to try again.
    fn carry(&self, place: u32, message: Message) -> Result<(), Message>;

    /// Lets leave what was carried, which may wait for that. The rank on this thread holds no mailbox's lock.
    fn push(&self);

    /// Tells the other process.
    fn notify(&self, notice: Notice);
}

/// What runs the links of a process. Its rank, if it has only one, runs them itself while it waits.
pub(super) trait Network: Send + Sync {
    /// Returns once the bell of the rank on this thread is no longer at `heard`. It holds no mailbox's lock.
    fn wait(&self, bell: &Bell, heard: u32);
}

/// Where a rank lives.
#[expect(
    clippy::large_enum_variant,
    reason = "one for each rank of a gang, and a box would be one more fetch for each message"
)]
pub(super) enum Route {
    /// In this process.
    Near(Mailbox),
    /// In the process at the other end.
    Far(Arc<dyn Link>),
}

/// One rank of the gang.
pub(super) struct Member {
    route: Route,
    /// A number of the node that it lives on.
    node: u32,
    /// 0 while it lives, else an [`Ending`].
    ending: AtomicU8,
}

impl Member {
    pub(super) fn new(route: Route, node: u32) -> Self {
        Member {
            route,
            node,
            ending: AtomicU8::new(0),
        }
    }

    /// How it ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self.ending.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Ending::Returned),
            2 => Some(Ending::Panicked),
            3 => Some(Ending::Lost),
            _ => Some(Ending::Left),
        }
    }

    /// Notes its end, unless one is noted.
    fn end(&self, ending: Ending) -> bool {
        let code = match ending {
            Ending::Returned => 1,
            Ending::Panicked => 2,
            Ending::Lost => 3,
            Ending::Left => 4,
        };
        self.ending
            .compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// The receiver has ended.
    Ended(Ending),
    /// Its lane is full; the message comes back.
    Full(Box<Message>),
}

/// All ranks, by place.
pub(super) struct Gang {
    members: Vec<Member>,
    /// The other processes, each once.
    links: Vec<Arc<dyn Link>>,
    /// What the rank of this process waits in, if it is not to wait by itself.
    network: Option<Arc<dyn Network>>,
    /// How many members have ended: as long as there is none, nobody has to look.
    ended_count: AtomicUsize,
}

impl Gang {
    pub(super) fn new(members: Vec<Member>, links: Vec<Arc<dyn Link>>) -> Self {
        Gang {
            members,
            links,
            network: None,
            ended_count: AtomicUsize::new(0),
        }
    }

    /// The same gang, whose only rank in this process waits in `network`.
    pub(super) fn waiting_in(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Whether the rank on this thread may listen for messages by itself: no network stands still meanwhile.
    pub(super) fn listens(&self) -> bool {
        self.network.is_none()
    }

    /// Returns once the bell of `mailbox`, that of the rank on this thread, is no longer at `heard`.
    pub(super) fn wait(&self, mailbox: &Mailbox, heard: u32) {
        match &self.network {
            Some(network) => network.wait(mailbox.bell(), heard),
            None => mailbox.wait(heard),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    pub(super) fn node(&self, place: u32) -> u32 {
        self.members[place as usize].node
    }

    /// How the rank at `place` ended, if it has.
    pub(super) fn ending(&self, place: u32) -> Option<Ending> {
        self.members[place as usize].ending()
    }

    /// The mailbox of a rank of this process.
    pub(super) fn mailbox(&self, place: u32) -> Option<&Mailbox> {
        match &self.members[place as usize].route {
            Route::Near(mailbox) => Some(mailbox),
            Route::Far(_) => None,
        }
    }

    /// Which of the ranks of this process lives at `place`, from 0.
    pub(super) fn seat(&self, place: u32) -> usize {
        let before = &self.members[..place as usize];
        let is_near = |member: &&Member| matches!(member.route, Route::Near(_));
        before.iter().filter(is_near).count()
    }

    /// Sends a message of the rank on this thread, at `seat`, on its way; for a rank of another process it must be encoded.
    pub(super) fn send(&self, seat: usize, place: u32, message: Message) -> Result<(), Undelivered> {
        if let Some(ending) = self.ending(place) {
            return Err(Undelivered::Ended(ending));
        }
        let sent = match &self.members[place as usize].route {
            Route::Near(mailbox) => mailbox.hand(seat, message),
            Route::Far(link) => link.carry(place, message).map(|()| link.push()),
        };
        sent.map_err(|message| Undelivered::Full(Box::new(message)))
    }

    /// Leaves a few numbers of the rank on this thread, at `seat`, for a rank of this process. Says whether that could be.
    pub(super) fn leave(&self, seat: usize, place: u32, envelope: Envelope, numbers: &Lent<'_>) -> bool {
        let Some(mailbox) = self.mailbox(place).filter(|_| self.ending(place).is_none()) else {
            return false;
        };
        mailbox.leave(seat, envelope, numbers)
    }

    /// Lets a rank try again that found no room in a mailbox here.
    pub(super) fn make_room(&self, place: u32) {
        match &self.members[place as usize].route {
            Route::Near(mailbox) => mailbox.bell().ring(),
            Route::Far(link) => link.notify(Notice::Room { place }),
        }
    }

    /// Applies a notice that arose in this process, and tells the others.
    pub(super) fn announce(&self, notice: Notice) {
        self.apply(notice);
        for link in &self.links {
            link.notify(notice);
        }
    }

    /// Ends what the notice ends, in this process.
    pub(super) fn apply(&self, notice: Notice) {
        match notice {
            Notice::Ended { place, ending } => self.end(place, ending),
            Notice::Revoked { communicator } => self.each_mailbox(|mailbox| mailbox.revoke(communicator)),
            Notice::Broken {
                communicator,
                first_tag,
                trouble,
            } => self.each_mailbox(|mailbox| mailbox.break_from(communicator, first_tag, trouble)),
            Notice::Room { place } => {
                if let Some(mailbox) = self.mailbox(place) {
                    mailbox.bell().ring();
                }
            }
        }
    }

    fn each_mailbox(&self, act: impl Fn(&Mailbox)) {
        for member in &self.members {
            match &member.route {
                Route::Near(mailbox) => act(mailbox),
                Route::Far(_) => {}
            }
        }
    }

    fn end(&self, place: u32, ending: Ending) {
        if !self.members[place as usize].end(ending) {
            return;
        }
        self.ended_count.fetch_add(1, Ordering::SeqCst);
        // a receive that is posted later sees the mark, since the mailbox's lock lies between
        self.each_mailbox(|mailbox| mailbox.sweep(|_, needs| self.ended_now(needs, place, ending)));
    }

    /// Whether the end of `place`, which is new, ends this receive.
    fn ended_now(&self, needs: &Needs, place: u32, ending: Ending) -> Option<Trouble> {
        let concerned = match needs {
            Needs::One(needed) => *needed == place,
            Needs::Any { group, .. } => ending.is_failure() && group.rank(place).is_some(),
        };
        concerned.then_some(Trouble::Ended { place, ending })
    }

    /// Whose end is against a receive, if anybody's: failures at places that `known` holds are not, if it takes messages from
    /// anybody.
    pub(super) fn hopeless(&self, needs: &Needs, known: impl Fn(u32) -> bool) -> Option<Trouble> {
        if self.ended_count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        match needs {
            Needs::One(needed) => self.trouble(*needed),
            Needs::Any { group, .. } => {
                let failed = |place: u32| self.ending(place).is_some_and(Ending::is_failure);
                let mut places = group.places().iter().copied();
                self.trouble(places.find(|&place| failed(place) && !known(place))?)
            }
        }
    }

    /// Whose end it is, if a receive takes messages from anybody and nobody is left but the receiver. It may still send to
    /// itself, so this is against waiting, not against posting.
    pub(super) fn alone(&self, needs: &Needs) -> Option<Trouble> {
        if self.ended_count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let Needs::Any { group, receiver } = needs else {
            return None;
        };
        let mut others = group.places().iter().copied().filter(|place| place != receiver);
        let first = self.trouble(others.next()?)?;
        others.all(|place| self.ending(place).is_some()).then_some(first)
    }

    fn trouble(&self, place: u32) -> Option<Trouble> {
        let ending = self.ending(place)?;
        Some(Trouble::Ended { place, ending })
    }
}
