//! Fast boxes: what one rank leaves for another of its process without its lock and without its help.
//!
//! A ring of a few slots for each two ranks and direction. Sender and receiver each have a counter of their own. A slot is one cache
//! line, which says itself which message is in it, and the receiver writes nothing there: so a message is one line that goes from one
//! core to the other once. The same thing goes by this name in MPICH
//! (Nemesis: Buntinas, Mercier, Gropp, "Design and evaluation of Nemesis", CCGrid 2006); that the slots themselves say whether they
//! are full is from FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::matching::Message;

/// Messages that it holds: enough for a sender to run ahead a little, few enough to stay in a core's cache.
pub(super) const SLOTS: usize = 32;

/// Messages from one rank to another that the receiver has not looked at.
#[derive(Default)]
pub(super) struct FastBox {
    slots: [Slot; SLOTS],
    sender: SenderSide,
    receiver: ReceiverSide,
}

// one cache line, and none beside it: cores that fetch ahead take two at a time
#[repr(align(128))]
struct Slot {
    /// The number of the message that was put here last, from 1.
    number: AtomicUsize,
    message: UnsafeCell<MaybeUninit<Message>>,
}

const _: () = assert!(size_of::<AtomicUsize>() + size_of::<Message>() <= 64);

impl Default for Slot {
    fn default() -> Self {
        Slot {
            number: AtomicUsize::new(0),
            message: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

#[derive(Default)]
#[repr(align(128))]
struct SenderSide {
    /// How many were put.
    put: AtomicUsize,
    /// How many of them were taken, as far as it has looked.
    taken: AtomicUsize,
}

#[derive(Default)]
#[repr(align(128))]
struct ReceiverSide {
    /// How many were taken.
    taken: AtomicUsize,
}

impl FastBox {
    /// Whether [`FastBox::put`] has room. If so, all is seen here that the receiver did before it last made some. For the sender's
    /// thread alone.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        let put = self.sender.put.load(Ordering::Relaxed);
        if put - self.sender.taken.load(Ordering::Relaxed) < SLOTS {
            return true;
        }
        let taken = self.receiver.taken.load(Ordering::Acquire);
        self.sender.taken.store(taken, Ordering::Relaxed);
        put - taken < SLOTS
    }

    /// Whether [`FastBox::take`] would find something.
    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        let taken = self.receiver.taken.load(Ordering::Relaxed);
        self.slots[taken % SLOTS].number.load(Ordering::Acquire) > taken
    }
}

#[expect(
    unsafe_code,
    reason = "a lock would be one more exchange of cache lines, and cost as much as the rest"
)]
mod handover {
    use super::*;

    // SAFETY: messages go from thread to thread, and nothing else is reached through a reference from several; the counters
    // say whose turn a slot is.
    unsafe impl Sync for FastBox {}

    impl FastBox {
        /// Leaves a message.
        ///
        /// # Safety
        /// Only ever called by one thread, which has just been told that there [is room](FastBox::has_room).
        #[inline]
        pub(in super::super) unsafe fn put(&self, message: Message) {
            let put = self.sender.put.load(Ordering::Relaxed);
            let slot = &self.slots[put % SLOTS];
            // SAFETY: there is room, so what was in this slot was taken before, and the receiver does not look at it until it finds the
            // number that is stored below.
            unsafe { (*slot.message.get()).write(message) };
            slot.number.store(put + 1, Ordering::Release);
            self.sender.put.store(put + 1, Ordering::Relaxed);
        }

        /// The oldest message.
        ///
        /// # Safety
        /// Only ever called by one thread at a time, such as by the holder of a lock.
        #[inline]
        pub(in super::super) unsafe fn take(&self) -> Option<Message> {
            let taken = self.receiver.taken.load(Ordering::Relaxed);
            let slot = &self.slots[taken % SLOTS];
            if slot.number.load(Ordering::Acquire) <= taken {
                return None;
            }
            // SAFETY: the number says that the sender has written this message, and it writes no other here before it sees that this
            // one was taken.
            let message = unsafe { (*slot.message.get()).assume_init_read() };
            self.receiver.taken.store(taken + 1, Ordering::Release);
            Some(message)
        }
    }

    impl Drop for FastBox {
        fn drop(&mut self) {
            // SAFETY: nobody else has a reference any more.
            while unsafe { self.take() }.is_some() {}
        }
    }
}
