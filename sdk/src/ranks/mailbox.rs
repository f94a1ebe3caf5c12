//! Where a rank of this process gets its messages: the matching engine behind a lock, and the owner's bell.
//!
//! Senders hold the lock for the time of one match and one move. The owner, one thread, posts, takes and waits; it is rung
//! for only when one of its receives has ended, when it waits to see any message at all (a probe), or when something
//! happened that it must look at itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bell::Bell;
use super::envelope::{Context, Pattern, Status};
use super::matching::{Arrival, Matching, Message, Needs, Outcome, Taken, Ticket, Trouble};

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

/// One rank's mailbox.
pub(super) struct Mailbox {
    matching: Mutex<Matching>,
    /// The owner waits to see any message.
    probing: AtomicBool,
    /// Something may be known against an operation: as long as not, senders need not look under the lock.
    troubled: AtomicBool,
    bell: Bell,
}

impl Mailbox {
    pub(super) fn new(core_each: bool) -> Self {
        Mailbox {
            matching: Mutex::new(Matching::default()),
            probing: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            bell: Bell::new(core_each),
        }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The engine. Each of its operations leaves it in order, so a panic elsewhere does not spoil it.
    pub(super) fn matching(&self) -> MutexGuard<'_, Matching> {
        self.matching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the message to the rank, or back if its lane is full.
    pub(super) fn deliver(&self, message: Message) -> Result<(), Message> {
        let arrival = self.matching().arrive(message);
        match arrival {
            Arrival::Matched => self.bell.ring(),
            // the owner sets this before it looks, under the lock that was just held
            Arrival::Kept if self.probing.load(Ordering::SeqCst) => self.bell.ring(),
            Arrival::Kept => {}
            Arrival::Full(message) => return Err(message),
        }
        Ok(())
    }

    /// Takes a message, or posts a receive unless `hopeless` says that nobody is left to send.
    pub(super) fn receive(
        &self,
        pattern: Pattern,
        needs: Needs,
        hopeless: impl FnOnce(&Needs) -> Option<Trouble>,
    ) -> Receive {
        let mut matching = self.matching();
        // before any message: where a collective operation broke, ranks may count the later ones differently
        if let Some(trouble) = matching.trouble(pattern.context, pattern.tag) {
            return Receive::Never(trouble);
        }
        if let Some(taken) = matching.take(&pattern) {
            return Receive::Now(taken);
        }
        match hopeless(&needs) {
            Some(trouble) => Receive::Never(trouble),
            None => Receive::Posted(matching.post(pattern, needs)),
        }
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
        if let Some(message) = matching.peek(pattern) {
            return Ok(Some(message.status()));
        }
        match hopeless(needs) {
            Some(trouble) => Err(trouble),
            None => Ok(None),
        }
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
        matching.end(ticket, alone);
        matching.outcome(ticket)
    }

    /// Whether the owner is to be rung for every message.
    pub(super) fn set_probing(&self, probing: bool) {
        self.probing.store(probing, Ordering::SeqCst);
    }

    /// Why the owner cannot send what has this tag, if something is known against it.
    pub(super) fn trouble(&self, context: Context, tag: u64) -> Option<Trouble> {
        let troubled = self.troubled.load(Ordering::SeqCst);
        troubled.then(|| self.matching().trouble(context, Some(tag)))?
    }

    /// Lets all operations of a communicator fail but agreements.
    pub(super) fn revoke(&self, communicator: u64) {
        self.troubled.store(true, Ordering::SeqCst);
        self.matching().revoke(communicator);
        self.bell.ring();
    }

    /// Lets the collective operations of a communicator fail from that one on.
    pub(super) fn break_from(&self, communicator: u64, operation: u64, trouble: Trouble) {
        self.troubled.store(true, Ordering::SeqCst);
        self.matching().break_from(communicator, operation, trouble);
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
