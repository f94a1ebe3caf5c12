//! What is left in fast boxes, and whose turn it is there.
#![expect(unsafe_code, reason = "fast boxes leave to others whose turn it is")]

use std::sync::MutexGuard;

use crate::ranks::envelope::Envelope;
use crate::ranks::fast_box::FastBox;
use crate::ranks::matching::{Matching, Message};
use crate::ranks::payload::FEW_BYTES_MAX;

/// A message that lies where its sender has left it, in the hands of whoever holds the mailbox's lock.
pub(in crate::ranks) struct Left<'a> {
    fast_box: &'a FastBox,
    held: MutexGuard<'a, Matching>,
}

impl<'a> Left<'a> {
    /// The oldest one in a box of the mailbox whose lock is held: there is one.
    #[inline]
    pub(super) fn new(fast_box: &'a FastBox, held: MutexGuard<'a, Matching>) -> Self {
        Left { fast_box, held }
    }

    #[inline]
    pub(in crate::ranks) fn take(self) -> Message {
        take(self.fast_box, &self.held).expect("it was seen under this lock")
    }

    /// What `open` makes of it, and of the bytes beside it, where it lies. The mailbox is locked meanwhile.
    #[inline]
    pub(in crate::ranks) fn open<T>(self, open: impl FnOnce(Message, &[u8; FEW_BYTES_MAX]) -> T) -> T {
        // SAFETY: one thread at a time holds the lock.
        let opened = unsafe { self.fast_box.open(open) };
        opened.expect("it was seen under this lock")
    }
}

/// Whether there is a message in a box of the mailbox whose lock is held, and the oldest is `sought`.
#[inline]
pub(super) fn is_next(
    fast_box: &FastBox,
    _held: &MutexGuard<'_, Matching>,
    sought: impl FnOnce(&Envelope) -> bool,
) -> bool {
    // SAFETY: one thread at a time holds the lock, and nothing is taken while it is looked at.
    unsafe { fast_box.head() }.is_some_and(sought)
}

/// Takes a message out of a box of the mailbox whose lock is held.
#[inline]
pub(super) fn take(fast_box: &FastBox, _held: &MutexGuard<'_, Matching>) -> Option<Message> {
    // SAFETY: one thread at a time holds the lock.
    unsafe { fast_box.take() }
}

/// Leaves a message in a box that [has room](FastBox::has_room), for the rank on this thread, whose box it is.
#[inline]
pub(super) fn put(fast_box: &FastBox, message: Message, beside: &[u8]) {
    // SAFETY: a rank has one seat, and lives on one thread, since its communicators cannot leave that; it has found that
    // there is room.
    unsafe { fast_box.put(message, beside) }
}
