//! Where a rank of this process gets its messages: fast boxes for those from its own process, the matching engine behind a
//! lock, and the owner's bell.
//!
//! A sender of this process leaves its message in its fast box. Whoever takes the lock first brings in what lies there, so
//! that the engine has all that came before; the owner does so as soon as it sees mail, but opens a message where it lies if it waits for
//! that one and nothing came before. If the box is full, or the owner sleeps, or
//! the message comes from elsewhere, the sender takes the lock for the time of one match and one move. The owner, one thread,
//! posts, takes and waits; once asleep it is rung for only when one of its receives has ended, when it waits to see any message at
//! all (a probe), or when something happened that it must look at itself.

mod left;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

pub(super) use self::left::Left;
use self::left::{is_next, put, take};
use super::bell::Bell;
use super::envelope::{Context, Envelope, Pattern, Status};
use super::fast_box::FastBox;
use super::matching::{Arrival, Matching, Message, Needs, Outcome, Taken, Ticket, Trouble};
use super::payload::Lent;

/// What a receive found at once.
#[derive(Debug)]
pub(super) enum Receive {
    /// A message was there.
    Now(Taken),
    /// It waits for one.
    Posted(Ticket),
    /// There can be none.
    Never(Trouble),
}

/// What an owner that listens has heard.
pub(super) enum Heard<'a> {
    /// The message lies where its sender has left it.
    Left(Left<'a>),
    /// It came another way, or was brought in.
    Taken(Taken),
}

/// Ranks of a process beyond which they have no fast boxes: a rank that waits looks into all that it has.
const FAST_BOX_RANKS_MAX: usize = 64;

/// Looks at the fast boxes for which the owner keeps its lock, unless somebody waits for that: an answer is there after some tens.
const LOOKS_LOCKED: u32 = 100;
/// How often a sender looks whether there is room in a full fast box before it takes the lock, if each rank has a core: until an owner
/// that is at it has taken as many messages as it [tells at once](FastBox::take).
const LOOKS_FOR_ROOM: u32 = 60;
/// Pauses from one such look to the next: each look takes the line from the owner.
const PAUSES_BETWEEN_LOOKS: u32 = 4;

// the owner's lock would else slow down those who only read beside it
#[derive(Default)]
#[repr(align(128))]
struct Engine(Mutex<Matching>);

/// One rank's mailbox.
pub(super) struct Mailbox {
    engine: Engine,
    /// What others of this process have left, by their seats; made when they first leave something.
    fast_boxes: Vec<OnceLock<Box<FastBox>>>,
    /// A lane may be so full that nothing is left in fast boxes any more: then each sender is to hear when there is no room.
    crowded: AtomicBool,
    /// The owner waits to see any message.
    probing: AtomicBool,
    /// Something may be known against an operation: as long as not, senders need not look under the lock.
    troubled: AtomicBool,
    /// How many wait for the engine.
    waiting: AtomicU32,
    bell: Bell,
}

impl Mailbox {
    /// That of one of so many ranks of this process, each of which may have a core.
    pub(super) fn new(ranks_here: usize, core_each: bool) -> Self {
        let with_fast_boxes = (2..=FAST_BOX_RANKS_MAX).contains(&ranks_here);
        let mut fast_boxes = Vec::new();
        fast_boxes.resize_with(if with_fast_boxes { ranks_here } else { 0 }, OnceLock::new);
        Mailbox {
            engine: Engine::default(),
            fast_boxes,
            crowded: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            bell: Bell::new(core_each),
        }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The engine, with all that has been left for it. Each of its operations leaves it in order, so a panic elsewhere does
    /// not spoil it.
    pub(super) fn matching(&self) -> MutexGuard<'_, Matching> {
        let mut matching = match self.engine.0.try_lock() {
            Ok(matching) => matching,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let matching = self.engine();
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                matching
            }
        };
        self.take_in(&mut matching, None);
        matching
    }

    /// The engine as it is. For the owner's thread, and for whoever [says that it waits](Mailbox::matching).
    #[inline]
    fn engine(&self) -> MutexGuard<'_, Matching> {
        self.engine.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings in what has been left, but the first message that `sought` takes and no posted receive does: that it gives. If it is to
    /// be one rank's, what lies behind it may stay where it is.
    fn take_in(&self, matching: &mut MutexGuard<'_, Matching>, sought: Option<&Pattern>) -> Option<Message> {
        let mut found = None;
        let mut is_called_for = false;
        'boxes: for fast_box in self.fast_boxes.iter().filter_map(OnceLock::get) {
            while let Some(message) = take(fast_box, matching) {
                let is_sought = |sought: &Pattern| sought.takes(&message.envelope);
                if found.is_none() && sought.is_some_and(is_sought) && !matching.is_awaited(&message) {
                    found = Some(message);
                    // among several senders nobody is to wait for ever
                    if sought.is_some_and(|sought| sought.source.is_some()) {
                        break 'boxes;
                    }
                    continue;
                }
                let arrival = matching.arrive_late(message);
                is_called_for |= self.is_called_for(&arrival);
                if matches!(arrival, Arrival::Kept { crowded: true }) {
                    // seen by whoever sees that there is room again for what comes next
                    self.crowded.store(true, Ordering::Relaxed);
                }
            }
        }
        if is_called_for {
            self.bell.ring();
        }
        found
    }

    /// Whether the owner is to look at a message that has become this.
    fn is_called_for(&self, arrival: &Arrival) -> bool {
        match arrival {
            Arrival::Matched => true,
            // who is awake may be listening, and has posted nothing; who probes says so before it looks, under the lock that is
            // held, or was just now
            Arrival::Kept { .. } => !self.bell.is_asleep() || self.probing.load(Ordering::SeqCst),
            Arrival::Full(_) => false,
        }
    }

    fn has_mail(&self) -> bool {
        let mut fast_boxes = self.fast_boxes.iter().filter_map(OnceLock::get);
        fast_boxes.any(|fast_box| fast_box.has_mail())
    }

    /// Returns once the owner's bell is no longer at `heard`. For the owner's thread alone.
    pub(super) fn wait(&self, heard: u32) {
        loop {
            self.bell.wait(heard, || self.has_mail());
            if self.bell.rings() != heard {
                return;
            }
            // rings if it is what the owner waits for
            drop(self.matching());
        }
    }

    /// Gives a message of the rank on this thread, at that seat, to the owner, or back if its lane is full.
    pub(super) fn hand(&self, seat: usize, message: Message) -> Result<(), Message> {
        match self.fast_box_with_room(seat) {
            Some(fast_box) => {
                self.put(fast_box, message, &[]);
                Ok(())
            }
            None => self.deliver(message),
        }
    }

    /// Leaves a few numbers of the rank on this thread, at that seat, in its fast box. Says whether that could be.
    pub(super) fn leave(&self, seat: usize, envelope: Envelope, numbers: &Lent<'_>) -> bool {
        let Some(fast_box) = self.fast_box_with_room(seat) else {
            return false;
        };
        let (payload, bytes) = numbers.parts();
        self.put(fast_box, Message { envelope, payload }, bytes);
        true
    }

    /// Leaves a message in a fast box that has room.
    #[inline]
    fn put(&self, fast_box: &FastBox, message: Message, beside: &[u8]) {
        put(fast_box, message, beside);
        // either this sees that the owner is asleep, or the owner, before it sleeps, sees the message
        fence(Ordering::SeqCst);
        if self.bell.is_asleep() {
            drop(self.matching());
        }
    }

    #[inline]
    fn fast_box_with_room(&self, seat: usize) -> Option<&FastBox> {
        // most often a sleeper sleeps for another message: better to find that out than to wake it
        let fast_box = self.fast_boxes.get(seat).filter(|_| !self.bell.is_asleep())?;
        let fast_box = fast_box.get_or_init(Box::default);
        let has_room = fast_box.has_room() || self.is_making_room(fast_box);
        // in this order: whoever made the room may have found a lane crowded before
        (has_room && !self.crowded.load(Ordering::Relaxed)).then_some(fast_box)
    }

    /// Whether there is soon room in a full fast box.
    #[cold]
    fn is_making_room(&self, fast_box: &FastBox) -> bool {
        let looks = if self.bell.listens() { LOOKS_FOR_ROOM } else { 0 };
        (0..looks).any(|_| {
            (0..PAUSES_BETWEEN_LOOKS).for_each(|_| spin_loop());
            fast_box.has_room()
        })
    }

    /// Gives a message to the owner, or back if its lane is full.
    pub(super) fn deliver(&self, message: Message) -> Result<(), Message> {
        let mut matching = self.matching();
        let arrival = matching.arrive(message);
        if matches!(arrival, Arrival::Kept { crowded: true }) {
            self.crowded.store(true, Ordering::Relaxed);
        } else if self.crowded.load(Ordering::Relaxed) && !matching.is_crowded() {
            self.crowded.store(false, Ordering::Relaxed);
        }
        drop(matching);
        if self.is_called_for(&arrival) {
            self.bell.ring();
        }
        match arrival {
            Arrival::Matched | Arrival::Kept { .. } => Ok(()),
            Arrival::Full(message) => Err(message),
        }
    }

    /// Takes a message, or posts a receive unless `hopeless` says that nobody is left to send.
    pub(super) fn receive(
        &self,
        pattern: Pattern,
        needs: Needs,
        hopeless: impl FnOnce(&Needs) -> Option<Trouble>,
    ) -> Receive {
        let mut matching = self.engine();
        match self.seek(&mut matching, &pattern, || hopeless(&needs)) {
            Some(Ok(taken)) => Receive::Now(taken),
            Some(Err(trouble)) => Receive::Never(trouble),
            None => Receive::Posted(matching.post(pattern, needs)),
        }
    }

    /// Takes a message as it comes, without posting a receive, as long as the owner listens; `hopeless` says that nobody is left
    /// to send. For the owner's thread alone.
    pub(super) fn receive_listening(
        &self,
        pattern: &Pattern,
        hopeless: impl Fn() -> Option<Trouble>,
    ) -> Option<Result<Heard<'_>, Trouble>> {
        let mut matching = self.engine();
        loop {
            let heard = self.bell.rings();
            if self.has_nothing_before(&matching, pattern)
                && let Some(fast_box) = self.box_with(&matching, pattern)
            {
                return Some(Ok(Heard::Left(Left::new(fast_box, matching))));
            }
            let received = self.seek(&mut matching, pattern, &hopeless);
            if received.is_some() || !self.bell.listens() {
                return received.map(|received| received.map(Heard::Taken));
            }
            if self.hears_mail(heard) && self.waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            drop(matching);
            if !self.bell.listen(|| self.bell.rings() != heard || self.has_mail()) {
                return None;
            }
            matching = self.engine();
        }
    }

    /// Whether a message that `pattern` takes and that is the oldest in a fast box is the next one for it.
    #[inline]
    fn has_nothing_before(&self, matching: &Matching, pattern: &Pattern) -> bool {
        // among several senders nobody is to wait for ever
        pattern.source.is_some() && !self.troubled.load(Ordering::SeqCst) && matching.is_empty()
    }

    /// Where the oldest message is one that `pattern` takes.
    #[inline]
    fn box_with(&self, held: &MutexGuard<'_, Matching>, pattern: &Pattern) -> Option<&FastBox> {
        let mut fast_boxes = self.fast_boxes.iter().filter_map(OnceLock::get).map(Box::as_ref);
        fast_boxes.find(|fast_box| is_next(fast_box, held, |envelope| pattern.takes(envelope)))
    }

    /// Whether there is mail soon, while nobody waits for the lock that the owner holds.
    #[inline]
    fn hears_mail(&self, heard: u32) -> bool {
        for _ in 0..LOOKS_LOCKED {
            if self.has_mail() {
                return true;
            }
            if self.waiting.load(Ordering::Relaxed) > 0 || self.bell.rings() != heard {
                return false;
            }
            spin_loop();
        }
        false
    }

    /// The first message that `pattern` takes, or why there is none and never will be.
    fn seek(
        &self,
        matching: &mut MutexGuard<'_, Matching>,
        pattern: &Pattern,
        hopeless: impl FnOnce() -> Option<Trouble>,
    ) -> Option<Result<Taken, Trouble>> {
        // before any message: where a collective operation broke, ranks may count the later ones differently
        if self.troubled.load(Ordering::SeqCst)
            && let Some(trouble) = matching.trouble(pattern.context, pattern.tag.first())
        {
            return Some(Err(trouble));
        }
        let mut take = || {
            let left = |matching| self.take_in(matching, Some(pattern)).map(Taken::from_fast_box);
            matching.take(pattern).or_else(|| left(matching))
        };
        self.found_or(&mut take, hopeless)
    }

    /// What `find` finds, or why there is nothing and never will be.
    fn found_or<T>(
        &self,
        mut find: impl FnMut() -> Option<T>,
        hopeless: impl FnOnce() -> Option<Trouble>,
    ) -> Option<Result<T, Trouble>> {
        if let Some(found) = find() {
            return Some(Ok(found));
        }
        let trouble = hopeless()?;
        // it may have left something before it ended
        Some(find().ok_or(trouble))
    }

    /// What [`Mailbox::receive`] would take now, if anything.
    pub(super) fn peek(
        &self,
        pattern: &Pattern,
        needs: &Needs,
        hopeless: impl FnOnce(&Needs) -> Option<Trouble>,
    ) -> Result<Option<Status>, Trouble> {
        let mut matching = self.matching();
        if matching.is_revoked(pattern.context) {
            return Err(Trouble::Revoked);
        }
        let find = || {
            self.take_in(&mut matching, None);
            matching.peek(pattern).map(Message::status)
        };
        self.found_or(find, || hopeless(needs)).transpose()
    }

    /// How a posted receive ended, if it has, or ends now since `alone` says that nobody is left to send.
    pub(super) fn outcome(
        &self,
        ticket: Ticket,
        alone: impl Fn(&Needs) -> Option<Trouble>,
    ) -> Option<Outcome> {
        let mut matching = self.matching();
        if let Some(outcome) = matching.outcome(ticket) {
            return Some(outcome);
        }
        let trouble = matching.needs(ticket).and_then(alone)?;
        // somebody may have left something before it ended
        self.take_in(&mut matching, None);
        matching.end(ticket, trouble);
        matching.outcome(ticket)
    }

    /// Whether the owner is to be rung for every message.
    pub(super) fn set_probing(&self, probing: bool) {
        self.probing.store(probing, Ordering::SeqCst);
    }

    /// Why the owner cannot send what has this tag, if something is known against it.
    pub(super) fn trouble(&self, context: Context, tag: u64) -> Option<Trouble> {
        let troubled = self.troubled.load(Ordering::SeqCst);
        troubled.then(|| self.matching().trouble(context, tag))?
    }

    /// Lets all operations of a communicator fail but agreements.
    pub(super) fn revoke(&self, communicator: u64) {
        self.troubled.store(true, Ordering::SeqCst);
        self.matching().revoke(communicator);
        self.bell.ring();
    }

    /// Lets the collective operations of a communicator fail from the one on whose tags begin there.
    pub(super) fn break_from(&self, communicator: u64, first_tag: u64, trouble: Trouble) {
        self.troubled.store(true, Ordering::SeqCst);
        self.matching().break_from(communicator, first_tag, trouble);
        self.bell.ring();
    }

    /// Throws all messages away: the owner has ended.
    pub(super) fn clear(&self) {
        *self.matching() = Matching::default();
    }

    /// Ends posted receives for which there is a reason.
    pub(super) fn sweep(&self, trouble: impl Fn(&Pattern, &Needs) -> Option<Trouble>) {
        self.matching().sweep(trouble);
        // also for whoever waits to send or to see a message
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests;
